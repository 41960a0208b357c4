"""The receiving half of replication: what the peer has and we lack, asking for it, and the window that bounds it."""

from __future__ import annotations

from collections.abc import Callable

from fabrik_sync.asking import Asks, want_frame
from fabrik_sync.counters import Counters
from fabrik_sync.deferred import Deferred, Patience
from fabrik_sync.events import Event, SegmentsReceived
from fabrik_sync.frames import Ack, HeadsFrame, Segment, Stop
from fabrik_sync.limits import SEGMENT_BYTES_MAX, Limits
from fabrik_sync.logbook import Fork, LogBook, LogRow
from fabrik_sync.logsets import ByAuthor
from fabrik_sync.newlogs import NewLogs
from fabrik_sync.ports import MARKER, Head, LogId, Replica, is_crowded, is_marker
from fabrik_sync.wants import Wants
from fabrik_sync.window import Window

__all__ = ["Receiver"]


class Receiver:
    """Learns heads, decides what to WANT, counts what is unprocessed.

    ``learned`` is called with each log and place that the peer turned out to have, ``forked`` with each log that turned out to be
    forked; both are for the sending half.
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
        forked: Callable[[LogId, LogRow], None],
    ) -> None:
        self._book = book
        self._replica = replica
        self._limits = limits
        self._wants = wants
        self._counters = counters
        self._events = events
        self._learned = learned
        self._forked = forked
        self._missing = ByAuthor()
        self._unadmitted = ByAuthor()
        self._deferred = Deferred(limits)
        self._patience = Patience(limits, replica, counters)
        self._ask = Asks(replica.priority)
        self._stop: dict[LogId, None] = {}
        self.new = NewLogs(limits, wants, counters)
        self.window = Window(limits.window_bytes)

    @property
    def missing(self) -> int:
        """Logs of admitted authors of which the peer has something that we lack."""
        return len(self._missing)

    @property
    def deferred_until(self) -> float | None:
        """When to call :meth:`retry_deferred` next."""
        return self._deferred.until

    @property
    def unadmitted(self) -> int:
        """Logs that we leave alone because nobody admitted their author."""
        return len(self._unadmitted)

    # ---- from the peer

    def on_heads(self, frame: HeadsFrame, now: float) -> None:
        """The peer lists heads."""
        for log, heads in frame.logs:
            if log not in self._book.rows and len(self._book.rows) >= self._limits.logs:
                self._counters.hit("logs")
                continue
            row = self._book.row(log)
            resumed = row.remote == (MARKER,) != heads
            row.remote = row.lacking = heads
            if row.forked:
                self._fork(log, row)
            if resumed:
                row.reopen()
                self._forked(log, row)
            self._note(log, row, 0 if is_marker(heads[-1]) else heads[-1].seq, now)

    def on_segment(self, frame: Segment, now: float) -> None:
        """The peer sends ops. Raises :class:`FlowViolation` when it has no credit for them."""
        size, log = len(frame.data), frame.log
        self.window.receive(size)
        self._counters.segments_in += 1
        self._counters.segment_bytes_in += size
        row = self._book.known(log)
        full = row is None and len(self._book.rows) >= self._limits.logs
        self._counters.hit("logs" if full else "")
        if full or (row is not None and row.suspended) or not self._replica.takes(log.author) or not self.new.may_begin(log, row, now):
            self._drop(log, row, size)
            return
        row = self._book.row(log)
        row.wanted = True
        if row.fetch_bytes:
            row.fetch_bytes = max(0, row.fetch_bytes - size)
            if not row.fetch_bytes:
                self._ask.put(log)
        self._wants.note(log, self, have_seq=row.local_seq, up_to=frame.last, now=now)
        self._note(log, row, frame.last, now)
        if self._events and isinstance(last := self._events[-1], SegmentsReceived) and last.log == log and last.last_seq + 1 == frame.first:
            self._events[-1] = SegmentsReceived(log, last.first_seq, frame.last, (*last.segments, frame.data))
        else:
            self._events.append(SegmentsReceived(log, frame.first, frame.last, (frame.data,)))

    def _drop(self, log: LogId, row: LogRow | None, size: int) -> None:
        self._counters.segments_dropped += 1
        self.window.processed(size)
        if row is not None:
            row.wanted = False
        if len(self._stop) < self._limits.wants_per_frame:
            self._stop[log] = None
        else:
            self._counters.hit("wants_per_frame")

    def _note(self, log: LogId, row: LogRow, seq: int, now: float) -> None:
        row.remote_seq = max(row.remote_seq, seq)
        self.consider(log, now)
        self._learned(log, row, seq)

    def _fork(self, log: LogId, row: LogRow) -> Fork:
        """The log is known to be forked: sequence numbers, and what we made of them, say nothing more."""
        if row.fork is None:
            row.fork = Fork()
            self._ask.discard(log)
            self._forked(log, row)
        return row.fork

    # ---- from the shell

    def local_changed(self, log: LogId, now: float) -> None:
        """We hold more of a log, or other heads of it, than before."""
        row = self._book.row(log)
        self._wants.held(log, row.local, now)
        if row.forked:
            self._fork(log, row)
        self.consider(log, now)

    def consider(self, log: LogId, now: float) -> None:
        """Ask for a log when the peer has something of it that we lack, its author is admitted and no other peer streams it already."""
        row = self._book.row(log)
        self._look(log, row)
        missing = bool(row.lacking) or (row.fork is None and row.remote_seq > row.local_seq)
        if row.suspended or not missing:
            self._forget(log)
        elif not self._replica.takes(log.author):
            self._forget(log)
            self._unadmitted.add(log)
        else:
            self._unadmitted.discard(log)
            if not self.new.may_begin(log, row, now):
                self._missing.discard(log)
                return
            self._missing.add(log)
            if row.fork is not None:
                self._ask_for_heads(log, row, row.fork, now)
            elif not row.wanted:
                self._ask_beyond(log, row, now)

    def _look(self, log: LogId, row: LogRow) -> None:
        """Which of the peer's heads do we lack? One that we lack although we hold ops at its place shows a fork."""
        if not row.lacking:
            return
        row.lacking = tuple(head for head in row.lacking if not self._holds(log, row, head))
        if row.fork is None and any(head.seq <= row.local_seq for head in row.lacking):
            self._fork(log, row)

    def _holds(self, log: LogId, row: LogRow, head: Head) -> bool:
        if is_marker(head):
            return row.shown == (head,)
        if head.seq > row.local_seq:
            return False
        return any(head.h == tip.h for tip in row.local if tip.seq == head.seq) or self._replica.holds(log, head.seq, head.h)

    def _ask_beyond(self, log: LogId, row: LogRow, now: float) -> None:
        urgent, defer_s = self._patience(log, row.remote_seq - row.local_seq)
        if not self._wants.take(log, self, have_seq=row.local_seq, up_to=row.remote_seq, now=now, defer_s=defer_s, urgent=urgent):
            self._defer(log, now, urgent=urgent)
            return
        self._deferred.discard(log)
        row.wanted = True
        self._ask.put(log)

    def _ask_for_heads(self, log: LogId, row: LogRow, fork: Fork, now: float) -> None:
        """Once for what the peer has announced. A head that may be on its way, from here or from another peer, is waited for a while."""
        asked = fork.asked is not None and ((row.wanted and is_crowded(row.lacking)) or set(row.lacking) <= set(fork.asked))
        if self._spent(row, fork) or asked:  # who has our places of a crowded log sends what is not before them: a later digest is no reason to ask
            return
        urgent, defer_s = self._patience(log)
        if fork.asked is not None and now - fork.asked_at < defer_s:
            self._defer(log, now, urgent=urgent)  # the peer said this before it heard us, most likely: it is on its way
            return
        fork.since = {head: fork.since.get(head, now) for head in row.lacking}
        old = min(fork.since.values()) <= now - defer_s
        if not self._wants.take(log, self, have_seq=-1, up_to=MARKER.seq, now=now, defer_s=0.0 if old else defer_s, urgent=urgent):
            self._defer(log, now, urgent=urgent)
            return
        self._ask_with_places(log, row, fork, now)

    def _ask_with_places(self, log: LogId, row: LogRow, fork: Fork, now: float) -> None:
        if self._spent(row, fork):
            return
        self._deferred.discard(log)
        fork.asked, fork.asked_at, fork.asks = row.remote, now, fork.asks + 1
        self._counters.hit("fork_asks" if fork.asks == self._limits.fork_asks else "")
        fork.since.clear()
        row.wanted = True
        self._ask.put(log)

    def _spent(self, row: LogRow, fork: Fork) -> bool:
        """It announces what it does not bring: perhaps in its next session, or after we got something from elsewhere."""
        if fork.ours != row.local:
            fork.ours, fork.asks = row.local, 0
        return fork.asks >= self._limits.fork_asks

    def _defer(self, log: LogId, now: float, *, urgent: bool) -> None:
        self._counters.wants_deferred += self._deferred.put(log, now, urgent=urgent)

    def _forget(self, log: LogId) -> None:
        self._missing.discard(log)
        self._unadmitted.discard(log)
        self._deferred.discard(log)
        self.new.discard(log)
        self._wants.done(log, self)

    def fetch(self, log: LogId, have_seq: int) -> bool:
        """Our bytes behind ``have_seq`` are lost: ask for them, once for each place. What is lost is one stored row at a time, so four largest
        segments contain it; then the peer is sent back to what is new. True when it may have it.
        """
        row = self._book.known(log)
        if row is None or row.missing_at == have_seq or have_seq >= max(row.remote_seq, row.cursor(0) or 0) or row.suspended:
            return False
        row.missing_at = have_seq
        row.fetch_bytes = 4 * SEGMENT_BYTES_MAX
        row.wanted = True
        self._ask.put(log, have_seq)
        return True

    def retry_deferred(self, now: float, *, anew: bool = False) -> None:
        """Look again at logs that were left to another peer, in steps. ``anew``: another session has ended, so also at those that were looked at just now."""
        self._counters.hit("urgent_s" if self._deferred.is_urgent else "")
        for log in self._deferred.due(now, anew=anew):
            self.consider(log, now)

    def reconsider(self, now: float) -> None:
        """Admission changed: look again at logs of whose authors we think otherwise now."""
        takes = self._replica.takes
        for log in [*self._unadmitted.where(takes), *self._missing.where(lambda author: not takes(author))]:
            self.consider(log, now)

    def gap(self, log: LogId, have_seq: int, now: float, *, unrooted: bool) -> None:
        """Segments did not fit on what we hold: ask again, once for each place; on a forked log once for what the peer announced, and then not often."""
        row = self._book.row(log)
        if row.suspended:
            return
        if unrooted:
            self._fork(log, row)
        if row.fork is not None:
            if row.has_news or now - row.fork.asked_at >= self._limits.fork_again_s:
                self._counters.hit("" if row.has_news else "fork_again_s")
                self._ask_with_places(log, row, row.fork, now)
        elif row.gap_at != have_seq:
            row.gap_at = have_seq
            row.wanted = True
            self._ask.put(log)

    # ---- to the peer

    def next_frame(self) -> bytes | None:
        """ACK, STOP and WANT frames that are due, one at a time."""
        if self.window.ack_due:
            return Ack(self.window.take_ack()).encode()
        if self._stop:
            log = next(iter(self._stop))
            del self._stop[log]
            return Stop(log).encode()
        if self._ask:
            return want_frame(self._ask, self._book, self._replica, self._limits, self._counters)
        return None

    def has_frames(self) -> bool:
        """True when :meth:`next_frame` would give one."""
        return bool(self._stop or self._ask) or self.window.ack_due

    def release(self) -> None:
        """The session is over: other sessions may fetch what this one did."""
        self._wants.release(self, self.new)
