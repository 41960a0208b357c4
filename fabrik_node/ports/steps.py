"""What of an item's work is done: the ports between the node, its agent and the service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from fabrik_node.domain.claims import Claim
from fabrik_node.domain.steps import Step

__all__ = ["RunSteps", "StepRecords"]


class StepRecords(Protocol):
    """The steps of items, as an agent needs them."""

    def unclear(self, item: bytes) -> Step | None:
        """A step with effects outside its files that was begun and has no end. Ask only when no run of the item goes on."""
        ...

    def newest_done(self, item: bytes) -> Step | None:
        """The finished step whose commit has the files of all finished steps; None when there is none with a commit."""
        ...

    async def reopen(self, item: bytes, claim: Claim) -> None:
        """The work of the steps was found wanting: all may run again but those with effects outside their files. Raises ClaimLost's kin as every write does."""
        ...


class RunSteps(Protocol):
    """The runs in progress on this node, as their steps need them. Raises ClaimLost for a run that is over."""

    async def keep(self, run_id: bytes, message: str) -> bytes:
        """Commit and push what the worktree has; the commit. A remote that is away is waited for, as long as ``remote_wait_s`` says.

        Raises Unreachable after that, and GitFailed, and then nothing counts as kept; ClaimLost when the command is over before.
        """
        ...

    async def for_space(self, run_id: bytes, write: Callable[[], Awaitable[object]]) -> None:
        """Do ``write``, once the disk has room for it. Raises ClaimLost when the run ends before."""
        ...

    async def contains(self, run_id: bytes, commit: bytes) -> bool:
        """Whether the run's branch has this commit."""
        ...

    def hold(self, run_id: bytes, reason: str) -> None:
        """End the run and hold its item: a person has to decide."""
        ...
