"""How a run ends: each result class, with real commands."""

from __future__ import annotations

import os
import signal
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from agent_rig import AgentRig

from fabrik_node.agent.states import AgentState
from fabrik_node.domain.claims import Claim
from fabrik_node.domain.leases import LeaseTiming
from fabrik_node.domain.runs import RunState
from fabrik_node.domain.stages import Backlog, Coding, Done, Merge, Qa, Stage
from fabrik_node.errors import Conflict, FabrikError, GitFailed, Precondition, Unreachable
from fabrik_node.ids import show_id
from fabrik_node.ports import MergeOutcome


async def test_an_item_goes_all_the_way_to_done(rig: AgentRig) -> None:
    item = rig.world.add("Make it fast")
    row = await rig.work(item, command="echo coding; touch commit-1 commit-2", qa=["sh", "-c", "echo testing; test -e commit-1"])

    branch = f"fabrik/{show_id(item)}/{show_id(row.claim_id)}"
    stages = rig.world.stages[item]
    assert [type(stage) for stage in stages] == [Backlog, Coding, Qa, Merge, Done]
    assert stages[3] == Merge(branch, 2)
    assert isinstance(stages[4], Done)
    assert stages[4].merge_commit == rig.remote.commit_of(show_id(item))
    finish = rig.world.finish_of(item)
    assert (finish.charged, finish.hold, finish.outcome["result"], finish.outcome["exit_code"]) == (False, "", "ok", 0)
    assert not rig.world.claim_of(item).held
    assert (row.state, row.exit_code, row.process) == (RunState.COMPLETED, 0, None)
    assert row.ended_ms >= row.started_ms
    assert row.engine.startswith("fabrik-node ")
    assert rig.remote.branches == {branch: 2}
    assert rig.remote.claim_oids == [b"o" * 20]
    assert rig.remote.messages[0].startswith("Make it fast\n\n")
    log = rig.log(row)
    assert log.index("coding\n") < log.index("testing\n") < log.index("ok: merged as")
    assert [(made.removed, made.branch) for made in rig.workspaces.made] == [(True, branch)]


async def test_the_row_is_written_at_each_step(rig: AgentRig) -> None:
    item = rig.world.add()
    row = await rig.work(item, qa="true")
    rows = rig.pipeline.rows[row.run_id]
    assert [(row.state.value, row.phase, row.process is not None) for row in rows] == [
        ("starting", "preparing", False),
        ("running", "coding", True),
        ("running", "qa", False),
        ("running", "qa", True),
        ("running", "merging", False),
        ("completed", "closing", False),
    ]


async def test_a_command_finds_everything_about_its_item(rig: AgentRig) -> None:
    item = rig.world.add("A title\nof two lines", body="The body.\nMore.")
    row = await rig.work(item, command='env | sort; cat "$FABRIK_PROMPT_FILE"; touch commit-1')
    log = rig.log(row)
    claim = rig.world.claim_of(item)
    for line in (
        f"FABRIK_ITEM={show_id(item)}",
        "FABRIK_TITLE=A title of two lines",
        f"FABRIK_CLAIM={show_id(claim.claim_id)}",
        "FABRIK_EPOCH=1",
        "FABRIK_ATTEMPT=1",
        f"FABRIK_RUN={show_id(row.run_id)}",
        f"FABRIK_BRANCH={row.branch}",
        "FABRIK_BASE=main",
        "FABRIK_STAGE=Coding",
        "GIT_AUTHOR_NAME=Rig",
        "GIT_COMMITTER_EMAIL=rig@example.invalid",
        "# A title of two lines",
        "The body.",
    ):
        assert f"\n{line}\n" in log
    assert row.worktree not in log.split("FABRIK_PROMPT_FILE=")[1].splitlines()[0]
    assert row.inputs is not None
    assert row.inputs.prompt == sha256((Path(row.log).parent / "prompt.md").read_bytes()).digest()
    assert (row.inputs.base, len(row.inputs.command), len(row.inputs.tests)) == (bytes(19) + b"\x01", 32, 32)


