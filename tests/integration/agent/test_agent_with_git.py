"""The agent over the real git room: real commits, the fenced merge, and what is left of a run that was stopped."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest
from agent_rig import AgentRig, needs_isolation
from memory_pipeline import MemoryPipeline

from fabrik_node.domain.claims import Claim, successor
from fabrik_node.domain.runs import FINAL_STATES, RunState
from fabrik_node.domain.stages import Done, Merge
from fabrik_node.git import GitRunner, Origin
from fabrik_node.ids import new_id, show_id
from fabrik_node.ports import ArbiterTaken, ClaimIntent, ClaimRefused

QUIET_HOST = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}
WORK = 'echo "$FABRIK_TITLE" > "$FABRIK_ITEM.txt" && git add . && git commit -q -m "$FABRIK_TITLE"'


class FencedPipeline(MemoryPipeline):
    """Claims as the remote grants them."""

    origin: Origin

    async def claim(self, item: bytes, agent: str) -> Claim | ClaimRefused:
        name = show_id(item)
        known = await self.origin.current(name)
        wanted = successor(self.world.items[item].claim, claim_id=new_id(self.clock.wall_ms()), node=self.node, agent=agent, ttl_ms=90_000, incarnation="test")
        intent = ClaimIntent(name, show_id(wanted.claim_id), wanted.epoch, self.node.hex(), wanted.ttl_ms)
        answer = await self.origin.cas(b"" if known is None else known.oid, intent)
        if isinstance(answer, ArbiterTaken):
            return ClaimRefused("the remote granted it to another")
        granted = wanted.confirmed(answer.number, answer.oid)
        self.world.set_claim(item, granted)
        return granted


def git(folder: Path, *args: str) -> str:
    identity = ["-c", "user.name=Seed", "-c", "user.email=seed@example.invalid"]
    return subprocess.run(["git", "-C", str(folder), *identity, *args], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def remote(tmp_path: Path, rig: AgentRig, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in QUIET_HOST.items():
        monkeypatch.setenv(name, value)
    bare, seed = tmp_path / "remote.git", tmp_path / "seed"
    for folder, *options in ((bare, "--bare"), (seed,)):
        folder.mkdir()
        git(folder, "init", "-q", "-b", "main", *options)
    (seed / "readme.txt").write_text("hello\n")
    git(seed, "add", ".")
    git(seed, "commit", "-q", "-m", "first")
    git(seed, "push", "-q", str(bare), "main")
    rig.pipeline = FencedPipeline(rig.world)
    rig.pipeline.origin = Origin(GitRunner({"PATH": "/usr/bin:/bin", **QUIET_HOST}), rig.paths.git, str(bare), "main", rig.paths.work, random.Random(3))
    rig.workspaces = rig.pipeline.origin  # type: ignore[assignment]
    return bare


@pytest.mark.parametrize("isolation", ["off", "on"])
async def test_work_is_committed_tested_and_merged(rig: AgentRig, remote: Path, isolation: str) -> None:
    if isolation == "on":
        needs_isolation(rig.folder)
    items = [rig.world.add(f"Change {n}") for n in range(3)]
    async with rig.agent(command=WORK, qa='test -e "$FABRIK_ITEM.txt"', slots=3, isolation=isolation):
        await rig.world.until(lambda: len(rig.world.finishes) == 3)
    assert [finish.reason.partition(" as ")[0] for finish in rig.world.finishes] == ["ok: merged"] * 3
    merges = git(remote, "log", "--merges", "--format=%H %s", "main").splitlines()
    assert sorted(line.partition(" ")[2] for line in merges) == ["Change 0", "Change 1", "Change 2"]
    for item in items:
        stage = rig.world.items[item].stage
        assert isinstance(stage, Done)
        assert stage.merge_commit.hex() in {line.split()[0] for line in merges}
        assert git(remote, "show", f"main:{show_id(item)}.txt")
    assert git(remote, "log", "-1", "--format=%an <%ae>", "--no-merges", "main") == "Rig <rig@example.invalid>"
    assert not list(rig.paths.work.iterdir())


@pytest.mark.promise("E2")
async def test_a_command_that_commits_nothing_merges_nothing(rig: AgentRig, remote: Path) -> None:
    item = rig.world.add()
    before = git(remote, "rev-parse", "main")
    row = await rig.work(item, command="echo changed > readme.txt", max_attempts=1)
    assert row.reason.startswith("agent_failed: zero commits ahead")
    assert git(remote, "rev-parse", "main") == before
    # What it forgot to commit is not lost.
    assert git(remote, "show", f"{row.branch}:readme.txt") == "changed"


@pytest.mark.parametrize(
    ("command", "gone"),
    [
        (f'{WORK} && rm -rf "$PWD"', "the worktree"),
        ('git checkout -q --detach && git update-ref -d "refs/heads/$FABRIK_BRANCH"', "the branch"),
    ],
    ids=["folder", "branch"],
)
async def test_a_command_that_removes_what_it_works_in_uses_up_its_attempts(rig: AgentRig, remote: Path, command: str, gone: str) -> None:
    item = rig.world.add()
    before = git(remote, "rev-parse", "main")
    row = await rig.work(item, command=command, qa="true", max_attempts=1)
    assert row.reason.startswith(f"agent_failed: coding ended with exit code 0 but removed {gone}"), row.reason
    finish = rig.world.finish_of(item)
    assert finish.charged
    assert finish.hold.startswith("1 of 1 attempts failed")
    assert git(remote, "rev-parse", "main") == before


BROKEN = "1" * 40
BREAKS = {
    "branch": f'echo {BROKEN} > "$(git rev-parse --git-common-dir)/refs/heads/$FABRIK_BRANCH"',
    "garbage": 'echo garbage > "$(git rev-parse --git-common-dir)/refs/heads/$FABRIK_BRANCH"',
    "head": f'git commit -q --allow-empty -m x && echo {BROKEN} > "$(git rev-parse --git-dir)/HEAD"; false',
}


@pytest.mark.parametrize("how", BREAKS)
async def test_a_command_that_breaks_its_branch_or_head_stops_no_other_run(rig: AgentRig, remote: Path, how: str) -> None:
    """The other one is between its command and its merge when that happens."""
    careless, other = rig.world.add("Careless"), rig.world.add("Other")
    gate, go = rig.gate(), rig.gate("go")
    command = f"""case "$FABRIK_TITLE" in
    Careless) {BREAKS[how]};;
    *) {WORK}; echo $$ > {gate.path}; read go < {go.path};;
    esac"""
    async with rig.agent(command=command, slots=2, max_attempts=1, keep_worktrees="always"):
        await gate.line()
        await rig.world.until(lambda: bool(rig.world.finishes))
        go.path.write_text("go\n")
        await rig.world.until(lambda: len(rig.world.finishes) == 2)
        later = rig.world.add("Later")
        await gate.line()
        go.path.write_text("go\n")
        await rig.world.until(lambda: len(rig.world.finishes) == 3)
    assert [rig.world.finish_of(item).reason.partition(" as ")[0] for item in (other, later)] == ["ok: merged"] * 2
    assert rig.world.finish_of(careless).reason.startswith("agent_failed: ")
    if how != "head":
        [broken] = [row.branch for row in rig.pipeline.last_rows() if row.item == careless]
        assert f"removed the commit that branch {broken} names: git -C " in rig.world.finish_of(careless).reason
    [repository] = rig.paths.git.glob("git/*.git")
    assert subprocess.run(["git", "-C", str(repository), "rev-list", "--all"], check=False, capture_output=True).returncode, "it is broken to the end"


@pytest.mark.promise("F10")
async def test_a_stopped_run_leaves_its_work_on_its_branch(rig: AgentRig, remote: Path) -> None:
    item = rig.world.add("Half of it")
    gate = rig.gate()
    async with rig.agent(command=f"echo half > half.txt; echo $$ > {gate.path}; exec sleep 1000") as loop:
        await gate.line()
        await loop.stop()
    [row] = rig.pipeline.last_rows()
    assert row.state is RunState.CANCELLED
    assert not rig.world.claim_of(item).held
    assert git(remote, "show", f"{row.branch}:half.txt") == "half"


async def test_a_holder_whose_claim_was_taken_at_the_remote_can_not_merge(rig: AgentRig, remote: Path) -> None:
    item = rig.world.add()
    gate, go = rig.gate(), rig.gate("go")
    assert isinstance(rig.pipeline, FencedPipeline)
    before = git(remote, "rev-parse", "main")
    async with rig.agent(command=f"{WORK}; echo $$ > {gate.path}; read go < {go.path}"):
        await gate.line()
        # Another node takes the claim at the remote; the mesh has not told us yet.
        known = await rig.pipeline.origin.current(show_id(item))
        assert known is not None
        await rig.pipeline.origin.cas(known.oid, ClaimIntent(show_id(item), show_id(new_id(1)), 2, "other", 90_000))
        go.path.write_text("go\n")
        await rig.world.until(lambda: rig.pipeline.last_rows()[0].state is RunState.SUPERSEDED)
        rig.world.supersede(item)
        rig.world.items.clear()
    [row] = rig.pipeline.last_rows()
    assert git(remote, "rev-parse", "main") == before
    assert git(remote, "show", f"{row.branch}:{show_id(item)}.txt")


async def test_the_loser_of_double_work_is_superseded_and_names_whose_work_was_merged(rig: AgentRig, remote: Path) -> None:
    item = rig.world.add()
    name, winner = show_id(item), show_id(new_id(1))
    gate, go = rig.gate(), rig.gate("go")
    assert isinstance(rig.pipeline, FencedPipeline)
    origin = rig.pipeline.origin
    async with rig.agent(command=f"{WORK}; echo $$ > {gate.path}; read go < {go.path}"):
        await gate.line()
        known = await origin.current(name)
        assert known is not None
        taken = await origin.cas(known.oid, ClaimIntent(name, winner, 2, "other", 90_000))
        space = await origin.create(name, winner)
        (space.path / "winner.txt").write_text("winner\n")
        await space.keep_work("The winner's work")
        merged = await space.merge(taken.oid, "The winner's")
        go.path.write_text("go\n")
        await rig.world.until(lambda: rig.pipeline.last_rows()[0].state in FINAL_STATES)
    [row] = rig.pipeline.last_rows()
    assert row.state is RunState.SUPERSEDED
    assert (
        row.reason
        == f"superseded: the work of claim {winner} was merged as {merged.merge_commit.hex()} meanwhile; that of this run stays on branch {row.branch}"
    )
    assert git(remote, "show", f"{row.branch}:{name}.txt")
    assert git(remote, "rev-parse", "main") == merged.merge_commit.hex()
    finish = rig.world.finish_of(item)
    assert (finish.outcome["result"], finish.outcome["merge_commit"], finish.charged) == ("superseded", merged.merge_commit, False)
    assert not rig.world.claim_of(item).held, "nothing more can be merged under it: nobody has to wait for its lease"
    assert isinstance(rig.world.items[item].stage, Merge)


async def test_a_run_that_is_cancelled_while_it_waits_to_merge_merges_nothing(rig: AgentRig, remote: Path) -> None:
    item = rig.world.add()
    before = git(remote, "rev-parse", "main")
    tickets = f"refs/fabrik/merging/main/1-{show_id(new_id(1))}"
    git(remote, "update-ref", tickets, "main")
    async with rig.agent(command=WORK) as loop:
        await rig.world.until(lambda: isinstance(rig.world.items[item].stage, Merge))
        [run_id] = loop.runs
        assert await loop.cancel(run_id, "not today")
        await rig.world.until(lambda: bool(rig.world.finishes))
    [row] = rig.pipeline.last_rows()
    assert row.state is RunState.CANCELLED
    assert rig.world.finish_of(item).hold == "cancelled: not today"
    assert rig.world.items[item].stage == Merge(row.branch, 1), "the finished work waits there"
    assert git(remote, "rev-parse", "main") == before
    assert git(remote, "for-each-ref", "--format=%(refname)", "refs/fabrik/merging/") == tickets


async def test_a_conflict_holds_the_item_and_keeps_the_branch(rig: AgentRig, remote: Path, tmp_path: Path) -> None:
    item = rig.world.add()
    gate, go = rig.gate(), rig.gate("go")
    async with rig.agent(command=f"echo ours > readme.txt; git commit -qam ours; echo $$ > {gate.path}; read go < {go.path}"):
        await gate.line()
        seed = tmp_path / "seed"
        (seed / "readme.txt").write_text("theirs\n")
        git(seed, "commit", "-qam", "theirs")
        git(seed, "push", "-q", str(remote), "main")
        go.path.write_text("go\n")
        await rig.world.until(lambda: bool(rig.world.finishes))
    assert rig.world.finish_of(item).hold == "merge conflict: readme.txt"
    [row] = rig.pipeline.last_rows()
    assert git(remote, "show", f"{row.branch}:readme.txt") == "ours"

    *commands, resolve = rig.world.finish_of(item).outcome["resolve"].splitlines()
    assert resolve == f"fabrik-node items resolve {show_id(item)}"
    identity = {f"GIT_{who}_{what}": "p" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    for command in commands:  # as a person types them
        status = subprocess.run(command, shell=True, cwd=seed, env=os.environ | identity, capture_output=True, check=False).returncode
        if "git pull" in command:
            assert status != 0, "it stops at the conflict"
            (seed / "readme.txt").write_text("ours and theirs\n")
        else:
            assert status == 0, command
    rig.world.requeue(item)
    await rig.work(item, 2, command="echo must not run; exit 1", qa="grep -q 'ours and theirs' readme.txt")
    assert git(remote, "show", "main:readme.txt") == "ours and theirs"
    [merge] = git(
        remote, "log", "--merges", "--format=%(trailers:key=Fabrik-Claim,valueonly,separator=)", f"--grep=Fabrik-Item: {show_id(item)}", "main"
    ).split()
    assert merge == show_id(rig.world.claim_of(item).claim_id)
