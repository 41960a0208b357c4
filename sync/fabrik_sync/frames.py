"""The frames on the wire, one frozen class each: an illegal frame can not be built, so it can not be sent.

A frame is one array ``[type, *fields]`` in the encoding of :mod:`fabrik_sync.wire`; ``docs/spec/sync.cddl`` describes each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple, TypeAlias

from fabrik_sync.limits import WELCOME_BYTES_MAX
from fabrik_sync.ports import Heads, LogId, Place
from fabrik_sync.wire import Item, encode

__all__ = [
    "BUCKETS",
    "BUCKET_BYTES",
    "CODE_CHARS",
    "DUPLICATE_PING",
    "Ack",
    "Answer",
    "Auth",
    "Close",
    "Ephemeral",
    "Frame",
    "FrameType",
    "FrontierFrame",
    "HeadsFrame",
    "Hello",
    "Ping",
    "Pong",
    "Ready",
    "Segment",
    "Stop",
    "Unknown",
    "Want",
    "Wanted",
]

BUCKETS: Final = 16
BUCKET_BYTES: Final = 16
DUPLICATE_PING: Final = (1 << 64) - 1
"""The number of a PING that says: I have another connection with your key, and of the two this is the one too many."""
CODE_CHARS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")


class FrameType:
    """The numbers of the frames. Never reused; the list only grows."""

    HELLO, ANSWER, AUTH, READY, CLOSE, FRONTIER, HEADS, WANT, STOP, SEGMENT, ACK, EPHEMERAL, PING, PONG = range(1, 15)


@dataclass(frozen=True, slots=True)
class Hello:
    """The initiator's first frame. Later versions may add fields at the end; the transcript covers them."""

    TYPE: ClassVar[int] = FrameType.HELLO
    versions: tuple[int, ...]
    mesh: bytes
    key: bytes
    nonce: bytes
    window: int
    token_id: bytes = b""
    next: bytes = b""
    """Of a joiner: the commitment to its next key, 32 bytes, or nothing."""

    def encode(self) -> bytes:
        """The frame's bytes."""
        more = [self.next] if self.next else []
        return encode([self.TYPE, list(self.versions), self.mesh, self.key, self.nonce, self.window, self.token_id, *more])


@dataclass(frozen=True, slots=True)
class Answer:
    """The responder's first frame: the body that is signed, as it was sent, and the signature over the transcript."""

    TYPE: ClassVar[int] = FrameType.ANSWER
    version: int
    mesh: bytes
    key: bytes
    nonce: bytes
    window: int
    signature: bytes

    def body(self) -> bytes:
        """The part that the transcript covers."""
        return encode([self.version, self.mesh, self.key, self.nonce, self.window])

    def encode(self) -> bytes:
        """The frame's bytes."""
        return encode([self.TYPE, self.version, self.mesh, self.key, self.nonce, self.window, self.signature])


@dataclass(frozen=True, slots=True)
class Auth:
    """The initiator's signature over the transcript and, when it joins, its proof of the secret (else empty)."""

    TYPE: ClassVar[int] = FrameType.AUTH
    signature: bytes
    proof: bytes = b""

    def encode(self) -> bytes:
        """The frame's bytes."""
        return encode([self.TYPE, self.signature, self.proof])


@dataclass(frozen=True, slots=True)
class Ready:
    """The responder lets the initiator in. ``welcome`` is opaque, for one that joins."""

    TYPE: ClassVar[int] = FrameType.READY
    welcome: bytes = b""

    def __post_init__(self) -> None:
        if len(self.welcome) > WELCOME_BYTES_MAX:
            raise ValueError(f"a welcome of {len(self.welcome)} bytes, {WELCOME_BYTES_MAX} are allowed")

    def encode(self) -> bytes:
        """The frame's bytes."""
        return encode([self.TYPE, self.welcome])


@dataclass(frozen=True, slots=True)
class Close:
    """The last frame: why, and what the other side's operator can do."""

    TYPE: ClassVar[int] = FrameType.CLOSE
    code: str
    hint: str = ""

    def __post_init__(self) -> None:
        if not 1 <= len(self.code) <= 64 or not CODE_CHARS.issuperset(self.code):
            raise ValueError(f"{self.code[:64]!r} is no code: lower-case letters, digits and underscores, 64 at most")

    def encode(self) -> bytes:
        """The frame's bytes."""
        return encode([self.TYPE, self.code, self.hint])


