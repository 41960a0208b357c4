"""What a run that would begin now is given, for the record of its inputs."""

from __future__ import annotations

from fabrik_node.config import AgentConfig, GitConfig
from fabrik_node.domain.run_inputs import RunInputs, make_inputs
from fabrik_node.ports import ItemView

__all__ = ["LEFT_OUT", "MATTERS", "run_inputs"]

MATTERS = ("timeout_s", "stage_timeout_s", "kill_grace_s", "log_bytes_max", "memory_bytes_max", "processes_max", "isolation", "network")
"""Of ``[agent]``, besides its commands: what a command can notice."""
_SINCE = ("isolation", "network")
"""Not in the records of earlier builds, so they count only when they are not what was always so."""
LEFT_OUT = frozenset(
    {
        "command",
        "qa",
        "name",
        "slots",
        "labels",
        "max_attempts",
        "max_interruptions",
        "backoff_s",
        "remote_wait_s",
        "cgroup",
        "crash_s",
        "crash_count",
        "keep_worktrees",
    }
)
"""The rest: recorded by itself, or about which work is taken, when and how often. A test holds the two lists to the settings."""


def run_inputs(view: ItemView, config: AgentConfig, git: GitConfig) -> RunInputs:
    """Its base is not known before its worktree is there. The address of the remote is left out: it may hold a password."""
    always = AgentConfig()
    told = [name for name in MATTERS if name not in _SINCE or getattr(config, name) != getattr(always, name)]
    settings = {name: getattr(config, name) for name in told} | {"base": git.base, "author_name": git.author_name, "author_email": git.author_email}
    return make_inputs(title=view.title, body=view.body, labels=view.labels, command=config.command, tests=config.qa, settings=settings)
