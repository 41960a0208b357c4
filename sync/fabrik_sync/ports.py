"""What the shell hands in, and the two value types that both sides of the border share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol, TypeAlias

__all__ = ["Head", "Heads", "Identity", "LogId", "Replica"]


class LogId(NamedTuple):
    """One author's log: a 32-byte key and an epoch in 1..2**53-1."""

    author: bytes
    epoch: int


class Head(NamedTuple):
    """The end of a log: its last sequence number and the 32-byte chain hash there."""

    seq: int
    h: bytes


Heads: TypeAlias = tuple[Head, ...]
"""The heads of one log, sorted, at least one. More than one only while a fork is open."""


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

    def admit(self, key: bytes) -> bool:
        """True when this key is a member: it may connect, and its logs are accepted."""
        ...

    def priority(self, author: bytes) -> int:
        """Lower comes first. Admins' logs come before all others, because they say who is a member."""
        ...