@dataclass(frozen=True, slots=True)
class FrontierFrame:
    """The digest of all heads, and one short digest per bucket of logs, so that only unequal buckets are listed."""

    TYPE: ClassVar[int] = FrameType.FRONTIER
    digest: bytes
    buckets: bytes

    def encode(self) -> bytes:
        """The frame's bytes."""
        return encode([self.TYPE, self.digest, self.buckets])


@dataclass(frozen=True, slots=True)
class HeadsFrame:
    """Heads of some logs. ``more`` is true while further frames of the first exchange follow."""

    TYPE: ClassVar[int] = FrameType.HEADS
    more: bool
    logs: tuple[tuple[LogId, Heads], ...]

    def encode(self) -> bytes:
        """The frame's bytes."""
        return encode([self.TYPE, self.more, [[log.author, log.epoch, [[head.seq, head.h] for head in heads]] for log, heads in self.logs]])


class Wanted(NamedTuple):
    """One log of a WANT: everything behind ``after``, or, with ``places`` (a forked log), everything that is not before one of them."""

    log: LogId
    after: int
    places: tuple[Place, ...] | None = None

    def fields(self) -> list[Item]:
        """As on the wire."""
        plain: list[Item] = [self.log.author, self.log.epoch, self.after]
        return plain if self.places is None else [*plain, [[seq, mark] for seq, mark in self.places]]


@dataclass(frozen=True, slots=True)
class Want:
    """Stream these logs to me, and go on with what is committed later."""

    TYPE: ClassVar[int] = FrameType.WANT
    logs: tuple[Wanted, ...]

    def encode(self) -> bytes:
        """The frame's bytes."""
        return encode([self.TYPE, [wanted.fields() for wanted in self.logs]])


@dataclass(frozen=True, slots=True)
class Stop:
    """Do not stream or announce this log to me until I WANT it."""

    TYPE: ClassVar[int] = FrameType.STOP
    log: LogId

    def encode(self) -> bytes:
        """The frame's bytes."""
        return encode([self.TYPE, self.log.author, self.log.epoch])


@dataclass(frozen=True, slots=True)
class Segment:
    """Contiguous ops of one log, opaque."""

    TYPE: ClassVar[int] = FrameType.SEGMENT
    log: LogId
    first: int
    last: int
    data: bytes

    def encode(self) -> bytes:
        """The frame's bytes."""
        return encode([self.TYPE, self.log.author, self.log.epoch, self.first, self.last, self.data])


@dataclass(frozen=True, slots=True)
class Ack:
    """Segment bytes of this session that the receiver has processed, all in all."""

    TYPE: ClassVar[int] = FrameType.ACK
    total: int

    def encode(self) -> bytes:
        """The frame's bytes."""
        return encode([self.TYPE, self.total])


@dataclass(frozen=True, slots=True)
class Ephemeral:
    """An author's latest ephemeral message, opaque."""

    TYPE: ClassVar[int] = FrameType.EPHEMERAL
    author: bytes
    counter: int
    data: bytes

    def encode(self) -> bytes:
        """The frame's bytes."""
        return encode([self.TYPE, self.author, self.counter, self.data])


@dataclass(frozen=True, slots=True)
class Ping:
    """Answer with a PONG of the same number."""

    TYPE: ClassVar[int] = FrameType.PING
    number: int

    def encode(self) -> bytes:
        """The frame's bytes."""
        return encode([self.TYPE, self.number])


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a PING."""

    TYPE: ClassVar[int] = FrameType.PONG
    number: int

    def encode(self) -> bytes:
        """The frame's bytes."""
        return encode([self.TYPE, self.number])


@dataclass(frozen=True, slots=True)
class Unknown:
    """A frame of a type that this version does not know."""

    type: int


Frame: TypeAlias = Hello | Answer | Auth | Ready | Close | FrontierFrame | HeadsFrame | Want | Stop | Segment | Ack | Ephemeral | Ping | Pong | Unknown
