"""Where a verified segment fits: new, known, too early, on another branch, of a stranger; and merging it at once or not at all."""

from __future__ import annotations

from typing import Any

import pytest
from fabrik_twin.author import id16, new_genesis, sign_segment
from fabrik_twin.compare import shown
from fabrik_twin.op import advance, log_start, op_encode, segment_decode

from fabrik_node import _core
from fabrik_node.errors import BadSignature, InvalidOp


def title(text: str, item: int = 1) -> tuple[int, bytes, int, str, None]:
    return (1, id16(item), 1, text, None)


def test_verified_says_what_it_is(mesh: Any) -> None:
    (verified,) = mesh.replica.verify([mesh.first])
    assert (verified.author, verified.epoch, verified.first_seq, verified.last_seq, verified.ops) == (mesh.admin.key.public, 1, 1, 2, 2)


def test_new_ops_are_chained_and_nothing_moves_before_merge(mesh: Any) -> None:
    mesh.bee.op(title("one"))
    mesh.bee.op(title("two"))
    data = mesh.bee.cut()
    before = shown(mesh.replica)
    result = mesh.replica.chain(mesh.replica.verify([data]))
    (chained,) = result.chained
    assert shown(mesh.replica) == before
    assert (result.duplicates, result.gaps, result.forks, result.unknown) == (0, [], [], [])
    assert (chained.author, chained.epoch, chained.first_seq, chained.last_seq, chained.ops) == (mesh.bee.key.public, 1, 1, 2, 2)
    assert (chained.data, chained.digests) == (data, [op.digest for op in segment_decode(data).ops])
    assert (chained.prev, chained.head) == (log_start(mesh.id, mesh.bee.key.public, 1), segment_decode(data).head)
    mesh.replica.merge([chained])
    head = mesh.replica.head(mesh.bee.key.public, 1)
    assert head is not None
    assert (head.author, head.epoch, head.seq, head.head, head.clock) == (mesh.bee.key.public, 1, 2, chained.head, 2)
    assert mesh.replica.ops == 4


@pytest.mark.promise("E26")
def test_duplicates_are_counted_and_change_nothing(mesh: Any) -> None:
    before = shown(mesh.replica)
    result = mesh.replica.chain(mesh.replica.verify([mesh.first, mesh.first, mesh.admin.segment(1, 1), mesh.admin.segment(2, 2)]))
    assert (result.chained, result.duplicates, result.gaps, result.forks) == ([], 6, [], [])
    assert shown(mesh.replica) == before


@pytest.mark.promise("E26")
def test_the_same_new_segment_twice_in_one_call_is_taken_once(mesh: Any) -> None:
    mesh.bee.op(title("one"))
    data = mesh.bee.cut()
    result = mesh.take(data, data)
    assert ([chained.data for chained in result.chained], result.duplicates) == ([data], 1)


def test_overlap_is_cut_to_the_new_part(mesh: Any) -> None:
    for text in ("one", "two", "three", "four"):
        mesh.bee.op(title(text))
    mesh.take(mesh.bee.segment(1, 2))
    result = mesh.replica.chain(mesh.replica.verify([mesh.bee.segment(2, 4)]))
    (chained,) = result.chained
    assert (result.duplicates, chained.first_seq, chained.last_seq, chained.ops) == (1, 3, 4, 2)
    assert chained.data == mesh.bee.segment(3, 4)
    assert chained.prev == segment_decode(mesh.bee.segment(1, 2)).head
    mesh.replica.merge([chained])
    assert mesh.replica.ops == 6


def test_gap_names_what_is_missing(mesh: Any) -> None:
    for text in ("one", "two", "three"):
        mesh.bee.op(title(text))
    before = shown(mesh.replica)
    result = mesh.take(mesh.bee.segment(2, 3))
    ((gap,), chained) = result.gaps, result.chained
    assert (gap.author, gap.epoch, gap.have_seq, gap.first_seq, chained) == (mesh.bee.key.public, 1, 0, 2, [])
    assert shown(mesh.replica) == before
    result = mesh.take(mesh.bee.segment(1, 1), mesh.bee.segment(3, 3), mesh.bee.segment(2, 2))
    ((gap,), chained) = result.gaps, result.chained
    assert (gap.have_seq, gap.first_seq, [c.first_seq for c in chained]) == (1, 3, [1, 2])


