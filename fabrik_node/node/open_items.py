"""The items that are not over, kept ready for looks of an agent: what a look needs of each is worked out when it changes, not in each look."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, replace

from fabrik_node._core import Changes, Replica
from fabrik_node.domain.picking import preferred_labels, required_labels
from fabrik_node.domain.schema import Kind
from fabrik_node.domain.stages import Archived, Done
from fabrik_node.node.board import Board, is_finished
from fabrik_node.ports import ItemView

__all__ = ["OpenItem", "OpenItems"]

_SLICE = 250
"""Items that are worked out before others get the event loop: some 5 ms."""
_KINDS = (Kind.ITEM, Kind.CLAIM, Kind.TOMBSTONE)


@dataclass(frozen=True, slots=True)
class OpenItem:
    """``view`` has no body. ``required`` and ``preferred`` are its labels as :mod:`~fabrik_node.domain.picking` reads them; ``added`` is its place in time."""

    view: ItemView
    required: frozenset[str]
    preferred: frozenset[str]
    added: tuple[int, bytes]


class OpenItems:
    """Belongs to the event loop, and must be told of every change. Empty until it is first asked, so a node without an agent keeps nothing.

    Invariant: what is not in ``_stale`` is as the replica had it when it last told of a change of that item.
    """

    def __init__(self, replica: Replica, board: Board) -> None:
        self._replica = replica
        self._board = board
        self._open: dict[bytes, OpenItem] = {}
        self._finished: set[bytes] = set()
        self._stale: set[bytes] = set()
        self._is_begun = False
        self.read = 0
        """Items that were read of the replica so far."""

    def note(self, changes: Changes) -> None:
        """These items are to be read anew."""
        if self._is_begun:
            kinds = changes.kinds
            self._stale.update(change.id for kind in _KINDS if kind in kinds for change in changes.of(kind))

    async def freshen(self) -> None:
        """Read what changed, in slices between which others get the event loop: after this a look is cheap, also at the start and after a bulk."""
        self._begin()
        while self._stale:
            for item in [self._stale.pop() for _ in range(min(_SLICE, len(self._stale)))]:
                self._read(item)
            await asyncio.sleep(0)

    def all(self) -> Collection[OpenItem]:
        """All that are neither done nor archived, in no order."""
        self._begin()
        while self._stale:
            self._read(self._stale.pop())
        return self._open.values()

    def views(self) -> list[ItemView]:
        """Of all of them, without bodies."""
        return [each.view for each in self.all()]

    def get(self, item: bytes) -> OpenItem | None:
        """One of them, without a look at any other."""
        if item in self._stale or not self._is_begun:
            self._stale.discard(item)
            self._read(item)
        return self._open.get(item)

    def is_finished(self, item: bytes) -> bool:
        """For dependencies: Done, or archived as completed from there."""
        return item in self._finished if self._is_begun and item not in self._stale else self._board.is_done(item)

    def _begin(self) -> None:
        if not self._is_begun:
            self._is_begun = True
            self._stale = {item for item, _ in self._replica.rows(Kind.ITEM)}

    def _read(self, item: bytes) -> None:
        self.read += 1
        view = self._board.item(item)
        self._open.pop(item, None)
        self._finished.discard(item)
        if view is None:
            return
        if isinstance(view.stage, Done | Archived):
            if is_finished(view.stage):
                self._finished.add(item)
            return
        self._open[item] = OpenItem(replace(view, body=""), required_labels(view.labels), preferred_labels(view.labels), self._board.added(item))
