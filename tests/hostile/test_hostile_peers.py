"""Every attack of the kit against a real node, with an honest second one: each ends as it should, and costs the honest nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import psutil
import pytest
from acceptance.fleet import Fleet, NodeProcess
from hostile import attacks_frames, attacks_handshake, attacks_ops, attacks_wire
from hostile.kit import ATTACKS, PLAIN, Attack, Kit

ROOMS = (attacks_wire, attacks_handshake, attacks_frames, attacks_ops)
FRESH_S = 2.0
GROWTH_BYTES_MAX = 64 << 20


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kit]:
    fleet = Fleet(tmp_path_factory.mktemp("hostile"))
    try:
        host = fleet.host(listen=PLAIN)
        made = Kit(host, fleet.member(host, "second"))
        for _ in range(20):
            replicate(made)
        yield made
    finally:
        fleet.end()


def memory(node: NodeProcess) -> int:
    assert node.process is not None
    return int(psutil.Process(node.process.pid).memory_info().rss)


def replicate(kit: Kit) -> None:
    """A fresh op of the second node is on the host, and both are equal, before the bound."""
    before = kit.host.digest()
    begun = time.monotonic()
    kit.second.call("items.add", title="fresh")
    while (digest := kit.host.digest()) == before or digest != kit.second.digest():
        assert time.monotonic() - begun < FRESH_S, "a fresh op is not everywhere"


@pytest.mark.promise("E26", "F3", "F4", "F5", "I11", "I18", "I19", "I20")
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: f"{attack.room}: {attack.name}")
def test_an_attack_ends_as_it_should_and_costs_the_honest_nothing(kit: Kit, attack: Attack) -> None:
    nodes = (kit.host, kit.second)
    before = [memory(node) for node in nodes]
    assert attack.run(kit) in attack.expected
    replicate(kit)
    grown = [memory(node) - was for node, was in zip(nodes, before, strict=True)]
    assert max(grown) < GROWTH_BYTES_MAX, f"grown by {grown}"


def test_the_kit_is_as_large_as_it_says() -> None:
    assert len(ATTACKS) >= 100
    assert not [name for name, count in Counter(attack.name for attack in ATTACKS).items() if count > 1]
    assert {attack.room for attack in ATTACKS} == {room.__name__.rpartition("_")[2] for room in ROOMS}
