"""What a replica shows: single registers, rows, deletions, fences; and the changes that a merge reports."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fabrik_twin.author import claim, id16
from fabrik_twin.compare import shown
from fabrik_twin.op import digest

from fabrik_node import _core

ITEM = id16(1)
STRONG, WEAK = sorted((id16(20), id16(21)), key=lambda claim_id: digest(ITEM + claim_id))


def changed(changes: Sequence[_core.Change]) -> list[tuple[Any, ...]]:
    return [(c.kind, c.id, c.field, c.old, c.new) for c in changes]


def test_nothing_there(mesh: Any) -> None:
    assert mesh.replica.get(1, ITEM, 1) is None
    assert (mesh.replica.row(1, ITEM), mesh.replica.rows(1), mesh.replica.winning_fence(ITEM)) == ({}, [], None)
    assert not mesh.replica.tombstoned(ITEM)
    assert mesh.replica.get(77, b"?", 1) is None


def test_rows_in_order_of_id(mesh: Any) -> None:
    ids = sorted(id16(number) for number in range(1, 30))
    for item in reversed(ids):
        mesh.bee.op((1, item, 1, item.hex(), None), (1, item, 6, 1, None))
    mesh.take(mesh.bee.cut())
    assert mesh.replica.rows(1) == [(item, {1: item.hex(), 6: 1}) for item in ids]
    assert [key for key, _ in mesh.replica.rows(3)] == sorted([mesh.bee.key.public, mesh.cat.key.public])


def test_a_tally_counts_rows_by_a_value(mesh: Any) -> None:
    for number, stage in enumerate(([1], [3, "branch", 2], [1], None, [3, "other", 2])):
        mesh.bee.op((1, id16(number), 1, "title", None), *([] if stage is None else [(1, id16(number), 3, stage, None)]))
    mesh.bee.op((1, id16(9), 3, [1], None))  # no title: not among them
    mesh.bee.op((1, id16(2), 1, "deleted", None))
    mesh.cat.op((5, id16(2), 1, {}, None))
    mesh.take(mesh.bee.cut(), mesh.cat.cut())
    tally, below = mesh.replica.tally(3, among=1)
    assert sorted(tally, key=repr) == [(None, 1), ([1], 1), ([3, "branch", 2], 1), ([3, "other", 2], 1)]
    assert below == []
    assert mesh.replica.tally(3, among=3) == ([([1], 2), ([3, "other", 2], 1), ([3, "branch", 2], 1)], [])
    for nothing in ((1, 99), (1, 1 << 40)):
        assert mesh.replica.tally(*nothing) == ([], [])
    assert mesh.replica.tally(1 << 40, among=1) == ([(None, 4)], [])


def test_a_tally_does_not_count_what_has_a_fence_below_that_of_the_winning_claim(mesh: Any) -> None:
    """It lists it instead, with the claim, on which it depends what is read."""
    one, two, three, bee = (0, 1, b"1" * 16), (0, 2, b"2" * 16), (0, 3, b"3" * 16), mesh.bee
    values = [{1: fence[2], 2: fence[1], 3: 0, 4: 1, 5: bee.key.public, 6: "a", 7: 1, 8: "i"} for fence in (one, two)]
    cases = ((one, [1]), (two, [2]), (three, [2]), (None, [0]), (None, None))
    for number, (fence, stage) in enumerate(cases):
        item = id16(number)
        bee.op((1, item, 1, "title", None), (2, item, 1, values[0], None), *([] if stage is None else [(1, item, 3, stage, fence)]))
        bee.op((2, item, 1, values[1], None))
    bee.op((1, id16(9), 1, "title", None), (1, id16(9), 3, [0], None))
    mesh.take(bee.cut())
    tally, below = mesh.replica.tally(3, among=1)
    assert sorted(tally) == [([0], 1), ([2], 2)]
    expected = [(id16(number), stage, fence, values[1]) for number, (fence, stage) in enumerate(cases) if fence not in (two, three)]
    assert sorted(below, key=repr) == sorted(expected, key=repr)


def test_a_change_says_the_fence_of_the_write_before(mesh: Any) -> None:
    fences = [None, (0, 1, b"1" * 16), (0, 2, b"2" * 16)]
    told = []
    for fence in fences:
        mesh.bee.op((1, id16(1), 3, [1], fence))
        told += [change.old_fence for change in mesh.replica.merge(mesh.replica.chain(mesh.replica.verify([mesh.bee.cut()])).chained)]
    assert told == [None, *fences[:-1]]


@pytest.mark.promise("E22")
def test_a_deleted_item_leaves_and_stays_away(mesh: Any) -> None:
    mesh.bee.op((1, ITEM, 1, "title", None), (2, ITEM, 1, claim(mesh.bee.key.public, STRONG), None))
    mesh.bee.op((6, id16(5), 1, {"node": mesh.bee.key.public, "item": ITEM}, None))
    mesh.take(mesh.bee.cut())
    mesh.cat.op((5, ITEM, 1, {"reason": "spam"}, None))
    changes = mesh.replica.merge(mesh.replica.chain(mesh.replica.verify([mesh.cat.cut()])).chained)
    old_claim = claim(mesh.bee.key.public, STRONG)
    assert sorted(changed(changes), key=lambda change: change[:3]) == [
        (1, ITEM, 1, "title", None),
        (2, ITEM, 1, old_claim, None),
        (5, ITEM, 1, None, {"reason": "spam"}),
    ]
    assert {change.author for change in changes} == {mesh.cat.key.public}
    assert (mesh.replica.tombstoned(ITEM), mesh.replica.row(1, ITEM), mesh.replica.rows(1), mesh.replica.winning_fence(ITEM)) == (True, {}, [], None)
    assert len(mesh.replica.rows(6)) == 1
    mesh.bee.op((1, ITEM, 1, "again", None), (2, ITEM, 1, claim(mesh.bee.key.public, WEAK, epoch=9), None), lamport=10_000)
    assert mesh.replica.merge(mesh.replica.chain(mesh.replica.verify([mesh.bee.cut()])).chained) == []
    assert (mesh.replica.row(1, ITEM), mesh.replica.rows(2), mesh.replica.voided) == ({}, [], 0)
    mesh.cat.op((5, ITEM, 1, {"reason": "again"}, None))
    assert mesh.replica.merge(mesh.replica.chain(mesh.replica.verify([mesh.cat.cut()])).chained) == []


@pytest.mark.promise("E22")
def test_deletion_before_the_first_word_of_the_item(mesh: Any) -> None:
    mesh.cat.op((5, ITEM, 1, {}, None))
    mesh.take(mesh.cat.cut())
    mesh.bee.op((1, ITEM, 1, "late", None))
    mesh.take(mesh.bee.cut())
    assert mesh.replica.row(1, ITEM) == {}


def test_changes_are_the_net_effect_of_one_call(mesh: Any) -> None:
    for number in range(5):
        mesh.bee.op((1, ITEM, 1, f"title {number}", None))
    mesh.cat.op((1, ITEM, 1, "older", None))
    changes = mesh.replica.merge(mesh.replica.chain(mesh.replica.verify([mesh.bee.cut()])).chained)
    assert changed(changes) == [(1, ITEM, 1, None, "title 4")]
    register = mesh.replica.get(1, ITEM, 1)
    assert register is not None
    assert (changes[0].author, changes[0].digest, changes[0].wall_ms) == (mesh.bee.key.public, register.digest, register.wall_ms)
    assert mesh.replica.merge(mesh.replica.chain(mesh.replica.verify([mesh.cat.cut()])).chained) == []


@pytest.mark.promise("I15")
def test_a_superseded_holder_changes_nothing(mesh: Any) -> None:
    mesh.bee.op((2, ITEM, 1, claim(mesh.bee.key.public, STRONG, epoch=1), None), (1, ITEM, 3, [1], (0, 1, STRONG)))
    mesh.cat.op((2, ITEM, 1, claim(mesh.cat.key.public, WEAK, epoch=2, extra={11: STRONG}), None), (1, ITEM, 3, [2], (0, 2, WEAK)))
    mesh.take(mesh.bee.cut(), mesh.cat.cut())
    mesh.bee.op((1, ITEM, 3, [3, "mine", 1], (0, 1, STRONG)), lamport=1_000_000)
    assert mesh.replica.merge(mesh.replica.chain(mesh.replica.verify([mesh.bee.cut()])).chained) == []
    register = mesh.replica.get(1, ITEM, 3)
    assert register is not None
    assert (register.value, register.fence, mesh.replica.winning_fence(ITEM)) == ([2], (0, 2, WEAK), (0, 2, WEAK))
    assert _core.fence_beats(ITEM, (0, 2, WEAK), (0, 1, STRONG))
    assert _core.fence_beats(ITEM, (0, 1, STRONG), (0, 1, WEAK))
    assert _core.fence_beats(ITEM, (1, 0, WEAK), (0, 9, STRONG))
    assert _core.fence_beats(ITEM, (0, 0, WEAK), None)
    assert not _core.fence_beats(ITEM, (0, 1, WEAK), (0, 1, WEAK))
    assert not _core.fence_beats(ITEM, None, None)


def test_a_claim_for_another_node_has_no_effect(mesh: Any) -> None:
    mesh.cat.op((2, ITEM, 1, claim(mesh.bee.key.public, STRONG), None), (1, ITEM, 1, "beside", None))
    mesh.take(mesh.cat.cut())
    assert (mesh.replica.row(2, ITEM), mesh.replica.row(1, ITEM), mesh.replica.voided) == ({}, {}, 1)
    mesh.cat.op((1, ITEM, 1, "later", None))
    mesh.take(mesh.cat.cut())
    assert mesh.replica.row(1, ITEM) == {1: "later"}


@pytest.mark.promise("I23")
def test_the_unknown_is_kept_and_relayed_without_effect(mesh: Any) -> None:
    mesh.bee.op((99, b"?", 1, {"later": True}, (1, 1, STRONG)), (1, ITEM, 99, 5, None), (1, ITEM, 1, "known", None), extra={9: [1, 2]})
    mesh.bee.op((1, ITEM, 1, "of an unknown op kind", None), kind=1_000)
    data = mesh.bee.cut()
    assert [chained.data for chained in mesh.take(data).chained] == [data]
    assert (mesh.replica.row(1, ITEM), mesh.replica.rows(99), mesh.replica.ops) == ({1: "known"}, [], 4)


def test_digests_of_an_empty_replica_depend_on_nothing_but_the_rules(mesh: Any) -> None:
    one, two = _core.Replica(mesh.genesis), _core.Replica(mesh.genesis)
    assert (one.state_digest(), one.frontier_digest()) == (two.state_digest(), two.frontier_digest())
    assert len(one.state_digest()) == len(one.frontier_digest()) == 32
    assert one.state_digest() != mesh.replica.state_digest()


def test_handles_are_frozen(mesh: Any) -> None:
    mesh.bee.op((1, ITEM, 1, "title", None))
    result = mesh.take(mesh.bee.cut())
    register = mesh.replica.get(1, ITEM, 1)
    for handle, name in ((result.chained[0], "ops"), (register, "value"), (mesh.replica, "lamport"), (mesh.replica.heads()[0], "seq")):
        with pytest.raises(AttributeError):
            setattr(handle, name, 0)


def test_many_threads_may_ask_while_one_merges(mesh: Any) -> None:
    for number in range(400):
        mesh.bee.op((1, id16(number % 50), 1, f"t{number}", None))
    segments = [mesh.bee.segment(seq, seq) for seq in range(1, 401)]

    def ask(_: int) -> int:
        mesh.replica.state_digest()
        mesh.replica.verify(segments[:5])
        return sum(len(row) for _, row in mesh.replica.rows(1))

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, number) for number in range(40)]
        for segment in segments:
            mesh.take(segment)
        assert all(0 <= answer.result() <= 50 for answer in asked)
    alone = _core.Replica(mesh.genesis)
    alone.load([mesh.first, *segments])
    assert shown(alone) == shown(mesh.replica)
