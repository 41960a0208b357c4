"""Stored segments: loading, joining, history, and what they cost."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from fabrik_twin.author import Author, id16, sign_segment
from fabrik_twin.compare import shown
from fabrik_twin.op import OP_BYTES_MAX, SEGMENT_BYTES_MAX, log_start, op_encode, segment_decode, segment_verify

from fabrik_node import _core
from fabrik_node.errors import InvalidOp

COALESCE_SLACK_BYTES = 96
"""What a segment may stay below its limit although one more op would fit: heads are counted at their longest."""


def written(mesh: Any, count: int) -> list[bytes]:
    """``count`` ops by bee, one segment each."""
    for number in range(count):
        mesh.bee.op((1, id16(number % 7), 1, f"title {number}", None))
    return [mesh.bee.segment(seq, seq) for seq in range(1, count + 1)]


def test_load_is_chain_and_merge(mesh: Any) -> None:
    singles = written(mesh, 20)
    mesh.take(*singles)
    again = _core.Replica(mesh.genesis)
    assert again.load([mesh.first, *singles]).ops == 22
    assert shown(again) == shown(mesh.replica)


@pytest.mark.promise("I11")
def test_loading_leaves_out_what_is_damaged_and_what_follows_it(mesh: Any) -> None:
    singles = written(mesh, 5)
    flipped = singles[2][:-1] + bytes([singles[2][-1] ^ 1])
    whole = _core.Replica(mesh.genesis)
    whole.load([mesh.first, *singles[:2]])
    for spoilt, damaged, stranded, reason in (
        ([*singles[:2], flipped, *singles[3:]], [3], [4, 5], "signature"),
        ([*singles[:2], singles[2][:-5]], [3], [], "segment"),
        ([*singles[:2], *singles[3:]], [], [3, 4], ""),
        ([*singles[:2], b"junk"], [3], [], "segment"),
    ):
        fresh = _core.Replica(mesh.genesis)
        result = fresh.load([mesh.first, *spoilt])
        assert (result.ops, [place for place, _ in result.damaged], result.stranded) == (whole.ops, damaged, stranded)
        assert all(reason in why for _, why in result.damaged)
        assert shown(fresh) == shown(whole)


@pytest.mark.promise("I1")
def test_coalesce_keeps_one_signature_for_many(mesh: Any) -> None:
    singles = written(mesh, 50)
    (joined,) = _core.coalesce(singles, SEGMENT_BYTES_MAX)
    assert joined == mesh.bee.segment(1, 50)
    assert len(joined) < sum(map(len, singles)) / 3
    segment_verify(mesh.id, joined)
    assert _core.coalesce([joined], SEGMENT_BYTES_MAX) == [joined]
    assert _core.coalesce([], SEGMENT_BYTES_MAX) == []
    assert _core.coalesce(singles[10:12], SEGMENT_BYTES_MAX) == [mesh.bee.segment(11, 12)]


@pytest.mark.parametrize("limit", [300, 1_000, 4_000])
def test_coalesce_stays_within_its_limit(mesh: Any, limit: int) -> None:
    singles = written(mesh, 50)
    joined = _core.coalesce(singles, limit)
    assert all(len(segment) <= limit for segment in joined)
    assert [body for segment in joined for body in segment_decode(segment).bodies] == mesh.bee.bodies
    assert all(len(one) + len(segment_decode(other).bodies[0]) > limit - COALESCE_SLACK_BYTES for one, other in pairwise(joined))
    mesh.take(*joined)
    assert mesh.replica.ops == 52


def test_coalesce_passes_a_larger_one_as_it_is(mesh: Any) -> None:
    singles = written(mesh, 3)
    assert _core.coalesce(singles, 10) == singles
    assert _core.coalesce([mesh.bee.segment(1, 2), mesh.bee.segment(3, 3)], 10) == [mesh.bee.segment(1, 2), mesh.bee.segment(3, 3)]


def test_coalesce_joins_within_a_log_only(mesh: Any) -> None:
    bee = written(mesh, 2)
    mesh.cat.op()
    cat = mesh.cat.cut()
    assert _core.coalesce([*bee, cat, mesh.first], SEGMENT_BYTES_MAX) == [mesh.bee.segment(1, 2), cat, mesh.first]


@pytest.mark.parametrize("order", [[0, 2], [1, 0], [0, 0]])
def test_coalesce_refuses_what_does_not_join(mesh: Any, order: list[int]) -> None:
    singles = written(mesh, 3)
    with pytest.raises(InvalidOp):
        _core.coalesce([singles[index] for index in order], SEGMENT_BYTES_MAX)


def test_span_of_a_stored_segment(mesh: Any) -> None:
    written(mesh, 9)
    assert _core.segment_span(mesh.bee.segment(3, 8)) == (mesh.bee.key.public, 1, 3, 8)
    assert _core.segment_span(mesh.first) == (mesh.admin.key.public, 1, 1, 2)
    for bad in (b"", b"junk", mesh.first[:30]):
        with pytest.raises(InvalidOp):
            _core.segment_span(bad)


def test_history_tells_every_write_to_an_id(mesh: Any) -> None:
    item, other = id16(1), id16(2)
    mesh.bee.op((1, item, 1, "first", None), (1, other, 1, "not asked for", None), (1, item, 3, [1], (4, 5, id16(9))))
    mesh.bee.op((1, item, 1, "t" * 201, None))
    mesh.cat.op((1, item, 1, "second", None), (5, item, 1, {}, None))
    segments = [mesh.first, mesh.bee.cut(), mesh.cat.cut()]
    found = [(t.author, t.epoch, t.seq, t.lamport, t.kind, t.field, t.value, t.fence) for t in _core.history(segments, item)]
    bee, cat = mesh.bee.key.public, mesh.cat.key.public
    assert found == [
        (bee, 1, 1, 1, 1, 1, "first", None),
        (bee, 1, 1, 1, 1, 3, [1], (4, 5, id16(9))),
        (bee, 1, 2, 2, 1, 1, "t" * 201, None),
        (cat, 1, 1, 1, 1, 1, "second", None),
        (cat, 1, 1, 1, 5, 1, {}, None),
    ]
    first = _core.history(segments, item)[0]
    op = segment_decode(segments[1]).ops[0]
    assert (first.digest, first.wall_ms) == (op.digest, op.wall_ms)
    assert _core.history(segments, id16(99)) == []
    assert _core.history([], item) == []


def test_the_largest_op_and_the_largest_segment(mesh: Any) -> None:
    overhead = len(op_encode(1, 1, [(50, b"i", 1, "x" * 65_000, None)])) - 65_000
    fits = op_encode(1, 1, [(50, b"i", 1, "x" * (OP_BYTES_MAX - overhead), None)])
    beyond = op_encode(1, 1, [(50, b"i", 1, "x" * (OP_BYTES_MAX - overhead + 1), None)])
    assert (len(fits), len(beyond)) == (_core.OP_BYTES_MAX, _core.OP_BYTES_MAX + 1)
    start = log_start(mesh.id, mesh.bee.key.public, 1)
    assert len(mesh.replica.verify([sign_segment(mesh.bee.key, mesh.id, 1, 1, start, [fits])])) == 1
    with pytest.raises(InvalidOp):
        mesh.replica.verify([sign_segment(mesh.bee.key, mesh.id, 1, 1, start, [beyond], lamport=1)])


@pytest.mark.parametrize("extra", [0, 1])
def test_segment_size_limit(mesh: Any, extra: int) -> None:
    def make(last: int) -> bytes:
        author = Author(mesh.genesis, mesh.bee.key)
        for size in (60_000, 60_000, 60_000, 60_000, last):
            author.op((50, b"i", 1, "x" * size, None))
        return author.segment(1, 5)

    size = 10_000 + SEGMENT_BYTES_MAX - len(make(10_000)) + extra
    data = make(size)
    assert len(data) == _core.SEGMENT_BYTES_MAX + extra
    if extra:
        with pytest.raises(InvalidOp):
            mesh.replica.verify([data])
    else:
        assert mesh.take(data).chained[0].ops == 5


def test_an_op_costs_at_most_60_bytes_beyond_its_value(mesh: Any) -> None:
    draft = mesh.replica.draft(mesh.key(), 1)
    singles, values = [], 0
    for number in range(1_000):
        value = f"a title of work item {number}"
        values += len(_core.cbor_encode(value))
        singles += [chained.data for chained in draft.append([(1, id16(number), 1, value, None)], 1_750_000_000_000 + number)]
    (joined,) = _core.coalesce(singles, SEGMENT_BYTES_MAX)
    assert (len(joined) - values) / 1_000 <= 60
