"""The states of a session and how it moves between them, as data. Code, documentation and tests read this one table."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from fabrik_sync.frames import FrameType

__all__ = ["ACCEPTS", "TRANSITIONS", "Input", "State", "render"]


class State(StrEnum):
    """Where a session is."""

    WAIT_ANSWER = "wait_answer"
    """Initiator: HELLO is sent."""
    WAIT_READY = "wait_ready"
    """Initiator: the responder is proven, AUTH is sent."""
    WAIT_HELLO = "wait_hello"
    """Responder: nothing was heard yet."""
    WAIT_AUTH = "wait_auth"
    """Responder: ANSWER is sent."""
    WAIT_JOIN = "wait_join"
    """Responder: the initiator is proven and shows a join token; the shell decides."""
    WAIT_FRONTIER = "wait_frontier"
    """Both are proven and admitted; our FRONTIER is sent."""
    WAIT_HEADS = "wait_heads"
    """The frontiers differ; the peer still lists heads. Segments flow already."""
    LIVE = "live"
    """What differs is known on both sides; segments flow."""
    CLOSED = "closed"
    """The end."""


class Input(StrEnum):
    """What moves a session."""

    HELLO = "HELLO"
    ANSWER = "ANSWER"
    AUTH_MEMBER = "AUTH of a member"
    AUTH_JOIN = "AUTH with a join token"
    JOIN_ACCEPTED = "join_accepted()"
    READY = "READY"
    FRONTIER_EQUAL = "FRONTIER equal to ours"
    FRONTIER_UNEQUAL = "FRONTIER unlike ours"
    HEADS_LAST = "last HEADS"
    END = "CLOSE, refusal, fault, timeout or close()"


TRANSITIONS: Final[dict[State, dict[Input, State]]] = {
    State.WAIT_ANSWER: {Input.ANSWER: State.WAIT_READY, Input.END: State.CLOSED},
    State.WAIT_READY: {Input.READY: State.WAIT_FRONTIER, Input.END: State.CLOSED},
    State.WAIT_HELLO: {Input.HELLO: State.WAIT_AUTH, Input.END: State.CLOSED},
    State.WAIT_AUTH: {Input.AUTH_MEMBER: State.WAIT_FRONTIER, Input.AUTH_JOIN: State.WAIT_JOIN, Input.END: State.CLOSED},
    State.WAIT_JOIN: {Input.JOIN_ACCEPTED: State.WAIT_FRONTIER, Input.END: State.CLOSED},
    State.WAIT_FRONTIER: {Input.FRONTIER_EQUAL: State.LIVE, Input.FRONTIER_UNEQUAL: State.WAIT_HEADS, Input.END: State.CLOSED},
    State.WAIT_HEADS: {Input.HEADS_LAST: State.LIVE, Input.END: State.CLOSED},
    State.LIVE: {Input.END: State.CLOSED},
    State.CLOSED: {},
}
"""Every move that there is. Anything else is a fault."""

_ALIVE = frozenset({FrameType.PING, FrameType.PONG, FrameType.CLOSE})
_DATA = _ALIVE | {FrameType.HEADS, FrameType.WANT, FrameType.STOP, FrameType.SEGMENT, FrameType.ACK, FrameType.EPHEMERAL}

ACCEPTS: Final[dict[State, frozenset[int]]] = {
    State.WAIT_ANSWER: frozenset({FrameType.ANSWER, FrameType.CLOSE}),
    State.WAIT_READY: frozenset({FrameType.READY, FrameType.CLOSE}),
    State.WAIT_HELLO: frozenset({FrameType.HELLO, FrameType.CLOSE}),
    State.WAIT_AUTH: frozenset({FrameType.AUTH, FrameType.CLOSE}),
    State.WAIT_JOIN: frozenset({FrameType.CLOSE}),
    State.WAIT_FRONTIER: _ALIVE | {FrameType.FRONTIER},
    State.WAIT_HEADS: _DATA,
    State.LIVE: _DATA,
    State.CLOSED: frozenset(),
}
"""The frames that have a place in each state. Unknown types are ignored (and counted) from WAIT_FRONTIER on."""

PROVEN: Final = frozenset({State.WAIT_FRONTIER, State.WAIT_HEADS, State.LIVE})
"""Both sides are proven and admitted."""

_NAMES = {number: name for name, number in vars(FrameType).items() if name.isupper()}


def render() -> str:
    """Both tables as Markdown, as they stand in ``docs/spec/sync.md``."""
    lines = ["| State | Frames with a place | Moves |", "|---|---|---|"]
    for state, moves in TRANSITIONS.items():
        frames = ", ".join(_NAMES[number] for number in sorted(ACCEPTS[state])) or "none"
        arrows = "; ".join(f"{cause} -> `{target}`" for cause, target in moves.items()) or "none"
        lines.append(f"| `{state}` | {frames} | {arrows} |")
    return "\n".join(lines) + "\n"
