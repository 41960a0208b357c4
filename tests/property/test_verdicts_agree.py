"""Good, damaged, forged, forked, early, late and foreign segments: the core and the twin say the same and hold the same after each."""

from __future__ import annotations

from collections.abc import Sized
from random import Random

import pytest
from fabrik_twin import cbor
from fabrik_twin.author import Author, new_genesis, sign_segment
from fabrik_twin.compare import Held, expected, offer, offer_twin, same, shown
from fabrik_twin.op import Key, advance, genesis_decode, log_start, op_encode, segment_decode, segment_encode
from fabrik_twin.world import Verdict, World
from fabrik_twin.worlds import KEYS, MESH_GENESIS, Mesh, meshes
from hypothesis import assume, given
from hypothesis import strategies as st

from fabrik_node import _core
from fabrik_node.errors import FabrikError

seeds = st.integers(0, 2**32).map(Random)
MESH = genesis_decode(MESH_GENESIS).mesh_id
ELSEWHERE = genesis_decode(new_genesis(KEYS[0], "elsewhere", 1)).mesh_id


def _flip(data: bytes, rng: Random) -> bytes:
    bit = rng.randrange(8 * len(data))
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


def spoiled(author: Author, rng: Random) -> bytes:
    """A segment of ``author`` that some replica should not take."""
    first = rng.randint(1, len(author.bodies))
    last = rng.randint(first, len(author.bodies))
    data = author.segment(first, last)
    segment = segment_decode(data)
    form = rng.choice(("flip", "flip", "cut", "grow", "mesh", "epoch", "author", "reorder", "fork", "fork", "prev", "leap", "start"))
    key, bodies = author.key, segment.bodies
    if form == "flip":
        return _flip(data, rng)
    if form == "cut":
        return data[: rng.randrange(len(data))]
    if form == "grow":
        return data + rng.randbytes(1)
    if form == "mesh":
        return sign_segment(key, ELSEWHERE, author.epoch, first, segment.prev, bodies)
    if form == "epoch":
        return segment_encode(key.public, author.epoch + 1, first, segment.prev, bodies, segment.sig)
    if form == "author":
        return segment_encode(rng.choice(KEYS).public, author.epoch, first, segment.prev, bodies, Key(bytes(32)).sign(b""))
    if form == "reorder":
        return sign_segment(key, MESH, author.epoch, first, segment.prev, bodies[::-1])
    if form == "prev":
        return sign_segment(key, MESH, author.epoch, first, rng.randbytes(32), bodies)
    if form == "leap":
        bodies = [op_encode(last + 3, 2**20, [(1, bytes(16), 1, form, None)])]
        return sign_segment(key, MESH, author.epoch, last + 3, segment.head, bodies)
    if form == "start":
        prev = log_start(MESH, key.public, author.epoch)
        return sign_segment(key, MESH, author.epoch, 1, prev, [op_encode(1, rng.randint(1, 3), [(1, bytes(16), 1, form, None)])])
    bodies[-1] = op_encode(last, 2, [(1, bytes(16), 1, form, None)])
    return sign_segment(key, MESH, author.epoch, first, segment.prev, bodies)


