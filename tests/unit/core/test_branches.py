"""Logs with several heads, through the door: what is said of branches, what is asked and answered, too many heads, new epochs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fabrik_twin.author import id16, sign_segment
from fabrik_twin.compare import shown
from fabrik_twin.op import advance, log_start, op_encode, segment_decode

from fabrik_node import _core
from fabrik_node.errors import InvalidOp

MARKER = (2**53, bytes(32))


def title(text: str, item: int = 1) -> tuple[int, bytes, int, str, None]:
    return (1, id16(item), 1, text, None)


def twig(mesh: Any, base: int, *texts: str) -> bytes:
    """A branch of bee's log behind op ``base``, as one segment."""
    prev = advance(log_start(mesh.id, mesh.bee.key.public, 1), mesh.bee.bodies[:base])
    bodies = [op_encode(seq, seq, [title(text)], wall_ms=seq) for seq, text in enumerate(texts, base + 1)]
    return sign_segment(mesh.bee.key, mesh.id, 1, base + 1, prev, bodies)


def heads(replica: _core.Replica, author: bytes) -> list[tuple[int, tuple[int, int] | None, int, int]]:
    return [(head.branch, head.base, head.seq, head.clock) for head in replica.heads() if head.author == author]


def forked(mesh: Any) -> None:
    """Bee's log: three ops, and a twig of two behind the first."""
    for text in ("one", "two", "three"):
        mesh.bee.op(title(text))
    mesh.take(mesh.bee.segment(1, 3), twig(mesh, 1, "left", "right"))


@pytest.mark.promise("I10")
def test_two_branches_one_meaning(mesh: Any) -> None:
    forked(mesh)
    other = _core.Replica(mesh.genesis)
    parts = [twig(mesh, 1, "left"), mesh.bee.segment(1, 1), twig(mesh, 1, "left", "right"), mesh.bee.segment(2, 3)]
    result = other.load([mesh.first, *parts[1:]])
    assert (result.ops, result.damaged, result.stranded) == (7, [], [])
    assert (other.state_digest(), other.frontier_digest()) == (mesh.replica.state_digest(), mesh.replica.frontier_digest())
    assert heads(mesh.replica, mesh.bee.key.public) == [(0, None, 3, 3), (1, (0, 1), 3, 3)]
    assert heads(other, mesh.bee.key.public) == [(0, None, 3, 3), (1, (0, 1), 3, 3)]
    first, second = (other.head(mesh.bee.key.public, 1, branch) for branch in (0, 1))
    assert first is not None
    assert second is not None
    assert first.head == segment_decode(twig(mesh, 1, "left", "right")).head, "it met the twig first"
    assert second.head == segment_decode(mesh.bee.segment(1, 3)).head
    assert other.head(mesh.bee.key.public, 1, 2) is None


def test_a_gap_says_where_it_is_from(mesh: Any) -> None:
    forked(mesh)
    before = shown(mesh.replica)
    deep = segment_decode(twig(mesh, 2, "x", "y"))
    lost = sign_segment(mesh.bee.key, mesh.id, 1, 4, advance(deep.prev, [deep.ops[0].body]), [deep.ops[1].body])
    result = mesh.take(mesh.first, lost, mesh.first)
    ((gap,), forks) = result.gaps, result.forks
    assert (gap.author, gap.epoch, gap.have_seq, gap.first_seq, gap.unrooted, gap.index, forks) == (mesh.bee.key.public, 1, 3, 4, True, 1, [])
    assert shown(mesh.replica) == before