@pytest.mark.parametrize("at", [1, 2, 3])
def test_fork_is_taken_and_told_with_the_other_branch(mesh: Any, at: int) -> None:
    for text in ("one", "two", "three"):
        mesh.bee.op(title(text))
    mesh.take(mesh.bee.segment(1, 3))
    prev = advance(log_start(mesh.id, mesh.bee.key.public, 1), mesh.bee.bodies[: at - 1])
    other = sign_segment(mesh.bee.key, mesh.id, 1, at, prev, [op_encode(seq, seq + 1) for seq in range(at, 6)])
    result = mesh.take(other)
    ((fork,), chained) = result.forks, result.chained
    assert (fork.author, fork.epoch, fork.seq, fork.segment, result.duplicates) == (mesh.bee.key.public, 1, at, other, 0)
    assert (fork.branch, fork.base_branch, [(each.branch, each.base, each.data) for each in chained]) == (1, 0, [(1, (0, at - 1), other)])
    heads = [(head.branch, head.base, head.seq) for head in mesh.replica.heads() if head.author == mesh.bee.key.public]
    assert heads == [(0, None, 3), (1, (0, at - 1), 5)]


def test_fork_wholly_behind_the_head(mesh: Any) -> None:
    for text in ("one", "two", "three"):
        mesh.bee.op(title(text))
    mesh.take(mesh.bee.segment(1, 3))
    for seq in (1, 2, 3):
        prev = advance(log_start(mesh.id, mesh.bee.key.public, 1), mesh.bee.bodies[: seq - 1])
        other = sign_segment(mesh.bee.key, mesh.id, 1, seq, prev, [op_encode(seq, seq)])
        result = mesh.take(other)
        assert ([(fork.seq, fork.segment) for fork in result.forks], result.duplicates) == ([(seq, other)], 0)


def test_a_branch_that_we_do_not_know_is_a_gap(mesh: Any) -> None:
    mesh.bee.op(title("one"))
    mesh.take(mesh.bee.cut())
    elsewhere = sign_segment(mesh.bee.key, mesh.id, 1, 2, bytes(32), [op_encode(2, 2)])
    result = mesh.take(elsewhere)
    ((gap,), chained) = result.gaps, result.chained
    assert (gap.unrooted, gap.have_seq, gap.first_seq, gap.index, chained, result.forks) == (True, 1, 2, 0, [], [])


def test_the_log_goes_on_after_a_fork_was_offered(mesh: Any) -> None:
    mesh.bee.op(title("one"))
    mesh.take(mesh.bee.cut())
    mesh.take(sign_segment(mesh.bee.key, mesh.id, 1, 2, bytes(32), [op_encode(2, 2)]))
    mesh.bee.op(title("two"))
    assert len(mesh.take(mesh.bee.cut()).chained) == 1


@pytest.mark.promise("F5")
def test_strangers_are_left_out_by_name(mesh: Any) -> None:
    mesh.stranger.op(title("hello"))
    mesh.bee.op(title("bee"))
    before = mesh.replica.ops
    result = mesh.take(mesh.stranger.cut(), mesh.bee.cut())
    assert (result.unknown, [chained.author for chained in result.chained]) == ([mesh.stranger.key.public], [mesh.bee.key.public])
    assert mesh.replica.ops == before + 1
    assert not mesh.replica.is_admitted(mesh.stranger.key.public)


def test_admission_and_first_words_in_one_call(mesh: Any) -> None:
    mesh.stranger.op(title("hello"))
    hello = mesh.stranger.cut()
    mesh.admin.op((3, mesh.stranger.key.public, 1, {1: 1}, None))
    welcome = mesh.admin.cut()
    assert mesh.replica.chain(mesh.replica.verify([hello, welcome])).unknown == [mesh.stranger.key.public]
    result = mesh.take(welcome, hello)
    assert (result.unknown, len(result.chained)) == ([], 2)
    assert mesh.replica.is_admitted(mesh.stranger.key.public)


def test_a_void_admission_admits_nobody(mesh: Any) -> None:
    mesh.stranger.op(title("hello"))
    mesh.bee.op((3, mesh.stranger.key.public, 1, {1: 4}, None))
    assert mesh.take(mesh.bee.cut(), mesh.stranger.cut()).unknown == [mesh.stranger.key.public]
    assert mesh.replica.voided == 1


def test_who_was_a_member_stays_named_and_is_let_in_no_more(mesh: Any) -> None:
    mesh.bee.op(title("before"))
    mesh.bee.op(title("after"))
    mesh.admin.op((3, mesh.bee.key.public, 1, {1: 0}, None))
    mesh.take(mesh.bee.segment(1, 1))
    result = mesh.take(mesh.admin.cut(), mesh.bee.segment(2, 2))
    assert (result.unknown, len(result.chained)) == ([], 2)  # whoever takes less than others is not equal to them
    assert mesh.replica.row(1, id16(1)) == {1: "after"}
    member = mesh.replica.member(mesh.bee.key.public)
    assert (member.role, member.named, member.revoked, mesh.replica.is_admitted(mesh.bee.key.public)) == (0, True, False, False)


