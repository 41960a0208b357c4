"""Logs that fork until they are suspended, or never are: the core and the twin say the same of every offer, and what a node met first does not matter."""

from __future__ import annotations

from random import Random

import pytest
from fabrik_twin.author import Author
from fabrik_twin.compare import Held, expected, offer, offer_twin, same, shown
from fabrik_twin.merge import HEADS_MAX, Tree
from fabrik_twin.world import Verdict, World
from fabrik_twin.worlds import KEYS, Mesh, meshes
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from fabrik_node import _core

seeds = st.integers(0, 2**32).map(Random)


def test_both_know_the_same_limit() -> None:
    assert _core.HEADS_MAX == HEADS_MAX


@st.composite
def crowds(draw: st.DrawFn) -> tuple[Mesh, int]:
    """A mesh, one of its logs with more or less as many heads as a log may have, and how many too many it got (0 for the admin's: it may have any number)."""
    mesh = draw(meshes(ops_max=10, branches_max=2))
    is_admins = draw(st.booleans())
    trunk = draw(st.sampled_from([log for log in mesh.logs if (log.key.public == KEYS[0].public) == is_admins] or mesh.logs))
    is_admins = trunk.key.public == KEYS[0].public
    paths = [log for log in mesh.logs if (log.key, log.epoch) == (trunk.key, trunk.epoch)]
    mine = World(mesh.genesis)
    for path in (mesh.logs[0], *paths):
        mine.offer(path.segment(1, len(path.bodies)), admit_all=True)
    beyond = draw(st.integers(-3, 4))
    rng = Random(draw(st.integers(0, 2**32)))
    number = 0
    while len(mine.heads(trunk.key.public, trunk.epoch)) < HEADS_MAX + beyond:
        branch = trunk.branch(rng.randint(min(1, len(trunk.bodies)), len(trunk.bodies)))
        number += 1
        branch.op((1, bytes(16), 1, f"twig {number}", None))
        if is_admins and rng.random() < 0.3:
            branch.op((3, rng.choice(KEYS).public, 1, {1: rng.randint(1, 4), 2: f"{number}"}, None))
        if rng.random() < 0.2:
            branch.op((1, bytes(16), 2, "and a leaf", None))
        mesh.logs.append(branch)
        mine.logs[trunk.key.public, trunk.epoch] |= _tree(mesh, branch)
    return mesh, 0 if is_admins else max(0, beyond)


def _tree(mesh: Mesh, branch: Author) -> Tree:
    alone = World(mesh.genesis)
    alone.offer(branch.segment(1, len(branch.bodies)), admit_all=True)
    return dict(alone.logs[branch.key.public, branch.epoch])


@pytest.mark.promise("I1", "I3", "I10")
@settings(max_examples=12, phases=[Phase.explicit, Phase.reuse, Phase.generate])  # 65 heads do not shrink
@given(crowds(), seeds)
def test_a_crowded_log_offer_by_offer(crowd: tuple[Mesh, int], rng: Random) -> None:
    mesh, _ = crowd
    world, held = World(mesh.genesis), Held(mesh.genesis)
    admin, *others = [segment for log in mesh.segments(rng) for segment in log]
    rng.shuffle(others)
    for data in [admin, *others, *rng.sample(others, len(others) // 4)]:
        before = shown(held.replica)
        verdict = offer(held, data)
        assert verdict == offer_twin(world, data)
        assert isinstance(verdict, Verdict)
        if verdict.outcome != "stored":
            assert shown(held.replica) == before
    same(held.replica, world)
    assert shown(held.replica) == expected(world)


@pytest.mark.promise("I1", "I10")
@settings(max_examples=12, phases=[Phase.explicit, Phase.reuse, Phase.generate])  # 65 heads do not shrink
@given(crowds(), seeds)
def test_whatever_heads_two_nodes_met_first_they_agree(crowd: tuple[Mesh, int], rng: Random) -> None:
    mesh, beyond = crowd
    nodes = [Held(mesh.genesis), Held(mesh.genesis)]
    segments = [[log.segment(1, len(log.bodies))] for log in mesh.logs]
    for held in nodes:
        first, *rest = segments
        rng.shuffle(rest)
        for batch in (first, *rest):
            held.take(batch)
    one, other = (held.replica for held in nodes)
    assert (one.state_digest(), one.frontier_digest(), one.lamport) == (other.state_digest(), other.frontier_digest(), other.lamport)
    assert one.suspended() == other.suspended()
    assert shown(one)["markers"] == shown(other)["markers"]
    assert bool(one.suspended()) == (beyond > 0)


def behind(held: Held, log: tuple[bytes, int], places: list[tuple[int, bytes]]) -> list[bytes]:
    """What a node sends to who holds ``places`` of a log: of each branch exactly what is behind its cursor."""
    sent = []
    for branch, seq in held.replica.cursors(*log, places):
        rows = [row for row in held.stored if (row.author, row.epoch, row.branch) == (*log, branch) and row.last_seq > seq]
        sent += [_core.cut(row.data, max(seq + 1, row.first_seq)) for row in rows]
    return sent


@pytest.mark.promise("I1", "I10")
@given(meshes(branches_max=4), seeds)
def test_two_nodes_that_hold_parts_ask_by_places_until_both_have_all(mesh: Mesh, rng: Random) -> None:
    """Each got some of the segments. Who holds a place of a log that the other names needs nothing before it, and gets nothing twice that it could name."""
    nodes = [Held(mesh.genesis), Held(mesh.genesis)]
    for held in nodes:
        for number, pieces in enumerate(mesh.segments(rng)):
            held.take(pieces[: rng.randint(number == 0, len(pieces))])
    for asking, asked in (nodes, nodes[::-1], nodes):
        for log in sorted({(head.author, head.epoch) for head in asked.replica.heads()}, key=lambda log: log[0] != KEYS[0].public):
            result = asking.take(behind(asked, log, asking.replica.places(*log)))
            assert (result.gaps, result.unknown) == ([], [])
    one, other = (held.replica for held in nodes)
    assert shown(one) == shown(other)
    for head in one.heads():
        assert other.holds(head.author, head.epoch, head.seq, head.head)
        assert other.cursors(head.author, head.epoch, one.places(head.author, head.epoch)) == []
    held_by_both = World(mesh.genesis)
    for row in sorted(nodes[0].stored, key=lambda row: row.first_seq):
        held_by_both.offer(row.data, admit_all=True)
    same(one, held_by_both)


@pytest.mark.promise("I1", "I3")
@given(meshes(branches_max=4), seeds)
def test_a_replica_from_a_snapshot_goes_on_as_the_one_that_made_it(mesh: Mesh, rng: Random) -> None:
    whole, held = World(mesh.genesis), Held(mesh.genesis)
    pieces = [segment for log in mesh.logs for segment in log.split([rng.randint(1, len(log.bodies))])]
    for log in mesh.logs:
        whole.offer(log.segment(1, len(log.bodies)))
    cut = rng.randint(0, len(pieces))
    for data in pieces[:cut]:
        held.take([data])
    held.replica = _core.Replica.restore(mesh.genesis, held.replica.snapshot())
    for data in pieces[cut:]:
        held.take([data])
    same(held.replica, whole)
