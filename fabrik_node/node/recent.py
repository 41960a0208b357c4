"""The newest events, so that who follows them, and the export, need not read again what was stored just now."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Protocol

from fabrik_node.ports import Event

__all__ = ["RECENT_MAX", "EventReads", "Recent"]

RECENT_MAX = 1_024
"""Events that are kept in memory: some batches of a busy node."""


class EventReads(Protocol):
    """The part of :class:`~fabrik_node.ports.OpStore` that followers and the export need."""

    async def events(self, after: int, limit: int) -> list[Event]:
        """Events with ``seq > after``, in order, at most ``limit``."""
        ...

    async def events_upto(self) -> tuple[int, int]:
        """``(last event seq, pos up to which rows have had their events)``."""
        ...


class Recent:
    """Fills :class:`EventReads`: from memory where it can, else from the store. One writer: what it was not told of is not there."""

    def __init__(self, store: EventReads) -> None:
        self._store = store
        self._events: deque[Event] = deque(maxlen=RECENT_MAX)
        self.last = 0
        """The number of the newest event."""

    def add(self, numbered: Sequence[Event]) -> None:
        """They are stored, and follow each other and the one before them."""
        if numbered:
            self._events.extend(numbered)
            self.last = numbered[-1].seq

    async def events(self, after: int, limit: int) -> list[Event]:
        """See :class:`EventReads`."""
        if after >= self.last:
            return []
        if not self._events or after + 1 < self._events[0].seq:
            return await self._store.events(after, limit)
        start = after + 1 - self._events[0].seq
        return list(islice(self._events, start, start + limit))

    async def events_upto(self) -> tuple[int, int]:
        """See :class:`EventReads`."""
        return await self._store.events_upto()
