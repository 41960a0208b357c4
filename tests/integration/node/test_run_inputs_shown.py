"""What a run worked from, as each node shows it: with its digests, its engine, and what is something else by now."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from node_rig import BOUND_S, NodeRig, Rigs, sync

from fabrik_node import __version__
from fabrik_node.agent.inputs import run_inputs
from fabrik_node.config import AgentConfig, GitConfig
from fabrik_node.domain.claims import Claim
from fabrik_node.domain.run_inputs import engine
from fabrik_node.domain.runs import RunRow, RunState
from fabrik_node.ids import new_id, parse_id, show_id

BASE = bytes(range(20))


async def begun(rig: NodeRig, item: str, number: int = 1, version: str = __version__) -> RunRow:
    """A run that holds the item, written down as an agent does it."""
    view = rig.node.board.item(parse_id(item) or b"")
    assert view is not None
    claim = await asyncio.wait_for(rig.pipeline.claim(view.id, "agent"), BOUND_S)
    assert isinstance(claim, Claim)
    inputs = replace(run_inputs(view, AgentConfig(command="make it", qa="make test"), GitConfig()), base=BASE)
    row = RunRow(
        new_id(number), view.id, claim.claim_id, rig.node.public, "agent", RunState.RUNNING, "coding", 1_700_000_000_000, engine=engine(version), inputs=inputs
    )
    await rig.pipeline.put_run(row)
    return row


@pytest.mark.promise("A5")
async def test_inputs_are_shown_on_every_node_and_an_edited_item_is_drift_of_its_live_run(memory_rigs: Rigs) -> None:
    admin, owner = await memory_rigs.open(0), await memory_rigs.open(1)
    item = await admin.add("the work", body="as agreed", labels=["a"])
    await sync(admin, owner)
    row = await begun(owner, item)
    assert row.inputs is not None
    await sync(admin, owner)
    for rig in (admin, owner):
        shown = await rig.call("runs.show", id=show_id(row.run_id), ask=False)
        assert (shown["inputs"]["prompt"], shown["inputs"]["base"], shown["drift"]) == (row.inputs.prompt.hex(), BASE.hex(), [])
        assert (await rig.call("items.show", id=item))["drift"] == []
    await admin.call("items.edit", id=item, body="something else", labels=["b"])
    await sync(admin, owner)
    for rig in (admin, owner):
        shown = await rig.call("runs.show", id=show_id(row.run_id), ask=False)
        assert [each["what"] for each in shown["drift"]] == ["item text", "item labels"]
        assert shown["drift"][0]["recorded"] == row.inputs.prompt.hex()
        assert shown["drift"][0]["text"].startswith("item text: recorded ")
        assert [(each["run_id"], each["what"]) for each in (await rig.call("items.show", id=item))["drift"]] == [
            (show_id(row.run_id), "item text"),
            (show_id(row.run_id), "item labels"),
        ]
        drift = [cause for cause in (await rig.call("why", id=item))["causes"] if cause["code"] == "drift"]
        assert len(drift) == 2
        assert "works from something else than there is now: item text: recorded" in drift[0]["text"]
    # A row that comes from the store without its inputs, as after a restart, does not wipe them out.
    await owner.pipeline.put_run(replace(row, inputs=None, state=RunState.INTERRUPTED, reason="infra_lost: the node was killed"))
    assert (await owner.call("runs.show", id=show_id(row.run_id)))["inputs"]["prompt"] == row.inputs.prompt.hex()
    assert (await owner.call("items.show", id=item))["drift"] == [], "it is over"


@pytest.mark.promise("A4")
async def test_an_older_engine_is_named_beside_the_one_that_the_node_has(memory_rigs: Rigs) -> None:
    admin, owner = await memory_rigs.open(0), await memory_rigs.open(1)
    item = await admin.add("begun by an older version")
    await sync(admin, owner)
    old = await begun(owner, item, version="0.0.9")
    shown = await owner.call("runs.show", id=show_id(old.run_id))
    assert shown["drift"] == [
        {
            "what": "engine",
            "recorded": "fabrik-node 0.0.9",
            "now": engine(__version__),
            "text": f"engine: ran with fabrik-node 0.0.9, its node has {engine(__version__)}",
        }
    ]
    assert (await owner.call("items.show", id=item))["drift"][0]["what"] == "engine"
    claim = owner.node.board.claim(old.item)
    assert claim is not None
    await owner.pipeline.put_run(replace(old, state=RunState.INTERRUPTED, reason="infra_lost: killed"))
    await owner.pipeline.finish(old.item, claim, "infra_lost: killed", {"result": "infra_lost", "reason": "killed"}, charge_attempt=False)
    new = await begun(owner, item, number=2)
    shown = await owner.call("runs.show", id=show_id(new.run_id))
    assert (shown["run"]["engine"], shown["drift"]) == (engine(__version__), [])
    assert shown["before"] == {"run_id": show_id(old.run_id), "engine": "fabrik-node 0.0.9", "state": "interrupted"}
    await sync(admin, owner)
    assert (await admin.call("runs.show", id=show_id(old.run_id), ask=False))["drift"] == [], "nothing was heard of its node, so its version is not known here"
    for _ in range(2):
        owner.node.presence.publish({"version": "0.3.0"})
        assert admin.node.ephemeral_in(owner.node.presence.heard()[owner.node.public].message) is not None
    assert (await admin.call("runs.show", id=show_id(old.run_id), ask=False))["drift"][0]["now"] == "fabrik-node 0.3.0"
