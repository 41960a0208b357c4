"""Work that a command has finished is not done again, whatever interrupts its run before it is merged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from agent_rig import AgentRig
from memory_workspaces import MemoryWorkspaces

from fabrik_node.agent.ending import give_back_unused
from fabrik_node.agent.recover import recover_runs
from fabrik_node.domain.claims import Claim
from fabrik_node.domain.finished import FinishedWork, finished_facts
from fabrik_node.domain.runs import RunRow, RunState
from fabrik_node.domain.stages import Backlog, Coding, Done, Merge, Qa
from fabrik_node.errors import Unreachable
from fabrik_node.ids import show_id

AWAY = Unreachable("the remote is away")


class Counted:
    """A command that finishes its work each time it runs, and counts that."""

    def __init__(self, folder: Path) -> None:
        self._ran = folder / "ran"
        self.command = f"echo >> {self._ran}; touch commit-1"

    @property
    def times(self) -> int:
        return len(self._ran.read_text().splitlines()) if self._ran.exists() else 0


@pytest.fixture
def work(tmp_path: Path) -> Counted:
    return Counted(tmp_path)


async def interrupted_in_its_tests(rig: AgentRig, work: Counted, item: bytes) -> RunRow:
    """Its node is stopped while they run."""
    gate = rig.gate("tests")
    async with rig.agent(command=work.command, qa=f"echo $$ > {gate.path}; exec sleep 1000", kill_grace_s=0.1):
        await gate.line()
    assert rig.world.finish_of(item).outcome["result"] == "cancelled"
    return rig.pipeline.last_rows()[-1]


@pytest.mark.promise("E4")
async def test_what_a_stop_of_the_node_cut_off_goes_on_with_the_tests(rig: AgentRig, work: Counted) -> None:
    item = rig.world.add()
    first = await interrupted_in_its_tests(rig, work, item)
    assert rig.world.items[item].stage == Backlog()
    row = await rig.work(item, 2, command=work.command, qa="test -e commit-0")
    assert isinstance(rig.world.items[item].stage, Done)
    assert [type(stage) for stage in rig.world.stages[item][4:]] == [Coding, Qa, Merge, Done]
    assert work.times == 1
    assert f"goes on with the finished work on branch {first.branch}, commit " in rig.log(row)
    assert rig.remote.merges == [(show_id(item), show_id(row.claim_id))]


async def test_work_that_never_reached_the_remote_is_there_when_it_is_back(rig: AgentRig, work: Counted) -> None:
    item = rig.world.add()
    rig.workspaces.on_made = lambda _: setattr(rig.remote, "down", AWAY)
    async with rig.agent(command=work.command):
        await rig.world.until(lambda: any(row.state is RunState.WAITING for row in rig.pipeline.last_rows()))
    assert rig.remote.branches == {}
    # It stays away for a run that begins then, too: that one forgets nothing.
    await rig.work(item, 2, command=work.command, backoff_s=600.0)
    assert [finish.outcome["result"] for finish in rig.world.finishes] == ["cancelled", "infra_lost"]
    rig.remote.down, rig.workspaces.on_made = None, lambda _: None
    row = await rig.work(item, 3, command=work.command)
    assert isinstance(rig.world.items[item].stage, Done)
    assert rig.remote.merges == [(show_id(item), show_id(row.claim_id))]
    assert work.times == 1


async def test_another_host_that_can_not_have_it_does_it_anew_and_says_so(rig: AgentRig, work: Counted, tmp_path: Path) -> None:
    item = rig.world.add()
    rig.workspaces.on_made = lambda _: setattr(rig.remote, "down", AWAY)
    async with rig.agent(command=work.command):
        await rig.world.until(lambda: any(row.state is RunState.WAITING for row in rig.pipeline.last_rows()))
    rig.remote.down = None
    rig.workspaces = MemoryWorkspaces(tmp_path / "other", rig.remote)
    row = await rig.work(item, 2, command=work.command)
    assert isinstance(rig.world.items[item].stage, Done)
    assert work.times == 2
    assert "is not used: it is not on the remote, and was not made here" in rig.log(row)


async def test_work_on_another_text_is_done_anew(rig: AgentRig, work: Counted) -> None:
    item = rig.world.add()
    await interrupted_in_its_tests(rig, work, item)
    rig.world.items[item] = replace(rig.world.items[item], body="Otherwise.")
    row = await rig.work(item, 2, command=work.command)
    assert work.times == 2
    assert "is not used: the item's text was changed since then" in rig.log(row)


async def test_what_its_tests_reject_is_done_anew(rig: AgentRig, work: Counted) -> None:
    item = rig.world.add()
    await interrupted_in_its_tests(rig, work, item)
    await rig.work(item, 3, command=f"{work.command}; touch good", qa="test -e good")
    assert [finish.charged for finish in rig.world.finishes] == [False, True, False]
    assert isinstance(rig.world.items[item].stage, Done)
    assert work.times == 2


async def test_what_somebody_ended_by_hand_is_done_anew(rig: AgentRig, work: Counted) -> None:
    item = rig.world.add()
    await interrupted_in_its_tests(rig, work, item)
    rig.world.supersede(item)
    await rig.work(item, 2, command=work.command)
    assert work.times == 2


@pytest.mark.promise("E4")
async def test_a_cancelled_run_is_held_in_qa_and_goes_on_there(rig: AgentRig, work: Counted) -> None:
    item, gate = rig.world.add(), rig.gate("tests")
    async with rig.agent(command=work.command, qa=f"echo $$ > {gate.path}; exec sleep 1000", kill_grace_s=0.1) as loop:
        await gate.line()
        [run_id] = loop.runs
        assert await loop.cancel(run_id, "not today")
    assert rig.world.finish_of(item).hold == "cancelled: not today"
    assert rig.world.items[item].stage == Qa()
    rig.world.requeue(item)
    await rig.work(item, 2, command=work.command, qa="true")
    assert [type(stage) for stage in rig.world.stages[item]] == [Backlog, Coding, Qa, Merge, Done]
    assert work.times == 1


@pytest.mark.parametrize("phase", ["qa", "merging", "coding"])
@pytest.mark.parametrize("away", [False, True])
async def test_after_a_kill_only_what_was_finished_is_used(rig: AgentRig, work: Counted, phase: str, away: bool) -> None:
    item = rig.world.add(stage=Coding() if phase == "coding" else Qa())
    claim = await rig.pipeline.claim(item, "agent")
    assert isinstance(claim, Claim)
    workspace = await rig.workspaces.create(show_id(item), show_id(claim.claim_id))
    (workspace.path / "commit-1").touch()
    row = RunRow(bytes(16), item, claim.claim_id, claim.node, "agent", RunState.RUNNING, phase, 1_700_000_000_000, branch=workspace.branch)
    rig.remote.down = AWAY if away else None
    [closed] = await recover_runs(rig.pipeline, rig.workspaces, [row], rig.clock, 0.0)
    assert ("the next run tests and merges commit " in closed.reason) is (phase != "coding")
    assert rig.remote.branches == ({} if away or phase == "coding" else {workspace.branch: 1})
    rig.remote.down = None
    left = None if phase == "coding" else FinishedWork(await workspace.tip(), workspace.branch)
    assert rig.pipeline.finished(item, replace(claim, follows=claim.claim_id)) == left
    await rig.work(item, 2, command=work.command)
    assert isinstance(rig.world.items[item].stage, Done)
    assert work.times == (1 if phase == "coding" else 0)


async def test_a_claim_that_is_given_back_unused_forgets_nothing(rig: AgentRig) -> None:
    item, left = rig.world.add(), FinishedWork(b"c" * 20, "fabrik/x/y", b"p" * 32)
    claim = await rig.pipeline.claim(item, "agent")
    assert isinstance(claim, Claim)
    await rig.pipeline.finish(item, claim, "over", finished_facts(left), charge_attempt=False)
    unused = await rig.pipeline.claim(item, "agent")
    assert isinstance(unused, Claim)
    await give_back_unused(rig.setup(), item, unused, None)
    following = await rig.pipeline.claim(item, "agent")
    assert isinstance(following, Claim)
    assert rig.pipeline.finished(item, following) == left
    row = RunRow(bytes(16), item, following.claim_id, following.node, "agent", RunState.STARTING, "preparing", 1_700_000_000_000)
    await recover_runs(rig.pipeline, rig.workspaces, [row], rig.clock, 0.0)
    assert rig.pipeline.finished(item, replace(following, follows=following.claim_id)) == left, "nor does a run that was killed before it looked"
