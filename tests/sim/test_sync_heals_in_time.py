"""How long it takes until nodes that were apart are equal again, in virtual time, with the pauses between dials that a node really makes."""

from __future__ import annotations

from random import Random

import pytest
from sim.test_sync_mesh_sim import SHAPES
from sim.world import Node, World

from fabrik_node.transport.mesh import RETRY_S_MAX
from fabrik_sync import LogId

MISSING_OPS_MAX = 10_000


def apart(seed: int, shape: str) -> tuple[World, list[Node]]:
    """A mesh that was in pieces for so long that every dial waits as long as it may, and at most so many ops are missing somewhere."""
    world, random = World(seed), Random(seed)
    world.retry_s_max = RETRY_S_MAX
    world.latency = random.choice([0.001, 0.05, 0.2])
    nodes = [world.add(f"n{i}") for i in range(2 if shape == "pair" else random.randint(3, 5))]
    for node in nodes:
        node.store.members |= {other.key for other in nodes}
        node.store.segment_ops = 200
    for i, j in SHAPES[shape](len(nodes)):
        world.link(nodes[i], nodes[j])
    assert world.run(30.0, until=world.converged)
    world.run(12.0)  # sessions that lived for a while: their dials begin with short pauses
    world.blocked = {frozenset((a.name, b.name)) for a in nodes for b in nodes if a is not b}
    for conn in world.conns:
        if conn[0].open and conn[1].open:
            world.cut(conn)
    fork = LogId(nodes[0].key, 9)
    for number, node in enumerate(nodes):
        for n in range(random.randint(1, MISSING_OPS_MAX // len(nodes))):
            node.store.append(node.log, b"%d of %d" % (n, number) * 10)
        if random.random() < 0.5:
            node.store.append(fork, b"one author, another op at each: %d" % number)
    world.run(random.uniform(60.0, 200.0))
    return world, nodes


@pytest.mark.promise("I2")
@pytest.mark.parametrize("shape", list(SHAPES))
def test_nodes_are_equal_ten_seconds_and_three_round_trips_after_their_links_heal(shape: str) -> None:
    for seed in range(25):
        world, nodes = apart(seed, shape)
        assert not world.converged()
        world.blocked.clear()
        hops = len(nodes) - 1 if shape in ("line", "ring") else 2  # from end to end
        round_trip = 2 * 1.5 * world.latency
        healed = world.now
        assert world.run(10.0 + 3 * round_trip * hops, until=world.converged), f"seed {seed}, {shape}, {len(nodes)} nodes"
        assert world.now - healed <= 10.0 + 3 * round_trip * hops
