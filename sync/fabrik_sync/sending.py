"""The sending half of replication: a cursor per branch of each log that the peer takes, read from the store when there is room.

Nothing of a log is held here but what waits for the socket. A slow peer has cursors that stand still, and costs no more.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from itertools import islice

from fabrik_sync.counters import Counters
from fabrik_sync.ephemerals import Ephemerals
from fabrik_sync.frames import Ack, HeadsFrame, Segment, Stop, Want
from fabrik_sync.limits import SEGMENT_BYTES_MAX, Limits
from fabrik_sync.logbook import Fork, LogBook, LogRow
from fabrik_sync.outbox import Outbox
from fabrik_sync.ports import MARKER, Head, Heads, LogId, Place, Replica, is_marker, place_of
from fabrik_sync.reading import ReadRequest
from fabrik_sync.window import FlowViolation

__all__ = ["Sender"]

_HEADS_ENTRY_BYTES = 32 + 16
_HEAD_BYTES = 48


class Sender:
    """Announces heads, streams wanted logs, passes ephemerals on. Bounded by the outbox and the peer's window."""

    def __init__(self, book: LogBook, replica: Replica, limits: Limits, counters: Counters, *, peer_window: int) -> None:
        self._book = book
        self._replica = replica
        self._limits = limits
        self._counters = counters
        self.outbox = Outbox(limits, counters, peer_window)
        self._ready: list[tuple[int, int, LogId]] = []
        self._queued: set[LogId] = set()
        self._turn = 0
        self._reading: ReadRequest | None = None
        self._announce: dict[LogId, None] = {}
        self._first_exchange = False
        self._rewinds = 0
        self.ephemerals = Ephemerals(limits, counters)

    @property
    def behind(self) -> bool:
        """The peer takes less than there is for it."""
        return bool(self._queued) and not self.outbox.has_room()

    # ---- heads

    def begin(self, *, list_all: bool) -> None:
        """The frontiers are compared. List every log that the peer was not found to have equally (the first exchange, when
        ``list_all``), and stream what was committed since to those that it has.
        """
        self._first_exchange = list_all
        for log, row in self._book.rows.items():
            if row.forked and row.fork is None:
                row.fork = Fork()
            if row.fork is not None and row.remote and not is_marker(row.remote[0]):
                row.fork.cursors = self._cursors(log, row, [place_of(head) for head in row.remote])
        unknown = [log for log, row in self._book.rows.items() if not row.taken and row.remote != row.shown]
        for log in sorted(unknown, key=lambda log: (self._replica.priority(log.author), log)):
            self._announce[log] = None
        for log, row in self._book.rows.items():
            if row.next_read():
                self._enqueue(log)

    def local_changed(self, log: LogId) -> None:
        """We hold more of a log than before (or other heads of it)."""
        row = self._book.row(log)
        if row.stopped:
            return
        if row.fork is not None:
            row.fork.stuck.clear()
            self._level(log, row)
        elif row.sent is None and 0 < row.local_seq <= row.remote_seq and not self._first_exchange:
            row.sent = row.remote_seq
            self._acknowledge(log, row)
            self._counters.duplicates_avoided += 1
        if (not row.taken or row.suspended or row.outdated) and row.told != row.shown and row.remote != (MARKER,):
            self._announce[log] = None
        elif row.fork is None and row.remote == row.shown and not row.wanted:
            self._acknowledge(log, row)
        if row.next_read():
            self._enqueue(log)
        elif row.taken:
            self._counters.duplicates_avoided += 1

    def learned(self, log: LogId, row: LogRow, seq: int) -> None:
        """The peer turned out to have ``log`` up to ``seq``, and in a forked one what it announced."""
        if row.stopped:
            return
        if row.fork is not None:
            self._level(log, row)
        elif row.sent is not None and seq > row.sent:
            if row.sent < row.local_seq:
                self._counters.duplicates_avoided += 1
            row.sent = seq
        elif row.sent is None and row.local_seq and seq >= row.local_seq and (row.remote == row.shown or not self._first_exchange):
            row.sent = seq  # in the first exchange a shorter log is told all the same: the longer one need not contain it
            self._acknowledge(log, row)

    def _acknowledge(self, log: LogId, row: LogRow) -> None:
        """We have what the peer announced, and it asks nobody: it hears so once, else it would say for ever that we lack it."""
        if row.told != row.shown:
            self._announce[log] = None

    def forked(self, log: LogId, row: LogRow) -> None:
        """The log is known to be forked: what the peer has of it is not told by numbers. It hears of our heads, and asks."""
        if not row.stopped:
            self._level(log, row)
            if (not row.taken or row.outdated) and row.told != row.shown and row.remote != (MARKER,):
                self._announce[log] = None

    def taken_from_peer(self, log: LogId, head: Head) -> None:
        """What the peer sent was committed as this place of a branch."""
        row = self._book.row(log)
        if row.fork is None or row.stopped:
            return
        row.fork.given[head.branch] = place_of(head)
        row.reach(head.branch, head.seq)
        self._level(log, row)

    def cursors(self, log: LogId, row: LogRow) -> Sequence[tuple[int, int]]:
        """``(branch, behind which seq)`` of each branch of ours that the peer is not known to have, or to be sent, to its end."""
        if row.stopped or row.remote == (MARKER,):
            return ()
        if row.fork is None:
            at = max(row.remote_seq, row.sent or 0)
            return ((0, at),) if at < row.local_seq else ()
        if row.fork.cursors is not None:
            return [(tip.branch, at) for tip in row.local if (at := row.cursor(tip.branch) or 0) < tip.seq]
        return self._replica.cursors(log, self._known(row))

    @staticmethod
    def _known(row: LogRow) -> list[Place]:
        return [place_of(head) for head in row.remote if not is_marker(head)] + list(row.fork.given.values() if row.fork else ())

    def _level(self, log: LogId, row: LogRow) -> None:
        """A forked log that the peer has as far as we do needs no WANT: its cursors are where both are equal. A suspended peer takes nothing."""
        fork = row.fork
        if fork is None:
            return
        if row.remote == (MARKER,):
            fork.cursors = None
            self._announce.pop(log, None)
        elif fork.cursors is None and row.local and not row.suspended and (row.remote == row.shown or not self._replica.cursors(log, self._known(row))):
            fork.cursors = {tip.branch: tip.seq for tip in row.local}
            self._acknowledge(log, row)

    def _cursors(self, log: LogId, row: LogRow, places: Sequence[Place]) -> dict[int, int]:
        return {tip.branch: tip.seq for tip in row.local} | dict(self._replica.cursors(log, places))

    # ---- from the peer

    def on_want(self, frame: Want) -> None:
        """The peer takes logs from us from now on. What we do not hold is ignored. Raises :class:`FlowViolation` when it goes back too often."""
        for log, after, places in frame.logs:
            row = self._book.known(log)
            self._counters.wants_in += 1
            if row is None or not row.local:
                continue
            if row.taken and (places is not None or after < (row.cursor(0) or 0)):
                self._rewinds += 1
                if self._rewinds > self._limits.rewinds:
                    raise FlowViolation(f"more than {self._limits.rewinds} WANTs for what was sent already", "rewinds")
            row.stopped = False
            if not row.outdated:
                self._announce.pop(log, None)
            if places is not None:
                row.fork = row.fork or Fork()
                row.fork.cursors = self._cursors(log, row, places)
            elif row.fork is not None:
                row.fork.cursors = {tip.branch: after if tip.base is None else max(tip.base[1], after) for tip in row.local}
            else:
                row.sent = after
            if row.fork is not None:
                row.fork.stuck.clear()
            if row.next_read():
                self._enqueue(log)

    def on_stop(self, frame: Stop) -> None:
        """The peer does not take this log."""
        row = self._book.known(frame.log)
        if row is not None:
            row.stopped, row.sent = True, None
            if row.fork is not None:
                row.fork.cursors = None
            self._announce.pop(frame.log, None)

    def on_ack(self, frame: Ack) -> None:
        """The peer processed segments. Raises :class:`FlowViolation` for more than it was sent, or less than before."""
        self.outbox.on_ack(frame.total)

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
        if self._ready:
            self.outbox.count_full()
        while self._ready and self.outbox.has_room():
            _, _, log = heapq.heappop(self._ready)
            self._queued.discard(log)
            if (found := self._book.rows[log].next_read()) is not None:
                self._reading = ReadRequest(log, *found, SEGMENT_BYTES_MAX)
                return self._reading
        return None

    def handle_read(self, request: ReadRequest, segments: Sequence[tuple[int, int, bytes]]) -> None:
        """Queue what was read; nothing read means that the store can not go on here before the log's next head.

        Raises ValueError for an answer that does not fit the request.
        """
        if request is not self._reading:
            raise ValueError("this read was not requested, or answered before")
        request.check(segments)
        self._reading = None
        row = self._book.row(request.log)
        upto = row.cursor(request.branch)
        if upto is None or row.stopped:
            return
        for first, last, data in segments:
            if first > upto + 1:
                break  # the peer asked again from further back while we read
            if last <= upto:
                self._counters.duplicates_avoided += 1
                continue
            self.outbox.put(Segment(request.log, first, last, data), request.branch, upto + 1)
            upto = last
            row.advance(request.branch, upto)
        if not segments and row.fork is not None:
            row.fork.stuck.add(request.branch)
        if row.next_read() and (segments or row.fork is not None):
            self._enqueue(request.log)

    # ---- to the peer

    def has_frames(self) -> bool:
        """True when :meth:`next_frame` would give one."""
        return bool(self._first_exchange or self._announce or self.ephemerals.waiting or self.outbox.waits)

    def next_frame(self) -> bytes | None:
        """HEADS first, then ephemerals, then segments."""
        if self._announce or self._first_exchange:
            return self._heads_frame()
        if (frame := self.ephemerals.next_frame()) is not None:
            return frame
        return self.outbox.take() if self.outbox.waits else None

    def _heads_frame(self) -> bytes:
        entries: list[tuple[LogId, Heads]] = []
        room = self._limits.chunk_bytes
        for log in list(islice(self._announce, room // _HEADS_ENTRY_BYTES + 1)):
            row = self._book.rows[log]
            room -= _HEADS_ENTRY_BYTES + _HEAD_BYTES * len(row.shown)
            if room < 0 and entries:
                self._counters.hit("chunk_bytes")
                break
            del self._announce[log]
            row.told = row.shown
            entries.append((log, row.shown))
        more = self._first_exchange and bool(self._announce)
        self._first_exchange = more
        return HeadsFrame(more, tuple(entries)).encode()
