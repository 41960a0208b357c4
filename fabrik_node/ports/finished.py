"""Work that was finished and not merged: the ports between the agent, the node and git."""

from __future__ import annotations

from typing import Protocol

from fabrik_node.domain.claims import Claim
from fabrik_node.domain.finished import FinishedWork

__all__ = ["FinishedRecords", "FinishedWorkspaces"]


class FinishedRecords(Protocol):
    """What the mesh knows of it."""

    def finished(self, item: bytes, claim: Claim) -> FinishedWork | None:
        """What the claim before ``claim`` left to be tested and merged."""
        ...


class FinishedWorkspaces(Protocol):
    """What git knows of it."""

    async def has_commit(self, branch: str, commit: bytes) -> bool:
        """Whether this commit can be had: from the remote, where it is on ``branch``, or because it was made here. Raises Unreachable."""
        ...

    async def left_behind(self, item: str, claim_id: str) -> bytes | None:
        """The tip of the branch of this claim in the repository here; None when there is none, or nothing on it that the base, as of the last fetch, has not."""
        ...

    async def push_left(self, item: str, claim_id: str) -> None:
        """Push that branch. Raises Unreachable, GitFailed."""
        ...
