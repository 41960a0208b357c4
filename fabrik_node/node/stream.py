"""The node's event stream: numbered in the store first, then told to followers and to the exported file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from fabrik_node.clock import Clock
from fabrik_node.errors import FabrikError, StoreFull
from fabrik_node.node.recent import EventReads, Recent
from fabrik_node.ports import Event, OpStore

__all__ = ["EventSink", "EventStream"]

_PAGE = 500
_WAITING_MAX = 10_000
"""Events of the node itself that wait for space on a full disk."""


def _nobody(_: StoreFull) -> None:
    """Nobody listens."""


class EventSink(Protocol):
    """Where numbered events go besides the store: the exported file."""

    async def catch_up(self, store: EventReads) -> int:
        """Write every event of the store that the export lacks; how many. Raises :class:`~fabrik_node.errors.StoreFailed`."""
        ...


class EventStream:
    """Call :meth:`run` as a task; :meth:`tell` from the same loop. Followers read what is stored, so none can fall out."""

    def __init__(self, store: OpStore, sink: EventSink, clock: Clock) -> None:
        self._store = store
        self._sink = sink
        self._clock = clock
        self._queue: list[Event] = []
        self._upto_pos = 0
        self._wake = asyncio.Event()
        self._told = asyncio.Condition()
        self._recent = Recent(store)
        self.export_error: FabrikError | None = None
        """Why the export lags behind the store, None while it does not."""
        self._closing = False
        self._storing = False
        self._stored_upto = 0
        self._full = False
        self.dropped = 0
        """Events of the node itself that found no place to wait on a full disk."""
        self.on_full: Callable[[StoreFull], None] = _nobody
        """Told when events could not be stored for want of space; they wait for :meth:`resume`."""

    async def start(self) -> int:
        """Read where the stream stands; the ``pos`` up to which stored ops have had their events."""
        self._recent.last, self._upto_pos = await self._store.events_upto()
        self._stored_upto = self._upto_pos
        await self._export()
        return self._upto_pos

    def tell(self, events: Sequence[Event], upto_pos: int = 0) -> None:
        """Queue events of the batch that ends at ``upto_pos`` (0: not of a batch)."""
        self._queue.extend(events)
        self._upto_pos = max(self._upto_pos, upto_pos)
        self._wake.set()

    def note(self, kind: str, data: Mapping[str, Any]) -> None:
        """Queue one event of the node itself. On a full disk, only so many."""
        if self._full and len(self._queue) >= _WAITING_MAX:
            self.dropped += 1
            return
        self.tell([Event(kind, self._clock.wall_ms(), data)])

    def close(self) -> None:
        """Store what is queued, then let :meth:`run` return."""
        self._closing = True
        self._wake.set()

    async def run(self) -> None:
        """The loop. Raises what the store raises: a stream with holes is worse than a stopped node."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._full and not self._closing:
                continue
            queued, self._queue = self._queue, []
            upto = self._upto_pos
            self._storing = True
            try:
                numbered = await self._store.append_events(queued, upto)
            except StoreFull as error:  # the next start tells those of ops; what the node said of itself waits, or is lost with it
                async with self._told:
                    self._queue[:0] = queued
                    self._full, self._storing = True, False
                    self._told.notify_all()
                self.on_full(error)
                if self._closing:
                    return
                continue
            async with self._told:
                self._storing = False
                self._stored_upto = upto
                self._recent.add(numbered)
                self._told.notify_all()
            if numbered:
                await self._export()
            if self._closing and not self._queue:
                return

    def resume(self) -> None:
        """There is space again."""
        self._full = False
        self._wake.set()

    async def stored(self, pos: int) -> bool:
        """Wait until the events of rows up to ``pos`` are stored; False when the stream ended, or the disk is full."""
        async with self._told:
            await self._told.wait_for(lambda: self._stored_upto >= pos or self._full or self._closing)
        return self._stored_upto >= pos

    async def settled(self) -> None:
        """Wait until all that was told is stored, or nothing can be: the stream ended, or the disk is full."""
        async with self._told:
            await self._told.wait_for(lambda: self._full or self._closing or not (self._queue or self._storing))

    async def follow(self, after: int, *, follow: bool, limit: int = 0) -> AsyncIterator[Event]:
        """Events with ``seq > after``, gap-free; with ``follow`` for ever, else up to the newest. ``limit`` 0: all."""
        sent = 0
        while True:
            page = await self._recent.events(after, _PAGE)
            for event in page:
                yield event
                after = event.seq
                sent += 1
                if limit and sent >= limit:
                    return
            if page:
                continue
            if not follow:
                return
            async with self._told:
                await self._told.wait_for(partial(self._is_beyond, after))

    async def _export(self) -> None:
        """Bring the export up to date. It is no source of anything: its failure is kept for ``status``, and the next batch tries again."""
        try:
            await self._sink.catch_up(self._recent)
        except FabrikError as error:
            self.export_error = error
        else:
            self.export_error = None

    def _is_beyond(self, seq: int) -> bool:
        return self._recent.last > seq

    @property
    def last(self) -> int:
        """Sequence number of the newest event."""
        return self._recent.last
