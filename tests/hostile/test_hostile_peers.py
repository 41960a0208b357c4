"""Every attack of the kit against a real node, with an honest second one: each ends as it should, and costs the honest nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import psutil
import pytest
from acceptance.fleet import BOUND_S, Fleet, NodeProcess
from hostile import attacks_authority, attacks_frames, attacks_gate, attacks_handshake, attacks_ops, attacks_wire
from hostile.kit import ATTACKS, PLAIN, Attack, Kit

ROOMS = {"plain": (attacks_wire, attacks_handshake, attacks_frames, attacks_ops), "TLS": (attacks_gate, attacks_frames, attacks_ops, attacks_authority)}
"""Plain: every byte is the attacker's to choose. TLS: the gate, and what a member does behind it."""
LISTEN = {"plain": PLAIN, "TLS": "127.0.0.1:0"}
FRESH_CPU_S = 4.0
"""Of the host's own processor time, whoever else uses the machine; how soon that is for people is a benchmark (``loop.flood``)."""
GROWTH_BYTES_MAX = 64 << 20


def room_of(module: ModuleType) -> str:
    return module.__name__.rpartition("_")[2]


CASES = [(link, attack) for link, modules in ROOMS.items() for module in modules for attack in ATTACKS if attack.room == room_of(module)]
"""In this order: what fills the host's logs comes last."""


class Kits:
    """One pair of nodes for each kind of link, made when it is asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fleets: list[Fleet] = []
        self._kits: dict[str, Kit] = {}

    def __getitem__(self, link: str) -> Kit:
        if link not in self._kits:
            fleet = Fleet(self._folder / link)
            self._fleets.append(fleet)
            host = fleet.host(listen=LISTEN[link])
            kit = self._kits[link] = Kit(host, fleet.member(host, "second"))
            for _ in range(20):
                replicate(kit)
        return self._kits[link]

    def end(self) -> None:
        for fleet in self._fleets:
            fleet.end()


@pytest.fixture(scope="module")
def kits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kits]:
    made = Kits(tmp_path_factory.mktemp("hostile"))
    yield made
    made.end()


def memory(node: NodeProcess) -> int:
    assert node.process is not None
    return int(psutil.Process(node.process.pid).memory_info().rss)


def processor_s(node: NodeProcess) -> float:
    """What its process has used of processors."""
    assert node.process is not None
    times = psutil.Process(node.process.pid).cpu_times()
    return float(times.user + times.system)


def replicate(kit: Kit) -> None:
    """A fresh op of the second node is on the host, and both are equal, before the bounds."""
    before = kit.host.digest()
    begun, used = time.monotonic(), processor_s(kit.host)
    kit.second.call("items.add", title="fresh")
    while (digest := kit.host.digest()) == before or digest != kit.second.digest():
        assert processor_s(kit.host) - used < FRESH_CPU_S, "a fresh op is not everywhere"
        assert time.monotonic() - begun < BOUND_S, "a fresh op is not everywhere"


@pytest.mark.promise("E26", "F3", "F4", "F5", "I11", "I18", "I19", "I20")
@pytest.mark.parametrize(("link", "attack"), CASES, ids=[f"{link}, {attack.room}: {attack.name}" for link, attack in CASES])
def test_an_attack_ends_as_it_should_and_costs_the_honest_nothing(kits: Kits, link: str, attack: Attack) -> None:
    kit = kits[link]
    nodes = (kit.host, kit.second)
    before = [memory(node) for node in nodes]
    assert attack.run(kit) in attack.expected
    replicate(kit)
    grown = [memory(node) - was for node, was in zip(nodes, before, strict=True)]
    assert max(grown) < GROWTH_BYTES_MAX, f"grown by {grown}"


@pytest.mark.promise("I20")
@pytest.mark.parametrize("link", list(ROOMS))
def test_what_was_stored_of_the_attackers_starts_again(kits: Kits, link: str) -> None:
    """No op is poison: both nodes load all of it, from the rows and from the snapshot, and are equal as before."""
    kit = kits[link]
    replicate(kit)
    before = kit.host.digest()
    for node in (kit.second, kit.host):
        node.stop()
    kit.host.start("serve", "--listen", kit.url.removesuffix("/crdt-sync"))
    kit.second.start("serve")
    assert kit.host.digest() == before == kit.second.digest()
    replicate(kit)
    kit.host.kill()
    kit.host.start("serve", "--listen", kit.url.removesuffix("/crdt-sync"))
    kit.host.await_true(lambda: kit.host.digest() == kit.second.digest(), "equal digests")


def test_the_kit_is_as_large_as_it_says() -> None:
    assert len(ATTACKS) >= 100
    assert not [name for name, count in Counter(attack.name for attack in ATTACKS).items() if count > 1]
    assert {attack.room for attack in ATTACKS} == {room_of(module) for modules in ROOMS.values() for module in modules}
