"""SSL contexts of a node: TLS 1.3, its own fresh certificate, and one trust anchor per admitted key.

Built when they are asked for: a connection gets the members of its moment, so a change of members needs no restart and no timer.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import tempfile
from asyncio import sslproto
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from socket import socket
from typing import Any, Self

from fabrik_node.clock import Clock, SystemClock
from fabrik_node.transport.certificates import Leaf, anchor, issue

__all__ = ["ALPN", "Armed", "Contexts", "Handshake", "allow", "handshake_of", "read_in_bulk", "unverified_context"]

ALPN = "fabrik/1"
_RENEW_S = 86_400.0
"""A transport key is used for this long; open connections go on with theirs."""
_INLINE_KEYS = 64
"""Anchors that are made and loaded in the event loop (0.15 ms each); more are in a thread."""

_UNKNOWN_BYTES = 16_384
"""What is decrypted of a caller after the handshake and before it is known: a join frame has 104 bytes, and a WebSocket request may follow it at once."""
_BULK_BYTES = 65_536
_CLOCK = SystemClock()
sslproto.SSLProtocol.max_size = 4_096
"""Bytes of asyncio's read buffer for a TLS connection, until :func:`read_in_bulk`. Its own 256 KiB would be most of what a caller costs of whom we know nothing yet."""


def read_in_bulk(transport: asyncio.BaseTransport) -> None:
    """The other side is known: give its connection a read buffer that a bulk dump needs. Without effect on a plain connection."""
    protocol = getattr(transport, "_ssl_protocol", None)  # asyncio has no public way to it; without it, reading is only slower
    if isinstance(protocol, sslproto.SSLProtocol):
        protocol.max_size = _BULK_BYTES  # type: ignore[misc]  # this connection's alone
        protocol._set_read_buffer_limits(high=_BULK_BYTES)  # type: ignore[attr-defined]  # noqa: SLF001 - there is no public one. What is decrypted at once when reading goes on after a pause: asyncio's own is eight times more
    allow(transport, None)


def allow(transport: asyncio.BaseTransport, wire_bytes: int | None) -> None:
    """So much more may be decrypted on a connection; None: anything. Without effect on a plain one."""
    tls = transport.get_extra_info("ssl_object")
    if isinstance(tls, _WatchedObject):
        tls.allowance = wire_bytes


@dataclass(frozen=True, slots=True)
class Armed:
    """A context, and the hash of the certificate that it shows; empty when it shows none."""

    context: ssl.SSLContext
    own_cert: bytes


class Contexts:
    """For one node. ``admitted`` lists the keys of all members; after a change of it call :meth:`handle_members`."""

    def __init__(self, public: bytes, sign: Callable[[bytes], bytes], admitted: Callable[[], Iterable[bytes]], clock: Clock) -> None:
        self._public = public
        self._sign = sign
        self._admitted = admitted
        self._clock = clock
        self._leaf: Leaf | None = None
        self._renew_at = 0.0
        self._keys: frozenset[bytes] = frozenset()
        self._changes = 1
        self._known_changes = 0
        self._made: dict[tuple[str, bytes], Armed] = {}
        self._lock = asyncio.Lock()
        self.rebuilt = 0
        """How often contexts were thrown away: somebody was removed, or the certificate renewed."""

    def handle_members(self) -> None:
        """Somebody was admitted or removed."""
        self._changes += 1

    async def server(self) -> Armed:
        """For those who call us: a member shows its certificate, a joiner shows none, anybody else is refused by TLS."""
        return await self._get("server", b"")

    async def client(self, expected: bytes) -> Armed:
        """To call a node that has key ``expected``, or is a member."""
        return await self._get("client", expected)

    async def joiner(self, expected: bytes) -> Armed:
        """To call the node with key ``expected`` and no other, without a certificate of our own."""
        return await self._get("joiner", expected)

    async def _get(self, kind: str, expected: bytes) -> Armed:
        async with self._lock:
            await self._refresh()
            if kind == "joiner":
                return Armed(_context(server=False, leaf=None, anchors=[anchor(expected)]), b"")
            extra = expected if expected and expected not in self._keys else b""
            found = self._made.get((kind, extra))
            if found is None:
                leaf = self._own()
                keys = self._keys | {extra} - {b""}
                build = partial(_context, server=kind == "server", leaf=leaf, anchors=[anchor(key) for key in keys])
                context = build() if len(keys) <= _INLINE_KEYS else await asyncio.to_thread(build)
                found = self._made[kind, extra] = Armed(context, leaf.digest)
            return found

    async def _refresh(self) -> None:
        if self._leaf is not None and self._clock.now() >= self._renew_at:
            self._leaf = None
            self._drop()
        changes = self._changes
        if changes == self._known_changes:
            return
        now = frozenset(self._admitted())
        new = now - self._keys
        if len(new) > _INLINE_KEYS:
            await asyncio.to_thread(lambda: [anchor(key) for key in new])  # they stay in its cache
        if self._keys - now:
            self._drop()
        elif new:
            added = b"".join(anchor(key) for key in new)
            for made in self._made.values():
                made.context.load_verify_locations(cadata=added)
        self._keys, self._known_changes = now, changes  # at the end: a caller that gives up while a thread works leaves nothing half known

    def _drop(self) -> None:
        self._made.clear()
        self.rebuilt += 1

    def _own(self) -> Leaf:
        if self._leaf is None:
            self._leaf = issue(self._public, self._sign)
            self._renew_at = self._clock.now() + _RENEW_S
        return self._leaf


