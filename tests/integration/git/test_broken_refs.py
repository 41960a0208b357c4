"""A ref that names no object stops every fetch of git. A full disk or a power cut leaves one, and a command may write one."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from integration.git.forge import NodeFactory, Remote

from fabrik_node.errors import GitFailed, Unreachable
from fabrik_node.git import Repository, Worktree
from fabrik_node.ids import new_id, show_id

ITEM, C1, C2 = (show_id(new_id(1_700_000_000_000 + number)) for number in range(3))
BRANCHES = f"refs/heads/fabrik/{ITEM}"
NOTHING = "1" * 40
"""An object id of nothing."""


def _git(repository: Repository, *args: str, stdin: str = "") -> str:
    told = ["git", "-C", str(repository.directory), "-c", "user.name=x", "-c", "user.email=x@example.org", *args]
    return subprocess.run(told, check=True, capture_output=True, text=True, input=stdin).stdout.strip()


def _advance(remote: Remote) -> str:
    made = remote.git("-c", "user.name=x", "-c", "user.email=x@example.org", "commit-tree", "main^{tree}", "-p", "main", "-m", "next")
    remote.git("update-ref", "refs/heads/main", made)
    return made


def _object(repository: Repository, oid: str) -> Path:
    return repository.directory / "objects" / oid[:2] / oid[2:]


def _empty(repository: Repository, oid: str) -> None:
    path = _object(repository, oid)
    path.chmod(0o644)
    path.write_bytes(b"")


def _writes(path: str, content: str) -> Callable[[Repository], None]:
    def write(repository: Repository) -> None:
        (repository.directory / path).write_text(content)

    return write


def _ref(content: str) -> Callable[[Repository], None]:
    return _writes(f"{BRANCHES}/junk", content)


def _packed(repository: Repository) -> None:
    """As it is when the objects were not yet on the disk and the packed refs were."""
    made = _git(repository, "commit-tree", "-m", "lost", f"{BRANCHES}/{C1}^{{tree}}")
    _git(repository, "update-ref", f"{BRANCHES}/junk", made)
    _git(repository, "pack-refs", "--all", "--prune")
    _object(repository, made).unlink()


def _empty_object(repository: Repository) -> None:
    made = _git(repository, "commit-tree", "-m", "lost", f"{BRANCHES}/{C1}^{{tree}}")
    _git(repository, "update-ref", f"{BRANCHES}/junk", made)
    _empty(repository, made)


def _empty_parent(repository: Repository) -> None:
    parent = _git(repository, "commit-tree", "-m", "lost", f"{BRANCHES}/{C1}^{{tree}}")
    _git(repository, "update-ref", f"{BRANCHES}/junk", _git(repository, "commit-tree", "-m", "kept", "-p", parent, f"{parent}^{{tree}}"))
    _empty(repository, parent)


def _link(repository: Repository) -> None:
    (repository.directory / f"{BRANCHES}/junk").symlink_to("/dev/null")


def _linked_folder(repository: Repository) -> None:
    folder = repository.directory.parent / "elsewhere"
    folder.mkdir()
    (folder / "keep").write_text(NOTHING)
    (repository.directory / f"{BRANCHES}/junk").symlink_to(folder)


def _bad_name(repository: Repository) -> None:
    (repository.directory / f"{BRANCHES}/a name").write_text(NOTHING)


def _tracking(content: str) -> Callable[[Repository], None]:
    return _writes("refs/remotes/origin/main", content)


def _record(file: str, content: str) -> Callable[[Repository], None]:
    return _writes(f"worktrees/{C1}/{file}", content)


BROKEN = {
    "missing": _ref(f"{NOTHING}\n"),
    "empty": _ref(""),
    "zeros": _ref("0" * 40),
    "nothing but NUL": _ref("\0" * 41),
    "packed": _packed,
    "empty object": _empty_object,
    "empty parent": _empty_parent,
    "link": _link,
    "linked folder": _linked_folder,
    "name": _bad_name,
    "tracking missing": _tracking(f"{NOTHING}\n"),
    "tracking empty": _tracking(""),
    "head": _record("HEAD", f"{NOTHING}\n"),
    "commondir": _record("commondir", ""),
}


@pytest.mark.parametrize("how", BROKEN)
async def test_a_broken_ref_is_set_aside_and_the_fetch_goes_on(make_node: NodeFactory, remote: Remote, how: str, caplog: pytest.LogCaptureFixture) -> None:
    alice = await make_node("alice")
    worktrees = [await Worktree.create(alice.repository, alice.home / claim, ITEM, claim) for claim in (C1, C2)]
    sound = _git(alice.repository, "rev-parse", worktrees[1].branch)
    BROKEN[how](alice.repository)
    base = _advance(remote)
    with caplog.at_level(logging.WARNING, "fabrik_node"):
        assert await alice.repository.fetch() == base
    said = [record.getMessage() for record in caplog.records]
    assert said
    assert all(str(alice.repository.directory) in line and ("taken away" in line or "put back" in line) for line in said), said
    assert _git(alice.repository, "rev-list", "--quiet", "--stdin", "--not", "--all") == ""
    assert _git(alice.repository, "rev-parse", worktrees[1].branch) == sound
    assert await worktrees[1].has_changes() is False
    assert await (await Worktree.reopen(alice.repository, alice.home / C2, ITEM, C2)).head_oid() == sound
    caplog.clear()
    assert await alice.repository.fetch() == base
    assert not caplog.records
    elsewhere = alice.repository.directory.parent / "elsewhere/keep"
    assert not elsewhere.exists() or elsewhere.read_text() == NOTHING


async def test_a_worktree_with_a_broken_head_is_put_back_on_its_branch(make_node: NodeFactory, remote: Remote) -> None:
    alice = await make_node("alice")
    worktree = await Worktree.create(alice.repository, alice.home / C1, ITEM, C1)
    (worktree.path / "new.txt").write_text("work\n")
    (alice.repository.directory / f"worktrees/{C1}/HEAD").write_text(f"{NOTHING}\n")
    _advance(remote)
    await alice.repository.fetch()
    kept = await worktree.commit_all("keep work")
    assert kept is not None
    assert _git(alice.repository, "ls-tree", "--name-only", worktree.branch).split() == ["new.txt", "readme.txt", "shared.txt"]
    assert await alice.repository.git.text(worktree.path, "symbolic-ref", "HEAD") == f"refs/heads/{worktree.branch}"


async def test_a_record_whose_branch_is_gone_is_forgotten_and_its_folder_stays(make_node: NodeFactory, remote: Remote) -> None:
    alice = await make_node("alice")
    worktree = await Worktree.create(alice.repository, alice.home / C1, ITEM, C1)
    _git(alice.repository, "update-ref", "-d", f"refs/heads/{worktree.branch}")
    (alice.repository.directory / f"worktrees/{C1}/HEAD").write_text(f"{NOTHING}\n")
    base = _advance(remote)
    assert await alice.repository.fetch() == base
    assert not (alice.repository.directory / f"worktrees/{C1}").exists()
    assert (worktree.path / "readme.txt").read_text() == "hello\n"


async def test_objects_of_the_base_that_a_power_cut_left_empty_come_again(make_node: NodeFactory, remote: Remote) -> None:
    alice = await make_node("alice")
    if alice.repository.git_version < (2, 36):
        pytest.skip("this git can not fetch all again")
    for oid in (await alice.repository.base_oid(), _git(alice.repository, "rev-parse", "refs/remotes/origin/main^{tree}")):
        _empty(alice.repository, oid)
    base = _advance(remote)
    assert await alice.repository.fetch() == base
    assert _git(alice.repository, "fsck", "--connectivity-only") == ""
    worktree = await Worktree.create(alice.repository, alice.home / C1, ITEM, C1)
    assert (worktree.path / "readme.txt").read_text() == "hello\n"


async def test_a_ref_is_fetched_past_a_broken_one_too(make_node: NodeFactory, remote: Remote) -> None:
    alice = await make_node("alice")
    await Worktree.create(alice.repository, alice.home / C1, ITEM, C1)
    made = remote.git("-c", "user.name=x", "-c", "user.email=x@example.org", "commit-tree", "main^{tree}", "-m", "other")
    remote.git("update-ref", "refs/heads/other", made)
    BROKEN["missing"](alice.repository)
    assert await alice.repository.fetch_ref("refs/heads/other") == made


async def test_a_broken_ref_of_somebody_else_stays_and_the_error_says_what_it_is(make_node: NodeFactory, remote: Remote) -> None:
    alice = await make_node("alice")
    ref = alice.repository.directory / "refs/heads/mine"
    ref.write_text(f"{NOTHING}\n")
    _advance(remote)
    with pytest.raises(GitFailed, match=r"is damaged, so nothing can be fetched into it: fatal: bad object refs/heads/mine") as failure:
        await alice.repository.fetch()
    assert failure.value.hint == f"git -C {alice.repository.directory} fsck --connectivity-only"
    assert ref.read_text() == f"{NOTHING}\n"


async def test_a_remote_that_answers_and_gives_nothing_is_not_called_away(make_node: NodeFactory, remote: Remote) -> None:
    """And nothing here is taken away for it."""
    alice = await make_node("alice")
    worktree = await Worktree.create(alice.repository, alice.home / C1, ITEM, C1)
    made = _advance(remote)
    path = remote.path / "objects" / made[:2] / made[2:]
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(b"")
    with pytest.raises(Unreachable, match="answers, but nothing could be fetched from it"):
        await alice.repository.fetch()
    assert await worktree.head_oid()
    path.write_bytes(content)
    assert await alice.repository.fetch() == made
