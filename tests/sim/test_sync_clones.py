"""Several connections between the same keys: one too many between two nodes, just right when two nodes have one key."""

from __future__ import annotations

from random import Random

import pytest
from sim.test_sync_forks import is_quiet
from sim.world import Node, World

from fabrik_sync import Limits, State


def ended(*nodes: Node) -> dict[str, int]:
    return {name: count for node in nodes for name, count in node.counts.items() if name.startswith("ended ")}


def sessions(node: Node) -> int:
    return len(node.hub.sessions)


def clones(seed: int) -> tuple[World, Node, Node, Node]:
    """A hub, an author that it knows, and a copy of that author's disk."""
    world = World(seed)
    hub, one = world.add("hub"), world.add("one")
    world.cut(world.dial(one, hub))
    one.write(b"before the copy")
    return world, hub, one, world.clone(one, "two")


@pytest.mark.parametrize("dials", ["both call the hub", "the hub calls one", "the hub calls both"])
def test_two_nodes_with_one_key_stay_connected_to_one_hub(dials: str) -> None:
    for seed in range(20):  # so that the hub's key is the lower one in some
        world, hub, one, two = clones(seed)
        for node in (one, two):
            if dials == "both call the hub" or (dials == "the hub calls one" and node is two):
                world.link(node, hub)
            else:
                world.dial(hub, node)  # two addresses that answer with one key
        world.run(3.0)
        before = ended(hub, one, two)
        one.write(b"at one place")
        two.write(b"another op")
        for n in range(30):
            Random(seed + n).choice([one, two]).write(b"%d" % n)
            world.run(0.5)
        assert world.run(5.0, until=world.converged), f"seed {seed}"
        assert len(hub.store.logs[one.log].branches) == 2, f"seed {seed}: each went on by itself, and everybody has both"
        assert ended(hub, one, two) == before, f"seed {seed}: nobody was pushed out"
        assert sessions(hub) == 2
        assert hub.hub.peers == 1
        world.run(10.0)
        assert is_quiet(world), f"seed {seed}"


def test_two_nodes_keep_one_connection_whoever_called_and_in_whatever_order() -> None:
    for seed in range(40):
        random = Random(seed)
        world = World(seed)
        a, b = world.add("a"), world.add("b")
        world.latency = random.choice([0.001, 0.1])
        for _ in range(random.randint(2, 4)):
            world.dial(*random.choice([(a, b), (b, a)]))
            world.run(random.choice([0.0, 0.001, 0.2, 1.0]))
        world.run(8.0)
        assert sessions(a) == sessions(b) == 1, f"seed {seed}"
        live = [end for conn in world.conns for end in conn if end.session.state is State.LIVE]
        assert len(live) == 2, f"seed {seed}"
        a.write(b"op")
        assert world.run(1.0, until=world.converged), f"seed {seed}"


def test_a_half_dead_connection_goes_seconds_after_a_new_one_came() -> None:
    world = World(1)
    a, b = world.add("a"), world.add("b")
    old = world.dial(a, b)
    world.run(1.0)
    world._lose(old[0])  # a knows, b does not
    old[1].out.stalled = True
    world.dial(a, b)
    world.run(1.0)
    assert sessions(b) == 2, "it might be another node with that key"
    world.run(Limits().rival_s)
    assert sessions(b) == 1
    assert old[1].session.state is State.CLOSED
    b.write(b"op")
    assert world.run(1.0, until=world.converged)


def test_one_key_can_not_have_any_number_of_connections() -> None:
    world, hub, one, _ = clones(1)
    for number in range(8):
        world.link(world.clone(one, f"copy {number}"), hub)
    world.run(30.0)
    assert sessions(hub) <= 4
    assert hub.counts["ended duplicate_connection"] < 120, "they take turns, with pauses"