def unverified_context() -> ssl.SSLContext:
    """To call a node of which only a fingerprint is known. It shows nothing and trusts everybody: the caller has to look at the certificate before it says a word."""
    context = _context(server=False, leaf=None, anchors=[])
    context.verify_mode = ssl.CERT_NONE
    context.sslobject_class = ssl.SSLObject
    return context


def _context(*, server: bool, leaf: Leaf | None, anchors: list[bytes]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # a node is known by its key; addresses change
    context.verify_mode = ssl.CERT_OPTIONAL if server else ssl.CERT_REQUIRED
    context.set_alpn_protocols([ALPN])
    context.set_ecdh_curve("X25519")  # and no other group: one packet for a large finite field costs a hundred times more
    context.sslobject_class = _WatchedObject
    if server:
        context.num_tickets = 0
    if leaf is not None:
        with _readable(leaf.pem) as path:
            context.load_cert_chain(path)
    if anchors:
        context.load_verify_locations(cadata=b"".join(anchors))
    return context


@contextmanager
def _readable(secret: bytes) -> Iterator[str]:
    """A path from which OpenSSL reads ``secret`` once: in memory where the system can, else in a private file that is removed at once."""
    if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):  # noqa: PTH112 - one system's name for its own descriptors
        handle = os.memfd_create("transport", os.MFD_CLOEXEC)
        try:
            os.write(handle, secret)
            yield f"/proc/self/fd/{handle}"
        finally:
            os.close(handle)
        return
    with tempfile.NamedTemporaryFile(prefix="fabrik-") as file:  # mode 0600
        file.write(secret)
        file.flush()
        yield file.name


# ---- what asyncio does not say ------------------------------------------------------------------------


class Handshake:
    """One TLS handshake on ``sock``. When it fails, ``alert`` is what the other side is owed and ``kept`` the connection, still open.

    asyncio closes the connection of a handshake that failed before the alert has left: the other side would never read why.
    Close ``kept`` when it is not None.
    """

    def __init__(self, sock: socket) -> None:
        self._sock = sock
        self.alert = b""
        self.kept: socket | None = None
        self.worked_s = 0.0
        """What it kept us busy."""

    def handle_failed(self, alert: bytes) -> None:
        """The handshake failed now; asyncio closes the connection in its next turn."""
        self.alert = alert
        self.kept = self._sock.dup()


_handshake: ContextVar[Handshake | None] = ContextVar("handshake", default=None)


@contextmanager
def handshake_of(sock: socket) -> Iterator[Handshake]:
    """The TLS handshake that is begun inside is watched."""
    watched = Handshake(sock)
    token = _handshake.set(watched)
    try:
        yield watched
    finally:
        _handshake.reset(token)


class _WatchedObject(ssl.SSLObject):
    """``asyncio`` makes it in the context of whoever began the handshake."""

    allowance: int | None
    """Bytes of the wire that may still be decrypted; None once the other side is known. Without it a caller could send key updates for as long as it may wait."""
    _incoming: ssl.MemoryBIO
    _outgoing: ssl.MemoryBIO
    _watched: Handshake | None

    @classmethod
    def _create(cls, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **options: Any) -> Self:
        made: Self = super()._create(incoming, outgoing, *args, **options)  # type: ignore[misc]
        made._incoming = incoming
        made._outgoing = outgoing
        made.allowance = _UNKNOWN_BYTES
        made._watched = _handshake.get()
        return made

    def read(self, len: int = 1024, buffer: Any = None) -> Any:
        """As :meth:`ssl.SSLObject.read`. Raises :class:`ssl.SSLError` when somebody who is not known has sent too much."""
        before = self._incoming.pending
        try:
            return super().read(len, buffer)
        finally:
            if self.allowance is not None:
                self.allowance -= before - self._incoming.pending
                if self.allowance < 0:
                    raise ssl.SSLError(f"more than {_UNKNOWN_BYTES} bytes from somebody who is not known yet")

    def do_handshake(self) -> None:
        began = _CLOCK.now()
        try:
            self._shake()
        finally:
            if self._watched is not None:
                self._watched.worked_s += _CLOCK.now() - began

    def _shake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError:
            if self._watched is not None:
                self._watched.handle_failed(self._outgoing.read())
            raise
