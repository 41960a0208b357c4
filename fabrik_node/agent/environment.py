"""What a command of a run finds in its environment. The names are a promise to those who write agents (docs/howto/write-an-agent.md)."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from fabrik_node.agent.folder import one_line
from fabrik_node.config import GitConfig, child_environment
from fabrik_node.domain.claims import Claim
from fabrik_node.ids import show_id
from fabrik_node.ports import ItemView, RunAccess

__all__ = ["CommandContext", "command_environment"]

_PROGRAM = "fabrik-node"
_GIT_LOCATION = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_CEILING_DIRECTORIES",
)
"""Set when the node itself was started from a git hook; they would point the command at another repository."""


@dataclass(frozen=True, slots=True)
class CommandContext:
    """Of one command. ``attempt`` counts from 1; ``stage`` is the name of the stage in which it runs."""

    view: ItemView
    claim: Claim
    run_id: bytes
    branch: str
    stage: str
    attempt: int
    prompt: Path


def command_environment(context: CommandContext, git: GitConfig, access: RunAccess | None) -> dict[str, str]:
    """The node's own environment without its ``FABRIK_*`` and git locations, plus what belongs to this command.

    The identity of commits is set, so that ``git commit`` works on a machine where nobody configured git, and git never asks at a terminal.
    """
    own = {
        "FABRIK_ITEM": show_id(context.view.id),
        "FABRIK_TITLE": one_line(context.view.title),
        "FABRIK_CLAIM": show_id(context.claim.claim_id),
        "FABRIK_EPOCH": str(context.claim.epoch),
        "FABRIK_RUN": show_id(context.run_id),
        "FABRIK_ATTEMPT": str(context.attempt),
        "FABRIK_BRANCH": context.branch,
        "FABRIK_BASE": git.base,
        "FABRIK_STAGE": context.stage,
        "FABRIK_PROMPT_FILE": str(context.prompt),
        "GIT_AUTHOR_NAME": git.author_name,
        "GIT_AUTHOR_EMAIL": git.author_email,
        "GIT_COMMITTER_NAME": git.author_name,
        "GIT_COMMITTER_EMAIL": git.author_email,
        "GIT_TERMINAL_PROMPT": "0",
    }
    if access is not None:
        own |= {"FABRIK_API": access.api, "FABRIK_TOKEN": access.token}
    found = {name: value for name, value in child_environment(own).items() if name not in _GIT_LOCATION}
    return found if access is None else found | {"PATH": _with_program(found.get("PATH", os.defpath))}


def _with_program(path: str) -> str:
    """``path``, in which ``fabrik-node`` is found: where it is not, the folder from which this node runs is looked at last."""
    folder = Path(sys.executable).parent
    if shutil.which(_PROGRAM, path=path) is not None or not (folder / _PROGRAM).exists():
        return path
    return f"{path}{os.pathsep}{folder}"
