"""Many peers at once that want everything and read nothing: each costs a bounded little, and the others are not slower."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from acceptance.fleet import Fleet
from hostile.kit import PLAIN, Kit
from hostile.raw import PING, WANT, Peer
from hostile.test_hostile_peers import memory, replicate

COUNT = 16
EACH_BYTES = 1 << 20


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    yield made
    made.end()


def work(kit: Kit, stalled: Sequence[Peer] = ()) -> int:
    """Four megabytes of ops, a fresh one replicated now and then; by how much the host has grown. The stalled peers live, and read nothing."""
    before = memory(kit.host)
    for turn in range(130):
        kit.host.call("items.add", title=f"item {turn}", body="x" * 32_000)
        if turn % 10 == 0:
            replicate(kit)
            for peer in stalled:
                peer.say(PING, turn)
    return memory(kit.host) - before


@pytest.mark.promise("E18", "I18")
@pytest.mark.parametrize("listen", [PLAIN, "127.0.0.1:0"], ids=["plain", "TLS"])
def test_stalled_peers_cost_a_bounded_little_each(fleet: Fleet, listen: str) -> None:
    host = fleet.host(listen=listen)
    kit = Kit(host, fleet.member(host, "second"))
    keys = [kit.join(kit.invite()) for _ in range(COUNT)]
    work(kit)
    alone = work(kit)
    with ExitStack() as stack:
        stalled = []
        for key in keys:
            peer = stack.enter_context(kit.peer(key))
            peer.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            peer.ready()
            rows = peer.meet()
            peer.say(WANT, [[author, epoch, 0] for author, epoch, _ in rows])
            stalled.append(peer)
        before = memory(host)
        assert host.call("status")["peers_connected"] == COUNT + 1
        crowded = work(kit, stalled)
        assert host.call("status")["peers_connected"] == COUNT + 1, "nobody was cut meanwhile"
        assert memory(host) - before <= COUNT * EACH_BYTES + alone, f"grown by {crowded}, alone by {alone}"
    replicate(kit)
