"""Below the protocol: HTTP and WebSocket, by somebody without a key."""

from __future__ import annotations

import os
import time

from hostile.kit import Kit, attack
from hostile.raw import BOUND_S, Ended, Wire

END = b"\r\n\r\n"
POST = b"POST /crdt-sync HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000000" + END


@attack("bytes that are no HTTP", "cut", "http 400")
def no_http(kit: Kit) -> str:
    with kit.wire() as wire:
        return f"http {wire.request(os.urandom(3_000) + END)}"


@attack("another path", "http 404")
def another_path(kit: Kit) -> str:
    with kit.wire() as wire:
        return f"http {wire.request(wire.head('/../../etc/passwd'))}"


@attack("no upgrade", "http 426", "http 400")
def no_upgrade(kit: Kit) -> str:
    with kit.wire() as wire:
        return f"http {wire.request(wire.head(Upgrade='', Connection='close'))}"


@attack("an old version of WebSocket", "http 400", "http 426")
def old_version(kit: Kit) -> str:
    with kit.wire() as wire:
        return f"http {wire.request(wire.head(Sec_WebSocket_Version='8'))}"


@attack("no key of WebSocket", "http 400")
def no_key(kit: Kit) -> str:
    with kit.wire() as wire:
        return f"http {wire.request(wire.head(Sec_WebSocket_Key=''))}"


@attack("another method with a body", "cut", "http 400", "http 405")
def another_method(kit: Kit) -> str:
    with kit.wire() as wire:
        return f"http {wire.request(POST)}"


@attack("a header line without end", "cut", "http 400", "http 431")
def endless_header(kit: Kit) -> str:
    with kit.wire() as wire:
        wire.send_bytes(b"GET /crdt-sync HTTP/1.1\r\nHost: ")
        for _ in range(64):
            wire.send_bytes(b"x" * 65_536)
        return f"http {wire.request(END)}"


@attack("ten thousand headers", "cut", "http 400", "http 431")
def many_headers(kit: Kit) -> str:
    with kit.wire() as wire:
        status = wire.request(wire.head()[:-2] + b"X: y\r\n" * 10_000 + b"\r\n")
        return f"http {status}"


@attack("a request that never ends, two hundred times", "cut", "cut/too_many_connections")
def slow_requests(kit: Kit) -> str:
    wires: list[Wire] = []
    for _ in range(200):
        wire = kit.wire()
        wire.send_bytes(wire.head()[:40])
        wires.append(wire)
    try:
        outcomes = set()
        deadline = time.monotonic() + BOUND_S
        for wire in wires:
            assert time.monotonic() < deadline
            try:
                wire.request(b"")
            except Ended as end:
                outcomes.add(end.outcome)
        return "/".join(sorted(outcomes))
    finally:
        for wire in wires:
            wire.close()


@attack("a WebSocket that says nothing", "handshake_timeout")
def silence(kit: Kit) -> str:
    with kit.wire() as wire:
        return wire.upgrade().outcome()


@attack("an unmasked frame", "ws 1002", "cut")
def unmasked(kit: Kit) -> str:
    with kit.wire() as wire:
        wire.upgrade().send(b"hello", masked=False)
        return wire.outcome()


@attack("a frame that says it is compressed", "ws 1002", "cut")
def compressed(kit: Kit) -> str:
    with kit.wire() as wire:
        wire.upgrade().send(b"hello", rsv=4)
        return wire.outcome()


@attack("an opcode of nobody", "ws 1002", "cut")
def opcode(kit: Kit) -> str:
    with kit.wire() as wire:
        wire.upgrade().send(b"hello", opcode=5)
        return wire.outcome()


@attack("a frame of four exabytes", "ws 1009")
def exabytes(kit: Kit) -> str:
    with kit.wire() as wire:
        wire.upgrade().send(b"hello", length=1 << 62)
        return wire.outcome()


@attack("a message in pieces without end", "ws 1009", "malformed")
def pieces(kit: Kit) -> str:
    with kit.wire() as wire:
        wire.upgrade().send(b"x" * 60_000, fin=False)
        for _ in range(200):
            wire.send(b"x" * 60_000, opcode=0, fin=False)
        return wire.outcome()


@attack("a text message", "malformed")
def text(kit: Kit) -> str:
    with kit.wire() as wire:
        wire.upgrade().send(b"{}", opcode=1)
        return wire.outcome()


@attack("a text message that is not UTF-8", "ws 1007", "malformed")
def bad_text(kit: Kit) -> str:
    with kit.wire() as wire:
        wire.upgrade().send(b"\xff\xfe", opcode=1)
        return wire.outcome()


@attack("ten thousand pings of WebSocket, then silence", "handshake_timeout")
def websocket_pings(kit: Kit) -> str:
    with kit.wire() as wire:
        wire.upgrade()
        for _ in range(10_000):
            wire.send(b"p" * 125, opcode=9)
        return wire.outcome()


@attack("a close with a code that may not be", "ws 1002", "cut")
def bad_close(kit: Kit) -> str:
    with kit.wire() as wire:
        wire.upgrade().send(b"\x00\x01", opcode=8)
        return wire.outcome()