@pytest.mark.promise("E2")
async def test_zero_commits_ahead_fails_loudly(rig: AgentRig) -> None:
    item = rig.world.add()
    row = await rig.work(item, command="echo done, I promise", max_attempts=1)
    assert row.state is RunState.FAILED
    assert row.reason.startswith("agent_failed: zero commits ahead")
    assert rig.world.stages[item] == [Backlog(), Coding()]
    assert rig.remote.merges == []
    assert rig.world.finish_of(item).charged


async def test_failed_attempts_are_charged_and_then_the_item_is_held(rig: AgentRig) -> None:
    item = rig.world.add()
    row = await rig.work(item, finishes=3, command="echo no idea; exit 3", max_attempts=3)
    assert [(finish.charged, finish.hold) for finish in rig.world.finishes[:2]] == [(True, ""), (True, "")]
    last = rig.world.finishes[2]
    assert last.charged
    assert last.hold == "3 of 3 attempts failed; the last: agent_failed: coding failed with exit code 3"
    assert rig.world.items[item].attempts == 3
    assert rig.pipeline.candidates([]) == []
    assert (row.exit_code, row.reason) == (3, "agent_failed: coding failed with exit code 3")
    assert len(rig.remote.kept) == 3
    assert [made.removed for made in rig.workspaces.made] == [False] * 3


async def test_failed_tests_send_the_item_back(rig: AgentRig) -> None:
    item = rig.world.add()
    row = await rig.work(item, qa="echo 1 failed; exit 1", backoff_s=600.0)
    assert row.reason == "agent_failed: qa failed with exit code 1"
    assert rig.world.stages[item] == [Backlog(), Coding(), Qa(), Backlog()]
    assert rig.remote.merges == []
    assert rig.remote.kept == [row.branch]


@pytest.mark.promise("E4")
@pytest.mark.parametrize(
    ("bad", "stages", "then"),
    [({"command": "exit 1"}, [Coding()], [Qa, Merge, Done]), ({"qa": "exit 1"}, [Coding(), Qa()], [Coding, Qa, Merge, Done])],
    ids=["coding", "qa"],
)
async def test_a_held_item_stays_where_its_run_left_it_and_goes_on_there(
    rig: AgentRig, bad: dict[str, Any], stages: list[Stage], then: list[type[Stage]]
) -> None:
    item = rig.world.add()
    await rig.work(item, max_attempts=1, **bad)
    assert rig.world.finish_of(item).hold
    assert rig.world.stages[item] == [Backlog(), *stages]
    rig.world.requeue(item)
    assert rig.world.items[item].stage == stages[-1]
    await rig.work(item, 2, qa="true")
    assert [type(stage) for stage in rig.world.stages[item][1 + len(stages) :]] == then


@pytest.mark.promise("E4")
async def test_finished_work_that_is_held_for_its_tests_waits_in_merge(rig: AgentRig) -> None:
    item = rig.world.add(stage=Merge("fabrik/x/y", 1))
    rig.remote.branches["fabrik/x/y"] = 1
    await rig.work(item, command="exit 9", qa="exit 1", max_attempts=1)
    assert rig.world.finish_of(item).hold
    assert rig.world.stages[item] == [Merge("fabrik/x/y", 1)]
    rig.world.requeue(item)
    row = await rig.work(item, 2, command="exit 9", qa="true")
    assert rig.world.stages[item][:-1] == [Merge("fabrik/x/y", 1), Merge(row.branch, 1)]
    assert rig.remote.merges == [(show_id(item), show_id(row.claim_id))]


async def test_a_command_that_takes_too_long_is_ended(rig: AgentRig) -> None:
    item = rig.world.add()
    row = await rig.work(item, command="touch commit-1; exec sleep 1000", timeout_s=0.3, max_attempts=1)
    assert row.reason == "timeout: coding took longer than 0.3 s"
    assert row.state is RunState.FAILED
    assert rig.world.finish_of(item).charged


async def test_a_rate_limit_costs_no_attempt_and_the_agent_waits(rig: AgentRig) -> None:
    item = rig.world.add()
    async with rig.agent(command="exit 75", backoff_s=600.0) as loop:
        await rig.world.until(lambda: len(rig.world.finishes) == 1)
        rig.world.add("another")
        turns = rig.pipeline.turns
        await rig.world.until(lambda: rig.pipeline.turns >= turns + 3)
        assert loop.state is AgentState.RATE_LIMITED
        assert loop.wait_s > 0, "so that others can say it"
    finish = rig.world.finish_of(item)
    assert (finish.charged, finish.hold, finish.outcome["result"]) == (False, "", "rate_limited")
    assert rig.world.items[item].attempts == 0
    assert len(rig.pipeline.rows) == 1


