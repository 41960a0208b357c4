"""What a real node counts of lost runs, and that a hold and a requeue end the count, whatever is written of earlier runs later."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from node_rig import BOUND_S, FakeArbiter, Rigs, sync

from fabrik_node.domain.claims import Claim, encode_claim
from fabrik_node.domain.interruptions import NODE_ENDED
from fabrik_node.domain.runs import RunRow, RunState
from fabrik_node.domain.schema import ClaimField, ItemField, Kind, RunField
from fabrik_node.ids import new_id, parse_id
from fabrik_node.node.holds import claim_hold_writes
from fabrik_node.node.pipeline import run_summary


@pytest.mark.promise("C23")
async def test_lost_runs_are_counted_until_somebody_requeues_the_item(memory_rigs: Rigs) -> None:
    rig = await memory_rigs.open()
    shown = await rig.add()
    item = parse_id(shown) or b""

    async def lost(number: int, state: RunState, hold: str = "") -> None:
        claim = await asyncio.wait_for(rig.pipeline.claim(item, "agent"), BOUND_S)
        assert isinstance(claim, Claim)
        row = RunRow(new_id(number), item, claim.claim_id, rig.node.public, "agent", RunState.RUNNING, "coding", 1_700_000_000_000)
        await rig.pipeline.put_run(row)
        await rig.pipeline.finish(item, claim, "over", {"result": "infra_lost", "reason": "over"}, charge_attempt=False, hold=hold)
        await rig.pipeline.put_run(replace(row, state=state, ended_ms=1, reason=f"infra_lost: {NODE_ENDED} coding; process 7 was gone"))

    async def counted() -> int:
        return int((await rig.call("items.show", id=shown))["item"]["interruptions"])

    assert await counted() == 0
    for number in range(1, 4):
        await lost(number, RunState.INTERRUPTED)
        assert await counted() == number
    claim = await asyncio.wait_for(rig.pipeline.claim(item, "agent"), BOUND_S)
    assert isinstance(claim, Claim)
    assert (await rig.pipeline.interruptions(item, claim)).count == 3
    await rig.pipeline.put_run(RunRow(new_id(5), item, claim.claim_id, rig.node.public, "agent", RunState.RUNNING, "coding", 1_700_000_000_000))
    assert await counted() == 3, "the one that is at work is not lost"
    await rig.pipeline.finish(item, claim, "over", {"result": "infra_lost", "reason": "over"}, charge_attempt=False, hold="its runs were lost")
    await rig.call("items.requeue", id=shown)
    assert await counted() == 0, "a person has looked at it"
    await lost(9, RunState.INTERRUPTED)
    assert await counted() == 1
    await rig.call("items.move", id=shown, to="Archived", reason="Blocked")
    await rig.call("items.requeue", id=shown)
    assert await counted() == 0, "nor did a run hold it this time"


@pytest.mark.promise("C23")
async def test_a_node_that_comes_back_after_the_requeue_does_not_hold_the_item_again(memory_rigs: Rigs) -> None:
    """What it writes of its lost runs then is newer than the requeue, and still says something of earlier claims."""
    arbiter = FakeArbiter()
    one, two = await memory_rigs.open(0, arbiter=arbiter), await memory_rigs.open(1, arbiter=arbiter)
    await sync(one, two)
    shown = await one.add()
    item = parse_id(shown) or b""
    await sync(one, two)
    rows: list[RunRow] = []

    async def lost(number: int) -> None:
        claim = await asyncio.wait_for(two.pipeline.claim(item, "agent"), BOUND_S)
        assert isinstance(claim, Claim)
        rows.append(RunRow(new_id(number), item, claim.claim_id, two.node.public, "agent", RunState.RUNNING, "coding", 1))
        await two.pipeline.put_run(rows[-1])
        await sync(one, two)
        await one.call("claims.expire", item=shown, yes=True)
        await sync(one, two)

    async def comes_back() -> None:
        for row in rows:
            await two.pipeline.put_run(replace(row, state=RunState.INTERRUPTED, ended_ms=9, reason=f"infra_lost: {NODE_ENDED} coding; process 7 was gone"))
        await sync(one, two)

    async def counted() -> set[int]:
        return {int((await rig.call("items.show", id=shown))["item"]["interruptions"]) for rig in (one, two)}

    for number in range(1, 4):
        await lost(number)
    claim = await asyncio.wait_for(one.pipeline.claim(item, "agent"), BOUND_S)
    assert isinstance(claim, Claim)
    assert (await one.pipeline.interruptions(item, claim)).count == 3
    await one.pipeline.finish(item, claim, "over", {"result": "infra_lost"}, charge_attempt=False, hold="its runs were lost 3 times in a row")
    await sync(one, two)
    await comes_back()
    assert await counted() == {0}, "it is held for them already"
    await one.call("items.requeue", id=shown)
    await sync(one, two)
    rows[:] = [replace(row, worktree="/somewhere", phase="qa") for row in rows]
    await comes_back()
    assert await counted() == {0}, "somebody has looked at the item since"
    await lost(4)
    assert await counted() == {1}
    boast = run_summary(replace(rows[0], state=RunState.INTERRUPTED, reason=f"infra_lost: {NODE_ENDED} coding")) | {"claim_epoch": 2**60}
    await two.node.write("boast", lambda: [(Kind.RUN, new_id(9), RunField.SUMMARY, boast, None)])
    await sync(one, two)
    assert await counted() == {1}, "a run of a claim that nobody made counts for nothing, or no requeue would ever end it"


@pytest.mark.promise("C23")
async def test_a_hold_under_a_fence_that_no_claim_has_ends_no_count(memory_rigs: Rigs) -> None:
    """Nor does the same word of attempts or of a run; or an item that kills its hosts would be tried for ever."""
    rig = await memory_rigs.open()
    shown = await rig.add()
    item = parse_id(shown) or b""
    claim = await asyncio.wait_for(rig.pipeline.claim(item, "agent"), BOUND_S)
    assert isinstance(claim, Claim)
    row = RunRow(new_id(1), item, claim.claim_id, rig.node.public, "agent", RunState.INTERRUPTED, "coding", 1, reason=f"infra_lost: {NODE_ENDED} coding")
    await rig.pipeline.put_run(row)
    await rig.pipeline.finish(item, claim, "over", {"result": "infra_lost"}, charge_attempt=False)

    async def counted() -> int:
        return int((await rig.call("items.show", id=shown))["item"]["interruptions"])

    assert await counted() == 1
    strange = replace(claim, claim_id=new_id(8), epoch=2**60, receipt=2**60)
    boast = run_summary(replace(row, claim_id=strange.claim_id)) | {"claim_epoch": 2**60}
    await rig.node.write(item, lambda: [*claim_hold_writes(item, strange, "no reason", 1), (Kind.RUN, new_id(9), RunField.SUMMARY, boast, None)])
    assert await counted() == 1
    await rig.node.write(
        item, lambda: [(Kind.CLAIM, item, ClaimField.CLAIM, encode_claim(replace(claim, claim_id=new_id(7), epoch=2)), None)]
    )  # as earlier builds did
    await rig.node.write(item, lambda: [(Kind.ITEM, item, ItemField.ATTEMPTS, 0, strange.fence)])
    assert await counted() == 1
