"""What a batch of the writer gave, and what the node does with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fabrik_node._core import Chained, ChainResult, Changes
from fabrik_node.errors import StoreFull

__all__ = ["Committed", "WriterHooks"]


@dataclass(frozen=True, slots=True)
class Committed:
    """One batch that is durable and merged. ``pos`` is the store's position of its last row."""

    chained: Sequence[Chained]
    changes: Changes
    pos: int
    ops: int
    peer: bytes | None
    """Who sent it; None for our own commands."""


class WriterHooks(Protocol):
    """What the node does with a batch, in the writer's turn."""

    def publish(self, committed: Committed) -> None:
        """It is durable and merged."""
        ...

    async def chained(self, result: ChainResult, peer: bytes) -> None:
        """What a peer sent has been taken: note forks."""
        ...

    async def rebuild(self) -> Changes | None:
        """A log was suspended after it had effect: load anew without it; what changed. None while stored rows are missing for that."""
        ...

    def disk_full(self, error: StoreFull) -> None:
        """A batch was refused because there is no space."""
        ...
