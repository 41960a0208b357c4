"""What passes by itself costs a run nothing but time: a full disk, a git remote that is away."""

from __future__ import annotations

import asyncio

import pytest
from agent_rig import AgentRig
from memory_pipeline import FAILURE_BOUND_S
from memory_workspaces import MemoryWorkspace

from fabrik_node.agent.step_keeper import StepKeeper
from fabrik_node.domain.leases import LeaseState
from fabrik_node.domain.nearness import Nearness
from fabrik_node.domain.run_state import RunSignals, judge_run
from fabrik_node.domain.runs import RunState
from fabrik_node.errors import ClaimLost, StoreFull, Unreachable
from fabrik_node.ids import show_id

FULL = StoreFull("the disk is full", "free space")
AWAY = Unreachable("the remote is away", "git ls-remote")
FOREIGN = RunSignals(own=False, claim_wins=True, lease=LeaseState.FRESH, lease_age_s=0.1, owner=Nearness.ALIVE, owner_age_s=0.1, renews=True)
BEGUN = "echo >> ../../begun; touch commit-1"


@pytest.mark.promise("I7")
async def test_a_run_waits_for_space_and_goes_on_where_it_was(rig: AgentRig) -> None:
    item = rig.world.add()
    gate = rig.gate()
    async with rig.agent(command=f"{BEGUN}; echo $$ > {gate.path}") as loop:
        await gate.line()
        rig.pipeline.full = FULL
        await rig.world.until(lambda: rig.pipeline.refused_full >= 3)
        assert rig.remote.merges == []
        assert len(loop.runs) == 1
        rig.pipeline.full = None
        await rig.world.until(lambda: bool(rig.world.finishes))
        await asyncio.wait_for(loop.drain(), FAILURE_BOUND_S)
    assert [row.state for row in rig.pipeline.last_rows()] == [RunState.COMPLETED]
    assert len(rig.remote.merges) == len(rig.pipeline.claims_asked) == 1
    assert (rig.folder / "begun").read_text() == "\n"
    assert rig.world.finish_of(item).outcome["result"] == "ok"


@pytest.mark.promise("I7", "I24")
async def test_a_node_that_stops_does_not_wait_for_space(rig: AgentRig) -> None:
    item = rig.world.add()
    gate = rig.gate()
    async with rig.agent(command=f"{BEGUN}; echo $$ > {gate.path}; while :; do sleep 1000; done", kill_grace_s=0.1) as loop:
        await gate.line()
        rig.pipeline.full = FULL
        await asyncio.wait_for(loop.stop(), FAILURE_BOUND_S)
    assert [row.state for row in rig.pipeline.last_rows()] == [RunState.RUNNING], "as it was written; the next start closes it"
    assert rig.world.claim_of(item).held
    assert rig.remote.kept, "its work is safe"


@pytest.mark.promise("I7")
async def test_a_claim_for_which_there_is_no_space_does_not_end_the_agent(rig: AgentRig) -> None:
    rig.world.add()
    rig.pipeline.full = FULL
    async with rig.agent() as loop:
        await rig.world.until(lambda: len(rig.pipeline.claims_asked) >= 2)
        assert loop.problem == "the disk is full (free space)"
        rig.pipeline.full = None
        await rig.world.until(lambda: bool(rig.world.finishes))
    assert len(rig.remote.merges) == 1


@pytest.mark.promise("I7")
async def test_a_cancel_that_can_not_be_written_down_is_refused(rig: AgentRig) -> None:
    rig.world.add()
    gate = rig.gate()
    async with rig.agent(command=f"{BEGUN}; echo $$ > {gate.path}; while :; do sleep 1000; done", kill_grace_s=0.1) as loop:
        await gate.line()
        [run] = loop.runs
        rig.pipeline.full = FULL
        with pytest.raises(StoreFull):
            await loop.cancel(run, "by hand")
        assert loop.runs[run].row.reason == ""
        rig.pipeline.full = None
        assert await loop.cancel(run, "by hand")
    assert [row.reason for row in rig.pipeline.last_rows()] == ["cancelled: by hand"]


def goes_away_once(rig: AgentRig) -> None:
    """The remote, when the first finished work is to be pushed."""

    def on_made(made: MemoryWorkspace) -> None:
        async def away() -> None:
            made.hang, rig.remote.down = None, AWAY

        made.hang = away

    rig.workspaces.on_made = on_made


