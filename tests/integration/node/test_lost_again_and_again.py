"""What a real node counts of lost runs, and that a hold and a requeue end the count."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from node_rig import BOUND_S, Rigs

from fabrik_node.domain.claims import Claim
from fabrik_node.domain.interruptions import NODE_ENDED
from fabrik_node.domain.runs import RunRow, RunState
from fabrik_node.ids import new_id, parse_id


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
