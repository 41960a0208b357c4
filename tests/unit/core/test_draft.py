"""Own ops: nothing is used up until it is merged, and nothing void is ever signed."""

from __future__ import annotations

from typing import Any

import pytest
from fabrik_twin.author import claim, id16
from fabrik_twin.compare import same, shown
from fabrik_twin.merge import STEP_MAX
from fabrik_twin.op import segment_verify
from fabrik_twin.world import World

from fabrik_node import _core
from fabrik_node.errors import InvalidOp

TITLE = (1, id16(1), 1, "title", None)


@pytest.mark.promise("F2")
def test_each_op_is_a_signed_segment(mesh: Any) -> None:
    before = shown(mesh.replica)
    draft = mesh.replica.draft(mesh.key(), 1)
    (one,) = draft.append([TITLE], 1_000)
    (two,) = draft.append([(1, id16(1), 6, 5, None)], 2_000)
    assert shown(mesh.replica) == before
    assert (one.first_seq, one.last_seq, two.first_seq, draft.lamport) == (3, 3, 4, 4)
    assert two.prev == one.head
    (op,) = segment_verify(mesh.id, one.data).ops
    assert (op.seq, op.lamport, op.wall_ms, op.kind, [(w.kind, w.id, w.field, w.value, w.fence) for w in op.writes]) == (3, 3, 1_000, 1, [TITLE])
    changes = mesh.replica.merge([one, two])
    assert [(c.kind, c.id, c.field, c.old, c.new, c.author, c.wall_ms) for c in changes] == [
        (1, id16(1), 1, None, "title", mesh.admin.key.public, 1_000),
        (1, id16(1), 6, None, 5, mesh.admin.key.public, 2_000),
    ]
    register = mesh.replica.get(1, id16(1), 1)
    assert register is not None
    assert (register.value, register.fence, register.lamport, register.digest, register.author) == ("title", None, 3, one.digests[0], mesh.admin.key.public)
    assert (register.epoch, register.seq, register.wall_ms) == (1, 3, 1_000)


@pytest.mark.promise("E13")
def test_a_dropped_draft_uses_nothing_up(mesh: Any) -> None:
    before = shown(mesh.replica)
    (lost,) = mesh.replica.draft(mesh.key(), 1).append([TITLE], 1)
    (kept,) = mesh.replica.draft(mesh.key(), 1).append([TITLE], 1)
    assert lost.data == kept.data
    assert shown(mesh.replica) == before
    mesh.replica.merge([kept])
    assert mesh.replica.ops == 3


def test_a_draft_of_old_heads_does_not_fit_any_more(mesh: Any) -> None:
    early, late = mesh.replica.draft(mesh.key(), 1), mesh.replica.draft(mesh.key(), 1)
    mesh.replica.merge(late.append([TITLE], 1))
    before = shown(mesh.replica)
    with pytest.raises(InvalidOp):
        mesh.replica.merge(early.append([TITLE], 2))
    assert shown(mesh.replica) == before


@pytest.mark.promise("I12")
@pytest.mark.parametrize(
    "write",
    [
        (1, id16(1), 1, "t" * 201, None),
        (1, id16(1), 1, 5, None),
        (1, id16(1)[:15], 1, "t", None),
        (1, id16(1), 1, "t", (0, 1, id16(2))),
        (1, id16(1), 3, [3, "branch", 0], None),
        (2, id16(1), 1, claim(bytes(32), id16(2)), None),
        (3, bytes(32), 1, {1: 5}, None),
        (3, bytes(32), 1, {1: 2, 4: "no places"}, None),
        (7, bytes(32), 1, {1: bytes(32), 2: bytes(64)}, None),
        (4, bytes(32), 1, "name", None),
        (6, id16(1), 1, {"exit": 0}, None),
        (1, b"", 1, "t", None),
        (1, b"i" * 65, 1, "t", None),
        (50, id16(1), 1, 1.5, None),
        (50, id16(1), 1, 2**64, None),
        (50, id16(1), 1, "\ud800", None),
        (50, id16(1), 1, {1, 2}, None),
        (50, id16(1), 1, "x" * 65_536, None),
    ],
)
def test_a_void_write_is_refused_and_the_draft_goes_on(mesh: Any, write: Any) -> None:
    draft = mesh.replica.draft(mesh.key(1), 1)
    before = draft.lamport
    with pytest.raises(InvalidOp):
        draft.append([TITLE, write], 1)
    assert draft.lamport == before
    (chained,) = draft.append([TITLE], 1)
    assert chained.first_seq == 1
    mesh.replica.merge([chained])
    assert mesh.replica.voided == 0