async def test_a_missing_program_is_not_the_items_fault(rig: AgentRig) -> None:
    item = rig.world.add()
    row = await rig.work(item, command=["no-such-program-here"], backoff_s=600.0)
    assert row.reason == "infra_lost: coding: 'no-such-program-here' can not be started: No such file or directory"
    assert row.state is RunState.INTERRUPTED
    assert not rig.world.finish_of(item).charged


@pytest.mark.parametrize("error", [Unreachable("the remote is away"), GitFailed("git is broken"), Precondition("the remote has no such base")])
async def test_an_unreachable_remote_is_not_the_items_fault(rig: AgentRig, error: FabrikError) -> None:
    item = rig.world.add()
    rig.remote.down = error
    row = await rig.work(item, backoff_s=600.0)
    assert row.reason == f"infra_lost: {error}"
    assert not rig.world.finish_of(item).charged


async def test_an_item_that_can_not_be_brought_back_is_given_back_all_the_same(rig: AgentRig, monkeypatch: pytest.MonkeyPatch) -> None:
    item = rig.world.add()
    move = rig.pipeline.move

    async def but_not_back(item: bytes, stage: Stage, claim: Claim) -> None:
        if isinstance(stage, Backlog):
            raise Conflict("somebody else's word counts for more")
        await move(item, stage, claim)

    monkeypatch.setattr(rig.pipeline, "move", but_not_back)
    row = await rig.work(item, command="exit 3", backoff_s=600.0)
    assert "agent_failed" in row.reason
    assert row.reason.endswith("somebody else's word counts for more")
    finish = rig.world.finish_of(item)
    assert (finish.charged, finish.outcome["result"]) == (True, "agent_failed")
    assert not rig.world.claim_of(item).held


@pytest.mark.parametrize("keep", ["failed", "never"])
async def test_a_remote_that_goes_away_after_the_work_leaves_it_in_the_worktree(rig: AgentRig, keep: str) -> None:
    """Also where none is to be left: it may have what is nowhere else."""
    item = rig.world.add()

    async def away() -> None:
        rig.remote.down = Unreachable("the remote went away")

    rig.workspaces.on_made = lambda made: setattr(made, "hang", away)
    row = await rig.work(item, backoff_s=600.0, remote_wait_s=0.0, keep_worktrees=keep)
    assert row.reason == f"infra_lost: the remote went away; its work is in {row.worktree}: it could not be pushed: the remote went away"
    assert [made.removed for made in rig.workspaces.made] == [False]
    assert rig.world.stages[item][-1] == Backlog()


async def test_a_merge_conflict_holds_the_item(rig: AgentRig) -> None:
    item = rig.world.add()
    rig.remote.merge_fails[show_id(item)] = MergeOutcome("conflicts", detail="src/a.py, src/b.py", resolve="git fetch")
    row = await rig.work(item)
    finish = rig.world.finish_of(item)
    assert (finish.hold, finish.charged) == ("merge conflict: src/a.py, src/b.py", False)
    assert finish.outcome["resolve"] == f"git fetch\nfabrik-node items resolve {show_id(item)}"
    assert row.state is RunState.FAILED
    assert rig.world.stages[item][-1] == Merge(row.branch, 1)
    assert rig.remote.kept == [row.branch]


async def test_a_merge_that_the_remote_refuses_ends_superseded(rig: AgentRig) -> None:
    item = rig.world.add()
    rig.remote.merge_fails[show_id(item)] = MergeOutcome("superseded", detail="claim x of y is held")
    async with rig.agent():
        await rig.world.until(lambda: any(row.state is RunState.SUPERSEDED for row in rig.pipeline.last_rows()))
        rig.world.supersede(item)
        rig.remote.merge_fails.clear()
        await rig.world.until(lambda: bool(rig.world.finishes))
    assert rig.pipeline.last_rows()[0].reason == "superseded: claim x of y is held"
    assert len(rig.remote.merges) == 1


