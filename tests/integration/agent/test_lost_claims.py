"""A run that may not go on stops at once: another claim wins, or nobody hears of it any more."""

from __future__ import annotations

from dataclasses import replace

import pytest
from agent_rig import DAEMON, AgentRig, has_ended
from node_rig import eventually
from store_doubles import HandClock

from fabrik_node.agent.underway import RunUnderWay
from fabrik_node.domain.claims import Claim
from fabrik_node.domain.leases import LeaseState, LeaseTable, LeaseTiming
from fabrik_node.domain.run_state import RunSignals, judge_run
from fabrik_node.domain.runs import RunState
from fabrik_node.domain.stages import Backlog, Coding, Qa, Stage
from fabrik_node.ids import show_id
from fabrik_node.process import is_alive


@pytest.mark.promise("F11")
async def test_a_superseded_run_stops_with_everything_it_started(rig: AgentRig) -> None:
    item = rig.world.add()
    gate = rig.gate()
    daemon = rig.script("daemon.py", DAEMON)
    command = f'{daemon} {gate.path} & trap "" TERM; echo $$ > {gate.path}; while :; do sleep 1000; done'
    async with rig.agent(command=command, kill_grace_s=0.1):
        processes = [await gate.process(), await gate.process()]
        rig.world.supersede(item)
        await rig.world.until(lambda: rig.pipeline.last_rows()[0].state is RunState.SUPERSEDED)
        assert all(has_ended(process) for process in processes)
        rig.world.items[item] = replace(rig.world.items[item], hold={"reason": "by hand"})
    row = rig.pipeline.last_rows()[0]
    assert row.reason == "superseded: superseded by operator"
    assert rig.remote.kept == [row.branch]
    assert rig.remote.merges == []
    assert rig.world.finishes == []
    assert row.claim_id in rig.pipeline.forgotten
    assert not rig.workspaces.made[0].removed


@pytest.mark.promise("I17")
@pytest.mark.parametrize(("stage_ttl_s", "late"), [({}, "80 of 90"), ({"Coding": 40.0, "Qa": 1000.0}, "40 of 40")])
async def test_a_holder_that_nobody_hears_stops_itself_at_80_percent_of_the_ttl(rig: AgentRig, stage_ttl_s: dict[str, float], late: str) -> None:
    clock = HandClock()
    rig.pipeline.stage_ttl_s = stage_ttl_s
    rig.clock = rig.pipeline.clock = clock
    rig.timing = LeaseTiming(beat_s=0.01, ttl_s=90.0, settle_s=0.0)
    item = rig.world.add()
    gate = rig.gate()
    command = f'trap "" TERM; echo $$ > {gate.path}; while :; do sleep 1000; done'
    async with rig.agent(command=command, kill_grace_s=0.1, backoff_s=600.0):
        process = await gate.process()
        rig.pipeline.reachable = False
        heard_at = clock.seconds
        # Each renewal that nobody hears takes ten seconds of the hand clock.
        rig.pipeline.on_renew = lambda: clock.advance(10.0) if clock.seconds < heard_at + 80.0 else None
        await rig.world.until(lambda: bool(rig.world.finishes))
        assert has_ended(process)
    finish = rig.world.finish_of(item)
    assert (finish.charged, finish.outcome["result"]) == (False, "lease_lost")
    assert finish.reason.startswith(f"lease_lost: the lease could not be renewed for {late} s")
    assert clock.seconds - heard_at < rig.timing.takeover_after_s(90.0)
    assert rig.world.stages[item][-1] == Backlog()
    assert rig.remote.kept == [rig.pipeline.last_rows()[0].branch]


@pytest.mark.promise("C1", "C3")
async def test_a_lost_heartbeat_alone_does_not_make_a_run_dead(rig: AgentRig) -> None:
    clock = HandClock()
    observed = LeaseTable(LeaseTiming())
    item = rig.world.add()
    gate = rig.gate()
    async with rig.agent(command=f"echo $$ > {gate.path}; exec sleep 1000", kill_grace_s=0.1) as loop:
        await gate.line()
        await rig.world.until(lambda: rig.pipeline.last_rows()[0].state is RunState.RUNNING)
        [run] = loop.runs.values()
        row = rig.pipeline.last_rows()[0]
        assert row.process is not None
        before = run.keeper.beats
        rig.pipeline.on_renew = rig.world.stir_from_thread
        await rig.world.until(lambda: run.keeper.beats > before + 2)
        observed.observe(row.claim_id, 1, 1, row.run_id, clock.now())

        await run.keeper.stop()
        clock.advance(100.0)
        lease = observed.state(row.claim_id, 90.0, clock.now())
        assert lease is LeaseState.UNREACHABLE, "nobody may take it over"
        signals = RunSignals(own=True, in_hand=True, process_alive=is_alive(row.process), lease=lease, lease_age_s=100.0, progress_age_s=0.0, claim_wins=True)
        verdict = judge_run(row, signals)
        assert (verdict.state, verdict.degraded) == (RunState.RUNNING, "heartbeat lost")
        assert verdict.evidence == f"process {row.process.pid} is alive"
        assert show_id(row.run_id) in [show_id(run_id) for run_id in loop.runs]
    assert rig.world.finish_of(item).outcome["result"] == "cancelled"


