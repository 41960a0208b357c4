"""Keeping the work of a folder in which repositories lie: nothing of them is run, and each is recorded by the commit that it has checked out."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from integration.git.forge import Node, NodeFactory, commit, fresh

from fabrik_node.git import Worktree
from fabrik_node.git.staging import add_all


async def new_tree(node: Node) -> Worktree:
    claim_id = fresh()
    return await Worktree.create(node.repository, node.home / claim_id, fresh(), claim_id)


def plain(folder: Path, *args: str) -> str:
    return subprocess.run(["git", *args], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def nested(tree: Worktree, name: str) -> Path:
    """A repository in the worktree, recorded in its index."""
    folder = tree.path / name
    plain(tree.path, "init", "-q", name)
    (folder / "file.txt").write_text("one\n")
    commit(folder, "first")
    plain(tree.path, "-c", "advice.addEmbeddedRepo=false", "add", name)
    return folder


def set_traps(folder: Path, proof: Path) -> None:
    """A filter and a monitor of files that say that they were run, and something that a git that looks there has to ask them about."""
    monitor = folder.parent / "monitor"
    monitor.write_text(f"#!/bin/sh\necho monitor >> {proof}\n")
    monitor.chmod(0o755)
    (folder / ".gitattributes").write_text("* filter=trap\n")
    commit(folder, "attributes")
    plain(folder, "config", "filter.trap.clean", f"echo filter >> {proof}; cat")
    plain(folder, "config", "core.fsmonitor", str(monitor))
    os.utime(folder / "file.txt", (1, 1))


@pytest.mark.promise("A8")
@pytest.mark.parametrize("is_split", [False, True], ids=["whole-index", "split-index"])
async def test_nothing_of_a_repository_in_the_worktree_is_run(make_node: NodeFactory, tmp_path: Path, is_split: bool) -> None:
    tree, proof = await new_tree(await make_node("alice")), tmp_path / "proof"
    folder = nested(tree, "sub")
    set_traps(folder, proof)
    if is_split:
        plain(tree.path, "update-index", "--split-index")
    kept = await tree.commit_all("step", beside=True)
    assert not proof.exists(), proof.read_text()
    assert plain(tree.path, "rev-parse", f"{kept}:sub") == plain(folder, "rev-parse", "HEAD"), "its head has moved since it was recorded"
    assert await tree.commit_all("at its end") is None
    assert not await tree.has_changes()
    assert not proof.exists(), proof.read_text()
    os.utime(folder / "file.txt", (2, 2))
    plain(tree.path, "status")
    assert proof.exists(), "the traps are real ones"


async def test_submodules_are_kept_as_git_keeps_them(make_node: NodeFactory) -> None:
    """Not checked out, moved on, removed, out of a sparse checkout, in a conflict, and in a folder that is no longer one."""
    tree = await new_tree(await make_node("alice"))
    names = ("idle", "moved", "removed", "sparse", "torn", "under/folder", "wörk\tä")
    first = {name: plain(nested(tree, name), "rev-parse", "HEAD") for name in names}
    commit(tree.path, "submodules")
    for name in ("idle", "wörk\tä"):
        (tree.path / name / ".git").rename(tree.path.parent / f"was-{len(name)}")
        (tree.path / name / "file.txt").unlink()
    (tree.path / "moved/file.txt").write_text("two\n")
    commit(tree.path / "moved", "second")
    plain(tree.path, "update-index", "--skip-worktree", "sparse")
    for name in ("removed", "sparse"):
        (tree.path / name).rename(tree.path.parent / name)
    (tree.path / "under").rename(tree.path.parent / "under")
    (tree.path / "under").symlink_to(tree.path.parent / "under")
    stages = "".join(f"160000 {oid} {stage}\ttorn\n" for stage, oid in enumerate((first["idle"], first["torn"], first["moved"]), 1))
    subprocess.run(["git", "update-index", "--index-info"], cwd=tree.path, check=True, input=f"0 {'0' * 40}\ttorn\n{stages}", text=True)
    (tree.path / "torn/.git").rename(tree.path.parent / "was-torn")
    (tree.path / "torn/file.txt").unlink()
    kept = await tree.commit_all("step", beside=True)
    rows = [row.split() for row in plain(tree.path, "ls-tree", "-r", "-z", str(kept)).split("\0") if row.startswith("160000")]
    wanted = {name: first[name] for name in ("idle", "sparse", "torn")} | {"moved": plain(tree.path / "moved", "rev-parse", "HEAD")}
    assert {row[3]: row[2] for row in rows if not row[3].startswith("w")} == wanted
    assert plain(tree.path, "rev-parse", f"{kept}:wörk\tä") == first["wörk\tä"]
    assert plain(tree.path, "ls-files", "-t", "sparse") == "S sparse"
    assert plain(tree.path, "status", "--porcelain") == ""


async def test_the_copy_of_the_index_lies_where_no_command_writes(make_node: NodeFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = await make_node("alice")
    tree, seen = await new_tree(alice), []
    (tree.path / "new.txt").write_text("x")

    async def add(git: object, folder: Path, index: Path) -> None:
        seen.append(index)
        await add_all(alice.repository.git, folder, index)

    monkeypatch.setattr("fabrik_node.git.worktree.add_all", add)
    await tree.commit_all("step", beside=True)
    own = (tree.path, alice.repository.directory / "worktrees", alice.repository.directory / "objects")
    assert seen
    assert not [index for index in seen for folder in own if index.is_relative_to(folder.resolve())]
    assert not list(alice.repository.directory.rglob("*.index-*"))
    seen[0].touch()  # as one that a killed node left
    await tree.remove()
    assert not seen[0].exists()


async def test_a_repository_without_a_commit_keeps_nothing_else_from_being_kept(make_node: NodeFactory, caplog: pytest.LogCaptureFixture) -> None:
    tree = await new_tree(await make_node("alice"))
    first = plain(nested(tree, "known"), "rev-parse", "HEAD")
    commit(tree.path, "a repository")
    plain(tree.path / "known", "checkout", "-q", "--orphan", "empty")
    for name in ("a new *", "zöe"):
        plain(tree.path, "init", "-q", name)
        (tree.path / name / "inside.txt").write_text("x\n")
    (tree.path / "work.txt").write_text("work\n")
    kept = await tree.commit_all("step", beside=True)
    assert plain(tree.path, "diff-tree", "-r", "--name-only", f"{kept}^", str(kept)) == "work.txt"
    assert plain(tree.path, "rev-parse", f"{kept}:known") == first
    [said] = [record.getMessage() for record in caplog.records if "have no commit" in record.getMessage()]
    assert [name for name in ("'a new *'", "'zöe'", "'known'") if name not in said] == []
    assert await tree.commit_all("at its end") is None


async def test_a_file_that_changes_in_the_moment_in_which_it_was_staged_is_kept_as_it_is(make_node: NodeFactory) -> None:
    """Same size, same times: all that tells is that the index is not newer than the file."""
    tree = await new_tree(await make_node("alice"))
    file, then = tree.path / "file.txt", 1_700_000_000
    file.write_text("one\n")
    os.utime(file, (then, then))
    plain(tree.path, "-c", "core.trustctime=false", "add", "file.txt")
    index = Path(plain(tree.path, "rev-parse", "--path-format=absolute", "--git-path", "index"))
    os.utime(index, (then, then))
    with file.open("r+") as written:  # the same inode
        written.write("two\n")
    os.utime(file, (then, then))
    plain(tree.path, "config", "core.trustctime", "false")
    kept = await tree.commit_all("step", beside=True)
    assert plain(tree.path, "show", f"{kept}:file.txt") == "two"
