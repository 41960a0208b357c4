"""Any order, duplication, batching and splitting of the same ops gives the state that the twin computes from scratch."""

from __future__ import annotations

from itertools import permutations
from random import Random

import pytest
from fabrik_twin.author import Author
from fabrik_twin.compare import Held, deliver, same, shown
from fabrik_twin.merge import counts, fence_beats
from fabrik_twin.op import op_decode
from fabrik_twin.schema import LATER
from fabrik_twin.world import World
from fabrik_twin.worlds import CLAIMS, ITEMS, KEYS, MESH_GENESIS, Mesh, fences, meshes, writes
from hypothesis import given
from hypothesis import strategies as st

from fabrik_node import _core
from fabrik_node.errors import InvalidOp

seeds = st.integers(0, 2**32).map(Random)


def twin_of(mesh: Mesh) -> World:
    world = World(mesh.genesis)
    for author in mesh.logs:
        assert world.offer(author.segment(1, len(author.bodies))).outcome in {"stored", "duplicate"}
    return world


@pytest.mark.promise("E9", "E10", "I1", "I3")
@given(meshes(branches_max=4), seeds)
def test_random_delivery(mesh: Mesh, rng: Random) -> None:
    world, held = twin_of(mesh), Held(mesh.genesis)
    deliver(held, mesh.segments(rng), rng)
    same(held.replica, world)


@pytest.mark.promise("E9", "I1", "I11")
@given(meshes(branches_max=4), seeds)
def test_overlapping_pieces_and_relaying_what_was_stored(mesh: Mesh, rng: Random) -> None:
    """Two peers cut the same logs differently; a third gets it from what the first one stored."""
    world, held, relayed = twin_of(mesh), Held(mesh.genesis), Held(mesh.genesis)
    twice = [[*one, *other] for one, other in zip(mesh.segments(rng), mesh.segments(rng), strict=True)]
    stored = deliver(held, twice, rng)
    same(held.replica, world)
    assert sum(chained.ops for chained in stored) == held.replica.ops
    branches = sorted({(chained.author, chained.epoch, chained.branch) for chained in stored})
    rows = [[chained.data for chained in stored if (chained.author, chained.epoch, chained.branch) == branch] for branch in branches]
    deliver(relayed, [_core.coalesce(row, rng.choice([1, 400, _core.SEGMENT_BYTES_MAX])) for row in rows], rng)
    same(relayed.replica, world)


@pytest.mark.promise("I1", "I3")
@given(meshes(branches_max=3), seeds, st.integers(200, 3000))
def test_coalesced_segments(mesh: Mesh, rng: Random, max_bytes: int) -> None:
    logs = mesh.segments(rng)
    fewer = [_core.coalesce(log, max_bytes) for log in logs]
    assert all(len(after) <= len(before) for after, before in zip(fewer, logs, strict=True))
    held = Held(mesh.genesis)
    deliver(held, fewer, rng)
    same(held.replica, twin_of(mesh))
    whole = _core.Replica(mesh.genesis)
    assert whole.load([segment for log in fewer for segment in log]).ops == whole.ops
    assert shown(whole) == shown(held.replica)


@pytest.mark.promise("I1")
@given(meshes(ops_max=8, branches_max=3), seeds)
def test_one_call_for_all_and_one_for_each(mesh: Mesh, rng: Random) -> None:
    segments = [segment for log in mesh.segments(rng) for segment in log]
    at_once, one_by_one = _core.Replica(mesh.genesis), _core.Replica(mesh.genesis)
    at_once.merge(at_once.chain(at_once.verify(segments)).chained)
    for segment in segments:
        one_by_one.merge(one_by_one.chain(one_by_one.verify([segment])).chained)
    assert shown(at_once) == shown(one_by_one)
    same(at_once, twin_of(mesh))


