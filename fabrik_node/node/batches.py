"""What a batch of the writer gave, what the node does with it, and how it ends for those who wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fabrik_node._core import Chained, ChainResult, Changes
from fabrik_node.errors import FabrikError, Internal, StoreFull

__all__ = ["Committed", "WriterHooks", "heard", "slices", "told", "whole"]


@dataclass(frozen=True, slots=True)
class Committed:
    """One batch, or a part of one, that is durable and merged. ``pos`` is the store's position of its last row: a row for each segment."""

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


def heard(done: asyncio.Future[ChainResult]) -> None:
    """Nobody waits for a retry: what it raised was raised to the writer, too, or is the fault of a segment that is gone with it."""
    if not done.cancelled():
        done.exception()


async def whole(batch: Coroutine[Any, Any, None]) -> None:
    """Await a batch to its end, also when cancelled meanwhile; then be cancelled."""
    task = asyncio.ensure_future(batch)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error from None
        raise


def slices(chained: Sequence[Chained], ops_max: int) -> Iterator[tuple[Sequence[Chained], int]]:
    """Parts of at most so many ops, or of one segment, in order; each with the number of segments behind it."""
    start = ops = 0
    for place, segment in enumerate(chained):
        if place > start and ops + segment.ops > ops_max:
            yield chained[start:place], len(chained) - place
            start, ops = place, 0
        ops += segment.ops
    if start < len(chained):
        yield chained[start:], 0


def told(error: BaseException) -> FabrikError:
    """What a caller is told of the error that broke its batch."""
    if isinstance(error, FabrikError):
        return error
    told = Internal(f"a write broke: {error!r}", "report this with the node's log")
    told.__cause__ = error
    return told
