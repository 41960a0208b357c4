"""Meshes whose logs fork at random places while everything goes wrong, from seeds: after the heal all heads are equal, and then it is quiet."""

from __future__ import annotations

from random import Random

import pytest
from sim.test_sync_forks import is_quiet
from sim.test_sync_mesh_sim import SHAPES, build, check_bounds, heal, misbehave
from sim.world import Node, World

from fabrik_sync import LogId, State


def fork(nodes: list[Node], random: Random, log: LogId) -> None:
    """Somebody who has the author's key writes behind a place that somebody holds, through any node."""
    node = random.choice([node for node in nodes if node.up] or nodes)
    if not node.up:
        return
    at = (0, 0)
    if log in node.store.logs and random.random() < 0.95:
        if node.store.logs[log].suspended:
            return
        number = random.randrange(len(node.store.logs[log].branches))
        branch = node.store.logs[log].branches[number]
        at = (number, random.choice([branch.seq, branch.seq, random.randint(branch.start + 1, branch.seq)]))
    for _ in range(random.choice([1, 1, 3, 40])):
        at = node.store.append(log, random.randbytes(random.choice([10, 300])), at)
        if node.store.logs[log].suspended:
            break
    node.hub.handle_heads(log, node.store.heads_of(log))
    node.pump_all()


def run_mesh(seed: int, shape: str, *, heads_max: int, author: int = 0) -> tuple[World, list[Node], LogId]:
    world, nodes = build(seed, shape)
    random = Random(f"{seed} {shape} {heads_max}")
    log = LogId(nodes[author].key, 9)
    for node in nodes:
        node.store.heads_max = heads_max
    for _ in range(random.randint(5, 40)):
        if random.random() < 0.5:
            fork(nodes, random, log)
        else:
            misbehave(world, nodes, random)
        world.run(random.choice([0.0, 0.001, 0.05, 0.5, 5.0]))
        check_bounds(world)
    heal(world, nodes)
    return world, nodes, log


def check(world: World, nodes: list[Node], where: str) -> None:
    assert world.run(120.0, until=world.converged), f"{where}: not equal after heal: {[node.counts for node in nodes]}"
    world.run(10.0)
    assert world.converged(), where
    live = [end.session for conn in world.conns for end in conn if end.session.state is State.LIVE]
    assert all(session.is_caught_up and session.status().lag_in == 0 for session in live), where
    assert is_quiet(world), where


@pytest.mark.promise("I10")
@pytest.mark.parametrize("shape", list(SHAPES))
@pytest.mark.parametrize("block", range(4))
def test_forks_of_any_shape_reach_everybody(shape: str, block: int) -> None:
    for seed in range(block * 10, block * 10 + 10):
        world, nodes, log = run_mesh(seed, shape, heads_max=64)
        where = f"seed {seed}, {shape}, {len(nodes)} nodes"
        check(world, nodes, where)
        branches = [len(node.store.logs[log].branches) for node in nodes if log in node.store.logs]
        assert len(set(branches)) <= 1, where
        asks = [end.session.counters.wants_with_places_out for conn in world.conns for end in conn]
        assert max(asks) <= 6, f"{where}: {asks}"


@pytest.mark.promise("I10")
@pytest.mark.parametrize("shape", list(SHAPES))
def test_too_many_heads_suspend_the_log_everywhere(shape: str) -> None:
    suspended = 0
    for seed in range(20):
        world, nodes, log = run_mesh(seed, shape, heads_max=4, author=1)
        where = f"seed {seed}, {shape}, {len(nodes)} nodes"
        check(world, nodes, where)
        states = {node.store.logs[log].suspended for node in nodes if log in node.store.logs}
        assert len(states) <= 1, where
        suspended += True in states
    assert suspended >= 3, "many seeds have more forks than heads are allowed"


@pytest.mark.promise("I10")
@pytest.mark.parametrize("shape", list(SHAPES))
def test_the_admins_log_is_level_everywhere_however_many_heads_it_has(shape: str) -> None:
    crowded = 0
    for seed in range(20):
        world, nodes, log = run_mesh(seed, shape, heads_max=4)
        where = f"seed {seed}, {shape}, {len(nodes)} nodes"
        check(world, nodes, where)
        branches = {len(node.store.logs[log].branches) for node in nodes if log in node.store.logs}
        assert len(branches) <= 1, where
        crowded += max(branches, default=0) > 4
        asks = [end.session.counters.wants_with_places_out for conn in world.conns for end in conn]
        assert max(asks) <= 6, f"{where}: {asks}"
    assert crowded >= 3, "many seeds have more forks than heads are listed"


def test_the_requests_of_a_fork_do_not_grow_with_the_log() -> None:
    """One fork in a ring, once with ten ops and once with ten thousand before it."""
    costs = []
    for length in (10, 10_000):
        world = World(1)
        nodes = [world.add(f"n{i}") for i in range(4)]
        log = LogId(nodes[0].key, 9)
        for node in nodes:
            node.store.members |= {other.key for other in nodes}
            for n in range(length):
                node.store.append(log, b"%d" % n)
        for number in (0, 2):
            for n in range(20):
                nodes[number].store.append(log, b"%d of %d" % (n, number))
        for i in range(4):
            world.link(nodes[i], nodes[(i + 1) % 4])
        assert world.run(30.0, until=world.converged)
        world.run(5.0)
        assert is_quiet(world)
        ends = [end for conn in world.conns for end in conn]
        costs.append((sum(end.session.counters.wants_out for end in ends), sum(node.counts["held ops"] + node.counts["stray ops"] for node in nodes)))
    (few, resent_few), (many, resent_many) = costs
    assert many <= few + 4
    assert resent_many <= resent_few + 8 * 20
