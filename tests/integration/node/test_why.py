"""``why`` on whole nodes: the same question, answered from what each of them knows."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from node_rig import BOUND_S, NodeRig, Rigs, sync

from fabrik_node.domain.claims import Claim
from fabrik_node.domain.runs import RunRow, RunState
from fabrik_node.errors import Conflict, NotFound
from fabrik_node.ids import new_id, parse_id, show_id
from fabrik_node.service.explaining import Explaining
from fabrik_node.service.reading import Reader


def speak(listener: NodeRig, speaker: NodeRig, **agent: Any) -> None:
    """Two messages: that it takes work, and with what; ``accepting``: whether it does."""
    accepting = agent.pop("accepting", True)
    for _ in range(2):
        speaker.node.presence.publish({"accepting": accepting, "agent": agent} if agent else {})
        assert listener.node.ephemeral_in(speaker.node.presence.heard()[speaker.node.public].message)


@pytest.mark.promise("J6")
async def test_an_item_on_its_way_is_explained_at_each_step(memory_rigs: Rigs) -> None:
    rig, other = await memory_rigs.open(0), await memory_rigs.open(1)
    first, item = await rig.add("first"), await rig.add("second", labels=["gpu"])
    await rig.call("items.edit", id=item, depends_on=[first])
    await sync(rig, other)

    async def codes(which: str = item) -> list[str]:
        answer = await rig.call("why", id=which)
        assert (answer["kind"], answer["state"]) == ("item", answer["causes"][0]["code"])
        return [cause["code"] for cause in answer["causes"]]

    assert await codes() == ["depends"]
    await rig.call("items.edit", id=item, depends_on=[])
    assert await codes() == ["no_agent"]
    speak(rig, other, labels=["linux"], slots=1, busy=0, problem="")
    assert await codes() == ["labels"]
    speak(rig, other, labels=["linux", "gpu"], slots=1, busy=1, problem="")
    answer = await rig.call("why", id=item)
    assert answer["causes"][0]["text"] == "every agent that could take it is at work (node1 1 of 1), and 1 item is before it"
    speak(rig, other, labels=["gpu"], slots=1, busy=0, problem="the remote is gone")
    assert await codes() == ["agent_problem"]
    speak(rig, other, accepting=False, labels=["gpu"], slots=1, busy=0, problem="operator: new disk (fabrik-node drain --off)")
    answer = await rig.call("why", id=item)
    assert (answer["state"], answer["causes"][0]["text"]) == ("agent_problem", "node1 can not claim work: operator: new disk (fabrik-node drain --off)")
    speak(rig, other, accepting=False, labels=["gpu"], slots=1, busy=0, problem="")
    assert await codes() == ["no_agent"], "it takes nothing and does not say why"
    speak(rig, other, labels=["gpu"], slots=1, busy=0, problem="")
    assert await codes() == ["ready"]
    for odd in ({"labels": 7, "slots": "x", "busy": -1, "problem": 5}, {"labels": [1, b"x", "gpu"], "slots": True}):
        speak(rig, other, **odd)
        assert await codes() == ["ready"], "another version may say anything"

    await sync(rig, other)
    claim = await asyncio.wait_for(other.pipeline.claim(parse_id(item) or b"", "agent"), BOUND_S)
    assert isinstance(claim, Claim)
    row = RunRow(new_id(1), parse_id(item) or b"", claim.claim_id, other.node.public, "agent", RunState.RUNNING, "coding", 1_700_000_000_000)
    await other.pipeline.put_run(row)
    await sync(rig, other)
    run = show_id(row.run_id)
    answer = await rig.call("why", id=item)
    assert answer["causes"] == [
        {"code": "claimed", "text": "node1/agent has claimed it; no heartbeat was heard here yet", "next": f"fabrik-node runs show {run}"}
    ]
    assert [change["field"] for change in answer["changes"]][:1] == ["claim"]
    assert answer["changes"][0]["by"] == "node1"
    assert [each["run_id"] for each in answer["runs"]] == [run]
    of_run = await rig.call("why", id=run)
    assert (of_run["kind"], of_run["state"], of_run["run"]["evidence"]) == ("run", "unknown", of_run["causes"][0]["text"])
    other.pipeline.renew(row.item, claim, row.run_id, 1)
    speak(rig, other)
    await other.pipeline.put_run(replace(row, state=RunState.WAITING, reason="waits with finished work: no remote"))
    await sync(rig, other)
    answer = await rig.call("why", id=item)
    assert answer["causes"][0]["text"] == "node1/agent has it in hand; its run is waiting: waits with finished work: no remote; last heard of 0.0 s ago"
    memory_rigs.clock.advance(100)
    assert await codes() == ["holder_unreachable"]
    rig.watch(60)
    assert await codes() == ["takeover", "no_agent"], "its agent is silent by now, too"
    await other.pipeline.finish(parse_id(item) or b"", claim, "x", {}, charge_attempt=True, hold="3 attempts failed")
    await other.pipeline.put_run(replace(row, state=RunState.FAILED, ended_ms=1_700_000_001_000, exit_code=1, reason="the tests fail"))
    await sync(rig, other)
    assert await codes() == ["held"]
    of_run = await rig.call("why", id=run)
    assert [(cause["code"], cause["text"]) for cause in of_run["causes"]] == [("failed", "the tests fail"), ("held", "it is held: 3 attempts failed")]
    await rig.call("items.move", id=item, to="Archived", reason="Abandoned")
    assert await codes() == ["archived"]
    await rig.call("tombstone", id=item)
    with pytest.raises(NotFound, match="was deleted"):
        await rig.call("why", id=item)
    assert [cause["code"] for cause in (await rig.call("why", id=run))["causes"]] == ["failed", "deleted"]


@pytest.mark.promise("J6")
async def test_only_what_the_same_agents_could_take_now_is_before_it(memory_rigs: Rigs) -> None:
    rig, other = await memory_rigs.open(0), await memory_rigs.open(1)
    await sync(rig, other)
    mac, first = await rig.add("for another machine", labels=["mac"]), await rig.add("first")
    waits = await rig.add("waits")
    await rig.call("items.edit", id=waits, depends_on=[first])
    item = await rig.add("last")
    speak(rig, other, labels=["linux"], slots=1, busy=0, problem="")

    async def text() -> str:
        return str((await rig.call("why", id=item))["causes"][0]["text"])

    assert (await text()).endswith(", and 1 item is before it"), "one is for nobody who is here, one has to wait itself"
    await rig.call("items.edit", id=mac, labels=[])
    assert (await text()).endswith(", and 2 items are before it")


async def test_what_keeps_the_own_agent_from_claiming_and_is_told_to_nobody_else_is_a_cause(memory_rigs: Rigs) -> None:
    rig = await memory_rigs.open(0)
    item = await rig.add()
    said = {"accepting": True, "agent": {"labels": [], "slots": 1, "busy": 0, "problem": ""}}
    rig.node.describe_self = lambda: said  # its own beats say it, too
    rig.node.presence.publish(said)
    assert (await Explaining(rig.reader).why({"id": item}))["state"] == "ready"
    [cause] = (await Explaining(rig.reader, own_problem=lambda: "cut off").why({"id": item}))["causes"]
    assert (cause["code"], cause["text"]) == ("agent_problem", "node0 can not claim work: cut off")


async def test_what_is_asked_for_must_be_one_thing(memory_rigs: Rigs) -> None:
    rig = await memory_rigs.open(0)
    item = await rig.add()
    raw = parse_id(item) or b""
    await rig.pipeline.put_run(RunRow(raw[:15] + bytes([raw[15] ^ 1]), raw, new_id(2), rig.node.public, "agent", RunState.FAILED, "qa", 1, ended_ms=2))
    with pytest.raises(Conflict, match="ambiguous: item"):
        await rig.call("why", id=item[:12])
    with pytest.raises(NotFound, match="no item and no run"):
        await rig.call("why", id="zzzzzz")


async def test_a_store_that_nobody_serves_says_so(memory_rigs: Rigs) -> None:
    rig = await memory_rigs.open(0)
    item = await rig.add()
    reader = Reader(replica=rig.node.replica, genesis=rig.reader._genesis, store=rig.node.store, clock=rig.node.clock, own=rig.node.public, source="store")
    answer = await Explaining(reader).why({"id": item})
    assert (answer["source"], answer["state"]) == ("store", "not_served")
    await asyncio.wait_for(rig.pipeline.claim(parse_id(item) or b"", "agent"), BOUND_S)
    assert (await Explaining(reader).why({"id": item}))["causes"][0]["text"].endswith("nobody knows here")


async def test_a_hold_is_one_change(memory_rigs: Rigs) -> None:
    """It stands in two registers, of one op."""
    rig = await memory_rigs.open()
    item = await rig.add("one")
    claim = await asyncio.wait_for(rig.pipeline.claim(parse_id(item) or b"", "agent"), BOUND_S)
    assert isinstance(claim, Claim)
    await rig.pipeline.finish(parse_id(item) or b"", claim, "x", {}, charge_attempt=True, hold="3 attempts failed")
    answer = await rig.call("why", id=item)
    assert [change["field"] for change in answer["changes"] if "hold" in change["field"]] == ["hold"]
