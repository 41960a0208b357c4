"""The sending half of replication: a cursor per log that the peer takes, read from the store when there is room.

Nothing of a log is held here but what waits for the socket. A slow peer has cursors that stand still, and costs no more.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from fabrik_sync.counters import Counters
from fabrik_sync.frames import Ack, Ephemeral, HeadsFrame, Segment, Stop, Want
from fabrik_sync.limits import EPHEMERAL_BYTES_MAX, FRAME_BYTES_MAX, SEGMENT_BYTES_MAX, Limits
from fabrik_sync.logbook import LogBook, LogRow
from fabrik_sync.ports import Heads, LogId, Replica
from fabrik_sync.receiving import FlowViolation

__all__ = ["ReadRequest", "Sender"]

_HEADS_ENTRY_BYTES = 32 + 16
_HEAD_BYTES = 48


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """Read stored segments of ``log`` that hold ops behind ``after_seq``, in order, up to ``max_bytes`` in sum."""

    log: LogId
    after_seq: int
    max_bytes: int


class Sender:
    """Announces heads, streams wanted logs, passes ephemerals on. Bounded by the outbox and the peer's window."""

    def __init__(self, book: LogBook, replica: Replica, limits: Limits, counters: Counters, *, peer_window: int) -> None:
        self._book = book
        self._replica = replica
        self._limits = limits
        self._counters = counters
        self._window = peer_window
        self._ready: list[tuple[int, int, LogId]] = []
        self._queued: set[LogId] = set()
        self._turn = 0
        self._reading: ReadRequest | None = None
        self._announce: dict[LogId, None] = {}
        self._first_exchange = False
        self._segments: deque[tuple[bytes, int]] = deque()
        self._segment_bytes = 0
        self._sent = 0
        self._acked = 0
        self._ephemerals: dict[bytes, tuple[int, bytes]] = {}
        self._peer_counters: dict[bytes, int] = {}

    @property
    def outbox_bytes(self) -> int:
        """Encoded segment bytes that wait for the socket."""
        return self._segment_bytes

    @property
    def unacked_bytes(self) -> int:
        """Segment bytes that were queued or sent and are not yet processed by the peer."""
        return self._sent - self._acked

    @property
    def behind(self) -> bool:
        """The peer takes less than there is for it."""
        return bool(self._queued) and not self._room()

    def _room(self) -> bool:
        return self._segment_bytes + FRAME_BYTES_MAX <= self._limits.outbox_bytes and self.unacked_bytes + SEGMENT_BYTES_MAX <= self._window

    # ---- heads

    def begin(self, *, list_all: bool) -> None:
        """The frontiers are compared. List every log that the peer was not found to have equally (the first exchange, when
        ``list_all``), and stream what was committed since to those that it has.
        """
        self._first_exchange = list_all
        unknown = [log for log, row in self._book.rows.items() if row.sent is None]
        for log in sorted(unknown, key=lambda log: (self._replica.priority(log.author), log)):
            self._announce[log] = None
        for log, row in self._book.rows.items():
            if row.sent is not None and row.sent < row.local_seq:
                self._enqueue(log)

    def local_changed(self, log: LogId) -> None:
        """We hold more of a log than before (or other heads of it)."""
        row = self._book.row(log)
        if row.stopped:
            return
        if row.sent is None:
            if 0 < row.local_seq <= row.remote_seq and not row.forked:
                row.sent = row.remote_seq
                self._announce.pop(log, None)
                self._counters.duplicates_avoided += 1
            elif row.announced_seq < row.local_seq:
                self._announce[log] = None
        elif row.sent < row.local_seq:
            self._enqueue(log)
        else:
            self._counters.duplicates_avoided += 1

    def learned(self, log: LogId, row: LogRow, seq: int) -> None:
        """The peer turned out to have ``log`` up to ``seq``."""
        if row.stopped or row.forked:
            return
        if row.sent is not None and seq > row.sent:
            if row.sent < row.local_seq:
                self._counters.duplicates_avoided += 1
            row.sent = seq
        elif row.sent is None and row.local_seq and seq >= row.local_seq:
            row.sent = seq
            self._announce.pop(log, None)

    # ---- from the peer

    def on_want(self, frame: Want) -> None:
        """The peer takes logs from us from now on. What we do not hold is ignored."""
        for log, after in frame.logs:
            row = self._book.rows.get(log)
            self._counters.wants_in += 1
            if row is None or not row.local_seq:
                continue
            row.stopped = False
            row.sent = after
            self._announce.pop(log, None)
            if after < row.local_seq:
                self._enqueue(log)

    def on_stop(self, frame: Stop) -> None:
        """The peer does not take this log."""
        row = self._book.rows.get(frame.log)
        if row is not None:
            row.stopped, row.sent = True, None
            self._announce.pop(frame.log, None)

    def on_ack(self, frame: Ack) -> None:
        """The peer processed segments. Raises :class:`FlowViolation` for more than it was sent, or less than before."""
        if not self._acked <= frame.total <= self._sent:
            raise FlowViolation(f"acknowledged {frame.total} bytes, after {self._acked} of {self._sent}")
        self._acked = frame.total

    def on_ephemeral(self, frame: Ephemeral) -> bool:
        """True when the message is newer than what this peer sent before."""
        known = self._peer_counters.get(frame.author)
        if known is None and len(self._peer_counters) >= self._limits.ephemeral_authors:
            self._counters.over_limit += 1
            return False
        if known is not None and frame.counter <= known:
            self._counters.ephemerals_stale += 1
            return False
        self._peer_counters[frame.author] = frame.counter
        waiting = self._ephemerals.get(frame.author)
        if waiting is not None and waiting[0] <= frame.counter:
            del self._ephemerals[frame.author]
            self._counters.ephemerals_replaced += 1
        self._counters.ephemerals_in += 1
        return True

    # ---- reading

    def _enqueue(self, log: LogId) -> None:
        if log not in self._queued:
            self._queued.add(log)
            self._turn += 1
            heapq.heappush(self._ready, (self._replica.priority(log.author), self._turn, log))

    def poll_read(self) -> ReadRequest | None:
        """The next read, if there is room for its answer. One at a time."""
        if self._reading is not None:
            return None
        while self._ready and self._room():
            _, _, log = heapq.heappop(self._ready)
            self._queued.discard(log)
            row = self._book.rows[log]
            if row.sent is not None and row.sent < row.local_seq:
                self._reading = ReadRequest(log, row.sent, SEGMENT_BYTES_MAX)
                return self._reading
        return None

    def handle_read(self, request: ReadRequest, segments: Sequence[tuple[int, int, bytes]]) -> None:
        """Queue what was read; nothing read means that the store can not go on here before the log's next head.

        Raises ValueError for an answer that does not fit the request.
        """
        if request is not self._reading:
            raise ValueError("this read was not requested, or answered before")
        _check(request, segments)
        self._reading = None
        row = self._book.rows[request.log]
        if row.sent is None or row.stopped:
            return
        for first, last, data in segments:
            if first > row.sent + 1:
                break  # the peer asked again from further back while we read
            if last <= row.sent:
                self._counters.duplicates_avoided += 1
                continue
            frame = Segment(request.log, first, last, data).encode()
            self._segments.append((frame, len(data)))
            self._segment_bytes += len(frame)
            self._sent += len(data)
            row.sent = last
        if row.sent < row.local_seq and segments:
            self._enqueue(request.log)

    # ---- ephemerals

    def send_ephemeral(self, author: bytes, counter: int, data: bytes) -> None:
        """Send an author's latest message unless the peer has it; an older one that waits is replaced."""
        if len(author) != 32 or len(data) > EPHEMERAL_BYTES_MAX:
            raise ValueError(f"an author has 32 bytes and an ephemeral message at most {EPHEMERAL_BYTES_MAX}")
        waiting = self._ephemerals.get(author)
        if counter <= self._peer_counters.get(author, -1) or (waiting is not None and counter <= waiting[0]):
            self._counters.ephemerals_replaced += 1
            return
        if waiting is None and len(self._ephemerals) >= self._limits.ephemeral_authors:
            self._counters.over_limit += 1
            return
        if waiting is not None:
            self._counters.ephemerals_replaced += 1
        self._ephemerals[author] = (counter, data)

    # ---- to the peer

    def has_frames(self) -> bool:
        """True when :meth:`next_frame` would give one."""
        return bool(self._first_exchange or self._announce or self._ephemerals or self._segments)

    def next_frame(self) -> bytes | None:
        """HEADS first, then ephemerals, then segments."""
        if self._announce or self._first_exchange:
            return self._heads_frame()
        if self._ephemerals:
            author = next(iter(self._ephemerals))
            counter, data = self._ephemerals.pop(author)
            if author in self._peer_counters or len(self._peer_counters) < self._limits.ephemeral_authors:
                self._peer_counters[author] = max(counter, self._peer_counters.get(author, -1))
            self._counters.ephemerals_out += 1
            return Ephemeral(author, counter, data).encode()
        if self._segments:
            frame, size = self._segments.popleft()
            self._segment_bytes -= len(frame)
            self._counters.segments_out += 1
            self._counters.segment_bytes_out += size
            return frame
        return None

    def _heads_frame(self) -> bytes:
        entries: list[tuple[LogId, Heads]] = []
        room = self._limits.chunk_bytes
        for log in list(self._announce):
            row = self._book.rows[log]
            room -= _HEADS_ENTRY_BYTES + _HEAD_BYTES * len(row.local)
            if room < 0 and entries:
                break
            del self._announce[log]
            row.announced_seq = row.local_seq
            entries.append((log, row.local))
        more = self._first_exchange and bool(self._announce)
        self._first_exchange = more
        return HeadsFrame(more, tuple(entries)).encode()


def _check(request: ReadRequest, segments: Sequence[tuple[int, int, bytes]]) -> None:
    upto = request.after_seq
    for first, last, data in segments:
        if not (first <= upto + 1 and last > upto and 0 < len(data) <= SEGMENT_BYTES_MAX):
            raise ValueError(f"segment {first}..{last} of {len(data)} bytes does not continue {request.log.author.hex()[:16]} at {upto}")
        upto = last
    size = sum(len(data) for _, _, data in segments)
    if size > request.max_bytes and len(segments) > 1:
        raise ValueError(f"{size} bytes were read, {request.max_bytes} were asked for")
