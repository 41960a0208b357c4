"""A bad peer in a process of its own: ``flooding.py KIND URL GENESIS SEED``. It says ``ready`` on stdout, floods once it reads a line, until it is killed.

``strangers`` has no certificate that anybody knows. The others come from a member, over TLS: legal frames that cost a node the most that we know of.
It speaks by hand (``tests/hostile/raw.py``), and makes its bytes beforehand as far as they can be.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fabrik_twin.author import Author
from fabrik_twin.cbor import decode, encode
from fabrik_twin.op import Key, ephemeral_sign, genesis_decode
from hostile.raw import ACK, EPHEMERAL, HEADS, PING, SEGMENT, WANT, WINDOW, Ended, Peer

__all__ = ["FLOODS", "main"]

STRANGERS = 32
_LOGS = 65_536
_TITLE = 1


def _wire(*fields: object) -> bytes:
    """One frame as a WebSocket message, masked with zeros."""
    payload = encode(list(fields))
    size = len(payload)
    head = (
        bytes([0x82, 0x80 | size])
        if size < 126
        else bytes([0x82, 0xFE]) + size.to_bytes(2, "big")
        if size < 65_536
        else bytes([0x82, 0xFF]) + size.to_bytes(8, "big")
    )
    return head + bytes(4) + payload


class _Member:
    def __init__(self, url: str, genesis: bytes, key: Key) -> None:
        self.url, self.genesis, self.key = url, genesis, key
        self.mesh = genesis_decode(genesis).mesh_id

    def meet(self) -> tuple[_Session, list[list[Any]]]:
        """A session after the first exchange, and the node's heads."""
        peer = Peer(self.url, self.key, self.mesh).ready()
        rows = peer.meet()
        return _Session(peer.stream), rows


