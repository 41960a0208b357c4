"""A look at all items while others write: made in a thread, and then brought up to one moment by reading again what changed meanwhile, so nobody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias, TypeVar

from fabrik_node._core import Changes
from fabrik_node.domain.schema import Kind
from fabrik_node.node.board import Board

__all__ = ["Watch", "of_one_state"]

T = TypeVar("T")
Watch: TypeAlias = Callable[[Callable[[Changes], None]], Callable[[], None]]
"""Tells what each merge changed, in the event loop; returns the way out. See :meth:`fabrik_node.node.node.Node.on_changes`."""

_KINDS = (Kind.ITEM, Kind.CLAIM, Kind.TOMBSTONE)
_SLICE = 200
"""Items that are read again before others have the event loop: some 4 ms."""
_SLICES_MAX = 250
"""Of them, and of the times at which it is told of changes. More change only amid a long bulk sync, and faster than they can be read."""
_UNTOLD_S = 1.0
"""For so long in all it is waited for to be told what was merged. One call merges for some ten milliseconds; only a long bulk sync makes one call after the other."""


async def of_one_state(board: Board, watch: Watch, look: Callable[[], dict[bytes, T]], one: Callable[[bytes], T | None]) -> dict[bytes, T]:
    """What ``look`` finds by item, in a thread, as it is at one moment between the call and the answer; ``one`` reads it of one item (None: nothing), in the event loop.

    When changes come faster than they are read, or one merge follows the other for a second, parts are some moments apart.
    """
    changed: set[bytes] = set()
    told = board.state()
    moved = asyncio.Event()

    def note(changes: Changes) -> None:
        nonlocal told
        told = board.state()
        kinds = changes.kinds
        changed.update(change.id for kind in _KINDS if kind in kinds for change in changes.of(kind))
        moved.set()

    leave = watch(note)
    try:
        found = await asyncio.to_thread(look)
        until = asyncio.get_running_loop().time() + _UNTOLD_S
        for _ in range(_SLICES_MAX):
            for item in [changed.pop() for _ in range(min(_SLICE, len(changed)))]:
                now = one(item)
                if now is None:
                    found.pop(item, None)
                else:
                    found[item] = now
            if not changed and board.state() == told:  # whatever is merged was told, also of a merge that goes on in a thread
                break
            if changed:
                await asyncio.sleep(0)
                continue
            moved.clear()
            if not await _is_told(moved, until):
                break
        return found
    finally:
        leave()


async def _is_told(moved: asyncio.Event, until: float) -> bool:
    """Wait for ``moved``, at most until this moment of the loop's clock."""
    try:
        async with asyncio.timeout_at(until):
            await moved.wait()
    except TimeoutError:
        return moved.is_set()
    return True
