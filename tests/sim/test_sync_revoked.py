"""How soon sessions of a revoked node end: on each node in the step in which it commits the record, and the record takes one trip and one commit per hop."""

from __future__ import annotations

import itertools
from collections import deque
from random import Random

import pytest
from sim.toy_store import REVOKED
from sim.world import End, Node, World

from fabrik_sync import Head, Limits, Reason, State
from fabrik_sync.frames import HeadsFrame, Segment

SHAPES = ("line", "star", "ring", "random")
LATENCY_S = 0.08


def tied(shape: str, count: int, random: Random) -> list[tuple[int, int]]:
    """Who dials whom; the admin is 0."""
    line = [(at, at + 1) for at in range(count - 1)]
    if shape == "star":
        return [(at, 1) for at in range(count) if at != 1]
    if shape == "random":
        return [(at, random.randrange(at)) for at in range(1, count)]
    return [*line, (count - 1, 0)] if shape == "ring" else line


def hops(nodes: list[Node], without: Node) -> dict[str, int]:
    """Of each node from the admin, over connections that are up and not with ``without``."""
    found, work = {nodes[0].name: 0}, deque([nodes[0]])
    while work:
        node = work.popleft()
        for other in (end.other.node for end in live(node) if end.other is not None):
            if other is not without and other.name not in found:
                found[other.name] = found[node.name] + 1
                work.append(other)
    return found


def live(node: Node) -> list[End]:
    return [end for end in node.ends if end.session.state is State.LIVE]


def with_it(node: Node, thief: Node) -> list[End]:
    return [end for end in live(node) if end.session.peer_key == thief.key]


def mesh(shape: str, seed: int) -> tuple[World, list[Node], Node, Random]:
    """Nodes, and one more that some of them are connected with, all level."""
    random = Random(f"{shape}{seed}")
    world = World(seed)
    world.latency = LATENCY_S
    nodes = [world.add(f"n{at}") for at in range(random.randint(3, 7))]
    thief = world.add("thief")
    for one, other in tied(shape, len(nodes), random):
        world.link(nodes[one], nodes[other])
    friends = random.sample(nodes, random.randint(1, len(nodes)))
    for friend in friends:
        world.link(*random.choice([(thief, friend), (friend, thief)]))
    assert world.run(120.0, until=lambda: world.converged() and all(with_it(friend, thief) for friend in friends))
    world.run(1.0)
    return world, nodes, thief, random


def put_out(world: World, nodes: list[Node], thief: Node) -> None:
    """The admin revokes; each node has ended its sessions after three trips (it is told, asks, gets) and one commit per hop."""
    far = hops(nodes, thief)
    assert len(far) == len(nodes)
    begun = world.now
    nodes[0].write(REVOKED + thief.key)
    for node in sorted(nodes, key=lambda node: far[node.name]):
        world.run(begun + far[node.name] * (3 * LATENCY_S + node.commit_s + 0.001) - world.now)
        assert not node.store.admit(thief.key)
        assert with_it(node, thief) == [], f"{far[node.name]} hops away, after {world.now - begun:.3f} s"


@pytest.mark.promise("I14")
@pytest.mark.parametrize(("shape", "seed"), list(itertools.product(SHAPES, range(10))))
def test_sessions_of_the_revoked_end_where_the_record_is_committed(shape: str, seed: int) -> None:
    world, nodes, thief, random = mesh(shape, seed)
    for n in range(random.randint(0, 40)):  # what is on the way does not hold it up
        random.choice([*nodes, thief]).write(b"busy %d" % n)
    friends = len(live(thief))
    put_out(world, nodes, thief)
    world.run(LATENCY_S + 0.001)
    assert live(thief) == []
    assert thief.counts[f"ended {Reason.REVOKED}"] + thief.counts[f"ended {Reason.UNKNOWN_KEY}"] >= friends, "and it is told why"
    thief.write(b"more")
    world.run(20.0)
    assert thief.counts["ready"] == friends, "nobody lets it in again"
    assert len({node.store.digest() for node in nodes}) == 1


def lie(world: World, liar: Node, admin: Node, ahead: int) -> None:
    """It says that it has more of the admin's log than there is, brings nothing of it, and sends again and again what everybody has."""
    seq, (first, last, data) = liar.store.seq(admin.log), liar.store.read(admin.log, 0, 1 << 18, 0)[0]
    liar.store.read = lambda *_: []  # type: ignore[method-assign]
    for end in live(liar):
        world._send(end, HeadsFrame(False, ((admin.log, (Head(seq + ahead, b"a lie" * 6 + b".."),)),)).encode())

    def again() -> None:
        for end in live(liar):
            if end.session._replication is not None:
                end.session._replication.sender.outbox.put(Segment(admin.log, first, last, data), 0, last + 1)
                world.pump(end)
        world.after(0.1, again)

    again()


@pytest.mark.promise("I14")
@pytest.mark.parametrize("ahead", [1, Limits().urgent_ops, 1 << 40])
def test_who_lies_about_the_admins_log_holds_nobody_up_for_long(ahead: int) -> None:
    """A line of seven. While they are apart each knows less of the admin's log than the one before it, and is connected with a liar, which it asks for the rest."""
    world = World(ahead % 1_000)
    world.latency = 0.01
    nodes = [world.add(f"n{at}") for at in range(7)]
    admin, thief, liars = nodes[0], world.add("thief"), [world.add(f"liar{at}") for at in range(1, 7)]
    for node in (*nodes[1:], thief, *liars):
        for op in admin.store.logs[admin.log].ops[node.store.seq(admin.log) :]:
            node.store.append(admin.log, op)
    for node, liar in zip(nodes[1:], liars, strict=True):
        world.link(liar, node)
        world.link(thief, node)
    assert world.run(30.0, until=lambda: all(with_it(node, liar) and with_it(node, thief) for node, liar in zip(nodes[1:], liars, strict=True)))
    world.run(1.0)
    for number in range(7):
        admin.write(REVOKED + thief.key if number == 6 else b"one of seven")
    known = nodes[1].store.seq(admin.log)
    for at, node in enumerate(nodes[1:]):
        for op in admin.store.logs[admin.log].ops[known : known + 5 - at]:
            node.write(op, admin.log)
    for liar in liars:
        lie(world, liar, admin, ahead)
    world.run(0.05)
    assert all(with_it(node, thief) and with_it(node, liar) for node, liar in zip(nodes[1:], liars, strict=True)), "nothing that was sent is wrong"
    for one, other in itertools.pairwise(nodes):
        world.link(one, other)
    begun, hop_s = world.now, 12 * 1.5 * world.latency + admin.commit_s  # a handshake, the heads, what is lacking
    assert world.run(begun + Limits().urgent_s + 6 * hop_s - world.now, until=lambda: not any(with_it(node, thief) for node in nodes)), "once, not at each hop"
    assert world.now - begun < 2.0
    assert all(node.store.seq(admin.log) == admin.store.seq(admin.log) for node in nodes)
    admin.write(b"more")
    world.run(6 * (1.5 * world.latency + admin.commit_s + 0.001))
    assert all(node.store.seq(admin.log) == admin.store.seq(admin.log) for node in nodes), "a trip and a commit for each hop, from then on"
