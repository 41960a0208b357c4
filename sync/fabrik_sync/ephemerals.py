"""Ephemeral messages of one session: of each author only the newest waits, and nothing goes to a peer that has it."""

from __future__ import annotations

from fabrik_sync.counters import Counters
from fabrik_sync.frames import Ephemeral
from fabrik_sync.limits import EPHEMERAL_BYTES_MAX, Limits

__all__ = ["Ephemerals"]


class Ephemerals:
    """What waits for the peer, and which counters it has shown or was sent."""

    def __init__(self, limits: Limits, counters: Counters) -> None:
        self._limits = limits
        self._counters = counters
        self._waiting: dict[bytes, tuple[int, bytes]] = {}
        self._peer_counters: dict[bytes, int] = {}

    @property
    def waiting(self) -> int:
        """Messages that :meth:`next_frame` has to give."""
        return len(self._waiting)

    def receive(self, frame: Ephemeral) -> bool:
        """True when the message is newer than what this peer sent before."""
        known = self._peer_counters.get(frame.author)
        if known is None and len(self._peer_counters) >= self._limits.ephemeral_authors:
            self._counters.hit("ephemeral_authors")
            return False
        if known is not None and frame.counter <= known:
            self._counters.ephemerals_stale += 1
            return False
        self._peer_counters[frame.author] = frame.counter
        waiting = self._waiting.get(frame.author)
        if waiting is not None and waiting[0] <= frame.counter:
            del self._waiting[frame.author]
            self._counters.ephemerals_replaced += 1
        self._counters.ephemerals_in += 1
        return True

    def send(self, author: bytes, counter: int, data: bytes) -> None:
        """Send an author's latest message unless the peer has it; an older one that waits is replaced."""
        if len(author) != 32 or len(data) > EPHEMERAL_BYTES_MAX:
            raise ValueError(f"an author has 32 bytes and an ephemeral message at most {EPHEMERAL_BYTES_MAX}")
        waiting = self._waiting.get(author)
        if counter <= self._peer_counters.get(author, -1) or (waiting is not None and counter <= waiting[0]):
            self._counters.ephemerals_replaced += 1
            return
        if waiting is None and len(self._waiting) >= self._limits.ephemeral_authors:
            self._counters.hit("ephemeral_authors")
            return
        if waiting is not None:
            self._counters.ephemerals_replaced += 1
        self._waiting[author] = (counter, data)

    def next_frame(self) -> bytes | None:
        """One message, of whoever has waited longest."""
        if not self._waiting:
            return None
        author = next(iter(self._waiting))
        counter, data = self._waiting.pop(author)
        if author in self._peer_counters or len(self._peer_counters) < self._limits.ephemeral_authors:
            self._peer_counters[author] = max(counter, self._peer_counters.get(author, -1))
        self._counters.ephemerals_out += 1
        return Ephemeral(author, counter, data).encode()
