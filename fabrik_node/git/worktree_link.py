"""The record by which a repository knows one of its worktrees: ``worktrees/<name>/`` with ``HEAD``, ``commondir`` and ``gitdir``.

``git worktree add`` fills that folder in place, file by file. Every git that looks at all worktrees meanwhile (fetch, gc, another
``worktree add``) may then fail with "bad object worktrees/x/HEAD" or "failed to read worktrees/x/commondir"; agents run such commands at
any time. Here the record is made aside and renamed in, so it is seen whole or not at all. Format: gitrepository-layout(5), git-worktree(1) DETAILS.
"""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

from fabrik_node.errors import Conflict, GitFailed

__all__ = ["index_aside", "link_worktree", "unlink_worktree"]

_ASIDE = "fabrik-aside"
_INDEX = ".index"
_RENAME_TRIES = 5


def link_worktree(repository: Path, path: Path, name: str, head: str) -> None:
    """Make the empty folder ``path`` a worktree of the bare ``repository`` under ``name``. ``head`` is ``ref: <ref>`` or an object id.

    Nothing is checked out yet: ``git read-tree -u --reset HEAD`` does that. Raises :class:`Conflict` when there is a worktree of that name.
    """
    linked = repository / "worktrees" / name
    if linked.exists():
        raise Conflict(f"{repository} has a worktree {name} already", "claim the item anew")
    aside = _aside(repository, name)
    aside.mkdir()
    (aside / "HEAD").write_text(f"{head}\n", encoding="utf-8")
    (aside / "commondir").write_text("../..\n", encoding="utf-8")
    (aside / "gitdir").write_text(f"{path.resolve() / '.git'}\n", encoding="utf-8")
    # Before the record: a record that points to nothing may be pruned by any git.
    (path / ".git").write_text(f"gitdir: {linked.resolve()}\n", encoding="utf-8")
    try:
        _rename(aside, linked)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def unlink_worktree(repository: Path, name: str) -> None:
    """Forget the worktree; its folder is not touched. None of that name is no error."""
    aside = _aside(repository, name)
    for left in aside.parent.glob(f"{name}{_INDEX}*"):
        left.unlink(missing_ok=True)
    try:
        (repository / "worktrees" / name).rename(aside)
    except FileNotFoundError:
        return
    shutil.rmtree(aside, ignore_errors=True)


def index_aside(repository: Path, name: str) -> Path:
    """Where an index of the worktree can be worked on: in the file system of its record, and out of reach of a command, which owns the record."""
    return _aside(repository.resolve(), f"{name}{_INDEX}")


def _rename(aside: Path, linked: Path) -> None:
    for _ in range(_RENAME_TRIES):
        # git removes the folder "worktrees" whenever it finds it empty.
        linked.parent.mkdir(exist_ok=True)
        try:
            aside.rename(linked)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise Conflict(f"{linked.parent} has a worktree {linked.name} already", "claim the item anew") from error
        return
    raise GitFailed(f"{linked.parent} is removed again and again by another git", "end that other git, then try again")


def _aside(repository: Path, name: str) -> Path:
    folder = repository / _ASIDE
    folder.mkdir(exist_ok=True)
    return folder / f"{name}-{secrets.token_hex(4)}"
