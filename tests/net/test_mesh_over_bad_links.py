"""Real nodes in network namespaces of their own, over links that lose, delay, reorder and break: every acknowledged write is on every node once they heal."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from random import Random
from typing import Self

import pytest
from acceptance.fleet import PROGRAM, Build, Fleet, NodeProcess
from net.network import Network, why_not

from fabrik_node.errors import FabrikError

REASON = why_not()
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON or "namespaces are there")
HEAL_S = 60.0
"""A failure bound for busy machines: in virtual time it is ten seconds (tests/sim/test_sync_schedules.py)."""
BAD = {"delay_s": 0.01, "jitter_s": 0.01, "loss": 0.01, "duplicate": 0.005, "reorder": 0.01, "rate": 5e6}
GOOD = dict.fromkeys(BAD, 0.0) | {"delay_s": 0.01, "cut": False}


class Writers:
    """One thread per node that adds items until it is told to stop, and keeps the ids that were acknowledged."""

    def __init__(self, nodes: list[NodeProcess], pace_s: float) -> None:
        self.acked: list[str] = []
        self._stop = threading.Event()
        self._paused = {node.name: threading.Event() for node in nodes}
        self._threads = [threading.Thread(target=self._write, args=(node, pace_s)) for node in nodes]

    def _write(self, node: NodeProcess, pace_s: float) -> None:
        number = 0
        while not self._stop.wait(pace_s):
            if self._paused[node.name].is_set():
                continue
            try:
                found = node.call("items.add", title=f"{node.name} {number}")
            except (OSError, ValueError, FabrikError):  # it was killed meanwhile: nothing was acknowledged
                continue
            self.acked.append(found["item"]["id"])
            number += 1

    def pause(self, node: NodeProcess, *, on: bool) -> None:
        (self._paused[node.name].set if on else self._paused[node.name].clear)()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def network() -> Iterator[Network]:
    with Network(4, seed=20) as made:
        yield made


def mesh(fleet: Fleet, network: Network) -> list[NodeProcess]:
    """Four nodes that all joined through the first, and dial each other in a ring."""
    nodes: list[NodeProcess] = []
    for number in range(1, 5):
        node = fleet.new(f"n{number}", build=Build((*network.command(number), PROGRAM)))
        if nodes:
            node.ask("join", fleet.token(nodes[0]), "--name", node.name)
        else:
            node.ask("init", "--name", node.name, "--mesh", "test")
        nodes.append(node)
        serve(node, network, number)
    return nodes


def serve(node: NodeProcess, network: Network, number: int) -> None:
    following = network.address(number % 4 + 1)
    node.start("serve", "--listen", f"{network.address(number)}:7420", "--peer", f"wss://{following}:7420")


def pace(seconds: float) -> None:
    """Let the network be as it is for so long."""
    threading.Event().wait(seconds)


def check(nodes: list[NodeProcess], acked: list[str]) -> float:
    """Equal state on all, with everything in it that was acknowledged. How long it took."""
    begun = time.monotonic()
    while len({node.digest() for node in nodes}) > 1:
        assert time.monotonic() - begun < HEAL_S, f"not equal {HEAL_S} s after the heal: {[node.call('status')['peers'] for node in nodes]}"
        pace(0.05)
    took = time.monotonic() - begun
    for node in nodes:
        held = {entry["id"] for entry in node.call("items.list")["items"]}
        assert not set(acked) - held, f"{node.name} lacks {len(set(acked) - held)} of {len(acked)} acknowledged items"
    return took


@pytest.mark.promise("E8", "E16", "I2", "I4")
def test_every_acknowledged_write_is_everywhere_after_all_that_a_network_does(tmp_path_factory: pytest.TempPathFactory, network: Network) -> None:
    random = Random(20)
    fleet = Fleet(tmp_path_factory.mktemp("net"))
    try:
        nodes = mesh(fleet, network)
        with Writers(nodes, 0.02) as writers:
            network.everywhere(**BAD)
            network.both(1, 3, cut=True)
            pace(2.0)
            network.everywhere(loss=0.1)
            pace(1.0)
            for a in (1, 2):  # two sides
                for b in (3, 4):
                    network.both(a, b, cut=True)
            pace(2.0)
            killed = random.choice(nodes)
            writers.pause(killed, on=True)
            killed.kill()
            pace(0.5)
            serve(killed, network, nodes.index(killed) + 1)
            writers.pause(killed, on=False)
            for a in (1, 2):
                for b in (3, 4):
                    network.both(a, b, cut=False)
            pace(1.0)
            for other in (1, 2, 3):  # in one direction only, for so long that TCP's next try would be late: the fourth hears nobody,
                network.set(other, 4, cut=True)
            for other in (1, 3, 4):  # and nobody hears the second
                network.set(2, other, cut=True)
            pace(7.0)
        assert len(writers.acked) > 200
        network.everywhere(**GOOD)
        took = check(nodes, writers.acked)
        print(f"{len(writers.acked)} items of four nodes were level {took:.1f} s after the heal")
    finally:
        fleet.end()
