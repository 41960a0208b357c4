"""The changes of a merge as a sequence: cheap to count, and made one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from fabrik_twin.author import claim, id16

from fabrik_node._core import Change, Changes, Replica

ITEMS = [id16(number) for number in range(1, 6)]


def merged(replica: Replica, *segments: bytes) -> Changes:
    return replica.merge(replica.chain(replica.verify(segments)).chained)


def names(changes: Sequence[Change]) -> list[tuple[int, bytes, int]]:
    return [(each.kind, each.id, each.field) for each in changes]


@pytest.fixture
def changes(mesh: Any) -> Changes:
    for number, item in enumerate(ITEMS):
        mesh.bee.op((1, item, 1, f"title {number}", None), (1, item, 6, number, None))
    mesh.bee.op((2, ITEMS[0], 1, claim(mesh.bee.key.public, id16(9)), None))
    return merged(mesh.replica, mesh.bee.cut())


def test_it_is_a_sequence(changes: Changes) -> None:
    assert isinstance(changes, Sequence)
    every = list(changes)
    assert len(changes) == len(every) == 11
    assert bool(changes)
    assert names(every) == [*((1, item, field) for item in ITEMS for field in (1, 6)), (2, ITEMS[0], 1)]
    assert changes[0] == every[0] == changes[-11]
    assert changes[-1] == every[-1] != every[0]
    for cut in (slice(None), slice(2, 5), slice(-3, None), slice(None, None, -2), slice(7, 2), slice(5, 100)):
        assert changes[cut] == every[cut]
    for outside in (11, -12, 10**6):
        with pytest.raises(IndexError):
            changes[outside]
    for nonsense in ("x", 2**80, None):
        with pytest.raises((TypeError, OverflowError)):
            changes[nonsense]  # type: ignore[index]
    assert every[3] in changes
    assert (changes.index(every[3]), changes.count(every[3]), changes.count("x")) == (3, 1, 0)
    assert list(reversed(changes)) == every[::-1]


def test_it_equals_a_sequence_of_equal_changes(changes: Changes) -> None:
    assert changes == list(changes)
    assert changes == changes[:]
    assert changes != changes[1:]
    assert changes != ["x"]
    assert changes != 7
    assert len({*changes, *changes[:3]}) == 11


def test_what_it_says_without_looking_at_each(changes: Changes) -> None:
    assert changes.kinds == {1, 2}
    assert changes.newest_ms == max(each.wall_ms for each in changes)
    assert names(changes.of(2)) == [(2, ITEMS[0], 1)]
    assert [each.new for each in changes.of(1, 6)] == [0, 1, 2, 3, 4]
    assert changes.of(3) == changes.of(300) == changes.of(1, 2) == changes.of(1, 1 << 40) == []


def test_the_newest_is_not_the_last(mesh: Any) -> None:
    for number in range(9):
        mesh.bee.op((1, ITEMS[0], 1, f"{number}", None))
    mesh.cat.op((1, ITEMS[1], 1, "early", None))
    changes = merged(mesh.replica, mesh.bee.cut(), mesh.cat.cut())
    assert changes.newest_ms == changes[0].wall_ms > changes[1].wall_ms


def test_no_changes(mesh: Any) -> None:
    nothing = mesh.replica.merge([])
    assert nothing == []
    assert not nothing
    assert (nothing.kinds, nothing.newest_ms, list(nothing), nothing[:]) == (set(), None, [], [])


def test_it_tells_of_its_own_call_also_later(mesh: Any, changes: Changes) -> None:
    before = [(each.old, each.new) for each in changes.of(1, 1)]
    mesh.cat.op(*((1, item, 1, "later", None) for item in ITEMS), (5, ITEMS[1], 1, {}, None), lamport=100)
    later = merged(mesh.replica, mesh.cat.cut())
    assert [(each.old, each.new) for each in changes.of(1, 1)] == before == [(None, f"title {number}") for number in range(5)]
    assert [(each.old, each.new) for each in later.of(1, 1)] == [(f"title {number}", None if number == 1 else "later") for number in range(5)]
    assert {each.author for each in later} == {mesh.cat.key.public}


def test_a_register_that_is_written_often_in_one_call_is_one_change(mesh: Any) -> None:
    for number in range(30):
        mesh.bee.op((1, ITEMS[0], 1, f"{number}", None), (1, ITEMS[0], 1, f"{number} again", None))
    (only,) = merged(mesh.replica, mesh.bee.cut())
    winner = mesh.replica.get(1, ITEMS[0], 1)
    assert (only.old, only.new, only.author) == (None, "29 again", mesh.bee.key.public)
    assert (only.digest, only.wall_ms) == (winner.digest, winner.wall_ms)


def test_of_two_tombstones_the_one_that_stays_removed_it(mesh: Any) -> None:
    mesh.bee.op((1, ITEMS[0], 1, "t", None))
    mesh.take(mesh.bee.cut())
    mesh.bee.op((5, ITEMS[0], 1, {"by": "bee"}, None), lamport=500)
    mesh.cat.op((5, ITEMS[0], 1, {"by": "cat"}, None), lamport=400)
    removed, tombstone = merged(mesh.replica, mesh.bee.cut(), mesh.cat.cut())
    assert (removed.kind, removed.old, removed.new, removed.author) == (1, "t", None, mesh.cat.key.public)
    assert (tombstone.kind, tombstone.new) == (5, {"by": "cat"})
