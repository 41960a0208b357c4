"""While an attack goes on, not only after it: nobody holds the event loop, and an honest node still gets in."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from acceptance.fleet import Fleet
from fabrik_twin.cbor import encode
from hostile.attacks_frames import frame, logs
from hostile.attacks_ops import titles
from hostile.kit import PLAIN, Kit, stranger
from hostile.raw import HEADS, PING, WANT, Ended, Wire
from hostile.test_hostile_peers import GROWTH_BYTES_MAX, memory, replicate


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    made = Fleet(tmp_path_factory.mktemp("floods"))
    yield made
    made.end()


@pytest.fixture(scope="module")
def kit(fleet: Fleet) -> Kit:
    host = fleet.host(listen=PLAIN)
    made = Kit(host, fleet.member(host, "second"))
    for _ in range(3):
        author = titles(made, 1_000)
        with made.member() as peer:
            data = [author.segment(first, first + 99) for first in range(1, 1_000, 100)]
            peer.offer(author.key.public, author.epoch, [(100 * n + 1, 100 * n + 100, part) for n, part in enumerate(data)])
            peer.await_ack(sum(map(len, data)))
    return made


def pings(kit: Kit) -> None:
    with kit.member() as peer:
        peer.send_bytes(1_000 * (b"\x82\x86" + bytes(4) + encode([PING, 1_000])))
        peer.alive()


def heads(kit: Kit) -> None:
    with kit.member() as peer:
        for _ in range(10):
            peer.send(frame(HEADS, False, logs(300, 4)))
        peer.alive()


def wants(kit: Kit) -> None:
    """All logs again and again, with a locator of nonsense each time."""
    with kit.peer().ready() as peer:
        rows = peer.meet()
        places = [[n + 1, os.urandom(16)] for n in range(1_024)]
        for _ in range(3):
            for author, epoch, _ in rows[:50]:
                peer.say(WANT, [[author, epoch, 0, places]])
        peer.alive()


def strangers(kit: Kit) -> None:
    with kit.peer(stranger()) as peer:
        peer.ready()


def handshakes(kit: Kit) -> None:
    with kit.peer() as peer:
        peer.ready()


def segments(kit: Kit) -> None:
    """Bytes that cost a signature check each."""
    author = titles(kit, 200)
    data = author.segment(1, 200)
    with kit.member() as peer:
        peer.offer(author.key.public, author.epoch, [(1, 200, data[:-1] + bytes([data[-1] ^ 1]))] * 3)
        peer.outcome()


@pytest.mark.promise("I20")
@pytest.mark.parametrize("flood", [pings, heads, wants, strangers, handshakes, segments], ids=lambda flood: flood.__name__)
def test_ops_flow_while_a_flood_goes_on(kit: Kit, flood: Callable[[Kit], None]) -> None:
    stop, rounds = threading.Event(), [0]

    def again() -> None:
        while not stop.is_set():
            try:
                flood(kit)
            except Ended:
                rounds[0] += 1
            else:
                rounds[0] += 1

    threads = [threading.Thread(target=again) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(8):
            replicate(kit)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert rounds[0] >= 3
    replicate(kit)


@pytest.mark.promise("I19")
@pytest.mark.parametrize("first", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["a silent one", "half a greeting of TLS"])
def test_an_honest_node_gets_in_while_strangers_hold_all_they_can(tmp_path: Path, first: bytes) -> None:
    """Three hundred connections of strangers, and each that is ended comes again."""
    fleet, stop = Fleet(tmp_path), threading.Event()
    host = fleet.host()
    kit = Kit(host, fleet.member(host, "second"))
    before = memory(host)

    def stranger_at_the_gate() -> Wire:
        wire = kit.wire()
        wire.send_bytes(first)
        wire.stream.settimeout(0.001)
        return wire

    wires = [stranger_at_the_gate() for _ in range(300)]

    def hold() -> None:
        while not stop.is_set():
            for place, wire in enumerate(wires):
                try:
                    ended = wire.stream.recv(4_096) == b""
                except TimeoutError:
                    ended = False
                except OSError:
                    ended = True
                if ended:
                    wire.close()
                    wires[place] = stranger_at_the_gate()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        third = fleet.member(host, "third")
        third.call("items.add", title="through the crowd")
        fleet.await_equal([host, kit.second, third])
        assert memory(host) - before < GROWTH_BYTES_MAX
    finally:
        stop.set()
        thread.join()
        for wire in wires:
            wire.close()
        fleet.end()