async def test_what_is_merged_already_is_not_done_again(rig: AgentRig) -> None:
    item = rig.world.add()
    rig.remote.merges.append((show_id(item), "an earlier claim"))
    row = await rig.work(item, command="touch commit-1; echo must not run")
    assert [type(stage) for stage in rig.world.stages[item]] == [Backlog, Coding, Qa, Merge, Done]
    assert row.reason.startswith("ok: was merged already as")
    assert "must not run" not in rig.log(row)
    assert len(rig.remote.merges) == 1


@pytest.mark.parametrize("stage", [Coding(), Qa()])
async def test_a_takeover_starts_again_in_coding(rig: AgentRig, stage: Coding | Qa) -> None:
    item = rig.world.add(stage=stage)
    await rig.work(item)
    start: list[type] = [] if isinstance(stage, Coding) else [type(stage)]
    assert [type(stage) for stage in rig.world.stages[item]] == [*start, Coding, Qa, Merge, Done]


async def test_a_takeover_in_merge_tests_and_merges_the_finished_work(rig: AgentRig) -> None:
    item = rig.world.add(stage=Merge("fabrik/x/y", 2))
    rig.remote.branches["fabrik/x/y"] = 2
    row = await rig.work(item, command="echo must not run", qa="echo tested again")
    own = f"fabrik/{show_id(item)}/{show_id(row.claim_id)}"
    assert rig.world.stages[item][:-1] == [Merge("fabrik/x/y", 2), Merge(own, 2)], "a kill in between leaves it in Merge"
    assert isinstance(rig.world.stages[item][-1], Done)
    assert rig.remote.merges == [(show_id(item), show_id(row.claim_id))]
    log = rig.log(row)
    assert "goes on with the finished work on branch fabrik/x/y" in log
    assert "tested again" in log
    assert "must not run" not in log


async def test_finished_work_that_fails_its_tests_is_done_anew(rig: AgentRig) -> None:
    item = rig.world.add(stage=Merge("fabrik/x/y", 1))
    rig.remote.branches["fabrik/x/y"] = 1
    await rig.work(item, 2, command="touch commit-new", qa="test -e commit-new")
    assert [type(stage) for stage in rig.world.stages[item]] == [Merge, Backlog, Coding, Qa, Merge, Done]
    assert [finish.charged for finish in rig.world.finishes] == [True, False]


async def test_finished_work_stays_in_merge_when_the_remote_stays_away(rig: AgentRig) -> None:
    item = rig.world.add(stage=Merge("fabrik/x/y", 1))
    rig.remote.branches["fabrik/x/y"] = 1

    async def away() -> None:
        rig.remote.down = Unreachable("the remote went away")

    rig.workspaces.on_made = lambda made: setattr(made, "hang", away)
    row = await rig.work(item, backoff_s=600.0, remote_wait_s=0.0)
    assert row.reason.startswith("infra_lost: the remote went away")
    assert rig.world.stages[item] == [Merge("fabrik/x/y", 1)]


async def test_finished_work_that_is_nowhere_holds_the_item_where_it_is(rig: AgentRig) -> None:
    item = rig.world.add(stage=Merge("fabrik/x/y", 1))
    await rig.work(item, command="echo must not run")
    finish = rig.world.finish_of(item)
    assert finish.hold == "nothing to merge: the remote has no branch fabrik/x/y, or it has no commits ahead of main"
    assert not finish.charged
    assert rig.world.stages[item] == [Merge("fabrik/x/y", 1)]


async def test_a_takeover_after_the_merge_only_finishes(rig: AgentRig) -> None:
    item = rig.world.add(stage=Merge("fabrik/x/y", 3))
    rig.remote.merges.append((show_id(item), "an earlier claim"))
    await rig.work(item)
    assert [type(stage) for stage in rig.world.stages[item]] == [Merge, Done]


async def test_an_item_that_is_deleted_under_the_run_ends_it(rig: AgentRig) -> None:
    item = rig.world.add()
    gate = rig.gate()
    async with rig.agent(command=f"echo x > {gate.path}; exec sleep 1000", kill_grace_s=0.1):
        await gate.line()
        claim = rig.world.claim_of(item)
        del rig.world.items[item]
        rig.pipeline.lost(claim.claim_id, "its item was deleted")
        await rig.world.until(lambda: rig.pipeline.last_rows()[0].state is RunState.SUPERSEDED)
    assert rig.pipeline.last_rows()[0].reason == "superseded: its item was deleted"


