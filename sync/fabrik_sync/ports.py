"""What the shell hands in, and the two value types that both sides of the border share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, Protocol, TypeAlias

__all__ = ["CROWDED_SEQ", "MARKER", "MARK_BYTES", "ORDINARY", "Head", "Heads", "Identity", "LogId", "Place", "Replica", "is_crowded", "is_marker", "place_of"]

MARK_BYTES: Final = 16
"""How much of a chain hash names a place: enough that nobody finds two of one log."""


ORDINARY: Final = 2
"""The priority of logs that say nothing about who is a member; those of admins have lower ones."""


class LogId(NamedTuple):
    """One author's log: a 32-byte key and an epoch in 1..2**53-1."""

    author: bytes
    epoch: int


class Head(NamedTuple):
    """The end of one branch of a log: its last sequence number and the 32-byte chain hash there.

    ``branch`` and ``base`` are this node's own: its number of the branch (a log that never forked has only branch 0), and ``(branch, seq)`` behind
    which the branch's own ops begin, None for branch 0. A base has a lower number. Neither is ever on the wire.
    """

    seq: int
    h: bytes
    branch: int = 0
    base: tuple[int, int] | None = None


Heads: TypeAlias = tuple[Head, ...]
"""The heads of one log in rising order of (seq, h), at least one; more than one since its author forked it.
The heads of a suspended log end with :data:`MARKER`, those of a log that is not and has more heads than a frame lists with one at :data:`CROWDED_SEQ`;
those before a marker are what the log is streamed by."""

MARKER: Final = Head(1 << 53, bytes(32))
"""The one head by which a suspended log is announced, whatever is held of it."""

CROWDED_SEQ: Final = MARKER.seq - 1
"""Where the one head is by which a crowded log is announced: one with any number of heads. Its hash is the shell's digest of all of them: equal for equal sets."""

Place: TypeAlias = tuple[int, bytes]
"""A sequence number and the first 16 bytes of the chain hash there."""


def place_of(head: Head) -> Place:
    """Where a head is."""
    return head.seq, head.h[:MARK_BYTES]


def is_marker(head: Head) -> bool:
    """It stands for all heads of a log."""
    return head.seq == CROWDED_SEQ or head == MARKER


def is_crowded(heads: Heads) -> bool:
    """A log is announced by the digest of its heads."""
    return heads[-1:] != () and heads[-1].seq == CROWDED_SEQ


class Identity(Protocol):
    """The node's key and its randomness. The session has no crypto of its own."""

    @property
    def public(self) -> bytes:
        """The 32-byte public key."""
        ...

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of ``message``, which starts with a domain string."""
        ...

    def verify(self, public: bytes, message: bytes, signature: bytes) -> None:
        """Return nothing, or raise (any exception) when ``signature`` is not ``public``'s over ``message``."""
        ...

    def random(self, n: int) -> bytes:
        """``n`` unpredictable bytes."""
        ...


class Replica(Protocol):
    """What the node holds and whom it admits. Pure, fast look-ups: they are called inside session methods."""

    def heads(self) -> Iterable[tuple[LogId, Heads]]:
        """Every log that is durably held, with its heads at this moment."""
        ...

    def holds(self, log: LogId, seq: int, h: bytes) -> bool:
        """True when the op with this chain hash is on one of our branches of the log."""
        ...

    def places(self, log: LogId) -> Sequence[Place]:
        """A locator of what we hold: on each branch's path the head, 1, 2, 4, 8 ... before it, and seq 1. At most 1,024 places."""
        ...

    def cursors(self, log: LogId, places: Sequence[Place]) -> Sequence[tuple[int, int]]:
        """``(branch, seq)``: what somebody who holds ``places`` lacks of our branches, behind ``seq`` of each. Unknown places say nothing."""
        ...

    def admit(self, key: bytes) -> bool:
        """True when this key is a member now: it may connect."""
        ...

    def takes(self, author: bytes) -> bool:
        """True when logs of this key are accepted: a member, or one that ever was. What it may not write any more has no effect, but all nodes hold it."""
        ...

    def priority(self, author: bytes) -> int:
        """Lower comes first; :data:`ORDINARY` for who never was an admin. Admins' logs come before all others, because they say who is a member."""
        ...
