"""What follows READY: both halves of replication on one book of logs, and what they say of themselves."""

from __future__ import annotations

from collections.abc import Sequence

from fabrik_sync.counters import Counters
from fabrik_sync.events import EphemeralReceived, Event, LogStopped
from fabrik_sync.frames import Ack, Ephemeral, Frame, FrontierFrame, HeadsFrame, Segment, Stop, Want
from fabrik_sync.limits import Limits
from fabrik_sync.logbook import LogBook
from fabrik_sync.ports import Heads, LogId, Replica
from fabrik_sync.receiving import Receiver
from fabrik_sync.sending import ReadRequest, Sender
from fabrik_sync.wants import Wants

__all__ = ["Replication"]


class Replication:
    """Begins with our FRONTIER; everything but local heads waits for the peer's (:meth:`compare`)."""

    def __init__(self, replica: Replica, limits: Limits, wants: Wants, counters: Counters, events: list[Event], *, peer_window: int) -> None:
        self._replica = replica
        self._events = events
        self.flows = False
        """The peer's frontier is known: data may be sent."""
        self.book = LogBook(replica.heads())
        self.sender = Sender(self.book, replica, limits, counters, peer_window=peer_window)
        self.receiver = Receiver(self.book, replica, limits, wants, counters, events, self.sender.learned)

    def compare(self, theirs: FrontierFrame) -> bool:
        """The peer's FRONTIER; True when nothing differs."""
        equal = self.book.compare(theirs)
        self.flows = True
        self.sender.begin(list_all=not equal)
        return equal

    def handle(self, frame: Frame, now: float) -> None:
        """A frame of the replicating states. Raises :class:`~fabrik_sync.receiving.FlowViolation`."""
        match frame:
            case HeadsFrame():
                self.receiver.on_heads(frame, now)
            case Want():
                self.sender.on_want(frame)
            case Stop():
                self.sender.on_stop(frame)
                row = self.book.rows.get(frame.log)
                if row is not None:
                    self._events.append(LogStopped(frame.log, row.remote))
            case Segment():
                self.receiver.on_segment(frame, now)
            case Ack():
                self.sender.on_ack(frame)
            case Ephemeral(author, counter, data):
                if self.sender.on_ephemeral(frame):
                    self._events.append(EphemeralReceived(author, counter, data))
            case _:
                raise AssertionError("the table of states lets no such frame through")

    def handle_heads(self, log: LogId, heads: Heads, now: float) -> None:
        """We hold more of a log, or other heads of it."""
        row = self.book.row(log)
        if heads[-1].seq < row.local_seq:
            return  # told late: commits are not always told in order
        row.local, row.local_seq = heads, heads[-1].seq
        if self.flows:
            self.receiver.local_changed(log, now)
            self.sender.local_changed(log)

    def handle_read(self, request: ReadRequest, segments: Sequence[tuple[int, int, bytes]]) -> None:
        """See :meth:`fabrik_sync.Session.handle_read`."""
        self.sender.handle_read(request, segments)

    def next_frame(self) -> bytes | None:
        """The next frame for the peer, if data may be sent and there is any."""
        return (self.receiver.next_frame() or self.sender.next_frame()) if self.flows else None

    def waits_for_peer(self) -> bool:
        """Something waits for the socket, or for the peer's acknowledgement."""
        return self.flows and (self.receiver.has_frames() or self.sender.has_frames() or self.sender.unacked_bytes > 0)

    def lag(self) -> tuple[int, int]:
        """``(ops that the peer is not known to have or to be sent, ops that it has and we lack)``, over admitted authors."""
        out = back = 0
        if self.flows:
            for log, row in self.book.rows.items():
                if not row.stopped:
                    out += max(0, row.local_seq - max(row.remote_seq, row.sent or 0))
                if not row.refused and row.remote_seq > row.local_seq and self._replica.admit(log.author):
                    back += row.remote_seq - row.local_seq
        return out, back
