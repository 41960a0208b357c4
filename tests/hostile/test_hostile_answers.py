"""Hostile nodes that are dialled: a real node calls each of them at the same time, says why it does not stay, and goes on with the honest."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from acceptance.fleet import Fleet
from fabrik_twin.op import Key
from hostile.kit import PLAIN, Kit, stranger
from hostile.raw import ACK, ANSWER, BOUND_S, CLOSE, PING, READY, SEGMENT, WINDOW, Answering, Ended
from hostile.test_hostile_peers import GROWTH_BYTES_MAX, memory, replicate

ANSWERS: dict[str, tuple[Callable[[Answering], str], tuple[str, ...]]] = {}


def answer(name: str, *expected: str) -> Callable[[Callable[[Answering], str]], None]:
    """Put a way to answer into the table."""

    def add(run: Callable[[Answering], str]) -> None:
        ANSWERS[name] = run, expected

    return add


def http(text: bytes) -> Callable[[Answering], str]:
    """Answer the request with these bytes."""

    def run(peer: Answering) -> str:
        peer.read_head()
        peer.send_bytes(text)
        return peer.outcome()

    return run


def after_hello(*fields: object) -> Callable[[Answering], str]:
    """A WebSocket as it should be, and then this in place of ANSWER."""

    def run(peer: Answering) -> str:
        peer.welcome().receive()
        peer.say(*fields)
        return peer.outcome()

    return run


def after_ready(*frames: bytes) -> Callable[[Answering], str]:
    """All right until READY, then these."""

    def run(peer: Answering) -> str:
        peer.welcome().answer()
        for each in frames:
            peer.send(each)
        return peer.outcome()

    return run


answer("nothing at all", "cut")(http(b""))
answer("a redirect", "cut")(http(b"HTTP/1.1 301 Moved\r\nLocation: ws://127.0.0.1:1/crdt-sync\r\nContent-Length: 0\r\n\r\n"))
answer("a page", "cut")(http(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"))
answer("headers without end", "cut")(http(b"HTTP/1.1 101 Switching Protocols\r\n" + b"X: " + b"y" * 4_000_000))
answer("noise for HTTP", "cut")(http(os.urandom(5_000)))
answer("a WebSocket for somebody else", "cut")(
    http(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n")
)
answer("a record of a refusal that is torn", "cut")(http(b"FABRIKR\x01\xff\xff" + bytes(70_000)))
answer("a refusal full of control characters", "cut")(http(b"FABRIKR\x01\x00\x14too_many\x00\x1b[2J\r\n\x07abcd"))
answer("a WebSocket that says nothing", "handshake_timeout")(lambda peer: peer.welcome().outcome())
answer("an answer of another mesh", "wrong_mesh")(after_hello(ANSWER, 1, os.urandom(32), os.urandom(32), bytes(32), WINDOW, bytes(64)))
answer("a version that was not offered", "no_common_version")(after_hello(ANSWER, 2, bytes(32), os.urandom(32), bytes(32), WINDOW, bytes(64)))
answer("READY in place of an answer", "unexpected_frame")(after_hello(READY, b""))
answer("a segment in place of an answer", "unexpected_frame")(after_hello(SEGMENT, bytes(32), 1, 1, 1, b"x"))
answer("nine kilobytes in place of an answer", "malformed")(after_hello(ANSWER, bytes(9_000)))
answer("a refusal in place of an answer", "cut", "ws 1000")(after_hello(CLOSE, "no_such_code", "\x1b[31mtype this: rm -rf /\x07"))


@answer("the caller's own key", "self_connection")
def mirror(peer: Answering) -> str:
    frame = peer.welcome().hear()
    peer.say(ANSWER, 1, peer.mesh, frame[3], bytes(32), WINDOW, bytes(64))
    return peer.outcome()


@answer("a signature that does not fit", "bad_signature")
def unsigned(peer: Answering) -> str:
    peer.welcome().receive()
    peer.say(ANSWER, 1, peer.mesh, peer.key.public, bytes(32), WINDOW, bytes(64))
    return peer.outcome()


@answer("the right answer of a stranger", "unknown_key", "wrong_key")
def nobody(peer: Answering) -> str:
    peer.key = stranger()
    peer.welcome().answer()
    return peer.outcome()


@answer("a welcome that is too large", "malformed")
def welcome(peer: Answering) -> str:
    peer.welcome().prove()
    peer.say(READY, bytes(4_097))
    return peer.outcome()


@answer("a masked frame", "ws 1002")
def masked(peer: Answering) -> str:
    peer.welcome().receive()
    peer.send(b"hello", masked=True)
    return peer.outcome()


@answer("a frame of four exabytes", "ws 1009")
def exabytes(peer: Answering) -> str:
    peer.welcome().receive()
    peer.send(b"hello", length=1 << 62)
    return peer.outcome()


@answer("an acknowledgement of what was not sent", "flow_violation", "unexpected_frame")
def acknowledged(peer: Answering) -> str:
    peer.welcome().answer().meet()
    peer.say(ACK, 1 << 40)
    return peer.outcome()


@answer("rubbish after READY", "malformed")
def rubbish(peer: Answering) -> str:
    return after_ready(b"\xff" * 100)(peer)


@answer("pings without end", "ignored")
def pings(peer: Answering) -> str:
    peer.welcome().answer().meet()
    for number in range(5_000):
        peer.say(PING, number)
    return peer.alive()


def play(listener: socket.socket, key: Key, mesh: bytes, run: Callable[[Answering], str], found: dict[str, str], name: str) -> None:
    """One way to answer, to the first who calls."""
    try:
        with Answering(listener, key, mesh) as peer:
            try:
                found[name] = run(peer)
            except Ended as end:
                found[name] = end.outcome
    except (AssertionError, OSError) as error:
        found[name] = f"broken: {error!r}"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    fleet, found = Fleet(tmp_path_factory.mktemp("answers")), dict[str, str]()
    listeners = {name: socket.create_server(("127.0.0.1", 0)) for name in ANSWERS}
    try:
        host = fleet.host(listen=PLAIN)
        kit = Kit(host, fleet.member(host, "second"))
        members = {name: kit.join(kit.invite()) for name in ANSWERS}
        replicate(kit)
        threads = []
        for name, listener in listeners.items():
            listener.settimeout(3 * BOUND_S)  # the node that calls is started after this
            threads.append(threading.Thread(target=play, args=(listener, members[name], kit.mesh, ANSWERS[name][0], found, name)))
            threads[-1].start()
        kit.second.stop()
        before = memory(host)
        kit.second.start("serve", *(part for each in listeners.values() for part in ("--peer", f"ws://127.0.0.1:{each.getsockname()[1]}/crdt-sync")))
        for thread in threads:
            thread.join()
        replicate(kit)
        assert memory(host) - before < GROWTH_BYTES_MAX
        peers = str(kit.second.call("status")["peers"])
        assert "\x1b" not in peers
        assert "\x07" not in peers
        yield found
    finally:
        for listener in listeners.values():
            with suppress(OSError):
                listener.close()
        fleet.end()


@pytest.mark.promise("F4", "I19")
@pytest.mark.parametrize("name", list(ANSWERS))
def test_who_answers_so_is_left_with_the_reason(outcomes: dict[str, str], name: str) -> None:
    assert outcomes[name] in ANSWERS[name][1]
