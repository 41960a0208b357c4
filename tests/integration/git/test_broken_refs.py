"""A ref that names no object stops every fetch of git. A full disk or a power cut leaves one, and a command may write one."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from integration.git.forge import NodeFactory, Remote

from fabrik_node.errors import Unreachable
from fabrik_node.git import Repository, Worktree
from fabrik_node.ids import new_id, show_id

ITEM, C1 = (show_id(new_id(1_700_000_000_000 + number)) for number in range(2))
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


def _refs(repository: Repository) -> dict[str, bytes]:
    folders = ("refs", f"worktrees/{C1}")
    return {str(path): path.read_bytes() for folder in folders for path in sorted((repository.directory / folder).rglob("*")) if path.is_file()}


def _replaced(path: Path, content: str) -> Callable[[], None]:
    """Write it; what puts back what was there."""
    before = path.read_bytes() if path.exists() else None
    path.write_text(content)
    return path.unlink if before is None else lambda: (path.write_bytes(before), None)[1]


def _file(path: str, content: str) -> Callable[[Repository], Callable[[], None]]:
    return lambda repository: _replaced(repository.directory / path, content)


def _packs_away(repository: Repository) -> Callable[[], None]:
    """Objects that can not be read for the moment: git calls them missing."""
    _git(repository, "repack", "-adq")
    packs, away = repository.directory / "objects/pack", repository.directory / "away"
    packs.rename(away)
    packs.mkdir()

    def back() -> None:
        packs.rmdir()
        away.rename(packs)

    return back


BROKEN = {
    "missing": _file(f"{BRANCHES}/junk", f"{NOTHING}\n"),
    "somebody else's": _file("refs/heads/mine", f"{NOTHING}\n"),
    "tracking": _file("refs/remotes/origin/main", f"{NOTHING}\n"),
    "head": _file(f"worktrees/{C1}/HEAD", f"{NOTHING}\n"),
    "packs away": _packs_away,
}


@pytest.mark.parametrize("how", BROKEN)
async def test_a_broken_ref_is_named_and_nothing_is_taken_away(make_node: NodeFactory, remote: Remote, how: str) -> None:
    alice = await make_node("alice")
    worktree = await Worktree.create(alice.repository, alice.home / C1, ITEM, C1)
    (worktree.path / "new.txt").write_text("work\n")
    kept = await worktree.commit_all("keep work")
    undo = BROKEN[how](alice.repository)
    base = _advance(remote)
    refs = _refs(alice.repository)
    with pytest.raises(Unreachable, match=r"git can not read all of .*, so nothing can be fetched into it: fatal: ") as failure:
        await alice.repository.fetch()
    assert failure.value.hint == f"git -C {alice.repository.directory} fsck --connectivity-only, and mend what it names"
    assert _refs(alice.repository) == refs
    undo()
    assert await alice.repository.fetch() == base
    assert _git(alice.repository, "rev-parse", worktree.branch) == kept


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
