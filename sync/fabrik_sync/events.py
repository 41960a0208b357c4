"""What a session tells its shell: a small vocabulary of frozen events, taken with :meth:`Session.poll_events`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from fabrik_sync.ports import LogId

__all__ = ["CaughtUp", "Closed", "DuplicateSeen", "EphemeralReceived", "Event", "JoinRequested", "PeerReady", "Refused", "SegmentsReceived"]


@dataclass(frozen=True, slots=True)
class JoinRequested:
    """An initiator that proved ``key`` wants to join. The session waits for ``join_accepted()`` or ``join_refused()``.

    Look up the secret of ``token_id`` and call :func:`fabrik_sync.verify_join_proof` with it, ``transcript`` and ``proof``.
    """

    key: bytes
    token_id: bytes
    transcript: bytes
    proof: bytes
    next: bytes = b""
    """The commitment to the key that will follow ``key``; empty for none."""


@dataclass(frozen=True, slots=True)
class PeerReady:
    """Both sides are proven and admitted; replication begins. ``welcome`` is what the responder's shell gave (initiator only)."""

    key: bytes
    initiator: bool
    version: int
    welcome: bytes


@dataclass(frozen=True, slots=True)
class SegmentsReceived:
    """Segments of one log in order, unverified. Verify, chain, persist, merge; then ``handle_head`` on every session and
    ``handle_processed(size_bytes)`` on this one, whatever came of them: without it the peer stops sending.
    """

    log: LogId
    first_seq: int
    last_seq: int
    segments: tuple[bytes, ...]

    @property
    def size_bytes(self) -> int:
        """What to give to ``handle_processed``."""
        return sum(map(len, self.segments))


@dataclass(frozen=True, slots=True)
class EphemeralReceived:
    """An ephemeral message, unverified. Verify it, check that author and counter inside are these, then pass it to the hub."""

    author: bytes
    counter: int
    data: bytes


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """For the first time we hold everything that the peer has announced and whose author is admitted."""


@dataclass(frozen=True, slots=True)
class DuplicateSeen:
    """The peer says that it has another connection with our key. Pass it to :meth:`Hub.handle_duplicate`."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The handshake ended without a session. The last event. ``proven``: the other side had proven its key before.

    ``by_peer``: the peer refused us, and ``hint`` is its word on what to do (printable, but foreign); else we refused it.
    """

    code: str
    hint: str
    by_peer: bool
    proven: bool


@dataclass(frozen=True, slots=True)
class Closed:
    """The session ended after it was ready. The last event."""

    code: str
    hint: str
    by_peer: bool


Event: TypeAlias = JoinRequested | PeerReady | SegmentsReceived | EphemeralReceived | CaughtUp | DuplicateSeen | Refused | Closed
