"""Whatever bytes or values come to a door of the core, the answer is a result or one of our errors: never a panic, a hang or a change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fabrik_twin import cbor
from fabrik_twin.author import Author
from fabrik_twin.compare import Held, offer, same, shown
from fabrik_twin.op import ephemeral_sign, genesis_decode, op_encode, segment_decode, segment_encode
from fabrik_twin.world import World
from fabrik_twin.worlds import KEYS, MESH_GENESIS
from hypothesis import given
from hypothesis import strategies as st

from fabrik_node import _core
from fabrik_node.errors import FabrikError

MESH = genesis_decode(MESH_GENESIS).mesh_id


def _segments() -> list[bytes]:
    author = Author(MESH_GENESIS, KEYS[0])
    author.op(kind=2)
    author.op((1, bytes(16), 1, "title", None), (1, bytes(16), 3, [3, "b", 1], (1, 2, bytes(16))), (4, KEYS[0].public, 2, {"a": [1, -1, None]}, None))
    author.op(extra={9: {"x": [True]}})
    return [author.segment(1, 1), author.segment(2, 3), author.segment(1, 3)]


SEEDS = [*_segments(), MESH_GENESIS, ephemeral_sign(KEYS[0], MESH, 3, {"name": "n", "leases": [[b"1", 2]]})]
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5) | st.binary(max_size=33),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.integers(-1, 12) | st.text(max_size=3), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good message with a few bytes replaced, removed or repeated."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(data)


def tolerated(call: Callable[[], object]) -> None:
    cause = "none"
    try:
        call()
    except FabrikError as error:
        cause = str(error)
    assert cause
    assert "\n" not in cause


@pytest.mark.promise("I3", "I11")
@given(damaged() | st.binary(max_size=80))
def test_bytes(data: bytes) -> None:
    replica = _core.Replica(MESH_GENESIS)
    before = shown(replica)
    for call in (
        lambda: _core.cbor_decode(data),
        lambda: _core.mesh_id(data),
        lambda: _core.Genesis.decode(data),
        lambda: _core.ephemeral_verify(MESH, data),
        lambda: _core.history([data], data[:16]),
        lambda: _core.segment_span(data),
        lambda: _core.coalesce([data, data], 1000),
        lambda: _core.coalesce([SEEDS[0], data], 1000),
        lambda: _core.pack([SEEDS[0], data], 1000),
        lambda: _core.cut(data, 2),
        lambda: _core.op_proof(MESH, data, 1),
        lambda: _core.op_proof_verify(data),
        lambda: _core.fork_proof(MESH, SEEDS[0], data),
        lambda: _core.fork_proof_verify(data),
        lambda: replica.chain(replica.verify([data])),
        lambda: replica.check(KEYS[0].public, 1, 0, [data]),
        lambda: replica.cursors(data[:32], 1, [(len(data), data[:16])]),
        lambda: replica.holds(data[:32], 1, len(data), data[:32]),
        lambda: replica.load([SEEDS[0], data]),
    ):
        tolerated(call)
    if replica.ops == 0:
        assert shown(replica) == before


@pytest.mark.promise("I3", "I12")
@given(st.lists(values, max_size=3), st.integers(0, 2))
def test_well_signed_nonsense(writes: list[Any], place: int) -> None:
    """Everything is canonical and signed; what an op says is up to its author. The core and the twin judge it alike."""
    try:
        body = op_encode(1, 1, extra={5: writes} if place == 0 else {5 + place: writes})
    except cbor.Refused:
        return
    author = Author(MESH_GENESIS, KEYS[0])
    author.bodies.append(body)
    replica = _core.Replica(MESH_GENESIS)
    try:
        data = author.segment(1, 1)
    except cbor.Refused:
        good = segment_decode(SEEDS[0])
        data = segment_encode(good.author, 1, 1, good.prev, [body], good.sig)
        with pytest.raises(FabrikError):
            replica.verify([data])
        return
    world = World(MESH_GENESIS)
    held = Held(MESH_GENESIS)
    assert offer(held, data) == world.offer(data)
    same(held.replica, world)
    for touch in _core.history([data], bytes(16)):
        assert _core.cbor_encode(touch.value)


@pytest.mark.promise("I12")
@given(
    st.sampled_from([1, 2, 3, 4, 5, 6, 7]),
    st.binary(min_size=0, max_size=33) | st.just(bytes(16)) | st.just(KEYS[0].public),
    st.integers(0, 11),
    values,
    st.booleans(),
)
def test_drafted_nonsense(kind: int, id_: bytes, field: int, value: Any, fenced: bool) -> None:
    replica = _core.Replica(MESH_GENESIS)
    draft = replica.draft(_core.SigningKey.from_seed(KEYS[0].seed), 1)
    chained: list[_core.Chained] = []
    tolerated(lambda: chained.extend(draft.append([(kind, id_, field, value, (1, 2, bytes(16)) if fenced else None)], 1)))
    replica.merge(chained)
    assert (replica.voided, replica.ops) == (0, len(chained))
