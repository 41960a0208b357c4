"""What a run that would begin now is given, for the record of its inputs."""

from __future__ import annotations

from fabrik_node.config import AgentConfig, GitConfig
from fabrik_node.domain.run_inputs import RunInputs, make_inputs
from fabrik_node.ports import ItemView

__all__ = ["run_inputs"]


def run_inputs(view: ItemView, config: AgentConfig, git: GitConfig) -> RunInputs:
    """Its base is not known before its worktree is there. The address of the remote is left out: it may hold a password."""
    settings = {
        "timeout_s": config.timeout_s,
        **({"stage_timeout_s": config.stage_timeout_s} if config.stage_timeout_s else {}),
        "kill_grace_s": config.kill_grace_s,
        "log_bytes_max": config.log_bytes_max,
        "base": git.base,
        "author_name": git.author_name,
        "author_email": git.author_email,
    }
    return make_inputs(title=view.title, body=view.body, labels=view.labels, command=config.command, tests=config.qa, settings=settings)
