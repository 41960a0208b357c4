"""A replica as bytes and back: what a start takes instead of merging every op again."""

from __future__ import annotations

from typing import Any

import pytest
from fabrik_twin.author import claim, id16, new_genesis, seed
from fabrik_twin.op import Key

from fabrik_node import _core
from fabrik_node.errors import BadGenesis, InvalidOp

ITEM = id16(1)


def facts(replica: _core.Replica) -> list[Any]:
    heads = [(head.author, head.epoch, head.branch, head.base, head.seq, head.head, head.clock) for head in replica.heads()]
    numbers = (replica.ops, replica.voided, replica.registers, replica.lamport, replica.stale, replica.mesh_id, replica.admin)
    return [numbers, heads, replica.suspended(), replica.frontier_digest(), replica.state_digest(), [replica.rows(kind) for kind in range(1, 7)]]


@pytest.fixture
def full(mesh: Any) -> _core.Replica:
    mesh.bee.op((1, ITEM, 1, "title", None), (1, ITEM, 6, -7, None), (2, ITEM, 1, claim(mesh.bee.key.public, id16(9)), None))
    mesh.bee.op((1, ITEM, 3, [1], (0, 1, id16(9))), (6, id16(5), 1, {"node": mesh.bee.key.public}, None))
    mesh.bee.op((1, id16(2), 1, 7, None))  # void: a title is a text
    mesh.cat.op((4, mesh.cat.key.public, 1, "cat", None), (5, id16(3), 1, {}, None))
    mesh.take(mesh.bee.cut(), mesh.cat.cut())
    replica: _core.Replica = mesh.replica
    return replica


def test_it_comes_back_whole(mesh: Any, full: _core.Replica) -> None:
    again = _core.Replica.restore(mesh.genesis, full.snapshot())
    assert facts(again) == facts(full)
    assert again.winning_fence(ITEM) == (0, 1, id16(9))
    assert again.voided == 1
    for author in (mesh.admin, mesh.bee, mesh.cat):
        places = full.places(author.key.public, 1)
        assert again.places(author.key.public, 1) == places
        assert again.cursors(author.key.public, 1, places[1:]) == full.cursors(author.key.public, 1, places[1:])


def test_an_empty_one_comes_back(mesh: Any) -> None:
    empty = _core.Replica(mesh.genesis)
    assert facts(_core.Replica.restore(mesh.genesis, empty.snapshot())) == facts(empty)


def test_it_goes_on_like_the_other(mesh: Any, full: _core.Replica) -> None:
    again = _core.Replica.restore(mesh.genesis, full.snapshot())
    mesh.bee.op((1, ITEM, 1, "new", None), (5, ITEM, 1, {}, None))
    segment = mesh.bee.cut()
    changes = [replica.merge(replica.chain(replica.verify([segment])).chained) for replica in (full, again)]
    assert changes[0] == changes[1]
    assert len(changes[0]) == 5
    assert facts(again) == facts(full)


def test_what_it_does_not_take(mesh: Any, full: _core.Replica) -> None:
    data = full.snapshot()
    other = new_genesis(Key(seed(7)))
    for wrong, why in (
        (b"", "none"),
        (b"fabrik snapshot\0", "version"),
        (data[:-1], "damaged"),
        (data + b"\0", "damaged"),
        (data[:-40], "damaged"),
        (b"x" * 500, "none"),
    ):
        with pytest.raises(InvalidOp, match=why):
            _core.Replica.restore(mesh.genesis, wrong)
    with pytest.raises(InvalidOp, match="another mesh"):
        _core.Replica.restore(other, data)
    with pytest.raises(BadGenesis):
        _core.Replica.restore(b"no genesis", data)