async def test_the_run_itself_notices_that_its_lease_is_overdue(rig: AgentRig) -> None:
    clock = HandClock()
    rig.clock = rig.pipeline.clock = clock
    item = rig.world.add()
    gate = rig.gate()
    async with rig.agent(command=f"echo $$ > {gate.path}; exec sleep 1000", kill_grace_s=0.1, backoff_s=600.0) as loop:
        await gate.line()
        [run] = loop.runs.values()
        await run.keeper.stop()
        clock.advance(72.0)
        await rig.world.until(lambda: bool(rig.world.finishes))
    assert rig.world.finish_of(item).outcome["result"] == "lease_lost"


async def test_renewal_starts_before_the_command_and_ends_after_the_release(rig: AgentRig) -> None:
    item = rig.world.add()
    heard: list[tuple[bool, bool]] = []
    rig.pipeline.on_renew = lambda: heard.append((bool(rig.workspaces.made), rig.world.claim_of(item).held))
    row = await rig.work(item, command="i=0; while [ $i -lt 30 ]; do echo $i; i=$((i+1)); sleep 0.01; done; touch commit-1")
    assert heard[0][1]
    progress = [progress_n for claim_id, run_id, progress_n in rig.pipeline.renewals if (claim_id, run_id) == (row.claim_id, row.run_id)]
    assert progress == sorted(progress)
    assert progress[-1] > progress[0]
    assert rig.pipeline.forgotten == [row.claim_id]


@pytest.mark.promise("I17")
@pytest.mark.parametrize(("stages", "ttl_s"), [([], 20.0), ([Coding()], 600.0), ([Coding(), Qa()], 90.0)])
async def test_the_lease_counts_by_the_stage_in_which_the_item_is_claimed(rig: AgentRig, stages: list[Stage], ttl_s: float) -> None:
    rig.pipeline.stage_ttl_s = {"Backlog": 20.0, "Coding": 600.0}
    rig.timing = LeaseTiming(beat_s=10.0, ttl_s=90.0, stage_ttl_s=rig.pipeline.stage_ttl_s, stage_beat_s={"Backlog": 5.0, "Coding": 120.0})
    item = rig.world.add()
    for stage in stages:
        rig.world.items[item] = replace(rig.world.items[item], stage=stage)
    claim = await rig.pipeline.claim(item, "agent")
    assert isinstance(claim, Claim)
    run = RunUnderWay(rig.setup(), item, claim, rig.clock.now())
    assert run.keeper.ttl_s == ttl_s, "as those who watch it count, before it moves or beats"


@pytest.mark.promise("I17")
async def test_a_stage_with_a_shorter_ttl_and_beat_begins_with_a_renewal(rig: AgentRig) -> None:
    clock = HandClock()
    rig.pipeline.stage_ttl_s = {"Coding": 600.0}
    rig.clock = rig.pipeline.clock = clock
    rig.timing = LeaseTiming(beat_s=10.0, ttl_s=90.0, settle_s=0.0, stage_ttl_s={"Coding": 600.0}, stage_beat_s={"Coding": 120.0})
    item, gate, go = rig.world.add(), rig.gate(), rig.gate("go")
    async with rig.agent(command=f"echo $$ > {gate.path}; read go < {go.path}; touch commit-1", qa="true") as loop:
        await gate.line()
        [run] = loop.runs.values()
        await eventually(lambda: run.keeper.ttl_s == 600.0)
        clock.advance(119.0)
        go.path.write_text("go\n")
        await rig.world.until(lambda: bool(rig.world.finishes))
        assert rig.world.finish_of(item).outcome["result"] == "ok", "each renewal was in time"
