"""The receiving half of replication: what the peer has and we lack, asking for it, and the window that bounds it."""

from __future__ import annotations

from collections.abc import Callable

from fabrik_sync.counters import Counters
from fabrik_sync.events import Event, ForkSeen, SegmentsReceived
from fabrik_sync.frames import Ack, HeadsFrame, Segment, Stop, Want
from fabrik_sync.limits import Limits
from fabrik_sync.logbook import LogBook, LogRow
from fabrik_sync.ports import LogId, Replica
from fabrik_sync.wants import Wants

__all__ = ["FlowViolation", "Receiver"]


class FlowViolation(Exception):
    """The peer sent more than its window, or acknowledged more than it got."""


class Receiver:
    """Learns heads, decides what to WANT, counts what is unprocessed.

    ``learned`` is called with each log and place that the peer turned out to have, for the sending half.
    """

    def __init__(
        self,
        book: LogBook,
        replica: Replica,
        limits: Limits,
        wants: Wants,
        counters: Counters,
        events: list[Event],
        learned: Callable[[LogId, LogRow, int], None],
    ) -> None:
        self._book = book
        self._replica = replica
        self._limits = limits
        self._wants = wants
        self._counters = counters
        self._events = events
        self._learned = learned
        self._missing: set[LogId] = set()
        self._unadmitted: set[LogId] = set()
        self._deferred: set[LogId] = set()
        self._ask: dict[LogId, None] = {}
        self._stop: dict[LogId, None] = {}
        self._received = 0
        self._processed = 0
        self._acked = 0
        self.deferred_until: float | None = None

    @property
    def missing(self) -> int:
        """Logs of admitted authors of which the peer has more than we."""
        return len(self._missing)

    @property
    def unadmitted(self) -> int:
        """Logs that we leave alone because nobody admitted their author."""
        return len(self._unadmitted)

    @property
    def unprocessed_bytes(self) -> int:
        """Segment bytes that the shell was given and has not reported as processed."""
        return self._received - self._processed

    # ---- from the peer

    def on_heads(self, frame: HeadsFrame, now: float) -> None:
        """The peer lists heads."""
        for log, heads in frame.logs:
            if log not in self._book.rows and len(self._book.rows) >= self._limits.logs:
                self._counters.over_limit += 1
                continue
            row = self._book.row(log)
            row.remote = heads
            self._look_for_fork(log, row)
            self._note(log, row, heads[-1].seq, now)

    def on_segment(self, frame: Segment, now: float) -> None:
        """The peer sends ops. Raises :class:`FlowViolation` when it has no credit for them."""
        size, log = len(frame.data), frame.log
        self._received += size
        if self.unprocessed_bytes > self._limits.window_bytes:
            raise FlowViolation(f"{self.unprocessed_bytes} bytes are unprocessed, the window is {self._limits.window_bytes}")
        self._counters.segments_in += 1
        self._counters.segment_bytes_in += size
        row = self._book.rows.get(log)
        full = row is None and len(self._book.rows) >= self._limits.logs
        if full or (row is not None and row.refused) or not self._replica.admit(log.author):
            self._drop(log, row, size)
            return
        row = self._book.row(log)
        row.wanted = True
        self._wants.note(log, self, up_to=frame.last, now=now)
        self._note(log, row, frame.last, now)
        last = self._events[-1] if self._events else None
        if isinstance(last, SegmentsReceived) and last.log == log and last.last_seq + 1 == frame.first:
            self._events[-1] = SegmentsReceived(log, last.first_seq, frame.last, (*last.segments, frame.data))
        else:
            self._events.append(SegmentsReceived(log, frame.first, frame.last, (frame.data,)))

    def _drop(self, log: LogId, row: LogRow | None, size: int) -> None:
        self._counters.segments_dropped += 1
        self._processed += size
        if row is not None:
            row.wanted = False
        if len(self._stop) < self._limits.wants_per_frame:
            self._stop[log] = None

    def _note(self, log: LogId, row: LogRow, seq: int, now: float) -> None:
        row.remote_seq = max(row.remote_seq, seq)
        self._learned(log, row, seq)
        self.consider(log, now)

    def _look_for_fork(self, log: LogId, row: LogRow) -> None:
        ours = {head.seq: head.h for head in row.local}
        if not row.forked and any(ours.get(head.seq, head.h) != head.h for head in row.remote):
            row.forked = True
            self._events.append(ForkSeen(log, row.local, row.remote))

    # ---- from the shell

    def local_changed(self, log: LogId, now: float) -> None:
        """We hold more of a log, or other heads of it, than before."""
        row = self._book.row(log)
        self._look_for_fork(log, row)
        self.consider(log, now)

    def consider(self, log: LogId, now: float) -> None:
        """Ask for a log when the peer has more of it, its author is admitted and no other peer streams it already."""
        row = self._book.row(log)
        if row.remote_seq <= row.local_seq or row.refused:
            self._forget(log)
            return
        if not self._replica.admit(log.author):
            self._forget(log)
            self._unadmitted.add(log)
            return
        self._unadmitted.discard(log)
        self._missing.add(log)
        if row.wanted:
            return
        if not self._wants.take(log, self, have_seq=row.local_seq, up_to=row.remote_seq, now=now, defer_s=self._limits.defer_s):
            if log not in self._deferred:
                self._counters.wants_deferred += 1
            self._deferred.add(log)
            if self.deferred_until is None:
                self.deferred_until = now + self._limits.defer_s
            return
        self._deferred.discard(log)
        row.wanted = True
        self._ask[log] = None

    def _forget(self, log: LogId) -> None:
        self._missing.discard(log)
        self._unadmitted.discard(log)
        self._deferred.discard(log)
        self._wants.done(log, self)

    def retry_deferred(self, now: float) -> None:
        """Look again at the logs that were left to another peer."""
        self.deferred_until = None
        for log in list(self._deferred):
            self.consider(log, now)

    def reconsider(self, now: float) -> None:
        """Admission changed: look again at every log of which the peer has more."""
        for log in [*self._unadmitted, *self._missing]:
            self.consider(log, now)

    def gap(self, log: LogId, have_seq: int) -> None:
        """Segments did not fit on what we hold: ask again from there, once for each place."""
        row = self._book.row(log)
        if not row.refused and row.gap_at != have_seq:
            row.gap_at = have_seq
            row.wanted = True
            self._ask[log] = None

    def refuse(self, log: LogId) -> None:
        """Take nothing more of this log from this peer in this session."""
        row = self._book.row(log)
        if not row.refused:
            row.refused, row.wanted = True, False
            self._ask.pop(log, None)
            self._stop[log] = None
        self._forget(log)

    def processed(self, size: int) -> None:
        """The shell is done with ``size`` segment bytes. Raises ValueError for more than it was given."""
        if size < 0 or self._processed + size > self._received:
            raise ValueError(f"{size} bytes processed, but only {self.unprocessed_bytes} are open")
        self._processed += size

    # ---- to the peer

    def next_frame(self) -> bytes | None:
        """ACK, STOP and WANT frames that are due, one at a time."""
        open_acks = self._processed - self._acked
        if open_acks and (open_acks >= self._limits.window_bytes // 4 or self._processed == self._received):
            self._acked = self._processed
            return Ack(self._processed).encode()
        if self._stop:
            log = next(iter(self._stop))
            del self._stop[log]
            return Stop(log).encode()
        if self._ask:
            first = sorted(self._ask, key=lambda log: (self._replica.priority(log.author), log))[: self._limits.wants_per_frame]
            for log in first:
                del self._ask[log]
            self._counters.wants_out += len(first)
            return Want(tuple((log, self._book.rows[log].local_seq) for log in first)).encode()
        return None

    def has_frames(self) -> bool:
        """True when :meth:`next_frame` would give one."""
        open_acks = self._processed - self._acked
        return bool(self._stop or self._ask) or (open_acks > 0 and (open_acks >= self._limits.window_bytes // 4 or self._processed == self._received))

    def release(self) -> None:
        """The session is over: other sessions may fetch what this one did."""
        self._wants.release(self)
