"""The first part of a session, from HELLO to READY, for either side: what each frame leads to."""

from __future__ import annotations

from dataclasses import dataclass

from fabrik_sync.events import JoinRequested
from fabrik_sync.frames import Answer, Auth, Hello, Ready
from fabrik_sync.handshake import Initiator, Responder
from fabrik_sync.limits import Limits
from fabrik_sync.states import Input, State

__all__ = ["Opening", "Step"]


@dataclass(frozen=True, slots=True)
class Step:
    """What a frame of the handshake leads to: the move, a frame to send (may be empty), an event, the welcome of a joiner."""

    cause: Input
    reply: bytes = b""
    event: JoinRequested | None = None
    welcome: bytes = b""


class Opening:
    """Who the peer is, and since when it is proven."""

    def __init__(self, side: Initiator | Responder, limits: Limits, *, deadline: float) -> None:
        self._side = side
        self._limits = limits
        self.deadline = deadline
        self.peer_key: bytes = b""
        self.peer_window = 0
        self.version = 0
        self.proven = False
        self.joins = isinstance(side, Initiator) and side.joins
        """With a token: there is more time."""

    @property
    def is_initiator(self) -> bool:
        """True on the side that dialled."""
        return isinstance(self._side, Initiator)

    @property
    def first_state(self) -> State:
        """Where this side begins."""
        return State.WAIT_ANSWER if isinstance(self._side, Initiator) else State.WAIT_HELLO

    def first_frame(self) -> bytes:
        """HELLO on the side that dialled, nothing on the other."""
        return self._side.hello() if isinstance(self._side, Initiator) else b""

    def handle(self, frame: Hello | Answer | Auth | Ready, raw: bytes, now: float) -> Step:
        """A frame that has a place in the session's state. Raises :class:`~fabrik_sync.handshake.Refusal`."""
        side = self._side
        if isinstance(side, Responder):
            if isinstance(frame, Hello):
                answer = side.answer(frame, raw)
                self.peer_key, self.peer_window, self.version = frame.key, frame.window, answer.version
                return Step(Input.HELLO, answer.encode())
            if isinstance(frame, Auth):
                side.verify(frame)
                self.proven = True
                if not side.admit(frame):
                    return Step(Input.AUTH_MEMBER, Ready().encode())
                self.deadline, self.joins = now + self._limits.join_s, True
                return Step(Input.AUTH_JOIN, event=JoinRequested(self.peer_key, side.hello.token_id, side.transcript, frame.proof, side.hello.next))
        elif isinstance(frame, Answer):
            side.verify(frame)
            self.peer_key, self.peer_window, self.version = frame.key, frame.window, frame.version
            self.proven = True
            return Step(Input.ANSWER, side.admit(frame.key).encode())
        elif isinstance(frame, Ready):
            return Step(Input.READY, welcome=frame.welcome)
        raise AssertionError("the table of states lets no such frame through")
