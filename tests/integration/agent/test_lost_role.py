"""A node that loses its role while it has work: the run ends, the agent halts and says why, and the node goes on."""

from __future__ import annotations

import asyncio

import pytest
from agent_rig import AgentRig
from memory_pipeline import FAILURE_BOUND_S
from node_rig import Rigs, sync

from fabrik_node.agent.halt import HaltCode
from fabrik_node.agent.recover import recover_runs
from fabrik_node.agent.states import AgentState
from fabrik_node.domain.claims import Claim
from fabrik_node.domain.leases import LeaseTiming
from fabrik_node.domain.runs import RunRow, RunState
from fabrik_node.domain.stages import Coding, Merge
from fabrik_node.errors import AuthError
from fabrik_node.ids import new_id, parse_id

LOST = AuthError("this node has the role reader, and this write takes the role agent", "ask an admin")


async def test_a_run_whose_node_lost_its_role_fails_and_the_agent_halts(rig: AgentRig) -> None:
    item = rig.world.add()
    gate, go = rig.gate(), rig.gate("go")
    setup = rig.setup(command=f"echo $$ > {gate.path}; touch commit-1; read line < {go.path}")
    async with rig.agent(setup=setup) as loop:
        await gate.line()
        rig.pipeline.forbidden = LOST
        go.path.write_text("go\n")
        await rig.world.until(lambda: loop.state is AgentState.HALTED)
        assert not loop.accepting
        rig.world.add("another")
        rig.world.touch()
    [row] = rig.pipeline.last_rows()
    assert (row.state, row.reason) == (RunState.FAILED, f"not_allowed: {LOST} (ask an admin)")
    assert rig.remote.merges == []
    assert rig.world.claim_of(item).held, "it ends with its lease: this node may not give it back"
    assert rig.pipeline.claims_asked == [item]
    halt = rig.halts().halt
    assert halt is not None, "it survives the node"
    assert (halt.code, halt.reason) == (HaltCode.NOT_ALLOWED, f"{LOST} (ask an admin)")


async def test_a_node_that_loses_its_role_between_its_move_to_merge_and_the_push_merges_nothing(rig: AgentRig) -> None:
    item = rig.world.add()
    setup = rig.setup()

    def lose() -> None:
        assert isinstance(rig.world.items[item].stage, Merge)
        rig.pipeline.forbidden = LOST

    rig.workspaces.on_made = lambda made: setattr(made, "before_merge", lose)
    async with rig.agent(setup=setup) as loop:
        await rig.world.until(lambda: loop.state is AgentState.HALTED)
    [row] = rig.pipeline.last_rows()
    assert (row.state, row.reason) == (RunState.FAILED, f"not_allowed: {LOST} (ask an admin)")
    assert rig.remote.merges == []
    assert row.branch in rig.remote.branches, "its work waits there"


async def test_a_real_node_may_end_a_claim_as_long_as_it_has_the_role() -> None:
    rigs = Rigs(timing=LeaseTiming(beat_s=10.0, ttl_s=90.0, settle_s=0.0))
    try:
        admin, worker = await rigs.open(), await rigs.open(1)
        item = parse_id(await admin.add()) or b""
        await sync(admin, worker)
        claim = await worker.pipeline.claim(item, "agent")
        assert isinstance(claim, Claim)
        await sync(admin, worker)
        worker.pipeline.check_may_end(item, claim)
        await admin.call("nodes.role", key=worker.node.public.hex(), role="reader")
        await sync(admin, worker)
        with pytest.raises(AuthError, match="has the role reader, and this write takes the role agent"):
            worker.pipeline.check_may_end(item, claim)
    finally:
        await rigs.close()


async def test_a_run_that_is_cancelled_after_the_role_was_lost_ends_too(rig: AgentRig) -> None:
    rig.world.add()
    gate = rig.gate()
    async with rig.agent(command=f"echo $$ > {gate.path}; exec sleep 1000", kill_grace_s=0.1) as loop:
        await gate.line()
        [run_id] = loop.runs
        rig.pipeline.forbidden = LOST
        assert await asyncio.wait_for(loop.cancel(run_id, "by hand"), FAILURE_BOUND_S)
    assert rig.pipeline.last_rows()[0].reason.startswith("not_allowed: this node has the role reader")
    assert rig.pipeline.last_rows()[0].reason.endswith("before that: cancelled: by hand")


async def test_a_start_without_the_role_closes_its_runs_and_halts_the_agent(rig: AgentRig) -> None:
    item = rig.world.add(stage=Coding())
    claim = await rig.pipeline.claim(item, "agent")
    assert isinstance(claim, Claim)
    rows = [RunRow(new_id(n), item, claim.claim_id, claim.node, "agent", RunState.RUNNING, "coding", 1_700_000_000_000) for n in range(2)]
    rig.pipeline.forbidden = LOST
    halts = rig.halts()
    closed = await recover_runs(rig.pipeline, rig.workspaces, rows, rig.clock, 0.0, halts)
    assert [row.state for row in closed] == [RunState.INTERRUPTED] * 2
    assert "could not be given back, and ends with its lease: this node has the role reader" in closed[0].reason
    assert rig.pipeline.last_rows() == closed, "kept here"
    assert halts.halt is not None
    assert halts.halt.code is HaltCode.NOT_ALLOWED


async def test_on_a_real_node_the_halt_names_the_role_that_is_missing(rig: AgentRig) -> None:
    rigs = Rigs(timing=LeaseTiming(beat_s=10.0, ttl_s=90.0, settle_s=0.0))
    try:
        admin, worker = await rigs.open(), await rigs.open(1)
        item = parse_id(await admin.add()) or b""
        await sync(admin, worker)
        claim = await worker.pipeline.claim(item, "agent")
        assert isinstance(claim, Claim)
        row = RunRow(new_id(1), item, claim.claim_id, worker.node.public, "agent", RunState.RUNNING, "coding", 1_700_000_000_000)
        await worker.pipeline.put_run(row)
        await sync(admin, worker)
        await admin.call("nodes.role", key=worker.node.public.hex(), role="reader")
        await sync(admin, worker)
        halts = rig.halts()
        [closed] = await recover_runs(worker.pipeline, None, [row], worker.node.clock, 0.0, halts)
        assert halts.halt is not None
        assert halts.halt.reason.startswith("this node has the role reader, and this write takes the role agent (ask an admin of the mesh")
        kept = await worker.node.store.run(row.run_id)
        assert kept is not None
        assert (kept.state, kept.reason) == (RunState.INTERRUPTED, closed.reason)
    finally:
        await rigs.close()