class _Session:
    """Pours, and reads what the node says meanwhile."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._heard = bytearray()
        self.acked = 0
        stream.setblocking(False)

    def pour(self, parts: Iterable[bytes]) -> None:
        """As fast as the node takes it. Raises :class:`Ended` when it ends the connection."""
        for part in parts:
            view = memoryview(part)
            while view:
                try:
                    view = view[self._stream.send(view) :]
                except (ssl.SSLWantWriteError, BlockingIOError):
                    select.select([self._stream], [self._stream], [], 5)
                except OSError as error:
                    raise Ended("cut") from error
                self.hear()

    def hear(self, wait_s: float = 0.0) -> None:
        """What came so far; only how much it has processed is looked at."""
        if wait_s:
            select.select([self._stream], [], [], wait_s)
        with contextlib.suppress(ssl.SSLWantReadError, BlockingIOError):
            while True:
                try:
                    data = self._stream.recv(262_144)
                except (ssl.SSLWantReadError, BlockingIOError):
                    raise
                except OSError as error:
                    raise Ended("cut") from error
                if not data:
                    raise Ended("cut")
                self._heard += data
        while len(self._heard) >= 4:
            size, start = self._heard[1] & 127, 2
            if size > 125:
                start = 4 if size == 126 else 10
                size = int.from_bytes(self._heard[2:start], "big")
            if len(self._heard) < start + size:
                return
            frame = bytes(self._heard[start : start + size])
            del self._heard[: start + size]
            if frame[:2] == bytes([0x82, ACK]):
                self.acked = decode(frame)[1]


def _pings(member: _Member) -> None:
    peer, _ = member.meet()
    peer.pour(itertools.repeat(1_000 * _wire(PING, 7)))


def _heads_of(author: bytes, first: int, count: int) -> bytes:
    return _wire(HEADS, False, [[author, epoch, [[1_000, os.urandom(32)]]] for epoch in range(first, first + count)])


def _logs(member: _Member) -> None:
    """As many logs of our own as a session may name, again and again with other heads."""
    peer, _ = member.meet()
    frames = [_heads_of(member.key.public, 1 + first, 800) for first in range(0, _LOGS, 800)]
    peer.pour(itertools.cycle(frames))


def _nobodys_logs(member: _Member) -> None:
    peer, _ = member.meet()
    frames = [_wire(HEADS, False, [[os.urandom(32), 1, [[n, os.urandom(32)] for n in range(1, 65)]] for _ in range(22)]) for _ in range(64)]
    peer.pour(itertools.cycle(frames))


def _wants(member: _Member) -> None:
    """Every log of the node, with a locator of nonsense each time. It ends a session after 1,024 of them."""
    peer, rows = member.meet()
    places = [[n + 1, os.urandom(16)] for n in range(1_024)]
    peer.pour(itertools.cycle([_wire(WANT, [[author, epoch, 0, places] for author, epoch, _ in rows[:3]])]))


def _items(member: _Member) -> None:
    """Frames of a later version with as many items as one may have. It ends a session after 1,024 of them."""
    peer, _ = member.meet()
    payload = b"\x82\x18\x63\x99\x3f\xf0" + b"\x80" * 16_368
    peer.pour(itertools.repeat(bytes([0x82, 0xFE]) + len(payload).to_bytes(2, "big") + bytes(4) + payload))


def _presence(member: _Member) -> None:
    """Messages of our own, each newer than the one before it, as large as they may be."""
    peer, _ = member.meet()
    counters = itertools.count(int.from_bytes(os.urandom(5), "big") << 20)
    leases = [[os.urandom(16), os.urandom(16), n, n, os.urandom(16)] for n in range(128)]

    def messages() -> Iterator[bytes]:
        for counter in counters:
            yield _wire(EPHEMERAL, member.key.public, counter, ephemeral_sign(member.key, member.mesh, counter, {"leases": leases}))

    peer.pour(messages())


def _segments(member: _Member, *, spoilt: bool) -> None:
    """Single ops of a log of our own, each with its signature; ``spoilt``: the last byte is wrong."""
    peer, _ = member.meet()
    author = Author(member.genesis, member.key, epoch=int.from_bytes(os.urandom(5), "big"))
    item = os.urandom(16)

    def frames() -> Iterator[bytes]:
        sent = 0
        for number in itertools.count(1):
            author.op((1, item, _TITLE, f"title {number}", None))
            data = author.segment(number, number)
            sent += len(data)
            while sent - peer.acked > WINDOW:
                peer.hear(1.0)
            data = data[:-1] + bytes([data[-1] ^ 1]) if spoilt else data
            yield _wire(SEGMENT, member.key.public, author.epoch, number, number, data)

    peer.pour(frames())


FLOODS: dict[str, Callable[[_Member], None]] = {
    "pings": _pings,
    "logs": _logs,
    "nobodys_logs": _nobodys_logs,
    "wants": _wants,
    "items": _items,
    "presence": _presence,
    "ops": lambda member: _segments(member, spoilt=False),
    "bad_ops": lambda member: _segments(member, spoilt=True),
}
"""What a member may do."""


def _again(flood: Callable[[_Member], None], member: _Member) -> None:
    while True:
        with contextlib.suppress(Ended, AssertionError, OSError):
            flood(member)


def _stranger(member: _Member) -> None:
    with contextlib.suppress(Ended, OSError):
        Peer(member.url, Key(os.urandom(32)), member.mesh).close()


def main() -> None:
    """See the module."""
    kind, url, genesis, seed = sys.argv[1:]
    member = _Member(url, bytes.fromhex(genesis), Key(bytes.fromhex(seed)))
    flood = FLOODS.get(kind, _stranger)
    print("ready", flush=True)
    sys.stdin.readline()
    threads = [threading.Thread(target=_again, args=(flood, member), daemon=True) for _ in range(1 if kind in FLOODS else STRANGERS)]
    for thread in threads:
        thread.start()
    threads[0].join()


if __name__ == "__main__":
    main()
