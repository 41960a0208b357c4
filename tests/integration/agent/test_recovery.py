"""What a node does at its start about the runs that it left behind when it was killed."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest
from agent_rig import DAEMON, AgentRig, ended, has_ended

from fabrik_node.agent.recover import recover_runs
from fabrik_node.domain.claims import Claim
from fabrik_node.domain.runs import FINAL_STATES, ProcessId, RunRow, RunState
from fabrik_node.domain.stages import Backlog, Coding, Done, Merge
from fabrik_node.errors import Unreachable
from fabrik_node.ids import new_id, show_id
from fabrik_node.process import boot_id, process_id

PARENT = """
import asyncio, os, sys
from pathlib import Path
from fabrik_node.agent.child import Child, RunLog

async def main():
    log = RunLog(os.open(os.devnull, os.O_WRONLY), Path(os.devnull))
    child = await Child.start(["/bin/sh", "-c", sys.argv[2]], cwd=Path.cwd(), env=os.environ, log=log, room=4096, grace_s=1000.0, tag="")
    with open(sys.argv[1], "w") as gate:
        gate.write(f"{child.process.pid}\\n")
    await child.wait()

asyncio.run(main())
"""


async def claimed(rig: AgentRig, item: bytes) -> Claim:
    claim = await rig.pipeline.claim(item, "agent")
    assert isinstance(claim, Claim)
    return claim


def row_of(claim: Claim, item: bytes, process: ProcessId | None = None, **changes: object) -> RunRow:
    row = RunRow(new_id(1_700_000_000_000), item, claim.claim_id, claim.node, "agent", RunState.RUNNING, "coding", 1_700_000_000_000, process)
    return replace(row, **changes)  # type: ignore[arg-type]


@pytest.mark.promise("C4", "C19")
async def test_after_a_kill_every_run_is_interrupted_with_reason_and_time(rig: AgentRig) -> None:
    item = rig.world.add(stage=Coding(), attempts=1)
    claim = await claimed(rig, item)
    row = row_of(claim, item)
    shim, gate = rig.gate("shim"), rig.gate()
    script = rig.folder / "parent.py"
    script.write_text(PARENT)
    daemon = rig.script("daemon.py", DAEMON)
    command = f'{daemon} {gate.path} & trap "" TERM; echo $$ > {gate.path}; while :; do sleep 1000; done'
    with subprocess.Popen([sys.executable, str(script), str(shim.path), command], env=os.environ | {"FABRIK_RUN": show_id(row.run_id)}) as node:
        leader = process_id(int(await shim.line()))
        processes = [await gate.process(), await gate.process()]
        node.kill()
        node.wait()
    # The shim would give its command a thousand seconds; the node that starts again does not.
    assert not any(has_ended(process) for process in processes)

    [closed] = await recover_runs(rig.pipeline, rig.workspaces, [replace(row, process=leader)], rig.clock, 0.05)
    for process in processes:
        await ended(process)
    assert leader is not None
    assert closed.state is RunState.INTERRUPTED
    assert closed.reason == f"infra_lost: the node ended in phase coding; process {leader.pid} was still alive and was ended; its claim was given back"
    assert closed.ended_ms >= closed.started_ms
    assert rig.pipeline.rows == {row.run_id: [closed]}
    finish = rig.world.finish_of(item)
    assert (finish.charged, finish.hold, finish.outcome["result"]) == (False, "", "infra_lost")
    assert rig.world.items[item].stage == Backlog()
    assert rig.world.items[item].attempts == 1


async def test_a_process_that_only_has_the_same_pid_is_left_alone(rig: AgentRig) -> None:
    item = rig.world.add()
    claim = await claimed(rig, item)
    mine = process_id(os.getpid())
    assert mine is not None
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as other:
        theirs = process_id(other.pid)
        assert theirs is not None
        rows = [
            row_of(claim, item, replace(mine, started="1")),
            row_of(claim, item, replace(theirs, started="1")),
            row_of(claim, item, replace(theirs, boot_id="an earlier boot")),
        ]
        closed = await recover_runs(rig.pipeline, None, rows, rig.clock, 0.0)
        assert other.poll() is None
        other.kill()
    assert [row.state for row in closed] == [RunState.INTERRUPTED] * 3
    assert "was gone" in closed[1].reason


async def test_finished_runs_are_not_touched(rig: AgentRig) -> None:
    item = rig.world.add()
    claim = await claimed(rig, item)
    rows = [row_of(claim, item, state=state) for state in FINAL_STATES]
    assert await recover_runs(rig.pipeline, rig.workspaces, rows, rig.clock, 0.0) == []
    assert rig.world.claim_of(item).held


async def test_a_run_that_had_merged_goes_on_to_done(rig: AgentRig) -> None:
    item = rig.world.add(stage=Merge("fabrik/x/y", 2))
    claim = await claimed(rig, item)
    rig.remote.merges.append((show_id(item), show_id(claim.claim_id)))
    [closed] = await recover_runs(rig.pipeline, rig.workspaces, [row_of(claim, item, phase="merging")], rig.clock, 0.0)
    assert isinstance(rig.world.items[item].stage, Done)
    assert closed.reason.endswith(f"its work was merged as {rig.remote.commit_of(show_id(item)).hex()}")
    assert rig.world.finish_of(item).outcome["result"] == "ok"


@pytest.mark.parametrize("reason", ["", "cancelled: too late"])
async def test_a_run_whose_outcome_was_written_ended_as_that_says(rig: AgentRig, reason: str) -> None:
    item = rig.world.add(stage=Done(1, bytes(20)))
    claim = await claimed(rig, item)
    row = row_of(claim, item, phase="closing", reason=reason)
    outcome = {"result": "ok", "reason": "merged as 00", "run": row.run_id, "exit_code": 0, "duration_ms": 5_000}
    await rig.pipeline.finish(item, claim, "ok: merged as 00", outcome, charge_attempt=False)
    [closed] = await recover_runs(rig.pipeline, rig.workspaces, [row], rig.clock, 0.0)
    assert (closed.state, closed.reason, closed.exit_code) == (RunState.COMPLETED, "ok: merged as 00", 0)
    assert closed.ended_ms == row.started_ms + 5_000
    assert rig.pipeline.rows[row.run_id] == [closed]
    [of_another] = await recover_runs(rig.pipeline, rig.workspaces, [row_of(claim, item, run_id=new_id(2), phase="closing")], rig.clock, 0.0)
    assert of_another.state is RunState.INTERRUPTED, "the outcome is not its own"


async def test_the_claim_is_given_back_even_while_the_remote_is_away(rig: AgentRig) -> None:
    item = rig.world.add(stage=Coding())
    claim = await claimed(rig, item)
    rig.remote.down = Unreachable("the remote is away")
    [closed] = await recover_runs(rig.pipeline, rig.workspaces, [row_of(claim, item)], rig.clock, 0.0)
    assert closed.reason.endswith("its claim was given back (whether it was merged is not known: the remote is away)")
    assert not rig.world.claim_of(item).held


async def test_the_claim_of_somebody_else_is_not_touched(rig: AgentRig) -> None:
    item = rig.world.add(stage=Coding())
    ours = await claimed(rig, item)
    rig.world.lost_leases.add(ours.claim_id)
    theirs = await claimed(rig, item)
    [closed] = await recover_runs(rig.pipeline, rig.workspaces, [row_of(ours, item)], rig.clock, 0.0)
    assert closed.reason.endswith("its claim does not win any more")
    assert rig.world.claim_of(item) == theirs
    assert rig.world.items[item].stage == Coding()


async def test_a_claim_that_was_released_and_an_item_that_was_deleted(rig: AgentRig) -> None:
    item, deleted = rig.world.add(), rig.world.add()
    released, gone = await claimed(rig, item), await claimed(rig, deleted)
    rig.world.set_claim(item, released.released("done"))
    del rig.world.items[deleted]
    closed = await recover_runs(rig.pipeline, rig.workspaces, [row_of(released, item), row_of(gone, deleted)], rig.clock, 0.0)
    assert [row.reason.rpartition("; ")[2] for row in closed] == ["its claim was released", "its claim does not win any more"]
    assert rig.world.finishes == []


async def test_the_boot_of_this_machine_is_known() -> None:
    assert boot_id()
