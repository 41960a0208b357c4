"""``claim.conflict``: each node tells each case of work that was done twice, once, with who was kept; in whatever order it hears of the two."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from typing import Any

import pytest
from node_rig import BOUND_S, TIMING, NodeRig, Rigs, pull_branch, sync

from fabrik_node.domain.claims import Claim
from fabrik_node.domain.runs import RunRow, RunState
from fabrik_node.ids import new_id, parse_id, show_id

pytestmark = pytest.mark.promise("F14")


async def at_work(rig: NodeRig, item: bytes, number: int) -> RunRow:
    claim = await asyncio.wait_for(rig.pipeline.claim(item, "agent"), BOUND_S)
    assert isinstance(claim, Claim), claim
    row = RunRow(new_id(number), item, claim.claim_id, rig.node.public, "agent", RunState.RUNNING, "coding", 1_000 * number, branch=f"branch {number}")
    await rig.pipeline.put_run(row)
    return row


async def told(rig: NodeRig) -> list[dict[str, Any]]:
    await asyncio.wait_for(rig.node.stream.settled(), BOUND_S)
    return [dict(event.data) for event in await rig.events("claim.conflict")]


async def apart(*rigs: NodeRig) -> tuple[bytes, list[RunRow]]:
    """An item that all of them know, and a run of each that knows of no other."""
    item = parse_id(await rigs[0].add("twice")) or b""
    await sync(*rigs)
    return item, [await at_work(rig, item, number + 1) for number, rig in enumerate(rigs)]


async def test_every_node_tells_it_once_with_the_same_side_kept_also_after_a_restart(rigs: Rigs) -> None:
    one, two, third = await rigs.open(0), await rigs.open(1), await rigs.open(2)
    await sync(one, two, third)
    item, rows = await apart(one, two)
    assert await told(one) == await told(two) == []
    await sync(one, two, third)
    said = [await told(rig) for rig in (one, two, third)]
    assert [len(each) for each in said] == [1, 1, 1]
    [conflict] = (await third.call("claims.conflicts"))["conflicts"]
    for [event] in said:
        assert event == {name: value for name, value in conflict.items() if name != "at"}, "as it is listed"
    assert {said[0][0][side]["branch"] for side in ("winner", "loser")} == {"branch 1", "branch 2"}

    loser, row = next((rig, row) for rig, row in zip((one, two), rows, strict=True) if not rig.pipeline.is_winning(item, row.claim_id))
    await loser.pipeline.put_run(replace(row, state=RunState.SUPERSEDED, ended_ms=90_000))
    await sync(one, two, third)
    for number, rig in enumerate((one, two, third)):
        await rig.stop()
        await rig.node.store.close()
        again = await rigs.open(number)
        assert len(await told(again)) == 1, "the same conflict is not told again, whatever becomes of its loser"


async def test_in_whatever_order_a_node_hears_of_it(memory_rigs: Rigs) -> None:
    one, two = await memory_rigs.open(0), await memory_rigs.open(1)
    await sync(one, two)
    await apart(one, two)
    logs = {rig: [(head.author, head.epoch) for head in rig.node.heads() if head.author == rig.node.public] for rig in (one, two)}
    for number, order in enumerate(itertools.permutations((one, two)), 2):
        hears = await memory_rigs.open(number)
        for source in (one, *order):  # the admin's first: members are in it
            for author, epoch in logs[source]:
                rows, _ = await source.node.read(author, epoch, 0, 0, 1 << 20)
                for row in rows:
                    await hears.node.ingest([row.data], source.node.public)
                await pull_branch(hears, source, author, epoch, 0, 0)
        assert len(await told(hears)) == 1, order


async def test_a_crash_before_the_event_was_stored_tells_it_at_the_next_start(rigs: Rigs) -> None:
    one, two = await rigs.open(0), await rigs.open(1)
    await sync(one, two)
    await apart(one, two)
    await asyncio.wait_for(one.node.stream.settled(), BOUND_S)
    upto = (await one.node.store.events_upto())[1]
    chained = []
    for head in two.node.heads():
        if head.author == two.node.public:
            rows, _ = await two.node.read(head.author, head.epoch, 0, 0, 1 << 20)
            chained += one.node.replica.chain(one.node.replica.verify([row.data for row in rows])).chained
    await one.node.store.append([each for each in chained if each.ops])
    assert one.running is not None
    one.running.cancel()
    await one.node.store.close()
    again = await rigs.open(0)
    assert (await again.node.store.events_upto())[1] >= upto
    assert len(await told(again)) == 1
    await again.stop()
    await again.node.store.close()
    assert len(await told(await rigs.open(0))) == 1


async def test_what_was_taken_over_is_told_when_its_holder_says_that_it_worked_on(memory_rigs: Rigs) -> None:
    one, two = await memory_rigs.open(0), await memory_rigs.open(1)
    await sync(one, two)
    item = parse_id(await one.add("slow")) or b""
    row = await at_work(one, item, 1)
    await sync(one, two)
    two.watch(TIMING.takeover_after_s(TIMING.ttl_s) + TIMING.beat_s)
    await at_work(two, item, 2)
    await sync(one, two)
    assert await told(one) == await told(two) == [], "its holder may be dead: the takeover itself is claim.superseded"
    await one.pipeline.put_run(replace(row, state=RunState.SUPERSEDED, ended_ms=61_000))
    await sync(one, two)
    for rig in (one, two):
        [event] = await told(rig)
        assert (event["kind"], event["winner"]["branch"], event["loser"]["branch"], event["wasted_s"]) == ("takeover", "branch 2", "branch 1", 60.0)


async def test_a_run_that_ends_while_the_next_one_begins_is_no_conflict(memory_rigs: Rigs) -> None:
    one, two, third = await memory_rigs.open(0), await memory_rigs.open(1), await memory_rigs.open(2)
    await sync(one, two, third)
    item = parse_id(await one.add("again")) or b""
    row = await at_work(one, item, 1)
    claim = one.node.board.claim(item)
    assert claim is not None
    await one.pipeline.finish(item, claim, "failed", {}, charge_attempt=False)
    await sync(one, two, third)
    await at_work(two, item, 2)
    await sync(two, third)
    await one.pipeline.put_run(replace(row, state=RunState.FAILED, ended_ms=3_000))
    await sync(one, two, third)
    assert [await told(rig) for rig in (one, two, third)] == [[], [], []]
    assert (await third.call("claims.conflicts", item=show_id(item)))["conflicts"] == []