async def test_output_beyond_the_limit_is_rotated_away_and_said(rig: AgentRig) -> None:
    item = rig.world.add()
    command = "yes 0123456789 | head -c 100000; echo; echo what went wrong; touch commit-1"
    row = await rig.work(item, command=command, qa="echo more", log_bytes_max=8192)
    log = rig.log(row)
    head, _, rest = log.partition("\n[fabrik-node: the log is full;")
    begins = head.index("\n0123456789") + 1
    tail = rest.partition("]\n")[2].partition("[fabrik-node: qa")[0]
    assert tail.endswith("what went wrong\n"), "the end is kept: there it says why"
    assert len(head) >= 4096
    assert 2900 < len(tail) <= 4096
    assert int(rest.split()[0]) == 100_000 + len("\nwhat went wrong\n") - (len(head) - begins) - len(tail)
    assert "\nmore\n" in rest, "the next command has room, too"
    assert "ok: merged as" in rest
    files = list(Path(row.log).parent.glob("output.log*"))
    assert 4 <= len(files) <= 6
    assert sum(file.stat().st_size for file in files) < 9000
    assert all(file.stat().st_mode & 0o077 == 0 for file in files)


async def test_output_that_just_fits_is_whole(rig: AgentRig) -> None:
    item = rig.world.add()
    row = await rig.work(item, command="yes 0123456789 | head -c 7500; touch commit-1", log_bytes_max=8192)
    assert "the log is full" not in rig.log(row)
    assert rig.log(row).count("0123456789\n") == 681


async def test_what_a_command_leaves_behind_is_ended(rig: AgentRig) -> None:
    from agent_rig import DAEMON, has_ended

    item = rig.world.add()
    gate = rig.gate()
    daemon = rig.script("daemon.py", DAEMON)
    # The command ends only after its daemon has spoken.
    command = f"mkfifo said; {daemon} said; read pid < said; echo $pid > {gate.path}; touch commit-1"
    async with rig.agent(command=command, kill_grace_s=0.1):
        process = await gate.process()
        await rig.world.until(lambda: bool(rig.world.finishes))
        assert has_ended(process)
    assert rig.world.finish_of(item).outcome["result"] == "ok"
    assert "left 1 process behind; it was ended" in rig.log(rig.pipeline.last_rows()[0])


@pytest.mark.promise("C2")
async def test_a_killed_worker_is_declared_dead_before_a_beat_is_over(rig: AgentRig) -> None:
    rig.timing = LeaseTiming(beat_s=1000.0, ttl_s=90.0, settle_s=0.0)
    item = rig.world.add()
    gate = rig.gate()
    async with rig.agent(command=f"echo $$ > {gate.path}; exec sleep 1000", backoff_s=600.0) as loop:
        worker = int(await gate.line())
        [run] = loop.runs.values()
        os.kill(worker, signal.SIGKILL)
        await rig.world.until(lambda: bool(rig.world.finishes))
        assert run.keeper.beats <= 1, "nobody waited for a heartbeat"
    row = rig.pipeline.last_rows()[0]
    assert (row.state, row.process, row.reason) == (RunState.FAILED, None, "agent_failed: coding was ended by SIGKILL")
    assert rig.world.finish_of(item).charged


async def test_each_stage_has_the_time_and_the_beat_that_are_set_for_it(rig: AgentRig) -> None:
    item = rig.world.add()
    rig.timing = LeaseTiming(beat_s=30.0, ttl_s=90.0, settle_s=0.0, stage_beat_s={"Qa": 0.01})
    beats: list[int] = []
    rig.pipeline.on_renew = lambda: beats.append(1)
    row = await rig.work(
        item, command="sleep 0.4; touch commit-1", qa="exec sleep 1000", timeout_s=1000.0, stage_timeout_s={"Qa": 1.6}, max_attempts=1, keep_worktrees="always"
    )
    assert row.reason == "timeout: qa took longer than 1.6 s", "and coding took as long as it liked"
    assert len(beats) > 3, "one in 30 s elsewhere"


async def test_a_run_carries_the_name_of_its_agent(rig: AgentRig) -> None:
    row = await rig.work(rig.world.add(), name="builder")
    assert row.agent == "builder"
