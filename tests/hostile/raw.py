"""A peer's side of the wire made by hand from docs/spec/sync.md: TCP, HTTP, WebSocket and frames, without any code of the product.

It can say what no session would. Blocking, with a bound on every wait. TLS is that of Python's ``ssl``, with certificates of :mod:`hostile.tls`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import socket
import ssl
import struct
from typing import Any, Self
from urllib.parse import urlsplit

from fabrik_twin.cbor import Refused, decode, encode
from fabrik_twin.op import Key
from hostile.tls import certify, join_frame, tls_context

__all__ = ["BOUND_S", "WINDOW", "Answering", "Ended", "Peer", "Wire", "hello_of", "open_stream", "peer_digest"]

BOUND_S = 20.0
"""Seconds after which a wait is a failure."""
WINDOW = 1 << 20
HELLO, ANSWER, AUTH, READY, CLOSE, FRONTIER, HEADS, WANT, STOP, SEGMENT, ACK, EPHEMERAL, PING, PONG = range(1, 15)


class Ended(Exception):
    """The connection is over. ``outcome`` says how: ``tls WHY`` (an alert), ``http NNN``, ``ws NNN`` (a WebSocket code), a reason code, or ``cut``."""

    def __init__(self, outcome: str, hint: str = "") -> None:
        super().__init__(outcome, hint)
        self.outcome = outcome
        self.hint = hint


def open_stream(url: str, context: ssl.SSLContext | None = None) -> socket.socket:
    """A connected byte stream to the node at ``url``, over TLS with a context. Raises :class:`Ended`."""
    parts = urlsplit(url)
    stream = socket.create_connection((parts.hostname, parts.port), timeout=BOUND_S)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if context is None:
        return stream
    try:
        return context.wrap_socket(stream)
    except ssl.SSLError as error:
        raise Ended(_alert(error)) from error
    except ConnectionError:
        raise Ended("cut") from None


def _alert(error: ssl.SSLError) -> str:
    reason = (error.reason or "").lower()
    return f"tls {reason.rpartition('alert_')[2]}" if "alert" in reason else "cut"


class Wire:
    """One connection, from its first byte. ``said`` collects the bytes of every message of the node."""

    masks = True
    """As a client must."""

    def __init__(self, url: str, stream: socket.socket | None = None) -> None:
        self.stream = stream or open_stream(url)
        self.host = urlsplit(url).netloc
        self.said = b""
        self._buffer = b""

    def close(self) -> None:
        self.stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- bytes

    def send_bytes(self, data: bytes) -> None:
        """Whatever the node does: a peer that is gone is told by the next read."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, ssl.SSLError):
            self.stream.sendall(data)

    def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            try:
                more = self.stream.recv(65_536)
            except (ConnectionResetError, BrokenPipeError):
                more = b""
            except TimeoutError:
                raise AssertionError(f"the node said nothing for {BOUND_S} s, and did not end the connection") from None
            except ssl.SSLError as error:
                raise Ended(_alert(error)) from error
            if not more:
                raise Ended("cut")
            self._buffer += more
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    # ---- HTTP

    def request(self, head: bytes) -> int:
        """Send a request head as it is; the status. Raises :class:`Ended` for the gate's record of a refusal."""
        self.send_bytes(head)
        said = self._take(1)
        if said == b"F":
            kind = self._take(7)
            if kind == b"ABRIKW\x01":
                raise Ended("welcome", self._take(int.from_bytes(self._take(2), "big")).hex())
            assert kind == b"ABRIKR\x01"
            code, _, hint = self._take(int.from_bytes(self._take(2), "big")).decode().partition("\0")
            raise Ended(code, hint)
        while not said.endswith(b"\r\n\r\n"):
            said += self._take(1)
        return int(said.split()[1])

    def head(self, path: str = "/crdt-sync", **changed: str) -> bytes:
        """A WebSocket opening as RFC 6455 wants it, but for ``changed`` headers (with _ for -; empty: left out)."""
        headers = {
            "Host": self.host,
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            "Sec-WebSocket-Version": "13",
        } | {name.replace("_", "-"): value for name, value in changed.items()}
        return "\r\n".join([f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items() if value), "\r\n"]).encode()

    def upgrade(self) -> Self:
        """A WebSocket from here on."""
        status = self.request(self.head())
        if status != 101:
            raise Ended(f"http {status}")
        return self

    # ---- WebSocket

    def send(self, payload: bytes, *, opcode: int = 2, fin: bool = True, masked: bool | None = None, rsv: int = 0, length: int | None = None) -> None:
        """One WebSocket frame. ``length``: what its header says instead of the truth."""
        size = len(payload) if length is None else length
        masked = self.masks if masked is None else masked
        first = bytes([fin << 7 | rsv << 4 | opcode])
        flag = masked << 7
        if size < 126:
            head = first + bytes([flag | size])
        elif size < 1 << 16:
            head = first + bytes([flag | 126]) + struct.pack(">H", size)
        else:
            head = first + bytes([flag | 127]) + struct.pack(">Q", size)
        self.send_bytes(head + (bytes(4) + payload if masked else payload))  # masked with zeros

    def receive(self) -> bytes:
        """The next binary message. Raises :class:`Ended`."""
        while True:
            first, second = self._take(2)
            size = second & 127
            if size == 126:
                size = struct.unpack(">H", self._take(2))[0]
            elif size == 127:
                size = struct.unpack(">Q", self._take(8))[0]
            mask = self._take(4) if second & 128 else b""
            payload = self._take(size)
            if mask:
                payload = bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))
            match first & 15:
                case 2:
                    self.said += payload
                    return payload
                case 8:
                    self.send(payload[:2], opcode=8)
                    raise Ended(f"ws {struct.unpack('>H', payload[:2])[0]}" if len(payload) >= 2 else "cut")
                case 10:
                    continue
                case opcode:
                    raise AssertionError(f"the node sent a WebSocket frame with opcode {opcode}")

    # ---- frames of the protocol

    def say(self, *fields: Any) -> None:
        """One protocol frame."""
        self.send(encode(list(fields)))

    def hear(self) -> list[Any]:
        """The next protocol frame. Raises :class:`Ended` with its code for a CLOSE."""
        try:
            frame = decode(self.receive())
        except Refused as error:
            raise AssertionError(f"the node's frame is not canonical: {error}") from error
        assert isinstance(frame, list)
        if frame[0] == CLOSE:
            raise Ended(frame[1], frame[2])
        return frame

    def outcome(self) -> str:
        """Listen until the connection ends: how."""
        try:
            while True:
                self.hear()
        except Ended as end:
            return end.outcome

    def alive(self) -> str:
        """``ignored`` when the node still answers, else how it ended the connection."""
        number = int.from_bytes(os.urandom(6), "big")
        self.say(PING, number)
        try:
            while self.hear() != [PONG, number]:
                continue
        except Ended as end:
            return end.outcome
        return "ignored"