@pytest.mark.promise("C10")
async def test_finished_work_waits_for_its_remote_and_says_so(rig: AgentRig) -> None:
    item = rig.world.add()
    goes_away_once(rig)
    async with rig.agent(command=BEGUN) as loop:
        await rig.world.until(lambda: bool(rig.pipeline.rows) and rig.pipeline.last_rows()[0].state is RunState.WAITING)
        verdict = judge_run(rig.pipeline.last_rows()[0], FOREIGN)
        assert rig.world.claim_of(item).held
        assert rig.remote.merges == []
        rig.remote.down = None
        await rig.world.until(lambda: bool(rig.world.finishes))
        await asyncio.wait_for(loop.drain(), FAILURE_BOUND_S)
    assert (verdict.state, verdict.evidence) == (RunState.WAITING, "waits with finished work: the remote is away; last heard of 0.1 s ago")
    assert [row.state for row in rig.pipeline.last_rows()] == [RunState.COMPLETED]
    assert (rig.folder / "begun").read_text() == "\n", "the work was done once"
    assert [merged for merged, _ in rig.remote.merges] == [show_id(item)]


@pytest.mark.promise("C10", "F11")
async def test_whoever_waits_for_its_remote_stops_when_the_claim_is_lost(rig: AgentRig) -> None:
    item = rig.world.add()
    goes_away_once(rig)
    async with rig.agent(command=BEGUN, backoff_s=600.0):
        await rig.world.until(lambda: bool(rig.pipeline.rows) and rig.pipeline.last_rows()[0].state is RunState.WAITING)
        rig.world.supersede(item)
        await rig.world.until(lambda: rig.pipeline.last_rows()[0].state is RunState.SUPERSEDED)
    assert rig.remote.merges == []


@pytest.mark.promise("C10")
async def test_the_files_of_a_step_wait_for_their_remote_and_the_run_says_so(rig: AgentRig) -> None:
    item = rig.world.add()
    at_step, kept = rig.gate("at_step"), rig.gate("kept")
    async with rig.agent(command=f"echo > {at_step.path}; read line < {kept.path}; touch commit-1") as loop:
        await at_step.line()
        [run] = loop.runs.values()
        keeper, rig.remote.down = StepKeeper(lambda: loop.runs), AWAY
        keeping = [asyncio.ensure_future(keeper.keep(run.row.run_id, f"Step {name}\n")) for name in ("one", "two")]
        await rig.world.until(lambda: run.row.state is RunState.WAITING)
        assert (run.row.reason, run.under_way.waiting.is_on) == ("waits with the files of a step: the remote is away", True)
        rig.remote.down = None
        await asyncio.wait_for(asyncio.gather(*keeping), FAILURE_BOUND_S)
        assert (run.row.state, run.row.reason, run.under_way.waiting.is_on) == (RunState.RUNNING, "", False)
        kept.path.write_text("yes\n")
        await rig.world.until(lambda: bool(rig.world.finishes))
    assert rig.world.finish_of(item).outcome["result"] == "ok"
    assert sorted(rig.remote.messages[:2]) == ["Step one\n", "Step two\n"]


@pytest.mark.parametrize("end", ["its command ends", "it is cancelled"])
async def test_a_step_does_not_wait_for_the_remote_when_its_run_is_over(rig: AgentRig, end: str) -> None:
    rig.world.add()
    at_step, over = rig.gate("at_step"), rig.gate("over")
    async with rig.agent(command=f"echo > {at_step.path}; read line < {over.path}; exit 1", kill_grace_s=0.1) as loop:
        await at_step.line()
        [run] = loop.runs.values()
        keeper, rig.remote.down = StepKeeper(lambda: loop.runs), AWAY
        keeping = asyncio.ensure_future(keeper.keep(run.row.run_id, "Step one\n"))
        await rig.world.until(lambda: run.row.state is RunState.WAITING)
        if end == "it is cancelled":
            await run.cancel("by hand")
        else:
            over.path.write_text("now\n")
        with pytest.raises((ClaimLost, Unreachable)):
            await asyncio.wait_for(keeping, FAILURE_BOUND_S)
        rig.remote.down = None
        await rig.world.until(lambda: bool(rig.world.finishes))
    assert "Step one\n" not in rig.remote.messages
    assert all(row.state is not RunState.WAITING for row in rig.pipeline.last_rows())


@pytest.mark.promise("C10")
async def test_a_step_gives_up_when_the_remote_stays_away_and_its_command_goes_on(rig: AgentRig) -> None:
    rig.world.add()
    at_step, over = rig.gate("at_step"), rig.gate("over")
    async with rig.agent(command=f"echo > {at_step.path}; read line < {over.path}; touch commit-1", remote_wait_s=0.05) as loop:
        await at_step.line()
        [run] = loop.runs.values()
        rig.remote.down = AWAY
        with pytest.raises(Unreachable):
            await asyncio.wait_for(StepKeeper(lambda: loop.runs).keep(run.row.run_id, "Step one\n"), FAILURE_BOUND_S)
        assert (run.row.state, run.row.reason, run.under_way.waiting.is_on) == (RunState.RUNNING, "", False)
        rig.remote.down = None
        over.path.write_text("now\n")
        await rig.world.until(lambda: bool(rig.world.finishes))
