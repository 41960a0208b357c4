from __future__ import annotations

import random
from pathlib import Path

import pytest
from integration.git.forge import Remote, commit, fresh

from fabrik_node.errors import Conflict, GitFailed, NoCommits, Unreachable
from fabrik_node.git import GitRunner, Origin
from fabrik_node.git.fenced_merge import go_on
from fabrik_node.ports import Arbiter, ArbiterReceipt, ArbiterTaken, Branches, ClaimIntent, MergeOutcome, Workspace, Workspaces


def make(git: GitRunner, remote: Remote, home: Path) -> Origin:
    home.mkdir(exist_ok=True)
    return Origin(git, home, str(remote.path), "main", home / "worktrees", random.Random(1))


def intent(item: str, claim_id: str, state: str = "held") -> ClaimIntent:
    return ClaimIntent(item, claim_id, 1, "node", 90_000, state)


async def test_one_item_from_claim_to_merge_through_the_ports(git: GitRunner, remote: Remote, tmp_path: Path) -> None:
    origin = make(git, remote, tmp_path / "home")
    arbiter: Arbiter = origin
    workspaces: Workspaces = origin
    item, claim_id = fresh(), fresh()
    assert await arbiter.current(item) is None
    receipt = await arbiter.cas(b"", intent(item, claim_id))
    assert isinstance(receipt, ArbiterReceipt)
    assert await workspaces.merged_commit(item) is None
    space: Workspace = await workspaces.create(item, claim_id)
    assert space.path == tmp_path / "home" / "worktrees" / claim_id
    assert space.branch == f"fabrik/{item}/{claim_id}"
    with pytest.raises(NoCommits):
        await space.merge(receipt.oid, "nothing", go_on)
    (space.path / "new.txt").write_text("new\n")
    commit(space.path, "work")
    assert await space.commits_ahead() == 1
    await space.push()
    done = await space.merge(receipt.oid, "Add new.txt", go_on)
    assert done == MergeOutcome("merged", bytes.fromhex(remote.ref("main")), bytes.fromhex(remote.ref(f"refs/fabrik/claims/{item}")))
    assert await space.merge(receipt.oid, "Add new.txt", go_on) == MergeOutcome("already_merged", done.merge_commit)
    assert await workspaces.merged_commit(item) == done.merge_commit
    taken = await arbiter.current(item)
    assert taken == ArbiterTaken(2, done.claim_oid, claim_id, "node", "merged", 90_000, done.merge_commit)
    await space.remove()
    assert not space.path.exists()


async def test_superseded_work_is_kept_and_conflicts_are_named(git: GitRunner, remote: Remote, tmp_path: Path) -> None:
    alice, bob = make(git, remote, tmp_path / "alice"), make(git, remote, tmp_path / "bob")
    item, first, second = fresh(), fresh(), fresh()
    held = await alice.cas(b"", intent(item, first))
    space = await alice.create(item, first)
    (space.path / "shared.txt").write_text("alice\n")
    taken = await bob.cas(held.oid, intent(item, second))
    await space.keep_work("stopped: superseded")
    assert remote.git("show", f"{space.branch}:shared.txt") == "alice"
    outcome = await space.merge(held.oid, "late")
    assert (outcome.kind, outcome.detail) == ("superseded", f"claim {second} of node is held (receipt 2)")
    other = fresh()
    rival = await bob.create(other, fresh())
    (rival.path / "shared.txt").write_text("bob\n")
    commit(rival.path, "rival")
    assert (await rival.merge(b"", "rival")).kind == "merged"
    taken_up = await bob.create(item, second, space.branch)
    outcome = await taken_up.merge(taken.oid, "")
    assert (outcome.kind, outcome.detail) == ("conflicts", "shared.txt")
    assert outcome.resolve.splitlines()[0] == f"git fetch {remote.path} {taken_up.branch}"


async def test_another_node_finishes_the_merge_of_a_lost_holder(git: GitRunner, remote: Remote, tmp_path: Path) -> None:
    alice, bob = make(git, remote, tmp_path / "alice"), make(git, remote, tmp_path / "bob")
    item, first, second = fresh(), fresh(), fresh()
    held = await alice.cas(b"", intent(item, first))
    space = await alice.create(item, first)
    (space.path / "new.txt").write_text("alice\n")
    early = await bob.create(item, fresh(), space.branch)
    assert await early.commits_ahead() == 0, "it is not on the remote yet"
    await space.keep_work("done")
    taken = await bob.cas(held.oid, intent(item, second))
    taken_up = await bob.create(item, second, space.branch)
    (space.path / "new.txt").write_text("too late\n")
    await space.keep_work("what the old branch becomes later is not merged")
    done = await taken_up.merge(taken.oid, "Finish it")
    assert done.kind == "merged"
    assert remote.file("new.txt") == "alice"
    assert remote.git("log", "-1", "--format=%(trailers:key=Fabrik-Claim,valueonly)", "main") == second
    late = await space.merge(held.oid, "late")
    assert (late.kind, late.merge_commit) == ("superseded", done.merge_commit)
    assert late.detail == f"the work of claim {second} was merged as {done.merge_commit.hex()} meanwhile; that of this run stays on branch {space.branch}"
    assert remote.git("show", f"{space.branch}:new.txt") == "too late"
    assert len(remote.merges(item)) == 1


