"""The life of one connection: what the peer sends and what time does to it. :class:`~fabrik_sync.Session` adds what the shell says."""

from __future__ import annotations

from collections import deque

from fabrik_sync.counters import Counters
from fabrik_sync.events import CaughtUp, Closed, DuplicateSeen, Event, PeerReady, Refused
from fabrik_sync.frames import DUPLICATE_PING, Ack, Answer, Auth, Close, Frame, FrontierFrame, HeadsFrame, Hello, Ping, Pong, Ready, Unknown
from fabrik_sync.handshake import Refusal
from fabrik_sync.limits import FRAME_BYTES_MAX, HANDSHAKE_FRAME_BYTES_MAX, Limits
from fabrik_sync.liveness import Liveness
from fabrik_sync.opening import Opening
from fabrik_sync.parsing import decode_frame
from fabrik_sync.ports import Replica
from fabrik_sync.reasons import Reason
from fabrik_sync.replication import Replication
from fabrik_sync.states import ACCEPTS, PROVEN, TRANSITIONS, Input, State
from fabrik_sync.wants import Wants
from fabrik_sync.window import FlowViolation
from fabrik_sync.wire import Malformed

__all__ = ["Connection"]


class Connection:
    """The half of a session that faces the transport. Its subclass documents the order of calls."""

    def __init__(self, opening: Opening, replica: Replica, limits: Limits, wants: Wants | None, now: float) -> None:
        self._opening = opening
        self._replica = replica
        self._limits = limits
        self._wants = wants if wants is not None else Wants()
        self._now = now
        self._state = opening.first_state
        self._control = deque([first] if (first := opening.first_frame()) else [])
        self._pong: int | None = None
        self._pings = 0
        self._events: list[Event] = []
        self._was_admitted = False
        self._was_caught_up = False
        self._progress = 0
        self._liveness = Liveness(limits, now)
        self._replication: Replication | None = None
        self.is_duplicate = False
        """We opened it, and the peer says that it has another one with our key."""
        self.counters = Counters()
        """What happened so far. Read only."""

    @property
    def state(self) -> State:
        """Where the session is."""
        return self._state

    @property
    def is_initiator(self) -> bool:
        """True on the side that dialled."""
        return self._opening.is_initiator

    @property
    def peer_key(self) -> bytes | None:
        """The peer's key once it is proven."""
        return self._opening.peer_key if self._opening.proven else None

    @property
    def is_caught_up(self) -> bool:
        """We hold everything that the peer announced and whose author is admitted."""
        return self._state is State.LIVE and self._replication is not None and not self._replication.receiver.missing

    # ---- from the transport

    def receive_frame(self, data: bytes, now: float) -> None:
        """One binary message of the peer. Never raises for what the peer sent: a fault ends the session with a reason."""
        self._now = max(self._now, now)
        if self._state is State.CLOSED:
            return
        self.counters.frames_in += 1
        self.counters.bytes_in += len(data)
        self._liveness.heard(now)
        proven = self._state in PROVEN
        try:
            frame = decode_frame(data, FRAME_BYTES_MAX if proven else HANDSHAKE_FRAME_BYTES_MAX)
            if isinstance(frame, Unknown) and proven:
                self._count_unknown()
            elif isinstance(frame, Unknown) or frame.TYPE not in ACCEPTS[self._state]:
                kind = frame.type if isinstance(frame, Unknown) else frame.TYPE
                self.close(Reason.UNEXPECTED, f"frame type {kind} has no place in state {self._state}")
            else:
                self._handle(frame, data)
        except Malformed as error:
            self.counters.hit(error.limit)
            self.close(Reason.MALFORMED, str(error))
        except FlowViolation as error:
            self.counters.hit(error.limit)
            self.close(Reason.FLOW, str(error))
        except Refusal as error:
            self.close(error.code, error.hint)

    def receive_part(self, now: float) -> None:
        """Some bytes of a frame have come, and not yet all: the peer lives. A large frame may take a slow link longer than the peer may be silent."""
        self._now = max(self._now, now)
        self._liveness.heard(self._now)

    def handle_disconnected(self) -> None:
        """The transport ended. Nothing is left to send; poll the last event."""
        if self._state is not State.CLOSED:
            self._finish(Reason.DISCONNECTED, "the connection was lost", by_peer=False)
        self._control.clear()

    def handle_timeout(self, now: float) -> None:
        """Time has come to :meth:`next_timeout`. Harmless when it has not."""
        self._now = max(self._now, now)
        if self._state is State.CLOSED:
            return
        link = self._replication
        if link is None:
            if now >= self._opening.deadline:
                self.counters.hit("join_s" if self._opening.joins else "handshake_s")
                self.close(Reason.HANDSHAKE_TIMEOUT, f"no end of the handshake, in state {self._state}")
            return
        waiting = bool(self._control) or link.waits_for_peer()
        reason = self._liveness.check(now, progress=self._progress, waiting=waiting)
        if reason is not None:
            self.counters.hit("progress_s" if reason is Reason.NO_PROGRESS else "rival_s" if self._liveness.doubted else "silent_s")
            self.close(reason, "nothing was heard from the peer" if reason is Reason.SILENT else "the peer takes nothing of what waits for it")
            return
        if self._liveness.ping_due(now) and not self._control:
            self._pings += 1
            self.counters.hit("ping_s")
            self._control.append(Ping(self._pings).encode())
        if link.receiver.deferred_until is not None and now >= link.receiver.deferred_until:
            self.counters.hit("defer_s")
            link.receiver.retry_deferred(now)
        if link.receiver.new.until is not None and now >= link.receiver.new.until:
            link.receiver.new.retry(now, link.receiver.consider)

    def next_timeout(self) -> float | None:
        """When to call :meth:`handle_timeout`, on the clock of ``now``; None when the session is closed."""
        if self._state is State.CLOSED:
            return None
        if self._replication is None:
            return self._opening.deadline
        receiver = self._replication.receiver
        return min(at for at in (self._liveness.next_timeout(), receiver.deferred_until, receiver.new.until) if at is not None)

    # ---- outputs

    def poll_frame(self) -> bytes | None:
        """The next frame for the transport, in order, or None. Handed out is sent: a frame may not be dropped or reordered."""
        frame = None
        if self._control:
            frame = self._control.popleft()
        elif self._pong is not None:
            frame, self._pong = Pong(self._pong).encode(), None
        elif self._replication is not None and self._state is not State.CLOSED:
            frame = self._replication.next_frame()
            self._progress += frame is not None  # signs of life alone are no progress
        if frame is not None:
            self._liveness.sent(self._now)
            self.counters.frames_out += 1
            self.counters.bytes_out += len(frame)
        return frame

    def poll_events(self) -> list[Event]:
        """What happened since the last call, in order."""
        events = list(self._events)
        self._events.clear()
        return events

    def close(self, code: str = Reason.SHUTDOWN, hint: str = "") -> None:
        """End the session: a CLOSE frame is the last to send, Closed or Refused the last event.

        ``code`` is a :class:`Reason` or the shell's own (lower-case letters, digits, underscores), else ValueError.
        """
        if self._state is not State.CLOSED:
            self._control.append(Close(str(code), hint[:256]).encode())
            self._finish(code, hint, by_peer=False)

    # ---- inside

    def _flowing(self) -> Replication | None:
        link = self._replication
        return link if link is not None and link.flows and self._state is not State.CLOSED else None

    def _move(self, cause: Input) -> None:
        self._state = TRANSITIONS[self._state][cause]

    def _handle(self, frame: Frame, raw: bytes) -> None:
        link = self._replication
        match frame:
            case Close(code, hint):
                self._finish(code, hint, by_peer=True)
            case Hello() | Answer() | Auth() | Ready():
                step = self._opening.handle(frame, raw, self._now)
                self._move(step.cause)
                if step.reply:
                    self._control.append(step.reply)
                if step.event:
                    self._events.append(step.event)
                if self._state is State.WAIT_FRONTIER:
                    self._begin(step.welcome)
            case Ping(number):
                self._pong = number
                if number == DUPLICATE_PING and self.is_initiator and not self.is_duplicate:
                    self.is_duplicate = True
                    self._events.append(DuplicateSeen())
            case FrontierFrame() if link:
                self._move(Input.FRONTIER_EQUAL if link.compare(frame) else Input.FRONTIER_UNEQUAL)
                self._tell_caught_up()
            case _ if link and not isinstance(frame, Pong):
                link.handle(frame, self._now)
                self._progress += isinstance(frame, Ack)
                if self._state is State.WAIT_HEADS and isinstance(frame, HeadsFrame) and not frame.more:
                    self._move(Input.HEADS_LAST)
                self._tell_caught_up()

    def _begin(self, welcome: bytes = b"") -> None:
        peer = self._opening
        self._was_admitted = self._replica.admit(peer.peer_key)
        self._replication = Replication(self._replica, self._limits, self._wants, self.counters, self._events, peer_window=peer.peer_window)
        self._liveness = Liveness(self._limits, self._now)
        self._control.append(self._replication.book.frontier.encode())
        self._events.append(PeerReady(peer.peer_key, peer.is_initiator, peer.version, welcome))

    def _count_unknown(self) -> None:
        self.counters.unknown_frames += 1
        if self.counters.unknown_frames > self._limits.unknown_frames:
            self.counters.hit("unknown_frames")
            self.close(Reason.UNKNOWN_FRAMES, f"more than {self._limits.unknown_frames} frames of unknown types")

    def _tell_caught_up(self) -> None:
        if not self._was_caught_up and self.is_caught_up:
            self._was_caught_up = True
            self._events.append(CaughtUp())

    def _finish(self, code: str, hint: str, *, by_peer: bool) -> None:
        was_ready = self._state in PROVEN
        self._move(Input.END)
        self._pong = None
        if by_peer:
            self._control.clear()
        if self._replication is not None:
            self._replication.receiver.release()
        self._events.append(Closed(str(code), hint, by_peer) if was_ready else Refused(str(code), hint, by_peer, self._opening.proven))