def peer_digest(stream: socket.socket) -> bytes:
    """The hash of the node's certificate."""
    assert isinstance(stream, ssl.SSLSocket)
    return hashlib.sha256(stream.getpeercert(binary_form=True) or b"").digest()


def hello_of(key: Key, mesh: bytes, *, versions: Any = (1,), window: int = WINDOW, token_id: bytes = b"", more: tuple[Any, ...] = ()) -> bytes:
    """The bytes of a HELLO."""
    return encode([HELLO, list(versions), mesh, key.public, os.urandom(32), window, token_id, *more])


class Peer(Wire):
    """A connection as a WebSocket, with the handshake step by step. ``wss``: with a certificate of ``key``, or ``join`` (token id and secret) instead."""

    def __init__(self, url: str, key: Key, mesh: bytes, join: tuple[bytes, bytes] | None = None) -> None:
        self.certs = b"", b""
        if url.startswith("wss:"):
            own = None if join else certify(key)
            stream = open_stream(url, tls_context(own))
            self.certs = own.digest if own else b"", peer_digest(stream)
            super().__init__(url, stream)
            if join:
                self.send_bytes(join_frame(join[0], key.public, join[1], self.certs[1]))
        else:
            super().__init__(url)
        self.key = key
        self.mesh = mesh
        self.answer: list[Any] = []
        self.transcript = b""
        try:
            self.upgrade()
        except BaseException:
            self.close()
            raise

    def greet(self, hello: bytes | None = None, **fields: Any) -> Self:
        """HELLO, then the answer and the transcript of both. Raises :class:`Ended`."""
        raw = hello_of(self.key, self.mesh, **fields) if hello is None else hello
        self.send(raw)
        self.answer = self.hear()
        assert self.answer[0] == ANSWER
        body = encode(self.answer[1:6])
        self.transcript = hashlib.sha256(b"fabrik/v1/sync transcript\0" + encode([raw, body, *self.certs])).digest()
        return self

    def signature(self) -> bytes:
        """Ours, as initiator."""
        return self.key.sign(b"fabrik/v1/sync initiator\0" + self.transcript)

    def proof(self, secret: bytes) -> bytes:
        """Of a join secret."""
        return hmac.digest(secret, b"fabrik/v1/sync join\0" + self.transcript, "sha256")

    def prove(self, secret: bytes = b"") -> Self:
        """AUTH, until READY. Raises :class:`Ended`."""
        self.say(AUTH, self.signature(), self.proof(secret) if secret else b"")
        assert self.hear()[0] == READY
        return self

    def ready(self, **fields: Any) -> Self:
        """The whole handshake."""
        return self.greet(**fields).prove()

    def meet(self, frontier: bytes = bytes(32), buckets: bytes = bytes(256)) -> list[list[Any]]:
        """The first exchange with an empty replica: the node's heads as ``[author, epoch, [[seq, h], ...]]``."""
        while self.hear()[0] != FRONTIER:
            continue
        self.say(FRONTIER, frontier, buckets)
        self.say(HEADS, False, [])
        rows: list[list[Any]] = []
        while True:
            frame = self.hear()
            if frame[0] == HEADS:
                rows += frame[2]
                if not frame[1]:
                    return rows

    def offer(self, author: bytes, epoch: int, segments: list[tuple[int, int, bytes]]) -> None:
        """Segments of a log, asked for or not."""
        for first, last, data in segments:
            self.say(SEGMENT, author, epoch, first, last, data)

    def await_ack(self, total: int) -> None:
        """Until the node has processed so many bytes of ours. Raises :class:`Ended`."""
        while True:
            frame = self.hear()
            if frame[0] == ACK and frame[1] >= total:
                return