async def test_work_that_another_claim_merged_as_it_is_counts_as_merged(git: GitRunner, remote: Remote, tmp_path: Path) -> None:
    alice, bob = make(git, remote, tmp_path / "alice"), make(git, remote, tmp_path / "bob")
    item, first, second = fresh(), fresh(), fresh()
    held = await alice.cas(b"", intent(item, first))
    space = await alice.create(item, first)
    (space.path / "new.txt").write_text("alice\n")
    await space.keep_work("done")
    taken = await bob.cas(held.oid, intent(item, second))
    done = await (await bob.create(item, second, space.branch)).merge(taken.oid, "Finish it")
    assert await space.merge(held.oid, "late") == MergeOutcome("already_merged", done.merge_commit)


@pytest.mark.parametrize("name", ["--upload-pack=x", "a:refs/heads/main", "*", "no/such/branch"])
async def test_a_branch_that_is_none_is_not_asked_for(git: GitRunner, remote: Remote, tmp_path: Path, name: str) -> None:
    before = remote.refs()
    space = await make(git, remote, tmp_path / "home").create(fresh(), fresh(), name)
    assert await space.commits_ahead() == 0
    assert remote.refs() == before


async def test_a_restarted_node_finds_its_workspace_and_makes_no_second(git: GitRunner, remote: Remote, tmp_path: Path) -> None:
    item, claim_id = fresh(), fresh()
    space = await make(git, remote, tmp_path / "home").create(item, claim_id)
    (space.path / "half.txt").write_text("half\n")
    restarted = make(git, remote, tmp_path / "home")
    with pytest.raises(Conflict, match="in use"):
        await restarted.create(item, claim_id)
    again = await restarted.reopen(item, claim_id)
    await again.keep_work("infra lost")
    assert remote.git("show", f"{again.branch}:half.txt") == "half"


async def test_keeping_no_work_pushes_no_branch(git: GitRunner, remote: Remote, tmp_path: Path) -> None:
    space = await make(git, remote, tmp_path / "home").create(fresh(), fresh())
    before = remote.refs()
    await space.keep_work("nothing")
    assert remote.refs() == before


async def test_a_node_starts_while_its_remote_is_away(git: GitRunner, remote: Remote, tmp_path: Path) -> None:
    away = remote.path.rename(tmp_path / "away.git")
    origin = make(git, remote, tmp_path / "home")
    with pytest.raises(Unreachable):
        await origin.current(fresh())
    away.rename(remote.path)
    assert await origin.current(fresh()) is None
    assert (await origin.probe()).ok


async def test_how_far_a_branch_is_ahead_is_asked_of_the_remote(git: GitRunner, remote: Remote, tmp_path: Path) -> None:
    alice, bob = make(git, remote, tmp_path / "alice"), make(git, remote, tmp_path / "bob")
    branches: Branches = bob
    item, claim_id = fresh(), fresh()
    space = await alice.create(item, claim_id)
    for number in range(2):
        (space.path / f"{number}.txt").write_text("x")
        commit(space.path, "work")
    assert await branches.ahead_of_base(space.branch) is None, "not pushed yet"
    await space.push()
    assert await branches.ahead_of_base(space.branch) == 2
    assert await branches.ahead_of_base("main") == 0
    for odd in ("--upload-pack=x", "../main", "no such branch", ""):
        assert await branches.ahead_of_base(odd) is None


async def test_a_commit_that_was_never_pushed_is_had_where_it_was_made_and_after_it_was_pushed_everywhere(
    git: GitRunner, remote: Remote, tmp_path: Path
) -> None:
    alice, bob = make(git, remote, tmp_path / "alice"), make(git, remote, tmp_path / "bob")
    item, first, second = fresh(), fresh(), fresh()
    space = await alice.create(item, first)
    assert await alice.left_behind(item, first) is None, "nothing that the base has not"
    assert await alice.left_behind(item, second) is None, "no such branch"
    (space.path / "new.txt").write_text("new\n")
    commit(space.path, "finished")
    tip = await space.tip()
    await space.remove()
    branch = (await alice.claims()).repository.directory / "refs/heads" / space.branch
    said = branch.read_bytes()
    branch.write_bytes(b"")
    with pytest.raises(GitFailed, match=f"branch {space.branch} in .* names no commit that git can read"):
        await alice.left_behind(item, first)  # it is not known that nothing was left
    branch.write_bytes(said)
    away = remote.path.rename(tmp_path / "away")
    later = make(git, remote, tmp_path / "alice")
    assert await later.left_behind(item, first) == tip, "the network has no part in it"
    with pytest.raises(Unreachable):
        await later.push_left(item, first)
    with pytest.raises(Unreachable):
        await later.has_commit(space.branch, tip)
    away.rename(remote.path)
    assert await later.has_commit(space.branch, tip)
    assert not await bob.has_commit(space.branch, tip)
    await later.push_left(item, first)
    assert await bob.has_commit(space.branch, tip)
    assert not await bob.has_commit("--no branch", tip), "nobody could go on there, though the commit is here"
    taken_up = await bob.create(item, second, space.branch, tip.hex())
    assert taken_up.start == tip
