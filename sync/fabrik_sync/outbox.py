"""Segments on their way to one peer: what waits for the socket, what the peer has not processed, and whether there is room for more."""

from __future__ import annotations

from collections import deque

from fabrik_sync.counters import Counters
from fabrik_sync.flight import Flight
from fabrik_sync.frames import Segment
from fabrik_sync.limits import FRAME_BYTES_MAX, SEGMENT_BYTES_MAX, Limits
from fabrik_sync.window import FlowViolation

__all__ = ["Outbox"]


class Outbox:
    """Bounded by ``limits.outbox_bytes`` for the socket and by ``window``, the peer's, for what it has not processed."""

    def __init__(self, limits: Limits, counters: Counters, window: int) -> None:
        self._limits = limits
        self._counters = counters
        self._window = window
        self._segments: deque[tuple[bytes, int]] = deque()
        self._sent = 0
        self._acked = 0
        self._was_full = ""
        self.bytes = 0
        """Encoded, waiting for the socket."""
        self.flight = Flight()

    @property
    def unacked_bytes(self) -> int:
        """Segment bytes that were queued or sent and are not yet processed by the peer."""
        return self._sent - self._acked

    @property
    def waits(self) -> bool:
        """Something waits for the socket."""
        return bool(self._segments)

    def has_room(self) -> bool:
        """Whether a largest segment fits."""
        return not self._full()

    def count_full(self) -> None:
        """Something is there to be read for the peer: if there is no room for it, that is one hit of the limit, until there is."""
        full = self._full()
        if full and full != self._was_full:
            self._counters.hit(full)
        self._was_full = full

    def _full(self) -> str:
        if self.bytes + FRAME_BYTES_MAX > self._limits.outbox_bytes:
            return "outbox_bytes"
        return "window_bytes" if self.unacked_bytes + SEGMENT_BYTES_MAX > self._window else ""

    def put(self, segment: Segment, branch: int, new_from: int) -> None:
        """Queue a segment, of which ops from ``new_from`` on are new to the peer."""
        frame, size = segment.encode(), len(segment.data)
        self._segments.append((frame, size))
        self.bytes += len(frame)
        self._sent += size
        self.flight.add(segment.log, branch, new_from, segment.last, begin=self._sent - size, end=self._sent)

    def take(self) -> bytes:
        """The oldest frame, for the socket."""
        frame, size = self._segments.popleft()
        self.bytes -= len(frame)
        self._counters.segments_out += 1
        self._counters.segment_bytes_out += size
        return frame

    def on_ack(self, total: int) -> None:
        """The peer processed so much of all. Raises :class:`FlowViolation` for more than it was sent, or less than before."""
        if not self._acked <= total <= self._sent:
            raise FlowViolation(f"acknowledged {total} bytes, after {self._acked} of {self._sent}")
        self._acked = total
        self.flight.acked(total)
