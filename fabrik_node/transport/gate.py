"""The gate: what a caller has to pass before WebSocket sees a byte of it.

TLS with the certificate of a member, or TLS without one and a join frame that proves the secret of an open invitation, or a knock, which opens nothing
and is answered. Nothing else is read.
Who is refused gets a TLS alert or a refusal record, and a moment to read it.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from socket import MSG_PEEK, SHUT_WR, socket

from fabrik_node.errors import AuthError
from fabrik_node.ports import Replication
from fabrik_node.transport.certificates import hash_of, issuer_of
from fabrik_node.transport.contexts import ALPN, Armed, Handshake, allow, handshake_of
from fabrik_node.transport.guises import Greeting, Guises
from fabrik_node.transport.join_frame import JOIN_BYTES, BadFrame, decode_join, encode_refusal, proves
from fabrik_node.transport.knock_frame import KNOCK_BYTES, KNOCK_MAGIC, decode_knock, encode_welcome
from fabrik_node.transport.threshold import DISCARD_BYTES, Caller, Shut, Threshold
from fabrik_sync import Reason

__all__ = ["STRANGER_HINT", "Gate", "GateCounters"]

STRANGER_HINT = "ask the mesh's admin for a token (fabrik-node invite), then: fabrik-node join TOKEN"
_GO_AWAY_S = 1.0
"""Seconds that a refused caller has to read why and to close."""
_CALLER_S = 0.001  # seconds that a caller costs besides its TLS handshake
_TLS_FIRST = 0x16
"""The first byte of a TLS connection: a handshake record (RFC 8446, section 5.1)."""
_PLAIN_ANSWER = b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: TLS/1.3\r\nConnection: close, Upgrade\r\nContent-Length: 0\r\n\r\n"
"""To HTTP on a TLS port (RFC 2817, section 4.2)."""
_TLS_ANSWER = b"HTTP/1.1 400 this port does not speak TLS\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
"""To TLS on a plain port: every TLS library reads it as a wrong version, at once."""
_log = logging.getLogger("fabrik_node.transport")


@dataclass(slots=True)
class GateCounters:
    """Since the start. ``evicted``: gave way to newer callers before they were known; ``shut``: refused with a code."""

    passed: int = 0
    shut: int = 0
    welcomed: int = 0
    """Knocks of members: told which mesh it is, to come again with a certificate."""
    timed_out: int = 0
    evicted: int = 0
    discarded_bytes: int = 0


class Gate:
    """``contexts`` None: a plain gate, which only tells TLS apart. ``has_room(key)`` is asked when a caller is known."""

    def __init__(self, node: Replication, contexts: Guises | None, *, has_room: Callable[[bytes], bool], handshake_s: float) -> None:
        self._node = node
        self._contexts = contexts
        self._has_room = has_room
        self._handshake_s = handshake_s
        self.counters = GateCounters()
        self.cost_s = _CALLER_S  # seconds that a caller keeps the event loop busy, as the last ones did

    async def let_in(self, sock: socket, address: str) -> tuple[Caller, Threshold] | Shut | None:
        """Take over the connection: who came through, with a transport whose reading is paused; or why not, when that was told to the caller; None
        for one that gave up or was too slow.
        """
        try:
            async with asyncio.timeout(self._handshake_s):
                found = await self._meet(sock, address)
        except TimeoutError:
            self.counters.timed_out += 1
            return None
        except OSError as error:
            _log.debug("a caller from %s gave up: %s", address, error)
            return None
        if isinstance(found, Shut):
            self.counters.welcomed += bool(found.welcome)
            self.counters.shut += not found.welcome
        elif found is not None:
            self.counters.passed += 1
        return found

    async def _meet(self, sock: socket, address: str) -> tuple[Caller, Threshold] | Shut | None:
        loop, guises = asyncio.get_running_loop(), self._contexts
        try:
            speaks_tls = await _first_byte(sock) == _TLS_FIRST
            greeting = None if guises is None or not speaks_tls else await guises.server()
        except BaseException:
            sock.close()
            raise
        if greeting is None and speaks_tls:
            return await _turn_away(sock, _TLS_ANSWER, Shut(Reason.NOT_TLS, "this port does not speak TLS", told="TLS came to a plain port"))
        if greeting is None and self._contexts is not None:
            return await _turn_away(sock, _PLAIN_ANSWER, Shut(Reason.NEEDS_TLS, "this port speaks TLS", told="what came to the TLS port was no TLS"))
        if greeting is None:
            _, threshold = await loop.connect_accepted_socket(Threshold, sock)
            return await self._judge(threshold, lambda: asyncio.sleep(0, Caller(address)))
        with handshake_of(sock) as handshake:
            try:
                _, threshold = await loop.connect_accepted_socket(Threshold, sock, ssl=greeting.armed.context, ssl_handshake_timeout=60, ssl_shutdown_timeout=2)
            except ssl.SSLError as error:
                return await _after_alert(handshake, error)
            finally:
                self.cost_s += (_CALLER_S + handshake.worked_s - self.cost_s) / 8
                if handshake.kept is not None and handshake.kept.fileno() >= 0:
                    handshake.kept.close()
        return await self._judge(threshold, lambda: self._identify(threshold, greeting, address))

    async def _judge(self, threshold: Threshold, identify: Callable[[], Awaitable[Caller]]) -> tuple[Caller, Threshold] | Shut:
        """Refusals of a caller with whom we can talk already."""
        try:
            caller = await identify()
            if not self._has_room(caller.key):
                raise Shut(Reason.TOO_MANY, "this node takes no more connections now; it is tried again by itself", key=caller.key)
        except Shut as shut:
            await self._refuse(threshold, shut)
            return shut
        except BaseException:
            threshold.transport.abort()
            raise
        return caller, threshold

    async def _refuse(self, threshold: Threshold, shut: Shut) -> None:
        allow(threshold.transport, 2 * DISCARD_BYTES)
        threshold.transport.write(encode_welcome(shut.welcome) if shut.welcome else encode_refusal(shut.refusal))
        try:
            async with asyncio.timeout(_GO_AWAY_S):
                await threshold.discard()
        except TimeoutError:
            _log.debug("a refused caller did not close")
        finally:
            self.counters.discarded_bytes += threshold.discarded
            threshold.transport.abort()

    async def _identify(self, threshold: Threshold, greeting: Greeting, address: str) -> Caller:
        tls = threshold.transport.get_extra_info("ssl_object")
        armed, own_key = greeting.worn(tls.context)
        if tls.selected_alpn_protocol() != ALPN:
            raise Shut(Reason.NO_COMMON_VERSION, f"this port speaks {ALPN} and nothing else: upgrade the older of the two nodes")
        der = tls.getpeercert(binary_form=True) or b""
        if not der:
            return await self._joiner(threshold, armed, address, own_key)
        try:
            key = issuer_of(der)
        except AuthError as error:
            raise Shut(Reason.BAD_CERTIFICATE, error.message) from error
        if not self._node.is_admitted(key):  # removed since the handshake began
            raise Shut(Reason.REVOKED, f"this key is no longer a member of the mesh; {STRANGER_HINT}", key=key)
        return Caller(address, key, b"", armed.own_cert, hash_of(der), own_key)

    async def _joiner(self, threshold: Threshold, armed: Armed, address: str, own_key: bytes) -> Caller:
        first = await threshold.read(len(KNOCK_MAGIC))
        if first == KNOCK_MAGIC:
            raise await self._knocked(first + await threshold.read(KNOCK_BYTES - len(first)), armed, address)
        try:
            frame = decode_join(first + await threshold.read(JOIN_BYTES - len(first)))
        except BadFrame:
            raise Shut(Reason.UNKNOWN_KEY, f"no certificate and no invitation was shown; {STRANGER_HINT}") from None
        try:
            await self._node.check_invitation(frame.token_id, lambda secret: proves(frame, secret, armed.own_cert))
        except AuthError as error:
            raise Shut("join_refused", f"{error.message}; {error.hint}") from error  # without its key: nobody has proven that
        return Caller(address, frame.key, frame.token_id, armed.own_cert, b"", own_key)

    async def _knocked(self, frame: bytes, armed: Armed, address: str) -> Shut:
        """A knock opens nothing. It is answered, and the connection ends."""
        try:
            knock = decode_knock(frame, armed.own_cert)
        except BadFrame as error:
            return Shut("bad_knock", str(error))
        answer = self._node.knock(knock.key, knock.name, knock.next_commitment, address)
        return Shut(answer.code, answer.hint, key=knock.key, welcome=answer.genesis, quiet=True)


async def _first_byte(sock: socket) -> int:
    """Of what the caller says first, which stays unread. Raises OSError when it says nothing and closes."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sock, ready.set)
    try:
        while True:
            await ready.wait()
            ready.clear()
            try:
                first = sock.recv(1, MSG_PEEK)
            except BlockingIOError:
                continue
            if not first:
                raise ConnectionResetError("closed without a word")
            return first[0]
    finally:
        loop.remove_reader(sock)