@pytest.mark.promise("E9", "I1")
@given(st.tuples(*(st.lists(writes(key.public), min_size=1, max_size=2) for key in KEYS[:3])), st.integers(1, 3))
def test_all_permutations_of_concurrent_ops(choices: tuple[list[tuple[int, bytes, int, object, tuple[int, int, bytes] | None]], ...], clock: int) -> None:
    admin, *others = (Author(MESH_GENESIS, key) for key in KEYS[:3])
    admin.op(*((3, key.public, 1, {1: 2}, None) for key in KEYS[1:3]), kind=2)
    first = admin.cut()
    for author, chosen in zip((admin, *others), choices, strict=True):
        author.op(*chosen, lamport=1 + clock)
        author.op(*chosen, lamport=2 + clock)
    mesh = Mesh([admin, *others])
    tails = [author.cut() for author in mesh.logs]
    world = twin_of(mesh)
    for order in permutations(tails):
        replica = _core.Replica(mesh.genesis)
        for segment in (first, *order):
            replica.merge(replica.chain(replica.verify([segment])).chained)
        same(replica, world)


@pytest.mark.promise("I1")
@given(meshes(branches_max=3), seeds)
def test_changes_tell_the_net_effect(mesh: Mesh, rng: Random) -> None:
    replica = _core.Replica(mesh.genesis)
    view: dict[tuple[int, bytes, int], object] = {}
    for log in mesh.segments(rng):
        while log:
            count = rng.randint(1, 3)
            batch, log = log[:count], log[count:]  # noqa: PLW2901
            changes = replica.merge(replica.chain(replica.verify(batch)).chained)
            assert len({(change.kind, change.id, change.field) for change in changes}) == len(changes)
            for change in changes:
                assert view.get((change.kind, change.id, change.field)) == change.old
                view[change.kind, change.id, change.field] = change.new
    shown_now = {(kind, id_, field): value for kind in range(1, 10) for id_, row in replica.rows(kind) for field, value in row.items()}
    assert {place: value for place, value in view.items() if value is not None} == {place: value for place, value in shown_now.items() if value is not None}
    assert len(shown_now) == replica.registers


@pytest.mark.promise("I3")
@given(st.sampled_from(ITEMS), fences, fences)
def test_fences_compare_alike(item: bytes, one: tuple[int, int, bytes] | None, other: tuple[int, int, bytes] | None) -> None:
    assert _core.fence_beats(item, one, other) == fence_beats(item, one, other)
    assert not (_core.fence_beats(item, one, other) and _core.fence_beats(item, other, one))


@pytest.mark.promise("I3", "I15")
@given(meshes(branches_max=2))
def test_winning_fence_is_the_winning_claim(mesh: Mesh) -> None:
    world, replica = twin_of(mesh), _core.Replica(mesh.genesis)
    replica.load([author.segment(1, len(author.bodies)) for author in mesh.logs])
    for item in [*ITEMS, CLAIMS[0]]:
        winner = world.state.winners.get((2, item, 1))
        assert replica.winning_fence(item) == (winner and winner.fence)
        assert replica.tombstoned(item) == (item in world.state.deleted)
    for key in KEYS:
        assert replica.is_admitted(key.public) == world.state.admitted(key.public)


@pytest.mark.promise("I3", "F2")
@given(st.lists(st.lists(writes(KEYS[0].public), max_size=3), max_size=8), st.integers(1, 2**53 - 1))
def test_drafts_are_void_exactly_when_the_twin_says_so(ops: list[list[tuple[int, bytes, int, object, tuple[int, int, bytes] | None]]], epoch: int) -> None:
    key = _core.SigningKey.from_seed(KEYS[0].seed)
    replica, world = _core.Replica(MESH_GENESIS), World(MESH_GENESIS)
    for chosen in ops:
        draft = replica.draft(key, epoch)
        trial = Author(MESH_GENESIS, KEYS[0], epoch)
        trial.op(*chosen)
        lone = World(MESH_GENESIS)
        lone.offer(trial.cut())
        without_effect = any((write.kind, write.field) in LATER and not counts(KEYS[0].public, write) for write in op_decode(trial.bodies[-1]).writes)
        if lone.state.void or without_effect:  # nobody writes on purpose what has no effect
            with pytest.raises(InvalidOp):
                draft.append(chosen, 1)
            continue
        (chained,) = draft.append(chosen, 1)
        assert world.offer(chained.data).outcome == "stored"
        replica.merge([chained])
        same(replica, world)
