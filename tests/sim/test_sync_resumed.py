"""A log that was suspended on all nodes, and is not any more once an admin's op says so: every node gets what it had let go, whenever it hears of it."""

from __future__ import annotations

import itertools
from random import Random

import pytest
from sim.test_sync_forks import asked, extend, is_quiet
from sim.toy_store import SPARED
from sim.world import Node, World

from fabrik_sync import LogId, State


def bushes(seed: int, count: int, common: int = 10, each: int = 7) -> tuple[World, list[Node], LogId]:
    """Nodes in a line, all with a suspended log of which each met other branches, and the admin (the first one) with none of it."""
    world = World(seed)
    nodes = [world.add(f"n{i}") for i in range(count)]
    log = LogId(nodes[1].key, 7)
    for number, node in enumerate(nodes):
        node.store.heads_max = 6
        extend(node, log, common, "common")
        for n in range(each):
            extend(node, log, 1 + n % 3, f"{number} {n}", (0, n + 1))
        assert node.store.logs[log].suspended
    return world, nodes, log


def level(world: World) -> bool:
    """Nobody takes himself for behind."""
    live = [end.session for conn in world.conns for end in conn if end.session.state is State.LIVE]
    return all(session.is_caught_up and session.status().lag_in == session.status().lag_out == 0 for session in live)


def whole(nodes: list[Node], log: LogId, branches: int) -> bool:
    return all(len(node.store.logs[log].branches) == branches and not node.store.logs[log].suspended for node in nodes)


@pytest.mark.promise("I14")
@pytest.mark.parametrize("count", [2, 3, 5])
def test_open_sessions_exchange_what_was_let_go(count: int) -> None:
    world, nodes, log = bushes(1, count)
    for one, next_one in itertools.pairwise(nodes):
        world.link(one, next_one)
    assert world.run(30.0, until=world.converged)
    world.run(3.0)
    assert all(node.store.logs[log].suspended for node in nodes)
    nodes[0].write(SPARED + log.author)
    assert world.run(10.0, until=lambda: world.converged() and whole(nodes, log, 1 + 7 * count)), [node.counts for node in nodes]
    world.run(5.0)
    assert max(asked(*(end for conn in world.conns for end in conn))) <= 8
    assert level(world)
    assert is_quiet(world)
    nodes[-1].write(b"goes on", log, (0, 10))
    assert world.run(5.0, until=world.converged)


@pytest.mark.promise("I14")
@pytest.mark.parametrize("seed", range(40))
def test_whoever_hears_of_it_when(seed: int) -> None:
    """Links come and go, thieves go on, the word arrives in between, twice on some paths."""
    random = Random(seed)
    world, nodes, log = bushes(seed, random.randint(2, 5), each=random.randint(7, 12))
    for number, node in enumerate(nodes[1:], 1):
        world.link(node, random.choice(nodes[:number]))
    spared = random.randint(0, 12)
    for turn in range(13):
        if turn == spared:
            nodes[0].write(SPARED + log.author)
        node = random.choice(nodes)
        if not node.store.logs[log].suspended:
            node.write(b"thief %d" % turn, log, (0, random.randint(1, 9)))
        if random.random() < 0.4:
            for ends in random.sample(world.conns, min(1, len(world.conns))):
                world.cut(ends)
        world.run(random.choice([0.0, 0.004, 0.02, 0.5]))
    assert world.run(90.0, until=lambda: world.converged() and not any(node.store.logs[log].suspended for node in nodes)), [node.counts for node in nodes]
    assert len({len(node.store.logs[log].branches) for node in nodes}) == 1
    world.run(5.0)
    assert level(world)
    assert is_quiet(world)
