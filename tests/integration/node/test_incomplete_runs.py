"""``runs recovery``: what was left incomplete, and what to type next."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import Any

import pytest
from node_rig import BOUND_S, NodeRig, Rigs, sync

from fabrik_node.domain.claims import Claim
from fabrik_node.domain.runs import RunRow, RunState
from fabrik_node.domain.stages import Coding
from fabrik_node.ids import new_id, parse_id, show_id
from fabrik_node.process import process_id
from fabrik_node.service.incomplete import Incomplete


async def begin(rig: NodeRig, item: str, number: int = 1) -> RunRow:
    """A run of a claim that this node holds."""
    claim = await asyncio.wait_for(rig.pipeline.claim(parse_id(item) or b"", "agent"), BOUND_S)
    assert isinstance(claim, Claim)
    if not isinstance(rig.node.board.stage(parse_id(item) or b""), Coding):
        await rig.pipeline.move(parse_id(item) or b"", Coding(), claim)
    row = RunRow(
        new_id(number), parse_id(item) or b"", claim.claim_id, rig.node.public, "agent", RunState.RUNNING, "coding", 1_700_000_000_000, branch="fabrik/b"
    )
    await rig.pipeline.put_run(row)
    return row


async def end(rig: NodeRig, row: RunRow, state: RunState, hold: str = "") -> None:
    claim = rig.node.board.claim(row.item)
    assert claim is not None
    await rig.pipeline.finish(row.item, claim, "over", {"result": "agent_failed", "reason": "over"}, charge_attempt=False, hold=hold)
    await rig.pipeline.put_run(replace(row, state=state, ended_ms=row.started_ms + 1, reason="over"))


async def listed(rig: NodeRig) -> list[dict[str, Any]]:
    answer = await rig.call("runs.recovery")
    assert (answer["open"], answer["unfinished"]) == tuple(sum(run["kind"] == kind for run in answer["runs"]) for kind in ("open", "unfinished"))
    return list(answer["runs"])


@pytest.mark.promise("C12", "D51")
async def test_a_run_without_an_end_is_listed_until_it_has_one(memory_rigs: Rigs) -> None:
    rig = await memory_rigs.open()
    item = await rig.add("left")
    row = await begin(rig, item)
    name = show_id(row.run_id)
    [run] = await listed(rig)
    assert (run["kind"], run["run_id"], run["state"], run["phase"], run["branch"]) == ("open", name, "interrupted", "coding", "fabrik/b")
    assert run["do"] == f"fabrik-node runs watch {name}"
    rig.at_work.add(row.run_id)
    [run] = await listed(rig)
    assert (run["state"], run["do"]) == ("running", f"fabrik-node runs logs --follow {name}")
    rig.at_work.clear()
    alive = process_id(os.getpid())
    await rig.pipeline.put_run(replace(row, process=alive))
    [run] = await listed(rig)
    assert (run["state"], run["do"]) == ("orphaned", f"kill {os.getpid()}")
    await end(rig, row, RunState.INTERRUPTED)
    [run] = await listed(rig)
    assert (run["kind"], run["why"], run["do"]) == ("unfinished", "its item waits in Coding: the next agent tries again", f"fabrik-node why {item}")
    newer = await begin(rig, item, 2_000_000_000_000)
    assert [(run["kind"], run["run_id"]) for run in await listed(rig)] == [("open", show_id(newer.run_id))], "somebody is at it again"
    await end(rig, newer, RunState.FAILED, hold="3 of 3 attempts failed")
    [run] = await listed(rig)
    assert (run["kind"], run["why"], run["do"]) == ("unfinished", "its item is held: 3 of 3 attempts failed", f"fabrik-node items requeue {item}")
    await rig.call("items.move", id=item, to="Archived", reason="Blocked")
    assert await listed(rig) == []


@pytest.mark.promise("C12")
async def test_a_run_of_another_node_says_where_it_is_and_what_gives_its_item_to_others(memory_rigs: Rigs) -> None:
    admin, owner = await memory_rigs.open(0), await memory_rigs.open(1)
    item = await admin.add()
    await sync(admin, owner)
    row = await begin(owner, item)
    await sync(admin, owner)
    [run] = await listed(admin)
    assert (run["kind"], run["own"], run["do"]) == ("open", False, f"fabrik-node claims release {item}")
    assert run["why"].startswith("node1 closes it when it is back")
    await admin.call("claims.release", item=item)
    [run] = await listed(admin)
    assert (run["state"], run["do"]) == ("superseded", f"fabrik-node claims show {item}")
    assert show_id(row.run_id) == run["run_id"]


@pytest.mark.promise("C12")
async def test_a_run_that_came_with_a_copy_of_a_home_is_not_told_to_be_ended(memory_rigs: Rigs) -> None:
    rig = await memory_rigs.open()
    row = await begin(rig, await rig.add())
    await rig.pipeline.put_run(replace(row, process=process_id(os.getpid())))

    async def copied() -> set[bytes]:
        return {row.run_id}

    answer = await Incomplete(rig.reader, copied).recovery({})
    [run] = answer["runs"]
    assert (run["kind"], run["evidence"], run["next"]) == ("open", "it came with a copy of another home", "")
    assert run["do"] == f"fabrik-node runs show {show_id(row.run_id)}"
    assert run["why"].endswith("ask there")
    assert "kill" not in str(run)


async def test_a_finished_run_is_not_listed(memory_rigs: Rigs) -> None:
    rig = await memory_rigs.open()
    row = await begin(rig, await rig.add())
    await end(rig, row, RunState.COMPLETED)
    assert await listed(rig) == []