@pytest.mark.promise("I3", "I11", "F3", "E26")
@given(meshes(ops_max=16, lowest_role=0, branches_max=3), seeds)
def test_every_offer_gets_the_same_verdict(mesh: Mesh, rng: Random) -> None:
    world, held = World(mesh.genesis), Held(mesh.genesis)
    stranger = Author(mesh.genesis, KEYS[4])
    stranger.op()
    offers = [segment for log in mesh.segments(rng) for segment in log]
    offers += [spoiled(rng.choice(mesh.logs), rng) for _ in range(10)] + [stranger.cut()]
    if rng.random() < 0.5:
        rng.shuffle(offers)
    else:
        offers.sort(key=lambda _: rng.random() ** 4)
    for data in [*offers, *rng.sample(offers, len(offers) // 2)]:
        before = shown(held.replica)
        verdict = offer(held, data)
        assert verdict == offer_twin(world, data)
        if isinstance(verdict, str) or verdict.outcome != "stored":
            assert shown(held.replica) == before
        assert shown(held.replica) == expected(world)
    same(held.replica, world)


@pytest.mark.promise("I1", "I3")
@given(meshes(ops_max=16, lowest_role=0, branches_max=3), seeds)
def test_a_batch_is_its_segments_one_after_the_other(mesh: Mesh, rng: Random) -> None:
    world, replica = World(mesh.genesis), _core.Replica(mesh.genesis)
    offers = [segment for log in mesh.segments(rng) for segment in log] + [spoiled(rng.choice(mesh.logs), rng) for _ in range(6)]
    offers.sort(key=lambda _: rng.random() ** 6)
    offers = [data for data in offers if not isinstance(offer(Held(mesh.genesis), data), str)]
    while offers:
        count = rng.randint(1, 12)
        batch, offers = offers[:count], offers[count:]
        verdicts = [world.offer(data) for data in batch]
        result = replica.chain(replica.verify(batch))
        replica.merge(result.chained)
        assert sum(chained.ops for chained in result.chained) == sum(verdict.stored for verdict in verdicts)
        assert result.duplicates == sum(verdict.duplicates for verdict in verdicts)
        assert [fork.seq for fork in result.forks] == [verdict.forked for verdict in verdicts if verdict.forked]
        found: dict[str, Sized] = {"stored": result.chained, "gap": result.gaps}
        for outcome, entries in found.items():
            assert len(entries) == sum(verdict.outcome == outcome for verdict in verdicts)
        assert bool(result.unknown) == any(verdict.outcome == "unknown" for verdict in verdicts)
        assert shown(replica) == expected(world)


@pytest.mark.promise("I11", "F3")
@given(meshes(ops_max=6), seeds)
def test_one_bad_segment_spoils_its_whole_batch_and_nothing_else(mesh: Mesh, rng: Random) -> None:
    replica = _core.Replica(mesh.genesis)
    good = [segment for log in mesh.segments(rng) for segment in log]
    before = shown(replica)
    bad = _flip(rng.choice(good), rng)
    batch = [*good, bad]
    rng.shuffle(batch)
    with pytest.raises(FabrikError) as caught:
        replica.verify(batch)
    assert caught.value.code in {"invalid_op", "bad_signature"}
    assert shown(replica) == before
    loaded = replica.load([*good, bad])
    assert ([place for place, _ in loaded.damaged], loaded.stranded, loaded.ops) == ([len(good)], [], replica.ops)
    assert replica.load(good).ops == 0


@pytest.mark.promise("E9", "I1")
@given(meshes(ops_max=10), st.data())
def test_same_author_same_place_twice(mesh: Mesh, data: st.DataObject) -> None:
    """Two ops of one author at one place: the second is the first of a branch of its own. Chaining changes nothing."""
    author = data.draw(st.sampled_from(mesh.logs))
    assume(len(author.bodies) > 1)
    seq = data.draw(st.integers(2, len(author.bodies)))
    prev = advance(log_start(MESH, author.key.public, author.epoch), author.bodies[: seq - 1])
    lamport = cbor.decode(author.bodies[seq - 1])[2]
    twin_op = op_encode(seq, lamport, [(1, bytes(16), 1, "the other branch", None)], wall_ms=1)
    other = sign_segment(author.key, MESH, author.epoch, seq, prev, [twin_op])
    world, held = World(mesh.genesis), Held(mesh.genesis)
    for log in mesh.logs:
        for segment in log.split([seq]):
            assert offer(held, segment) == offer_twin(world, segment)
    before = shown(held.replica)
    result = held.replica.chain(held.replica.verify([other]))
    ((fork,), chained) = result.forks, result.chained
    assert (fork.author, fork.epoch, fork.seq, fork.segment) == (author.key.public, author.epoch, seq, other)
    assert [(each.branch, each.base, each.data) for each in chained] == [(1, (0, seq - 1), other)]
    assert shown(held.replica) == before
    assert offer(held, other) == offer_twin(world, other) == Verdict("stored", 1, 0, seq)
    same(held.replica, world)
