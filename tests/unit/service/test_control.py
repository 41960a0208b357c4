"""Cancelling and draining through the service: what is written, in which order, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from node_rig import BOUND_S, NodeRig, Rigs, sync

from fabrik_node.domain.claims import Claim
from fabrik_node.domain.runs import RunRow, RunState
from fabrik_node.domain.stages import Coding, Qa
from fabrik_node.errors import AuthError, Conflict, NotFound, Precondition, UsageError
from fabrik_node.ids import new_id, parse_id, show_id

RUN = new_id(1)


@pytest.fixture
async def rigs() -> AsyncIterator[Rigs]:
    made = Rigs()
    yield made
    await made.close()


async def at_work(rig: NodeRig, item: str) -> RunRow:
    claim = await asyncio.wait_for(rig.pipeline.claim(parse_id(item) or b"", "agent"), BOUND_S)
    assert isinstance(claim, Claim)
    await rig.pipeline.move(parse_id(item) or b"", Coding(), claim)
    row = RunRow(RUN, parse_id(item) or b"", claim.claim_id, rig.node.public, "agent", RunState.RUNNING, "coding", 1_700_000_000_000)
    await rig.pipeline.put_run(row)
    return row


@pytest.mark.promise("C18", "I15")
async def test_what_a_person_cancelled_stays_held_whatever_its_holder_wrote_in_the_same_moment(rigs: Rigs) -> None:
    admin, owner = await rigs.open(0), await rigs.open(1)
    item = await admin.add()
    await sync(admin, owner)
    row = await at_work(owner, item)
    await sync(admin, owner)
    claim = owner.node.board.claim(row.item)
    assert claim is not None
    await admin.call("runs.cancel", id=show_id(RUN), reason="not needed")
    for _ in range(5):  # its clock is ahead, so its word is the later one
        await owner.add("something else")
    await owner.pipeline.finish(row.item, claim, "failed", {"result": "agent_failed"}, charge_attempt=True, hold="3 of 3 attempts failed")
    await sync(admin, owner)
    for rig in (admin, owner):
        shown = (await rig.call("items.show", id=item))["item"]
        assert (shown["claim"], shown["hold"]["reason"]) == (None, "cancelled: not needed")
        assert (shown["outcome"], shown["attempts"]) == (None, 0)
        assert row.item not in {view.id for view in rig.pipeline.candidates([])}, "nobody begins it again"
    assert [event.data["reason"] for event in await owner.events("item.held")] == ["3 of 3 attempts failed", "cancelled: not needed"]
    assert [event.data["reason"] for event in await admin.events("item.held")] == ["cancelled: not needed"], "what does not count is not told"
    await owner.call("items.requeue", id=item)
    await sync(admin, owner)
    for rig in (admin, owner):
        assert row.item in {view.id for view in rig.pipeline.candidates([])}
        assert len(await rig.events("item.requeued")) == 1


@pytest.mark.promise("C18", "C21")
async def test_a_run_of_another_node_is_cancelled_by_one_op_that_also_holds_its_item(rigs: Rigs) -> None:
    admin, owner = await rigs.open(0), await rigs.open(1)
    item = await admin.add()
    await sync(admin, owner)
    row = await at_work(owner, item)
    await sync(admin, owner)
    lost: list[str] = []
    owner.pipeline.on_claim_lost(row.claim_id, lost.append)
    ops = admin.node.replica.ops
    answer = await admin.call("runs.cancel", id=show_id(RUN), reason="not needed")
    assert admin.node.replica.ops == ops + 1
    assert "is stopped when it hears of this" in answer["note"]
    claim = owner.node.board.claim(row.item)
    assert claim is not None
    await owner.pipeline.move(row.item, Qa(), claim)  # it has not heard of it, and its word does not count any more
    await sync(admin, owner)
    assert lost
    for rig in (admin, owner):
        shown = (await rig.call("items.show", id=item))["item"]
        assert (shown["stage"], shown["claim"], shown["hold"]["reason"]) == ("Coding", None, "cancelled: not needed")
        assert rig.pipeline.candidates([]) == [], "nobody begins it again"
    with pytest.raises(Precondition, match="does not hold its item any more"):
        await admin.call("runs.cancel", id=show_id(RUN))
    await admin.call("items.requeue", id=item)
    await sync(admin, owner)
    assert [show_id(view.id) for view in owner.pipeline.candidates([])] == [item]


async def test_a_run_of_this_node_is_held_before_it_is_ended(rigs: Rigs) -> None:
    rig = await rigs.open()
    item = await rig.add()
    row = await at_work(rig, item)
    seen: list[str] = []

    async def cancel(run_id: bytes, reason: str) -> bool:
        seen.append((await rig.call("items.show", id=item))["item"]["hold"]["reason"])
        assert run_id == RUN
        await rig.pipeline.put_run(replace(row, state=RunState.CANCELLED, reason=f"cancelled: {reason}", ended_ms=1_700_000_000_001))
        return True

    rig.agent.on_cancel = cancel
    answer = await rig.call("runs.cancel", id=show_id(RUN))
    assert seen == ["cancelled: by an operator"]
    assert (answer["run"]["state"], answer["run"]["reason"]) == ("cancelled", "cancelled: by an operator")
    assert "items requeue" in answer["note"]
    with pytest.raises(Precondition, match="is over already: cancelled"):
        await rig.call("runs.cancel", id=show_id(RUN))


async def test_a_node_without_the_role_cancels_nothing_and_nothing_is_half_done(rigs: Rigs) -> None:
    admin, rig = await rigs.open(0), await rigs.open(1)
    item = await admin.add()
    await sync(admin, rig)
    row = await at_work(rig, item)
    await sync(admin, rig)
    await admin.call("nodes.role", key=rig.node.public.hex(), role="reader")
    await sync(admin, rig)
    told: list[bytes] = []

    async def cancel(run_id: bytes, _reason: str) -> bool:
        told.append(run_id)
        return True

    rig.agent.on_cancel = cancel
    for _ in range(2):  # the second time another claim has the item, so that there would be nothing to hold
        with pytest.raises(AuthError, match="has the role reader, and this write takes the role agent"):
            await rig.call("runs.cancel", id=show_id(RUN))
        assert (told, (await rig.call("items.show", id=item))["item"]["hold"]) == ([], None)
        assert await rig.node.store.run(RUN) == row
        if not (await admin.call("items.show", id=item))["item"]["claim"]:
            break
        await admin.call("claims.release", item=item)
        await sync(admin, rig)


async def test_a_run_that_was_merged_before_it_could_be_cancelled_is_not_held(rigs: Rigs) -> None:
    rig = await rigs.open()
    item = await rig.add()
    row = await at_work(rig, item)

    async def cancel(_run_id: bytes, _reason: str) -> bool:
        await rig.call("items.move", id=item, to="Qa")
        await rig.call("items.move", id=item, to="Merge", branch="b", commits_ahead=1)
        await rig.call("items.move", id=item, to="Done", merge_commit="ab" * 20)
        await rig.pipeline.put_run(replace(row, state=RunState.COMPLETED, ended_ms=1_700_000_000_001))
        return True

    rig.agent.on_cancel = cancel
    with pytest.raises(Conflict, match="ended by itself before it could be cancelled: completed"):
        await rig.call("runs.cancel", id=show_id(RUN))
    assert (await rig.call("items.show", id=item))["item"]["hold"] is None


async def test_a_run_that_failed_before_it_could_be_cancelled_leaves_its_item_held_and_says_so(rigs: Rigs) -> None:
    rig = await rigs.open()
    item = await rig.add()
    row = await at_work(rig, item)

    async def cancel(_run_id: bytes, _reason: str) -> bool:
        await rig.pipeline.put_run(replace(row, state=RunState.FAILED, ended_ms=1_700_000_000_001))
        return True

    rig.agent.on_cancel = cancel
    with pytest.raises(Conflict, match="cancelled: failed; its item is held: cancelled: by an operator") as caught:
        await rig.call("runs.cancel", id=show_id(RUN))
    assert caught.value.hint == f"fabrik-node items requeue {item}"
    assert (await rig.call("items.show", id=item))["item"]["hold"]["reason"] == "cancelled: by an operator"


async def test_cancelling_a_run_that_lost_its_item_does_not_hold_it_against_who_has_it_now(rigs: Rigs) -> None:
    rig, other = await rigs.open(0), await rigs.open(1)
    item = await rig.add()
    row = await at_work(rig, item)
    claim = rig.node.board.claim(row.item)
    assert claim is not None
    await rig.pipeline.finish(row.item, claim, "lost", {}, charge_attempt=False)
    await sync(rig, other)
    theirs = await asyncio.wait_for(other.pipeline.claim(row.item, "agent"), BOUND_S)
    assert isinstance(theirs, Claim)
    await sync(rig, other)
    answer = await rig.call("runs.cancel", id=show_id(RUN))
    assert "another claim has it" in answer["note"]
    assert (await rig.call("items.show", id=item))["item"]["hold"] is None


async def test_a_run_that_nobody_has_in_hand_is_held_and_that_is_said(rigs: Rigs) -> None:
    rig = await rigs.open()
    item = await rig.add()
    await at_work(rig, item)
    answer = await rig.call("runs.cancel", id=show_id(RUN))
    assert answer["run"]["state"] == "interrupted"
    assert "the next start of this node closes it" in answer["note"]
    assert (await rig.call("items.show", id=item))["item"]["hold"]["reason"] == "cancelled: by an operator"


async def test_what_can_not_be_cancelled_or_drained_is_refused(rigs: Rigs) -> None:
    rig = await rigs.open()
    with pytest.raises(UsageError, match="id is missing"):
        await rig.call("runs.cancel")
    with pytest.raises(NotFound):
        await rig.call("runs.cancel", id=show_id(RUN))
    with pytest.raises(Precondition, match="takes no work"):
        await rig.call("drain")