async def _turn_away(sock: socket, answer: bytes, shut: Shut) -> Shut:
    """Answer on the bare socket and give the caller a moment to read it."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_GO_AWAY_S):
            await loop.sock_sendall(sock, answer)
            sock.shutdown(SHUT_WR)
            discarded = 0
            while discarded < DISCARD_BYTES and (data := await loop.sock_recv(sock, 4_096)):
                discarded += len(data)
    except (TimeoutError, OSError) as error:
        _log.debug("a caller did not take its refusal: %r", error)
    finally:
        sock.close()
    return shut


async def _after_alert(handshake: Handshake, error: ssl.SSLError) -> Shut | None:
    """The handshake failed: send what OpenSSL says about it, which asyncio does not, and name it."""
    shut = _why(error)
    if handshake.kept is not None:
        await _turn_away(handshake.kept, handshake.alert, shut)
    return shut


def _why(error: ssl.SSLError) -> Shut:
    reason = error.reason or ""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Shut(Reason.UNKNOWN_KEY, "", told="its certificate is of no key that is a member")
    if "ALERT" in reason:
        return Shut(Reason.WRONG_KEY, "", told=f"it did not accept this node's certificate ({reason.lower().replace('_', ' ')})", by_caller=True)
    return Shut(Reason.NOT_TLS, "", told=f"its TLS was not understood ({reason.lower().replace('_', ' ') or error})")
