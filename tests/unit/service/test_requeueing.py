"""The ways out of a hold."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from node_rig import FakeArbiter, NodeRig, Rigs

from fabrik_node.domain.claims import Claim
from fabrik_node.domain.finished import FinishedWork, finished_facts
from fabrik_node.domain.runs import RunRow, RunState
from fabrik_node.domain.schema import ItemField, Kind
from fabrik_node.domain.stages import Backlog, Coding, Merge, Qa, Stage
from fabrik_node.errors import Conflict, FabrikError, NotFound, Precondition, UsageError
from fabrik_node.ids import new_id, parse_id, show_id
from fabrik_node.ports import ClaimRefused

FINISHED = Merge("fabrik/x/y", 3)


@pytest.fixture
async def rig() -> AsyncIterator[NodeRig]:
    made = Rigs()
    yield await made.open(arbiter=FakeArbiter())
    await made.close()


def run_on(item: bytes, claim: Claim, branch: str) -> RunRow:
    return RunRow(new_id(1), item, claim.claim_id, claim.node, "agent", RunState.CANCELLED, "closing", 1_000, ended_ms=2_000, branch=branch)


async def held(rig: NodeRig, *stages: Stage) -> str:
    """An item that was brought to a stage, given back with a charged attempt, and held."""
    item = await rig.add()
    whole = parse_id(item) or b""
    claim = await rig.pipeline.claim(whole, "agent")
    assert isinstance(claim, Claim)
    for stage in stages:
        await rig.pipeline.move(whole, stage, claim)
    await rig.pipeline.finish(whole, claim, "over", {"result": "conflict"}, charge_attempt=True, hold="merge conflict: a.txt")
    return item


@pytest.mark.promise("E4")
async def test_finished_work_is_used_unless_all_is_to_begin_anew(rig: NodeRig) -> None:
    for op, args, stage, note in (
        ("items.resolve", {}, FINISHED, "goes on in Merge: the finished work on branch fabrik/x/y (3 commits) is tested and merged"),
        ("items.requeue", {}, FINISHED, "goes on in Merge: the finished work on branch fabrik/x/y (3 commits) is tested and merged"),
        (
            "items.requeue",
            {"anew": True},
            Backlog(),
            "begins anew in Backlog: the next run starts at the base; what was committed before stays on branch fabrik/x/y",
        ),
    ):
        item = await held(rig, Coding(), Qa(), FINISHED)
        answer = await rig.call(op, id=item, **args)
        assert answer["note"].startswith(note)
        shown = answer["item"]
        assert (shown["stage"], shown["hold"], shown["attempts"]) == (stage.name, None, 0)
        view = rig.node.board.item(parse_id(item) or b"")
        assert view is not None
        assert view.stage == stage
        assert [found.id for found in rig.pipeline.candidates([])] == [view.id]
        with pytest.raises(Precondition, match="is not held"):
            await rig.call(op, id=item)
        await rig.call("tombstone", id=item)


@pytest.mark.promise("E4")
@pytest.mark.parametrize("way", [[Coding()], [Coding(), Qa()], [Coding(), Qa(), FINISHED]])
async def test_the_end_of_a_hold_leaves_the_item_in_the_stage_in_which_it_was_held(rig: NodeRig, way: list[Stage]) -> None:
    item = await held(rig, *way)
    assert (await rig.call("items.requeue", id=item))["item"]["hold"] is None
    assert rig.node.board.stage(parse_id(item) or b"") == way[-1]
    assert [show_id(view.id) for view in rig.pipeline.candidates([])] == [item]


@pytest.mark.promise("E4")
@pytest.mark.parametrize(("way", "back"), [([Coding()], Coding), ([Coding(), Qa(), FINISHED], Merge)])
async def test_an_item_that_was_held_and_then_archived_is_at_work_again_after_one_command(rig: NodeRig, way: list[Stage], back: type[Stage]) -> None:
    item = await held(rig, *way)
    await rig.call("items.move", id=item, to="Archived", reason="Blocked")
    shown = (await rig.call("items.requeue", id=item))["item"]
    assert (shown["stage"], shown["hold"], shown["attempts"]) == (back.name, None, 0)
    assert [show_id(view.id) for view in rig.pipeline.candidates([])] == [item]


@pytest.mark.promise("E4")
async def test_work_that_an_interrupted_run_finished_is_used_unless_all_is_to_begin_anew(rig: NodeRig) -> None:
    left = finished_facts(FinishedWork(b"f" * 20, "fabrik/x/y"))
    for hold, args, kept in (("cancelled: not today", {}, True), ("cancelled: not today", {"anew": True}, False), ("", {"anew": True}, False)):
        item = await rig.add()
        whole = parse_id(item) or b""
        claim = await rig.pipeline.claim(whole, "agent")
        assert isinstance(claim, Claim)
        await rig.pipeline.move(whole, Coding(), claim)
        await rig.pipeline.move(whole, Qa(), claim)
        with pytest.raises(FabrikError):
            await rig.call("items.requeue", id=item, anew=True)
        await rig.pipeline.put_run(run_on(whole, claim, "fabrik/x/y"))
        await rig.pipeline.finish(whole, claim, "over", {"result": "cancelled", "branch": "fabrik/x/y"} | left, charge_attempt=False, hold=hold)
        note = (await rig.call("items.requeue", id=item, **args))["note"]
        assert ("the finished work on branch fabrik/x/y, commit 6666" in note) is kept
        assert ("what was committed before, if anything, stays on branch fabrik/x/y" in note) is not kept
        assert rig.node.board.stage(whole) == (Qa() if kept else Backlog())
        following = await rig.pipeline.claim(whole, "agent")
        assert isinstance(following, Claim)
        assert rig.pipeline.finished(whole, following) == (FinishedWork(b"f" * 20, "fabrik/x/y") if kept else None)
        await rig.call("tombstone", id=item)


async def test_what_is_left_counts_for_the_next_claim_alone(rig: NodeRig) -> None:
    item = await rig.add()
    whole = parse_id(item) or b""
    first = await rig.pipeline.claim(whole, "agent")
    assert isinstance(first, Claim)
    await rig.pipeline.finish(whole, first, "over", finished_facts(FinishedWork(b"f" * 20, "fabrik/x/y")), charge_attempt=False)
    second = await rig.pipeline.claim(whole, "agent")
    assert isinstance(second, Claim)
    assert rig.pipeline.finished(whole, second) is not None
    await rig.call("claims.release", item=item)
    third = await rig.pipeline.claim(whole, "agent")
    assert isinstance(third, Claim)
    assert rig.pipeline.finished(whole, third) is None


@pytest.mark.promise("E4")
@pytest.mark.parametrize("anew", [False, True])
async def test_work_that_is_not_used_is_named_with_the_way_to_use_it(rig: NodeRig, anew: bool) -> None:
    """Archived by a person in the middle of its tests: its run was superseded, and wrote no outcome."""
    item = await rig.add()
    whole = parse_id(item) or b""
    claim = await rig.pipeline.claim(whole, "agent")
    assert isinstance(claim, Claim)
    await rig.pipeline.move(whole, Coding(), claim)
    await rig.pipeline.move(whole, Qa(), claim)
    await rig.pipeline.put_run(run_on(whole, claim, "fabrik/x/y"))
    await rig.call("items.move", id=item, to="Archived", reason="ReviewHeld")
    note = (await rig.call("items.requeue", id=item, anew=anew))["note"]
    assert note == (
        f"{'begins anew in Backlog' if anew else 'goes on in Qa'}: the next run starts at the base; what was committed before, if anything, stays on branch fabrik/x/y; "
        f"to have that tested and merged instead: fabrik-node claims keep {item} {show_id(claim.claim_id)}"
    )
    await rig.call("claims.keep", item=item, claim=show_id(claim.claim_id))
    assert rig.node.board.stage(whole) == Merge("fabrik/x/y", 1)


async def test_another_branch_can_be_named(rig: NodeRig) -> None:
    item = await held(rig, Coding(), Qa(), FINISHED)
    with pytest.raises(UsageError):
        await rig.call("items.resolve", id=item, branch="")
    await rig.call("items.resolve", id=item, branch="mended")
    view = rig.node.board.item(parse_id(item) or b"")
    assert view is not None
    assert view.stage == Merge("mended", 3)


async def test_an_item_without_finished_work_has_nothing_to_resolve(rig: NodeRig) -> None:
    item = await held(rig, Coding())
    with pytest.raises(Precondition, match="is in Coding: it has no finished work to merge") as refused:
        await rig.call("items.resolve", id=item)
    assert refused.value.hint == f"fabrik-node items requeue {item}"
    with pytest.raises(NotFound):
        await rig.call("items.resolve", id="zzzzz")


async def test_the_stage_of_an_item_that_somebody_holds_is_left_alone(rig: NodeRig) -> None:
    item = await held(rig, Coding(), Qa(), FINISHED)
    whole = parse_id(item) or b""
    refused = await rig.pipeline.claim(whole, "agent")
    assert refused == ClaimRefused("it is held")
    await rig.call("items.resolve", id=item)
    assert isinstance(await rig.pipeline.claim(whole, "agent"), Claim)
    await rig.node.write(whole, lambda: [(Kind.ITEM, whole, ItemField.HOLD, {"reason": "by hand, in this moment"}, None)])
    for call in ({"op": "items.requeue", "anew": True}, {"op": "items.resolve", "branch": "mended"}):
        with pytest.raises(Conflict, match="holds item"):
            await rig.call(id=item, **call)
    await rig.call("items.resolve", id=item)