@pytest.mark.promise("I10")
def test_who_lacks_a_branch_asks_with_places_and_gets_it(mesh: Any) -> None:
    forked(mesh)
    bee = mesh.bee.key.public
    other = _core.Replica(mesh.genesis)
    other.load([mesh.first, mesh.bee.segment(1, 2)])
    wanted = [(head.seq, head.head) for head in mesh.replica.heads() if head.author == bee]
    assert [other.holds(bee, 1, *head) for head in wanted] == [False, False]
    places = other.places(bee, 1)
    assert [seq for seq, _ in places] == [2, 1]
    assert all(len(mark) == 16 for _, mark in places)
    assert mesh.replica.cursors(bee, 1, places) == [(0, 2), (1, 1)]
    other.load([mesh.bee.segment(3, 3), twig(mesh, 1, "left", "right")])
    assert [other.holds(bee, 1, *head) for head in wanted] == [True, True]
    assert mesh.replica.cursors(bee, 1, other.places(bee, 1)) == []
    assert mesh.replica.cursors(bee, 1, []) == [(0, 0), (1, 1)]
    assert mesh.replica.cursors(bee, 1, [(2, b"short"), (2**63, bytes(16))]) == [(0, 0), (1, 1)]
    assert (mesh.replica.places(b"nobody", 1), mesh.replica.cursors(b"nobody", 1, places), mesh.replica.holds(b"nobody", 1, 1, b"")) == ([], [], False)


@pytest.mark.promise("I11")
def test_check_names_what_is_not_what_was_merged(mesh: Any) -> None:
    forked(mesh)
    bee = mesh.bee.key.public
    good, left = mesh.bee.segment(2, 3), twig(mesh, 1, "left", "right")
    flipped = good[:-1] + bytes([good[-1] ^ 1])
    reasons = mesh.replica.check(bee, 1, 0, [good, left, flipped, b"junk", mesh.first, twig(mesh, 1, "other")])
    for reason, part in zip(reasons, ("", "chain hash at seq 2", "signature", "segment", "another log", "chain hash at seq 2"), strict=True):
        assert part in reason
        assert bool(reason) == bool(part)
    assert mesh.replica.check(bee, 1, 1, [left]) == [""]
    assert "branch" in mesh.replica.check(bee, 1, 2, [left])[0]
    assert mesh.replica.check(bee, 1, 2**40, [left]) == mesh.replica.check(bee, 1, 2, [left])
    assert mesh.replica.check(bee, 1, 0, []) == []
    with pytest.raises(InvalidOp, match="an author must be 32 bytes"):
        mesh.replica.check(b"short", 1, 0, [left])


def crowded(mesh: Any) -> list[bytes]:
    """Bee's log with one head more than a log may have: the segments."""
    mesh.bee.op(title("trunk"))
    mesh.bee.op(title("end"))
    return [mesh.bee.segment(1, 2), *(twig(mesh, 1, str(number)) for number in range(_core.HEADS_MAX))]


@pytest.mark.promise("I10")
def test_too_many_heads_end_the_effect_of_a_log(mesh: Any) -> None:
    bee = mesh.bee.key.public
    mesh.cat.op(title("cat"))
    mesh.take(mesh.cat.cut())
    plain = mesh.replica.state_digest()
    rows = crowded(mesh)
    mesh.take(*rows[:-1])
    assert (mesh.replica.stale, mesh.replica.suspended(), len(heads(mesh.replica, bee))) == (False, [], _core.HEADS_MAX)
    effect = mesh.replica.state_digest()
    result = mesh.take(rows[-1], twig(mesh, 0, "one more"))
    assert (result.suspended, result.refused, len(result.chained), len(result.forks)) == ([(bee, 1)], 1, 1, 1)
    assert (mesh.replica.stale, mesh.replica.suspended(), len(heads(mesh.replica, bee))) == (True, [(bee, 1)], _core.HEADS_MAX + 1)
    assert mesh.replica.state_digest() == effect != plain, "until a fresh one is adopted"
    assert mesh.replica.holds(bee, 1, *MARKER)
    fresh = _core.Replica(mesh.genesis, mesh.replica.suspended())
    assert fresh.load([mesh.first, mesh.cat.segment(1, 1), *rows]).ops == mesh.replica.ops
    assert not fresh.stale
    held = mesh.replica.get(1, id16(1), 1)
    assert held is not None
    (change,) = mesh.replica.adopt(fresh)
    assert (change.id, change.old, change.new, change.author) == (id16(1), held.value, "cat", mesh.cat.key.public)
    assert (mesh.replica.stale, mesh.replica.state_digest(), fresh.ops, fresh.heads()) == (False, plain, 0, [])
    with pytest.raises(InvalidOp, match="suspended"):
        mesh.replica.draft(mesh.key(1), 1)
    with pytest.raises(InvalidOp, match="other heads"):
        mesh.replica.adopt(fresh)
    with pytest.raises(InvalidOp, match="itself"):
        mesh.replica.adopt(mesh.replica)


