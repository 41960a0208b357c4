"""Whom a node is to others: its own key, and for those who have not heard of a rotation yet the keys that it had before.

Who dials a key names it in the TLS greeting (:func:`server_name`), so a node that rotated answers a peer that expects the old key under that key,
and gives it the rotation. When a peer refuses the new key as unknown, it is dialled under an old one. As soon as the peer has the rotation it takes the
new key alone, and ends what it has with the old one.
"""

from __future__ import annotations

import hashlib
import secrets
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fabrik_node._core import SigningKey, verify
from fabrik_node.clock import Clock
from fabrik_node.transport.contexts import Armed, Contexts

__all__ = ["FORMER_MAX", "Greeting", "Guise", "Guises", "server_name"]

FORMER_MAX = 8
"""Former keys that a node still answers to: a peer that missed more rotations in a row needs a new token."""


def server_name(key: bytes) -> str:
    """What a caller writes into TLS' server name when it expects this key: nothing by which the key is known to others. Empty for no key."""
    return hashlib.sha256(b"fabrik/v1/server name\0" + key).hexdigest()[:40] + ".fabrik" if key else ""


class Guise:
    """One key as its owner shows it: fills :class:`fabrik_sync.Identity`, and has the certificates that the key issues."""

    def __init__(self, public: bytes, sign: Callable[[bytes], bytes], admitted: Callable[[], Iterable[bytes]], clock: Clock) -> None:
        self.public = public
        self.sign = sign
        self.contexts = Contexts(public, sign, admitted, clock)

    def verify(self, public: bytes, message: bytes, signature: bytes) -> None:
        """Strict Ed25519, as for ops."""
        verify(public, message, signature)

    def random(self, n: int) -> bytes:
        """From the system."""
        return secrets.token_bytes(n)


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a caller may be answered with. ``armed`` is for :attr:`own`; ``former``: what it is answered with that names a former key.

    Kept for the length of the handshake: contexts are made anew when the members change meanwhile.
    """

    armed: Armed
    own: bytes
    former: tuple[tuple[Armed, bytes], ...] = ()

    def worn(self, context: ssl.SSLContext) -> tuple[Armed, bytes]:
        """Under which certificate, and which key, the caller was answered whose handshake ended in ``context``."""
        return next(((armed, public) for armed, public in self.former if armed.context is context), (self.armed, self.own))


class Guises:
    """``own``: the key of the node; ``former``: those before it, the newest first."""

    def __init__(self, own: Guise, former: Sequence[SigningKey], admitted: Callable[[], Iterable[bytes]], clock: Clock) -> None:
        self.own = own
        self.all = [own, *(Guise(key.public, key.sign, admitted, clock) for key in former[:FORMER_MAX])]

    def of(self, public: bytes) -> Guise:
        """The one with this key; our own for any other."""
        return next((guise for guise in self.all if guise.public == public), self.own)

    def handle_members(self) -> None:
        """Somebody was admitted or removed."""
        for guise in self.all:
            guise.contexts.handle_members()

    async def server(self) -> Greeting:
        """For those who call us: under the key that they name, if it is one of ours, else under the newest."""
        armed = await self.own.contexts.server()
        former = [(await guise.contexts.server(), guise.public) for guise in self.all[1:]]
        if former:
            named = {server_name(public): other.context for other, public in former}
            armed.context.sni_callback = lambda tls, name, _: _wear(tls, name, named)
        return Greeting(armed, self.own.public, tuple(former))


def _wear(tls: ssl.SSLSocket | ssl.SSLObject, name: str | None, named: Mapping[str, ssl.SSLContext]) -> None:
    context = named.get(name or "")
    if context is not None:
        tls.context = context
