"""What follows READY: both halves of replication on one book of logs, and what they say of themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fabrik_sync.counters import Counters
from fabrik_sync.events import EphemeralReceived, Event
from fabrik_sync.frames import Ack, Ephemeral, Frame, FrontierFrame, HeadsFrame, Segment, Stop, Want
from fabrik_sync.limits import Limits
from fabrik_sync.logbook import LogBook, LogRow
from fabrik_sync.ports import Head, Heads, LogId, Replica, is_marker
from fabrik_sync.reading import ReadRequest
from fabrik_sync.receiving import Receiver
from fabrik_sync.sending import Sender
from fabrik_sync.wants import Wants

__all__ = ["Lag", "Replication"]


class Lag(NamedTuple):
    """``out``: ops that the peer is not known to have or to be sent; ``back``: ops that it has and we lack; ``behind``: see :attr:`fabrik_sync.Status.behind`."""

    out: int
    back: int
    behind: Sequence[tuple[LogId, int, int]]


class Replication:
    """Begins with our FRONTIER; everything but local heads waits for the peer's (:meth:`compare`)."""

    def __init__(self, replica: Replica, limits: Limits, wants: Wants, counters: Counters, events: list[Event], *, peer_window: int) -> None:
        self._replica = replica
        self._events = events
        self.flows = False
        """The peer's frontier is known: data may be sent."""
        self.book = LogBook(replica.heads())
        self._lags: dict[LogId, tuple[int, int]] = {}
        self._behind: dict[LogId, Sequence[tuple[int, int]]] = {}
        self._out = self._back = 0
        self.sender = Sender(self.book, replica, limits, counters, peer_window=peer_window)
        self.receiver = Receiver(self.book, replica, limits, wants, counters, events, self.sender.learned, self.sender.forked)

    def compare(self, theirs: FrontierFrame) -> bool:
        """The peer's FRONTIER; True when nothing differs."""
        equal = self.book.compare(theirs)
        self.flows = True
        self.sender.begin(list_all=not equal)
        return equal

    def handle(self, frame: Frame, now: float) -> None:
        """A frame of the replicating states. Raises :class:`~fabrik_sync.window.FlowViolation`."""
        match frame:
            case HeadsFrame():
                self.receiver.on_heads(frame, now)
            case Want():
                self.sender.on_want(frame)
                for wanted in frame.logs:
                    if wanted.places is not None and wanted.log in self.book.rows:
                        self.receiver.consider(wanted.log, now)  # the peer knows of a fork: what we asked for by number has to be asked for anew
            case Stop():
                self.sender.on_stop(frame)
            case Segment():
                self.receiver.on_segment(frame, now)
            case Ack():
                self.sender.on_ack(frame)
            case Ephemeral(author, counter, data):
                if self.sender.ephemerals.receive(frame):
                    self._events.append(EphemeralReceived(author, counter, data))
            case _:
                raise AssertionError("the table of states lets no such frame through")

    def handle_heads(self, log: LogId, heads: Heads, now: float) -> None:
        """We hold more of a log, or other heads of it."""
        if self.book.row(log).set_local(heads) and self.flows:
            self.receiver.local_changed(log, now)
            self.sender.local_changed(log)

    def handle_taken(self, log: LogId, head: Head) -> None:
        """See :meth:`fabrik_sync.Session.handle_taken`."""
        self.sender.taken_from_peer(log, head)

    def handle_read(self, request: ReadRequest, segments: Sequence[tuple[int, int, bytes]]) -> None:
        """See :meth:`fabrik_sync.Session.handle_read`."""
        self.sender.handle_read(request, segments)

    def next_frame(self) -> bytes | None:
        """The next frame for the peer, if data may be sent and there is any."""
        return (self.receiver.next_frame() or self.sender.next_frame()) if self.flows else None

    def waits_for_peer(self) -> bool:
        """Something waits for the socket, or for the peer's acknowledgement."""
        return self.flows and (self.receiver.has_frames() or self.sender.has_frames() or self.sender.outbox.unacked_bytes > 0)

    def lag(self) -> Lag:
        """Both directions, over admitted authors. Only logs that were touched since the last call are looked at."""
        flight = list(self.sender.outbox.flight.behind())
        if not self.flows:
            return Lag(0, 0, flight)
        for log in self.book.touched:
            self._look(log, self.book.rows.get(log))
        self.book.touched.clear()
        return Lag(self._out, self._back, [*flight, *((log, *at) for log, cursors in self._behind.items() for at in cursors)])

    def _look(self, log: LogId, row: LogRow | None) -> None:
        """Put what one log adds to the lag in place of what it added before."""
        out, back = self._lags.pop(log, (0, 0))
        self._out -= out
        self._back -= back
        self._behind.pop(log, None)
        if row is None:
            return
        out = back = 0
        if row.fork is not None or row.remote_seq < row.local_seq:
            cursors = self.sender.cursors(log, row)
            if cursors:
                self._behind[log] = cursors
                out = row.owed(cursors)
        if (row.remote_seq > row.local_seq or row.lacking) and not row.suspended and self._replica.takes(log.author):
            back = max(0, row.remote_seq - row.local_seq) if row.fork is None else sum(_behind(head, row.local_seq) for head in row.lacking)
        if out or back:
            self._lags[log] = (out, back)
            self._out += out
            self._back += back


def _behind(head: Head, local_seq: int) -> int:
    """Ops that a head is known to be ahead of us; one at least, since we lack it."""
    return 1 if is_marker(head) else max(1, head.seq - local_seq)