def test_our_own_store_is_not_asked_for_members(mesh: Any) -> None:
    mesh.stranger.op(title("hello"))
    result = mesh.replica.chain(mesh.replica.verify([mesh.stranger.cut()]), admit_all=True)
    assert (result.unknown, len(result.chained)) == ([], 1)


@pytest.mark.promise("I11")
def test_merge_is_all_or_nothing(mesh: Any) -> None:
    mesh.bee.op(title("bee"))
    mesh.cat.op(title("cat"))
    mesh.cat.op(title("cat, later"))
    (bee,) = mesh.replica.chain(mesh.replica.verify([mesh.bee.cut()])).chained
    one, two = mesh.replica.chain(mesh.replica.verify([mesh.cat.segment(1, 1), mesh.cat.segment(2, 2)])).chained
    before = shown(mesh.replica)
    for batch in ([bee, two], [bee, two, one], [bee, bee], [one, two, two]):
        with pytest.raises(InvalidOp):
            mesh.replica.merge(batch)
        assert shown(mesh.replica) == before
    mesh.replica.merge([bee, one, two])
    with pytest.raises(InvalidOp):
        mesh.replica.merge([one])
    assert mesh.replica.ops == 5


@pytest.mark.promise("I11", "F3")
def test_a_bad_signature_in_a_batch_stops_the_batch(mesh: Any) -> None:
    mesh.bee.op(title("bee"))
    good = mesh.bee.cut()
    before = shown(mesh.replica)
    with pytest.raises(BadSignature):
        mesh.replica.verify([good, good[:-1] + bytes([good[-1] ^ 1])])
    with pytest.raises(InvalidOp):
        mesh.replica.verify([good[:-1], good])
    assert shown(mesh.replica) == before
    assert len(mesh.take(good).chained) == 1


@pytest.mark.promise("F3")
def test_every_flipped_bit_is_refused(mesh: Any) -> None:
    mesh.bee.op(title("t"))
    good = mesh.bee.cut()
    before = shown(mesh.replica)
    for bit in range(8 * len(good)):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises((BadSignature, InvalidOp)):
            mesh.replica.verify([bytes(bad)])
    assert shown(mesh.replica) == before
    assert len(mesh.take(good).chained) == 1


def test_chained_of_another_replica_fits_when_the_heads_do(mesh: Any) -> None:
    other = _core.Replica(mesh.genesis)
    mesh.bee.op(title("one"))
    mesh.bee.op(title("two"))
    mesh.take(mesh.bee.segment(1, 1))
    second = mesh.replica.chain(mesh.replica.verify([mesh.bee.segment(2, 2)])).chained
    with pytest.raises(InvalidOp):
        other.merge(second)
    assert other.ops == 0
    other.load([mesh.first, mesh.bee.segment(1, 1)])
    other.merge(second)
    mesh.replica.merge(second)
    assert shown(other) == shown(mesh.replica)


def test_empty_calls(mesh: Any) -> None:
    before = shown(mesh.replica)
    assert mesh.replica.verify([]) == []
    result = mesh.replica.chain([])
    assert (result.chained, result.duplicates, result.gaps, result.forks, result.unknown, result.suspended, result.refused) == ([], 0, [], [], [], [], 0)
    assert mesh.replica.merge([]) == []
    assert mesh.replica.load([]).ops == 0
    assert shown(mesh.replica) == before
    assert mesh.replica.head(mesh.stranger.key.public, 1) is None


@pytest.mark.promise("I11", "F3")
def test_what_another_mesh_verified_is_never_stored_here(mesh: Any) -> None:
    other = _core.Replica(new_genesis(mesh.admin.key, "elsewhere", 7))
    before = shown(other)
    foreign = mesh.replica.verify([mesh.first, mesh.admin.segment(2, 2)])
    try:
        assert other.chain(foreign, admit_all=True).chained == []
    except InvalidOp:
        assert foreign
    fresh = _core.Replica(mesh.genesis)
    with pytest.raises(InvalidOp):
        other.merge(fresh.chain(fresh.verify([mesh.first])).chained)
    with pytest.raises(InvalidOp):
        other.merge(fresh.draft(mesh.key(), 1).append([], 1))
    assert shown(other) == before