@pytest.mark.promise("I10")
def test_the_admins_log_is_announced_by_a_digest_when_it_has_many_heads(mesh: Any) -> None:
    admin = mesh.replica.heads()[0].author
    assert mesh.replica.marker(admin, 1) is None
    for number in range(_core.HEADS_MAX + 1):
        branch = mesh.admin.branch(1)
        branch.op(title(f"twig {number}"))
        mesh.take(branch.cut())
    seq, digest = mesh.replica.marker(admin, 1)
    assert (seq, len(digest)) == (2**53 - 1, 32)
    assert mesh.replica.holds(admin, 1, seq, digest)
    assert not mesh.replica.holds(admin, 1, seq, bytes(32))
    assert not mesh.replica.holds(admin, 1, *MARKER)
    assert mesh.replica.suspended() == _core.Replica(mesh.genesis, [(admin, 1)]).suspended() == []
    assert [mesh.replica.marker(*log) for log in ((admin, 2), (b"short", 1), (mesh.bee.key.public, 1))] == [None] * 3


def test_two_replicas_that_adopt_each_other_do_not_wait_for_ever(mesh: Any) -> None:
    one, other = _core.Replica(mesh.genesis), _core.Replica(mesh.genesis)
    with ThreadPoolExecutor(2) as pool:
        turns = [pool.submit(a.adopt, b) for _ in range(200) for a, b in ((one, other), (other, one))]
    assert all(turn.result() == [] for turn in turns)


def test_loading_wants_a_branch_for_each_segment_or_none(mesh: Any) -> None:
    rows = [mesh.first]
    with pytest.raises(InvalidOp, match="2 branches for 1 segments"):
        _core.Replica(mesh.genesis).load(rows, [0, 0])
    assert _core.Replica(mesh.genesis).load(rows, [0]).ops == 2
    misnumbered = _core.Replica(mesh.genesis).load(rows, [1])
    assert (misnumbered.ops, misnumbered.stranded) == (0, [0])
    with pytest.raises(InvalidOp, match="an author must be 32 bytes"):
        _core.Replica(mesh.genesis, [(b"short", 1)])


@pytest.mark.promise("I10")
def test_a_new_epoch_goes_on_from_a_named_head(mesh: Any) -> None:
    mesh.bee.op(title("old"))
    mesh.take(mesh.bee.cut())
    old = mesh.replica.head(mesh.bee.key.public, 1)
    assert old is not None
    draft = mesh.replica.draft(mesh.key(1), 2)
    with pytest.raises(InvalidOp, match="32 bytes"):
        draft.open_epoch((1, old.seq, b"short"), 5)
    (opening,) = draft.open_epoch((1, old.seq, old.head), 5)
    (written,) = draft.append([title("new")], 6)
    (op,) = segment_decode(opening.data).ops
    assert (op.kind, op.follows, opening.branch, opening.base) == (3, (1, old.seq, old.head), 0, None)
    with pytest.raises(InvalidOp, match="seq 1"):
        draft.open_epoch((1, old.seq, old.head), 7)
    mesh.replica.merge([opening, written])
    register = mesh.replica.get(1, id16(1), 1)
    assert register is not None
    assert (register.value, register.epoch, register.seq, mesh.replica.voided) == ("new", 2, 2, 0)