def test_an_op_without_writes(mesh: Any) -> None:
    (chained,) = mesh.replica.draft(mesh.key(), 1).append([], 7)
    assert mesh.replica.merge([chained]) == []
    assert mesh.replica.lamport == 3


@pytest.mark.promise("E12", "I6")
def test_a_new_op_is_above_everything_seen(mesh: Any) -> None:
    mesh.bee.op((1, id16(1), 1, "bee", None), lamport=5_000)
    mesh.take(mesh.bee.cut())
    draft = mesh.replica.draft(mesh.key(), 1)
    mesh.replica.merge(draft.append([TITLE], 1))
    assert (draft.lamport, mesh.replica.lamport) == (5_001, 5_001)
    assert mesh.replica.row(1, id16(1)) == {1: "title"}


@pytest.mark.promise("I6", "I12")
def test_a_clock_far_ahead_is_reached_in_legal_steps(mesh: Any) -> None:
    mesh.bee.raise_clock(3 * STEP_MAX + 5)
    mesh.bee.op((1, id16(1), 1, "bee", None), lamport=3 * STEP_MAX + 5)
    mesh.take(mesh.bee.cut())
    draft = mesh.replica.draft(mesh.key(2), 1)
    chained = draft.append([TITLE], 9)
    world = World(mesh.genesis)
    for data in (mesh.first, mesh.bee.segment(1, len(mesh.bee.bodies)), *(part.data for part in chained)):
        assert world.offer(data).outcome == "stored"
    ops = [op for part in chained for op in segment_verify(mesh.id, part.data).ops]
    assert ([len(op.writes) for op in ops], [op.lamport for op in ops]) == ([0, 0, 0, 1], [STEP_MAX, 2 * STEP_MAX, 3 * STEP_MAX, 3 * STEP_MAX + 6])
    assert world.state.void == []
    mesh.replica.merge(chained)
    same(mesh.replica, world)
    assert mesh.replica.row(1, id16(1)) == {1: "title"}


def test_a_foreign_absurd_clock_does_not_raise_ours(mesh: Any) -> None:
    mesh.bee.op(TITLE, lamport=2**53)
    mesh.take(mesh.bee.cut())
    assert (mesh.replica.lamport, mesh.replica.voided) == (2, 1)
    (chained,) = mesh.replica.draft(mesh.key(), 1).append([TITLE], 1)
    assert chained.ops == 1


def test_genesis_is_the_first_op_of_the_admin(mesh: Any) -> None:
    fresh = _core.Replica(mesh.genesis)
    draft = fresh.draft(mesh.key(), 1)
    chained = draft.genesis(1)
    (op,) = segment_verify(mesh.id, chained[0].data).ops
    assert (op.seq, op.kind, op.lamport) == (1, 2, 1)
    fresh.merge([*chained, *draft.append([TITLE], 2)])
    assert (fresh.voided, fresh.ops) == (0, 2)
    with pytest.raises(InvalidOp):
        fresh.draft(mesh.key(1), 1).genesis(1)
    with pytest.raises(InvalidOp):
        fresh.draft(mesh.key(), 1).genesis(1)


@pytest.mark.promise("E27")
@pytest.mark.parametrize("number", [0, 23, 24, 2**32, 2**53 + 1, 2**63, 2**64 - 1, -1, -(2**53) - 1, -(2**63)])
def test_integers_stay_exact_from_write_to_read(mesh: Any, number: int) -> None:
    draft = mesh.replica.draft(mesh.key(), 1)
    node = mesh.admin.key.public
    chained = draft.append([(4, node, 2, {"n": number, "deep": [{"m": [number]}]}, None)], 1)
    mesh.replica.merge(chained)
    assert mesh.replica.row(4, node) == {2: {"n": number, "deep": [{"m": [number]}]}}
    (touch,) = _core.history([part.data for part in chained], node)
    assert touch.value["n"] == number
    again = _core.Replica(mesh.genesis)
    again.load([mesh.first, *(part.data for part in chained)])
    assert again.state_digest() == mesh.replica.state_digest()
