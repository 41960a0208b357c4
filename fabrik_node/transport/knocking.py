"""How we call: TCP, TLS with the key that we expect, at need a join frame, and WebSocket. And what it means when the door stays shut."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import ssl
from dataclasses import dataclass
from typing import cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.uri import parse_uri

from fabrik_node.errors import AuthError, Internal
from fabrik_node.ids import show_key
from fabrik_node.transport.address import PeerUrl
from fabrik_node.transport.certificates import hash_of, issuer_of
from fabrik_node.transport.contexts import ALPN, Contexts, handshake_of, read_in_bulk
from fabrik_node.transport.gate import STRANGER_HINT
from fabrik_node.transport.guises import server_name
from fabrik_node.transport.heard import HeardClient
from fabrik_node.transport.join_frame import REFUSAL_MAGIC, BadFrame, Refusal, decode_refusal, encode_join
from fabrik_node.transport.listening import QUEUE_FRAMES
from fabrik_sync import FRAME_BYTES_MAX, Join, Reason

__all__ = ["KnockRefused", "Opened", "knock"]

_OPEN_S = 5.0
"""Seconds from the first packet to an open WebSocket."""
_ADDRESS_S = 1.5
"""Seconds for one address of a name that has several: the first may be of a network that only seems to be there."""
_socket_log = logging.getLogger("websockets")


class KnockRefused(Exception):
    """A refusal before there was a session. ``by_peer``: they refused us."""

    def __init__(self, code: str, hint: str, *, by_peer: bool) -> None:
        super().__init__(code, hint)
        self.code = str(code)
        self.hint = hint
        self.by_peer = by_peer


@dataclass(frozen=True, slots=True)
class Opened:
    """An open WebSocket, and what TLS showed of both sides; empty on a plain link."""

    socket: HeardClient
    own_cert: bytes = b""
    peer_cert: bytes = b""
    peer_key: bytes = b""


async def knock(url: PeerUrl, contexts: Contexts, public: bytes, *, expected: bytes, join: Join | None) -> Opened:
    """Call a node. ``expected``: its key, empty for any member. ``join``: we are no member yet, and show this invitation instead of a certificate.

    Raises :class:`KnockRefused`, and OSError, TimeoutError or WebSocket's InvalidHandshake for what may pass by itself.
    """
    try:
        async with asyncio.timeout(_OPEN_S):
            sock = await _connect(url)
            if url.plain:
                _, first = await asyncio.get_running_loop().create_connection(_First, sock=sock)
                return Opened(await first.open(url, b""))
            return await _knock_tls(sock, url, contexts, public, expected, join)
    except TimeoutError:
        raise TimeoutError(f"no answer within {_OPEN_S:g} s") from None


async def _connect(url: PeerUrl) -> socket.socket:
    """To the first of the host's addresses that answers. Raises the last one's OSError."""
    loop = asyncio.get_running_loop()
    last: OSError | None = None
    found = await loop.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    for number, (family, kind, proto, _, place) in enumerate(found, 1):
        sock = socket.socket(family, kind, proto)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(_ADDRESS_S if number < len(found) else None):
                await loop.sock_connect(sock, place)
        except OSError as error:  # TimeoutError is one
            sock.close()
            last = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise last or OSError(f"{url.host} has no address")


async def _knock_tls(sock: socket.socket, url: PeerUrl, contexts: Contexts, public: bytes, expected: bytes, join: Join | None) -> Opened:
    loop = asyncio.get_running_loop()
    try:
        armed = await (contexts.joiner(expected) if join is not None and expected else contexts.client(expected))
    except BaseException:
        sock.close()
        raise
    with handshake_of(sock) as handshake:
        try:
            _, first = await loop.create_connection(
                _First, sock=sock, ssl=armed.context, server_hostname=server_name(expected), ssl_handshake_timeout=60, ssl_shutdown_timeout=2
            )
        except ssl.SSLError as error:
            if handshake.kept is not None:
                await _tell(handshake.kept, handshake.alert)
            raise _refusal_of(error, expected) from error
        finally:
            if handshake.kept is not None:
                handshake.kept.close()
    tls = first.transport.get_extra_info("ssl_object")
    try:
        der = tls.getpeercert(binary_form=True) or b""
        if tls.selected_alpn_protocol() != ALPN:
            raise KnockRefused(Reason.NO_COMMON_VERSION, f"the node at this address does not speak {ALPN}", by_peer=False)
        peer_key, peer_cert = issuer_of(der), hash_of(der)
        hello = b"" if join is None or not expected else encode_join(join.token_id, public, secrets.token_bytes(16), join.secret, peer_cert)
    except AuthError as error:
        first.transport.abort()
        raise KnockRefused(Reason.BAD_CERTIFICATE, error.message, by_peer=False) from error
    except BaseException:
        first.transport.abort()
        raise
    return Opened(await first.open(url, hello), armed.own_cert, peer_cert, peer_key)


async def _tell(kept: socket.socket, alert: bytes) -> None:
    """They are to know that we did not like their certificate."""
    try:
        await asyncio.get_running_loop().sock_sendall(kept, alert)
        kept.shutdown(socket.SHUT_WR)
    except OSError as error:
        _socket_log.debug("an alert was not taken: %s", error)


class _First(asyncio.Protocol):
    """Looks at the first bytes of the answer: a refusal record, or HTTP, which WebSocket reads then."""

    transport: asyncio.Transport
    _socket: HeardClient | None = None

    def __init__(self) -> None:
        self._received = b""
        self._refusal: Refusal | None = None
        self._lost: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.pause_reading()  # nobody speaks before he is asked

    async def open(self, url: PeerUrl, first: bytes) -> HeardClient:
        """Send ``first`` and the request; the WebSocket when it is answered. Raises as :func:`knock`; the connection is closed then."""
        protocol = ClientProtocol(parse_uri(str(url)), max_size=FRAME_BYTES_MAX, logger=_socket_log)
        self._socket = HeardClient(protocol, ping_interval=None, close_timeout=2, max_queue=QUEUE_FRAMES)
        self._socket.connection_made(self.transport)
        self.transport.resume_reading()
        try:
            if first:
                self.transport.write(first)
            await self._socket.handshake(None, None)
        except InvalidStatus as error:
            self.transport.abort()
            raise _refusal_of_status(url, error) or error from error
        except BaseException as error:
            self.transport.abort()
            if isinstance(error, Exception):  # being cancelled stays that
                self._raise_refusal()
            raise
        return self._socket

    def _raise_refusal(self) -> None:
        if self._refusal is not None:
            raise KnockRefused(self._refusal.code, self._refusal.hint, by_peer=True) from None
        if isinstance(self._lost, ssl.SSLError):
            raise _refusal_of(self._lost, b"") from self._lost

    def data_received(self, data: bytes) -> None:
        if self._socket is None:
            raise Internal("a connection that was not opened yet was read")
        self._received += data
        if self._received[: len(REFUSAL_MAGIC)] == REFUSAL_MAGIC[: len(self._received)]:
            try:
                self._refusal = decode_refusal(self._received)
            except BadFrame:
                self.transport.abort()
                return
            if self._refusal is not None:
                self.transport.abort()
            return
        read_in_bulk(self.transport)
        self.transport.set_protocol(self._socket)
        self._socket.data_received(self._received)

    def eof_received(self) -> None:
        if self._socket is not None:
            self._socket.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = exc
        if self._socket is not None:
            self._socket.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._socket is not None:
            self._socket.pause_writing()

    def resume_writing(self) -> None:
        if self._socket is not None:
            self._socket.resume_writing()


def _refusal_of(error: ssl.SSLError, expected: bytes) -> KnockRefused:
    """What TLS has against it, in our words."""
    reason = error.reason or ""
    if isinstance(error, ssl.SSLCertVerificationError):
        if expected:
            who = f"the node at this address has not the key that was expected ({show_key(expected)[:16]}) and is no member"
            return KnockRefused(
                Reason.WRONG_KEY,
                f"{who}: somebody is in between, or another node is there now; check the address, or take a new token: fabrik-node invite",
                by_peer=False,
            )
        return KnockRefused(
            Reason.UNKNOWN_KEY,
            "the node at this address is no member that is known here; check the address, or join its mesh: fabrik-node join TOKEN",
            by_peer=False,
        )
    if "ALERT_UNKNOWN_CA" in reason:
        return KnockRefused(
            Reason.UNKNOWN_KEY,
            f"that node does not know the key of this one, or it was revoked or rotated (a home from a backup: fabrik-node keys use FILE); {STRANGER_HINT}",
            by_peer=True,
        )
    if "ALERT" in reason:
        return KnockRefused(Reason.NO_COMMON_VERSION, f"that node ended TLS: {reason.lower().replace('_', ' ')}; upgrade the older of the two", by_peer=True)
    return KnockRefused(
        Reason.NOT_TLS,
        "what listens at this address does not speak TLS as we do; check host and port. A node with --listen ws://127.0.0.1:PORT is dialled as ws://127.0.0.1:PORT",
        by_peer=False,
    )


def _refusal_of_status(url: PeerUrl, error: InvalidStatus) -> KnockRefused | None:
    if error.response.status_code == 426 and url.plain:
        return KnockRefused(Reason.NEEDS_TLS, f"this port speaks TLS: dial wss://{str(url).removeprefix('ws://')}", by_peer=True)
    return None