class Answering(Wire):
    """The other end: a node dialled us. :meth:`answer` proves ``key`` to it."""

    masks = False

    def __init__(self, listener: socket.socket, key: Key, mesh: bytes) -> None:
        stream, _ = listener.accept()
        stream.settimeout(BOUND_S)
        super().__init__("", stream)
        self.key = key
        self.mesh = mesh
        self.hello: list[Any] = []

    def read_head(self) -> dict[str, str]:
        """The request: its headers."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self._take(1)
        return dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:-2])

    def welcome(self) -> Self:
        """HTTP, as far as a WebSocket."""
        key = self.read_head()["Sec-WebSocket-Key"].encode()
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
        self.send_bytes(f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n".encode())
        return self

    def prove(self, *, version: int = 1) -> Self:
        """ANSWER to its HELLO, until its AUTH. Raises :class:`Ended`."""
        raw = self.receive()
        self.hello = decode(raw)
        body = [version, self.mesh, self.key.public, os.urandom(32), WINDOW]
        transcript = hashlib.sha256(b"fabrik/v1/sync transcript\0" + encode([raw, encode(body), b"", b""])).digest()
        self.say(ANSWER, *body, self.key.sign(b"fabrik/v1/sync responder\0" + transcript))
        assert self.hear()[0] == AUTH
        return self

    def answer(self, *, version: int = 1) -> Self:
        """ANSWER, AUTH and READY."""
        self.prove(version=version).say(READY, b"")
        return self

    def meet(self) -> None:
        """The first exchange with an empty replica."""
        while self.hear()[0] != FRONTIER:
            continue
        self.say(FRONTIER, bytes(32), bytes(256))
        self.say(HEADS, False, [])
