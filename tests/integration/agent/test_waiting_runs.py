"""A run that waits for people: its row says so, it is not ended for taking long, and a question without an answer holds its item."""

from __future__ import annotations

import pytest
from agent_rig import AgentRig

from fabrik_node.domain.runs import RunState


@pytest.mark.promise("D30")
async def test_a_run_says_that_it_waits_and_that_it_goes_on(rig: AgentRig) -> None:
    item = rig.world.add()
    asks, answered = rig.gate("asks"), rig.gate("answered")
    async with rig.agent(command=f"echo > {asks.path}; read line < {answered.path}; touch commit-1", timeout_s=600.0) as loop:
        await asks.line()
        [run] = loop.runs.values()
        await run.waits(b"one", on=True)
        await run.waits(b"other", on=True)
        assert (run.row.state, run.row.asks) == (RunState.WAITING, b"one")
        await run.waits(b"one", on=False)
        assert (run.row.state, run.row.asks, rig.pipeline.rows[run.row.run_id][-1]) == (RunState.WAITING, b"other", run.row)
        await run.waits(b"other", on=False)
        assert (run.row.state, run.row.asks, rig.pipeline.rows[run.row.run_id][-1]) == (RunState.RUNNING, b"", run.row)
        answered.path.write_text("yes\n")
        await rig.world.until(lambda: bool(rig.world.finishes))
    assert rig.world.finish_of(item).outcome["result"] == "ok"
    states = [row.state for row in rig.pipeline.rows[run.row.run_id]]
    assert states.count(RunState.WAITING) == 2
    await run.waits(b"one", on=True)  # the last word of a command that has ended
    await run.waits(b"one", on=False)
    assert [row.state for row in rig.pipeline.rows[run.row.run_id]] == states


@pytest.mark.parametrize("status", [0, 5])
@pytest.mark.promise("D30")
async def test_a_question_that_nobody_answered_holds_the_item_whatever_the_command_makes_of_it(rig: AgentRig, status: int) -> None:
    item = rig.world.add()
    asks, answered = rig.gate("asks"), rig.gate("answered")
    async with rig.agent(command=f"echo > {asks.path}; read line < {answered.path}; touch commit-1; exit {status}") as loop:
        await asks.line()
        [run] = loop.runs.values()
        await run.waits(b"one", on=True)
        run.unanswered("nobody answered within 60 s: deploy?")
        await run.waits(b"one", on=False)
        answered.path.write_text("go on\n")
        await rig.world.until(lambda: bool(rig.world.finishes))
    finish = rig.world.finish_of(item)
    assert (finish.hold, finish.charged) == ("nobody answered within 60 s: deploy?", False)
    assert (finish.outcome["result"], finish.outcome["exit_code"]) == ("unanswered", status)
    assert rig.remote.merges == []
