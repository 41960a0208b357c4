from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from integration.git.forge import Node, NodeFactory, Remote, commit, fresh

from fabrik_node.errors import Conflict, GitFailed
from fabrik_node.git import GitRunner, Worktree

WORKER = Path(__file__).with_name("parallel_worker.py")


async def new_tree(node: Node) -> Worktree:
    claim_id = fresh()
    return await Worktree.create(node.repository, node.home / claim_id, fresh(), claim_id)


def plain(folder: Path, *args: str) -> str:
    """git as the agent's own command would run it."""
    return subprocess.run(["git", *args], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.promise("A9")
async def test_twelve_processes_on_one_home_never_write_to_each_other(tmp_path: Path, remote: Remote, environ: dict[str, str]) -> None:
    """They even race to make the local repository."""
    home = tmp_path / "home"
    home.mkdir()
    env = environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ids = [(fresh(), fresh()) for _ in range(12)]
    workers = [
        await asyncio.create_subprocess_exec(sys.executable, str(WORKER), str(home), str(remote.path), *pair, env=env, stdout=asyncio.subprocess.PIPE)
        for pair in ids
    ]
    made = [json.loads(stdout) for stdout, _ in await asyncio.gather(*(worker.communicate() for worker in workers))]
    assert [worker.returncode for worker in workers] == [0] * 12
    for key in ("pid", "path", "branch", "tip"):
        assert len({row[key] for row in made}) == 12
    for (item, claim_id), row in zip(ids, made, strict=True):
        assert row["ahead"] == 3
        assert Path(row["path"], "result.txt").read_text() == f"{item} 2\n"
        assert remote.ref(f"refs/heads/fabrik/{item}/{claim_id}") == row["tip"]
        assert remote.git("log", "--format=%s", f"main..{row['tip']}").splitlines() == [f"{item} {number}" for number in (2, 1, 0)]
    assert len(list((home / "git").glob("*.git"))) == 1
    assert not list((home / "git").glob("*.new-*"))


@pytest.mark.promise("A9")
async def test_twelve_tasks_get_distinct_folders_and_branches(make_node: NodeFactory) -> None:
    alice = await make_node("alice")
    trees = await asyncio.gather(*(new_tree(alice) for _ in range(12)))
    assert len({tree.path for tree in trees}) == len({tree.branch for tree in trees}) == 12
    for tree in trees:
        (tree.path / "mine.txt").write_text(tree.branch)
    kept = await asyncio.gather(*(tree.commit_all("work") for tree in trees))
    assert len(set(kept)) == 12
    assert [await tree.commits_ahead() for tree in trees] == [1] * 12
    assert [plain(tree.path, "show", "HEAD:mine.txt") for tree in trees] == [tree.branch for tree in trees]


@pytest.mark.promise("A9")
async def test_a_git_that_looks_at_all_worktrees_never_sees_a_half_made_one(make_node: NodeFactory, git: GitRunner) -> None:
    """An agent may fetch, prune or collect garbage in its worktree while others are made.

    Not while one is removed: git lists the worktrees first and reads them later, and fails on one that went in between.
    """
    alice = await make_node("alice")
    looking = await new_tree(alice)
    commands = (
        ("rev-list", "--all", "--quiet"),
        ("worktree", "list", "--porcelain"),
        ("fsck", "--connectivity-only"),
        ("worktree", "prune"),
        ("branch", "--list"),
    )

    async def look() -> None:
        for _ in range(4):
            for command in commands:
                await git.run(looking.path, *command)

    made = []

    async def make() -> None:
        for _ in range(3):
            tree = await new_tree(alice)
            assert await tree.commits_ahead() == 0
            assert plain(tree.path, "status", "--porcelain", "--branch") == f"## {tree.branch}"
            made.append(tree)

    await asyncio.gather(*(look() for _ in range(4)), *(make() for _ in range(4)))
    for tree in made:
        await tree.remove()
    assert [entry.name for entry in alice.repository.directory.glob("worktrees/*")] == [looking.path.name]


@pytest.mark.promise("A9")
async def test_a_folder_or_branch_in_use_is_refused_and_left_alone(make_node: NodeFactory) -> None:
    alice = await make_node("alice")
    tree = await new_tree(alice)
    (tree.path / "mine.txt").write_text("mine")
    with pytest.raises(Conflict, match=r"folder .* is in use"):
        await Worktree.create(alice.repository, tree.path, fresh(), fresh())
    elsewhere = alice.home / "elsewhere"
    with pytest.raises(Conflict, match=r"branch .* exists already"):
        await Worktree.create(alice.repository, elsewhere, tree.item, tree.claim_id)
    assert not elsewhere.exists()
    assert (tree.path / "mine.txt").read_text() == "mine"
    same = [Worktree.create(alice.repository, alice.home / "same", fresh(), fresh()) for _ in range(4)]
    outcomes = await asyncio.gather(*same, return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict", "Conflict", "Conflict", "Worktree"]


async def test_a_failed_create_leaves_nothing_behind(make_node: NodeFactory) -> None:
    alice = await make_node("alice")
    claim_id, before = fresh(), plain(alice.repository.directory, "for-each-ref")
    with pytest.raises(GitFailed):
        await Worktree.create(alice.repository, alice.home / "tree", fresh(), claim_id, "1" * 40)
    assert not (alice.home / "tree").exists()
    assert plain(alice.repository.directory, "for-each-ref") == before


async def test_changes_are_seen_and_kept_but_ignored_files_are_not(make_node: NodeFactory) -> None:
    alice = await make_node("alice")
    tree = await new_tree(alice)
    assert not await tree.has_changes()
    assert await tree.commit_all("nothing") is None
    (tree.path / ".gitignore").write_text("*.log\n")
    (tree.path / "a.log").write_text("noise")
    (tree.path / "readme.txt").unlink()
    (tree.path / "ünew").mkdir()
    (tree.path / "ünew" / "file").write_text("x")
    assert await tree.has_changes()
    kept = await tree.commit_all("wip\n\nsecond paragraph")
    assert kept == await tree.head_oid() == plain(tree.path, "rev-parse", "HEAD")
    assert plain(tree.path, "-c", "core.quotePath=false", "ls-tree", "-r", "--name-only", "HEAD").splitlines() == [".gitignore", "shared.txt", "ünew/file"]
    assert not await tree.has_changes()
    assert plain(tree.path, "status", "--porcelain") == ""
    assert await tree.commits_ahead() == 1


async def test_the_work_of_a_killed_run_is_kept_whatever_state_it_left(make_node: NodeFactory, remote: Remote) -> None:
    """A held index lock, a detached head with a commit of its own, and a half-done merge with conflicts."""
    alice = await make_node("alice")
    tree = await new_tree(alice)
    (tree.path / "shared.txt").write_text("one\nBRANCH\nthree\n")
    commit(tree.path, "on the branch")
    on_branch = await tree.head_oid()
    plain(tree.path, "checkout", "-q", "--detach", "HEAD~1")
    (tree.path / "shared.txt").write_text("one\nDETACHED\nthree\n")
    commit(tree.path, "detached")
    detached = plain(tree.path, "rev-parse", "HEAD")
    assert subprocess.run(["git", "merge", on_branch], cwd=tree.path, capture_output=True, check=False).returncode == 1
    index = Path(plain(tree.path, "rev-parse", "--path-format=absolute", "--git-path", "index"))
    index.with_name("index.lock").touch()
    (tree.path / "untracked.txt").write_text("new\n")
    kept = await tree.commit_all("wip")
    assert kept is not None
    assert plain(tree.path, "log", "-1", "--format=%P", kept).split() == [on_branch, detached]
    assert plain(tree.path, "show", f"{kept}:untracked.txt") == "new"
    assert "<<<<<<<" in plain(tree.path, "show", f"{kept}:shared.txt")
    assert await tree.push_branch() == kept == remote.ref(f"refs/heads/{tree.branch}")


def while_it_is_staged(tree: Worktree, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object], times: int = 1) -> None:
    """``act`` when everything is in the other index, which is not in its place yet."""
    real, left = Worktree._parents, [times]

    async def parents(worktree: Worktree, tip: str) -> list[str]:
        if worktree is tree and left[0]:
            left[0] -= 1
            act()
        return await real(worktree, tip)

    monkeypatch.setattr(Worktree, "_parents", parents)


@pytest.mark.promise("C7")
async def test_what_the_command_stages_while_its_files_are_kept_stays_staged(make_node: NodeFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = await new_tree(await make_node("alice"))
    (tree.path / ".gitignore").write_text("*.log\n")
    (tree.path / "wanted.log").write_text("what is ignored comes with nobody else")
    while_it_is_staged(tree, monkeypatch, lambda: plain(tree.path, "add", "-f", "wanted.log"))
    kept = await tree.commit_all("step", beside=True)
    assert plain(tree.path, "ls-tree", "-r", "--name-only", str(kept)).splitlines() == [".gitignore", "readme.txt", "shared.txt", "wanted.log"]
    assert plain(tree.path, "status", "--porcelain") == ""
    assert not list(tree.path.parent.rglob("index.*")), "no lock and no copy is left"


@pytest.mark.promise("C7")
async def test_what_the_command_commits_while_its_files_are_kept_is_not_undone(make_node: NodeFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = await new_tree(await make_node("alice"))
    (tree.path / "a.txt").write_text("a")
    while_it_is_staged(tree, monkeypatch, lambda: commit(tree.path, "by the command"))
    with pytest.raises(GitFailed):
        await tree.commit_all("step", beside=True)
    assert await tree.commit_all("step", beside=True) is None, "all of it is committed"
    assert plain(tree.path, "log", "-1", "--format=%s") == "by the command"
    assert plain(tree.path, "status", "--porcelain") == ""


async def test_an_index_that_never_stands_still_is_said(make_node: NodeFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = await new_tree(await make_node("alice"))
    tip, names = await tree.head_oid(), iter(range(100))
    (tree.path / "work.txt").write_text("x")

    def stage() -> None:
        name = f"{next(names)}.txt"
        (tree.path / name).write_text("x")
        plain(tree.path, "add", name)

    while_it_is_staged(tree, monkeypatch, stage, times=100)
    with pytest.raises(GitFailed, match="changed while it was read"):
        await tree.commit_all("step", beside=True)
    assert await tree.head_oid() == tip


@pytest.mark.parametrize("is_left", [False, True])
async def test_a_lock_of_the_command_is_waited_for_and_one_that_a_killed_git_left_is_not(
    make_node: NodeFactory, monkeypatch: pytest.MonkeyPatch, is_left: bool
) -> None:
    tree = await new_tree(await make_node("alice"))
    (tree.path / "a.txt").write_text("a")
    index = Path(plain(tree.path, "rev-parse", "--path-format=absolute", "--git-path", "index"))
    lock, pauses = index.with_name("index.lock"), []
    lock.write_text("")

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3 and not is_left:
            lock.unlink()

    monkeypatch.setattr("fabrik_node.git.index_swap.asyncio", SimpleNamespace(sleep=pause))
    assert await tree.commit_all("step", beside=True) is not None
    assert (len(pauses), lock.exists()) == (200 if is_left else 3, is_left)
    lock.unlink(missing_ok=True)
    assert plain(tree.path, "status", "--porcelain") == ""


async def test_a_pushed_branch_that_was_amended_is_pushed_again(make_node: NodeFactory, remote: Remote) -> None:
    alice = await make_node("alice")
    tree = await new_tree(alice)
    (tree.path / "a.txt").write_text("a")
    commit(tree.path, "first wording")
    await tree.push_branch()
    plain(tree.path, "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "--amend", "-m", "second wording")
    assert await tree.push_branch() == remote.ref(f"refs/heads/{tree.branch}")
    assert remote.git("log", "-1", "--format=%s", tree.branch) == "second wording"


async def test_remove_takes_the_folder_and_keeps_the_branch(make_node: NodeFactory) -> None:
    alice = await make_node("alice")
    tree = await new_tree(alice)
    cache = tree.path / "cache"
    cache.mkdir()
    (cache / "file").write_text("x")
    (tree.path / "link").symlink_to(alice.repository.directory)
    cache.chmod(0o500)
    tip = await tree.head_oid()
    await tree.remove()
    await tree.remove()
    assert not tree.path.exists()
    assert alice.repository.directory.exists()
    assert plain(alice.repository.directory, "worktree", "list", "--porcelain").count("worktree ") == 1
    assert await tree.head_oid() == tip


async def test_a_restarted_node_finds_its_worktree_and_no_other(make_node: NodeFactory) -> None:
    alice, bob = await make_node("alice"), await make_node("bob")
    tree = await new_tree(alice)
    (tree.path / "half.txt").write_text("half")
    again = await Worktree.reopen(alice.repository, tree.path, tree.item, tree.claim_id)
    assert again.branch == tree.branch
    assert await again.commit_all("wip") == await tree.head_oid()
    for repository, path, item in ((bob.repository, tree.path, tree.item), (alice.repository, tree.path, fresh()), (alice.repository, alice.home, tree.item)):
        with pytest.raises(GitFailed):
            await Worktree.reopen(repository, path, item, tree.claim_id)


async def test_an_agent_can_commit_on_a_host_without_a_git_identity(make_node: NodeFactory, environ: dict[str, str]) -> None:
    alice = await make_node("alice")
    tree = await new_tree(alice)
    (tree.path / "a.txt").write_text("a")
    for args in (["add", "-A"], ["commit", "-q", "-m", "work"]):
        subprocess.run(["git", *args], cwd=tree.path, env=environ, check=True)
    assert await tree.commits_ahead() == 1
