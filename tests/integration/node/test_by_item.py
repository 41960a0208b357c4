"""What is known by item equals a look at all rows, whatever was merged, built anew or read back; and a bulk reads the runs of its own items alone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any

import pytest
from node_rig import BOUND_S, NodeRig, Rigs, sync

from fabrik_node._core import step_id
from fabrik_node.domain.claims import Claim
from fabrik_node.domain.runs import RunRow, RunState
from fabrik_node.domain.schema import Kind, RunField
from fabrik_node.domain.steps import Step, StepState
from fabrik_node.ids import new_id, parse_id, show_id
from fabrik_node.node.by_item import ByItem
from fabrik_node.node.pipeline import run_summary
from fabrik_node.node.steps import step_write

pytestmark = pytest.mark.promise("I20")

ITEMS = [bytes([number]) * 16 for number in range(1, 5)]


def by_looking(rig: NodeRig) -> dict[bytes, tuple[dict[bytes, object], list[bytes]]]:
    runs, steps = rig.node.replica.rows(Kind.RUN), rig.node.replica.rows(Kind.STEP)
    summaries = [(run, row[RunField.SUMMARY]) for run, row in runs]
    return {item: ({run: said for run, said in summaries if said.get("item") == item}, [step for step, _ in steps if step[:16] == item]) for item in ITEMS}


def known(index: ByItem) -> dict[bytes, tuple[dict[bytes, object], list[bytes]]]:
    found: dict[bytes, tuple[dict[bytes, object], list[bytes]]] = {item: (dict(index.runs(item)), index.steps(item)) for item in ITEMS}
    assert sorted(index.all_runs()) == sorted(run for runs, _ in found.values() for run in runs)
    return found


async def write_anything(rig: NodeRig, rng: random.Random) -> None:
    """A run that is new, says something new, or names another item or none; or a step."""
    item = rng.choice(ITEMS)
    if rng.random() < 0.4:
        step = Step(item, rng.choice("abcdef"), rng.choice(list(StepState)), bytes(32), rng.randint(1, 9), bytes(16), bytes(16), 1)
        await rig.node.write(rng.random(), lambda: [step_write(step, None)])
        return
    run = bytes([rng.randint(1, 12)]) * 16
    row = RunRow(run, item, bytes(16), rig.node.public, "agent", rng.choice(list(RunState)), "coding", 1, reason=str(rng.random()))
    summary = run_summary(row)
    if rng.random() < 0.1:
        summary = {name: value for name, value in summary.items() if name != "item"}
    elif rng.random() < 0.1:
        summary = summary | {"item": "no id"}
    await rig.node.write(rng.random(), lambda: [(Kind.RUN, run, RunField.SUMMARY, summary, None)])


@pytest.mark.parametrize("seed", range(4))
async def test_it_equals_a_look_at_all_rows(memory_rigs: Rigs, seed: int) -> None:
    rng = random.Random(seed)
    admin, two, three = await memory_rigs.open(0), await memory_rigs.open(1), await memory_rigs.open(2)
    await sync(admin, two, three)
    unfilled = ByItem(admin.node.replica)
    for _ in range(6):
        for _ in range(rng.randint(1, 12)):
            await write_anything(rng.choice((two, three)), rng)
        if rng.random() < 0.5:
            await sync(admin, two, three)
        for rig in (admin, two, three):
            assert known(rig.node.by_item) == by_looking(rig), seed
    await sync(admin, two, three)
    before = by_looking(admin)
    assert known(unfilled) == before, "the first question fills it"
    await admin.call("nodes.revoke", key=two.node.public.hex(), keep_nothing=True)
    after = by_looking(admin)
    assert after != before, "what a revoked key wrote is void, and the replica is built anew"
    assert known(admin.node.by_item) == after, seed
    await admin.stop()
    again = await memory_rigs.open(0)
    assert known(again.node.by_item) == by_looking(again) == after, seed


async def test_what_is_asked_of_one_item_reads_its_own_rows_alone(memory_rigs: Rigs, monkeypatch: pytest.MonkeyPatch) -> None:
    """As counted by the ids that are read: of 40 items with two runs and a step each, only what belongs to the one in question."""
    one, two = await memory_rigs.open(0), await memory_rigs.open(1)
    items = [parse_id(await one.add(f"item {number}")) or b"" for number in range(40)]
    for item in items:
        for state in (RunState.FAILED, RunState.COMPLETED):
            claim = await asyncio.wait_for(one.pipeline.claim(item, "agent"), BOUND_S)
            assert isinstance(claim, Claim), claim
            await one.pipeline.put_run(RunRow(new_id(1), item, claim.claim_id, one.node.public, "agent", state, "coding", 1, ended_ms=2))
            await one.pipeline.finish(item, claim, "over", {"result": "x"}, charge_attempt=False)
        step = Step(item, "build", StepState.DONE, bytes(32), 1, bytes(16), bytes(16), 1)
        await one.node.write(item, lambda step=step: [step_write(step, one.node.replica.winning_fence(step.item))])  # type: ignore[misc]  # inference of the default argument

    def refuse(_: ByItem) -> ByItem:
        raise AssertionError("all rows were looked at")

    monkeypatch.setattr(ByItem, "fill", refuse)
    read: list[bytes] = []
    asked = ByItem.runs

    def noted(index: ByItem, item: bytes) -> Mapping[bytes, Mapping[str, Any]]:
        read.append(item)
        return asked(index, item)

    monkeypatch.setattr(ByItem, "runs", noted)
    await sync(one, two)
    assert read
    assert set(read) <= set(items), "a bulk reads the runs of items, never those of all"
    assert len(two.node.by_item.runs(items[7])) == 2
    assert two.service.steps.newest_done(items[7]) is None
    assert [step.name for step in two.service.steps.of(items[7])] == ["build"]
    assert two.node.by_item.steps(items[7]) == [step_id(items[7], "build")]
    read.clear()
    shown = show_id(items[7])
    assert len((await two.call("items.show", id=shown))["runs"]) == 2
    assert (await two.call("runs.list", item=shown))["total"] == 2
    assert (await two.call("why", id=shown))["runs"]
    assert set(read) == {items[7]}
