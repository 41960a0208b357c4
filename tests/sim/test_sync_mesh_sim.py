"""Meshes under faults, from seeds: safety while it goes wrong, then heal, then everything is equal in bounded time."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from sim.world import Node, World

from fabrik_sync import Limits, State

SHAPES: dict[str, Callable[[int], list[tuple[int, int]]]] = {
    "pair": lambda n: [(0, 1)],
    "line": lambda n: [(i, i + 1) for i in range(n - 1)],
    "star": lambda n: [(i, 0) for i in range(1, n)],
    "ring": lambda n: [(i, (i + 1) % n) for i in range(n)],
    "full": lambda n: [(i, j) for i in range(n) for j in range(n) if i != j],
}


def build(seed: int, shape: str) -> tuple[World, list[Node]]:
    world = World(seed)
    random = Random(seed * 7 + 1)
    count = 2 if shape == "pair" else random.randint(3, 4 if shape == "full" else 6)
    nodes = [world.add(f"n{i}") for i in range(count)]
    for node in nodes:
        node.commit_s = random.choice([0.0005, 0.002, 0.02])
        node.store.segment_ops = random.choice([1, 7, 50])
        node.limits = Limits(
            window_bytes=random.choice([262_144, 1_048_576]), chunk_bytes=random.choice([200, 65_536]), wants_per_frame=random.choice([1, 512])
        )
    world.latency = random.choice([0.0002, 0.005, 0.1])
    world.bandwidth = random.choice([200e3, 50e6])
    for i, j in SHAPES[shape](count):
        world.link(nodes[i], nodes[j])
    return world, nodes


def misbehave(world: World, nodes: list[Node], random: Random) -> None:
    """One random thing."""
    node = random.choice(nodes)
    alive = [conn for conn in world.conns if conn[0].open and conn[1].open]
    what = random.choice(["write", "write", "write", "burst", "big", "beat", "cut", "partition", "crash", "stall", "release", "epoch"])
    if what == "write" and node.up:
        node.write(random.randbytes(random.randint(1, 300)))
    elif what == "burst" and node.up:
        for _ in range(random.randint(2, 120)):
            node.write(random.randbytes(40))
    elif what == "big" and node.up:
        node.write(random.randbytes(random.randint(20_000, 60_000)))
    elif what == "epoch" and node.up:
        node.write(b"again", node.log._replace(epoch=random.randint(2, 4)))
    elif what == "beat" and node.up:
        node.counts["beats"] += 1
        node.beat(node.counts["beats"])
    elif what == "cut" and alive:
        world.cut(random.choice(alive))
    elif what == "partition":
        side = set(random.sample([n.name for n in nodes], len(nodes) // 2))
        world.blocked = {frozenset((a.name, b.name)) for a in nodes for b in nodes if (a.name in side) != (b.name in side)}
        for conn in alive:
            if frozenset((conn[0].node.name, conn[1].node.name)) in world.blocked:
                world.cut(conn)
    elif what == "crash":
        if node.up:
            world.crash(node)
        else:
            world.restart(node)
    elif what == "stall" and alive:
        random.choice(random.choice(alive)).out.stalled = True
    elif what == "release":
        heal_stalls(world)


def heal_stalls(world: World) -> None:
    for conn in world.conns:
        for end in conn:
            if end.out.stalled:
                world.release(end)


def heal(world: World, nodes: list[Node]) -> None:
    world.blocked.clear()
    heal_stalls(world)
    for node in nodes:
        if not node.up:
            world.restart(node)


def check_bounds(world: World) -> None:
    for conn in world.conns:
        for end in conn:
            status = end.session.status()
            assert status.outbox_bytes <= end.node.limits.outbox_bytes
            assert status.unprocessed_bytes <= end.node.limits.window_bytes


@pytest.mark.promise("I2")
@pytest.mark.parametrize("shape", list(SHAPES))
@pytest.mark.parametrize("block", range(8))
def test_meshes_heal(shape: str, block: int) -> None:
    for seed in range(block * 10, block * 10 + 10):
        world, nodes = build(seed, shape)
        random = Random(seed)
        for _ in range(random.randint(5, 40)):
            misbehave(world, nodes, random)
            world.run(random.choice([0.0, 0.001, 0.05, 0.5, 5.0]))
            check_bounds(world)
        heal(world, nodes)
        where = f"seed {seed}, {shape}, {len(nodes)} nodes"
        # A dial may just have failed: up to 30 s of delay. A stall may have ended in `no_progress`: 40 s.
        assert world.run(120.0, until=world.converged), f"{where}: not equal after heal: {[node.counts for node in nodes]}"
        world.run(5.0)
        assert world.converged(), where
        for node in nodes:
            assert node.counts["forks"] == 0, where
            assert node.counts["gaps"] == 0, f"{where}: {node.counts}"
            for key in node.counts:
                assert not key.startswith("ended ") or key[6:] in {
                    "disconnected",
                    "duplicate_connection",
                    "silent",
                    "no_progress",
                    "handshake_timeout",
                    "unknown_key",
                }, f"{where}: {key}"
        live = [end.session for conn in world.conns for end in conn if end.session.state is State.LIVE]
        assert live, where
        assert all(session.is_caught_up and session.status().lag_in == 0 for session in live), where


def test_the_simulation_is_repeatable() -> None:
    def trace(seed: int) -> list[object]:
        world, nodes = build(seed, "ring")
        random = Random(seed)
        for _ in range(20):
            misbehave(world, nodes, random)
            world.run(0.2)
        return [(node.store.digest(), sorted(node.counts.items())) for node in nodes]

    assert trace(3) == trace(3)
    assert trace(3) != trace(4)
