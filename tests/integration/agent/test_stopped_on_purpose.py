"""What was stopped on purpose stays stopped: cancelled runs, halted agents, and an agent that stopped itself because its command is broken."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from agent_rig import DAEMON, AgentRig, has_ended
from memory_pipeline import FAILURE_BOUND_S

from fabrik_node.agent.halt import Halt, HaltCode, HaltSwitch
from fabrik_node.agent.recover import recover_runs
from fabrik_node.agent.run import AgentRun
from fabrik_node.agent.states import AgentState
from fabrik_node.domain.claims import Claim
from fabrik_node.domain.runs import RunRow, RunState
from fabrik_node.domain.stages import Backlog, Coding, Done
from fabrik_node.errors import StoreFailed
from fabrik_node.ids import new_id, show_id

BY_HAND = Halt(HaltCode.OPERATOR, "by hand", 1_700_000_000_000)


@pytest.mark.promise("C18", "C21")
async def test_cancelling_ends_all_processes_and_holds_the_item(rig: AgentRig) -> None:
    item = rig.world.add()
    gate = rig.gate()
    command = f'{rig.script("daemon.py", DAEMON)} {gate.path} & trap "" TERM; echo $$ > {gate.path}; while :; do sleep 1000; done'
    async with rig.agent(command=command, kill_grace_s=0.1) as loop:
        processes = [await gate.process(), await gate.process()]
        [run_id] = loop.runs
        assert await asyncio.wait_for(loop.cancel(run_id, "by hand"), FAILURE_BOUND_S)
        assert all(has_ended(process) for process in processes), "it returns when they are gone"
        assert not await loop.cancel(b"x" * 16, "by hand")
        turns = rig.pipeline.turns
        await rig.world.until(lambda: rig.pipeline.turns > turns + 1)
    finish = rig.world.finish_of(item)
    assert (finish.hold, finish.charged, finish.outcome["result"]) == ("cancelled: by hand", False, "cancelled")
    assert not rig.world.claim_of(item).held
    rows = rig.pipeline.rows[run_id]
    assert rows[-1].state is RunState.CANCELLED
    assert next(row.state for row in rows if row.reason == "cancelled: by hand") is RunState.RUNNING, "it was written down before the command heard of it"
    assert len(rig.pipeline.rows) == 1


@pytest.mark.promise("C21")
async def test_a_cancelled_run_whose_node_died_meanwhile_is_not_begun_again(rig: AgentRig) -> None:
    item = rig.world.add(stage=Coding())
    claim = await rig.pipeline.claim(item, "agent")
    assert isinstance(claim, Claim)
    row = RunRow(new_id(0), item, claim.claim_id, claim.node, "agent", RunState.RUNNING, "coding", 1_700_000_000_000, reason="cancelled: by hand")
    [closed] = await recover_runs(rig.pipeline, rig.workspaces, [row], rig.clock, 0.0)
    assert closed.state is RunState.CANCELLED
    assert closed.reason.startswith("cancelled: by hand; the node ended in phase coding")
    assert rig.world.finish_of(item).hold == "cancelled: by hand"
    assert rig.pipeline.candidates([]) == []


async def test_a_cancel_that_came_after_the_merge_changes_nothing(rig: AgentRig) -> None:
    item = rig.world.add(stage=Coding())
    claim = await rig.pipeline.claim(item, "agent")
    assert isinstance(claim, Claim)
    rig.remote.merges.append((show_id(item), show_id(claim.claim_id)))
    row = RunRow(new_id(0), item, claim.claim_id, claim.node, "agent", RunState.RUNNING, "merging", 1_700_000_000_000, reason="cancelled: by hand")
    [closed] = await recover_runs(rig.pipeline, rig.workspaces, [row], rig.clock, 0.0)
    assert isinstance(rig.world.items[item].stage, Done)
    assert (rig.world.finish_of(item).hold, closed.state) == ("", RunState.INTERRUPTED)


async def test_a_cancel_that_came_after_the_end_of_a_run_rewrites_nothing(rig: AgentRig) -> None:
    item = rig.world.add()
    claim = await rig.pipeline.claim(item, "agent")
    assert isinstance(claim, Claim)
    run = AgentRun(rig.setup(), item, claim, rig.clock.now())
    await asyncio.wait_for(run.execute(), FAILURE_BOUND_S)
    [*_, ended] = rows = list(rig.pipeline.rows[run.row.run_id])
    assert ended.state is RunState.COMPLETED
    await run.cancel("too late")
    assert rig.pipeline.rows[run.row.run_id] == rows


@pytest.mark.promise("C18")
async def test_a_run_that_another_node_cancels_says_cancelled_too(rig: AgentRig) -> None:
    item = rig.world.add()
    gate = rig.gate()
    async with rig.agent(command=f"echo $$ > {gate.path}; exec sleep 1000", kill_grace_s=0.1):
        process = await gate.process()
        rig.world.items[item] = replace(rig.world.items[item], hold={"reason": "cancelled: not needed"})
        rig.world.supersede(item)
        await rig.world.until(lambda: rig.pipeline.last_rows()[0].state is RunState.CANCELLED)
        assert has_ended(process)
    assert rig.pipeline.last_rows()[0].reason == "cancelled: not needed"
    assert rig.world.finishes == [], "the one op that cancelled it said everything"


@pytest.mark.promise("C21")
async def test_a_halted_agent_takes_nothing_until_somebody_says_so_whatever_happens_to_its_node(rig: AgentRig) -> None:
    item = rig.world.add()
    await rig.halts().set(BY_HAND)
    setup = rig.setup()  # the next start of the node
    assert setup.halts.halt == BY_HAND
    async with rig.agent(setup=setup) as loop:
        for _ in range(3):
            turns = rig.pipeline.turns
            rig.world.touch()
            await rig.world.until(lambda turns=turns: rig.pipeline.turns > turns)  # type: ignore[misc]  # inference of the default argument
        assert (loop.state, loop.accepting) == (AgentState.HALTED, False)
        assert rig.pipeline.claims_asked == []
        assert await setup.halts.lift() == BY_HAND
        await rig.world.until(lambda: isinstance(rig.world.items[item].stage, Done))
    assert rig.halts().halt is None


@pytest.mark.promise("C20")
async def test_an_agent_whose_command_is_broken_stops_and_says_why(rig: AgentRig) -> None:
    items = [rig.world.add(f"Item {n}") for n in range(5)]
    setup = rig.setup(command="exit 3", max_attempts=100, backoff_s=0.001)
    async with rig.agent(setup=setup) as loop:
        await rig.world.until(lambda: loop.state is AgentState.HALTED)
    halt = rig.halts().halt
    assert halt is not None, "it survives the node"
    assert (halt.code, halt.reason) == (
        HaltCode.CRASH_LOOP,
        "3 runs in a row ended with a command that failed within 10 s; the last: agent_failed: coding failed with exit code 3",
    )
    assert "fabrik-node drain --off" in halt.line
    tried = {finish.item for finish in rig.world.finishes}
    assert len(tried) == 3
    assert all(rig.world.items[item].stage == Backlog() and rig.world.items[item].attempts == 0 for item in items if item not in tried)


@pytest.mark.promise("C20")
async def test_a_command_that_can_not_be_started_stops_its_agent_too(rig: AgentRig) -> None:
    rig.world.add()
    async with rig.agent(command=["no-such-program-here"], backoff_s=0.001) as loop:
        await rig.world.until(lambda: loop.state is AgentState.HALTED)
    assert len(rig.pipeline.rows) == 3
    assert not any(finish.charged for finish in rig.world.finishes)
    halt = rig.halts().halt
    assert halt is not None
    assert halt.reason.startswith("3 runs in a row could not start a command; the last: infra_lost: coding: 'no-such-program-here' can not be started")


@pytest.mark.promise("C6")
async def test_one_item_whose_work_removes_the_tests_is_held_and_its_agent_goes_on(rig: AgentRig) -> None:
    bad, good = rig.world.add("bad"), rig.world.add("good")
    command = 'touch commit-1; if [ "$FABRIK_TITLE" = good ]; then printf "#!/bin/sh\\n" > qa.sh; chmod +x qa.sh; fi'
    async with rig.agent(command=command, qa=["./qa.sh"], max_attempts=4) as loop:
        await rig.world.until(lambda: isinstance(rig.world.items[good].stage, Done) and rig.world.items[bad].hold is not None)
        assert loop.accepting
    assert rig.world.items[bad].attempts == 4
    assert rig.world.items[bad].hold == {
        "reason": "4 of 4 attempts failed; the last: agent_failed: qa: './qa.sh' can not be started: No such file or directory"
    }
    assert rig.halts().halt is None


@pytest.mark.promise("C6", "C23")
async def test_one_item_that_brings_down_its_runs_is_held_and_a_healthy_one_is_left_alone(rig: AgentRig) -> None:
    bad, good = rig.world.add("bad"), rig.world.add("good")
    command = 'if [ "$FABRIK_TITLE" = bad ]; then kill -9 $PPID; sleep 1000; fi; touch commit-1'  # the shim is its parent
    async with rig.agent(command=command, max_interruptions=3) as loop:
        await rig.world.until(lambda: rig.world.items[bad].hold is not None and isinstance(rig.world.items[good].stage, Done))
        assert loop.accepting
    assert rig.world.items[bad].attempts == 0, "nobody knows that it is to blame"
    lost = "infra_lost: coding: its supervisor process was killed"
    assert rig.world.items[bad].hold == {"reason": f"its runs were lost 3 times in a row; the last: {lost}"}
    reasons = [row.reason for row in rig.pipeline.last_rows() if row.item == bad]
    assert reasons == [lost, lost, lost, f"infra_lost: its runs were lost 3 times in a row; the last: {lost}"]
    assert [row.reason.partition(" as ")[0] for row in rig.pipeline.last_rows() if row.item == good] == ["ok: merged"], "begun once"


@pytest.mark.promise("C6")
async def test_one_item_that_always_fails_is_held_and_its_agent_goes_on(rig: AgentRig) -> None:
    bad = rig.world.add("bad", attempts=0)
    good = rig.world.add("good")
    command = 'if [ "$FABRIK_TITLE" = bad ]; then echo "attempt $FABRIK_ATTEMPT"; exit 3; fi; touch commit-1'
    async with rig.agent(command=command, max_attempts=4) as loop:
        await rig.world.until(lambda: bool(rig.world.finishes) and rig.world.finishes[-1].hold != "")
        await rig.world.until(lambda: isinstance(rig.world.items[good].stage, Done))
        assert loop.accepting
        turns = rig.pipeline.turns
        await rig.world.until(lambda: rig.pipeline.turns > turns + 1)
    assert rig.world.items[bad].attempts == 4
    holds = [finish.hold for finish in rig.world.finishes if finish.item == bad]
    assert holds == ["", "", "", "4 of 4 attempts failed; the last: agent_failed: coding failed with exit code 3"], "giving up is final and explained"
    logs = [Path(row.log).read_text(encoding="utf-8") for row in rig.pipeline.last_rows() if row.item == bad]
    assert all(f"attempt {number}\n" in log for number, log in enumerate(logs, 1)), "each try knows its number"


async def test_a_halt_that_can_not_be_read_is_not_taken_for_none(rig: AgentRig) -> None:
    rig.saved_halt = b"{"
    switch = rig.halts()
    assert switch.halt is not None
    assert switch.halt.code is HaltCode.UNREADABLE
    assert not await switch.set(BY_HAND), "the first cause stays"
    assert await switch.lift() is not None
    assert await switch.lift() is None
    assert rig.halts().halt is None


async def test_a_halt_that_can_not_be_saved_holds_and_says_so() -> None:
    async def fail(_said: bytes) -> None:
        raise StoreFailed("the disk is gone")

    switch = HaltSwitch(None, fail)
    seen: list[bool] = []
    switch.on_change(lambda: seen.append(switch.halt is not None))
    with pytest.raises(StoreFailed):
        await switch.set(BY_HAND)
    assert (switch.halt, seen) == (BY_HAND, [True])
    with pytest.raises(StoreFailed):
        await switch.lift()
    assert switch.halt == BY_HAND
