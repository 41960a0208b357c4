"""Adding everything in a worktree to an index without running anything of a repository that lies in it.

For a gitlink that the index has (the commit of a nested repository, a submodule or not) git asks ``git status`` of that repository, which obeys that
one's own settings: programs named there (filters, a monitor of files) would run as we do. For a nested repository that the index has not it reads HEAD
and asks nothing. So the gitlinks are taken out first; those whose repository is not there, because nobody checked it out, are put back.

Invariant: the index lies where no command can write, or one at work there could put a gitlink back in between.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from fabrik_node.git.runner import GitRunner, failed

__all__ = ["add_all"]

_log = logging.getLogger("fabrik_node.git")

_GITLINK = b"160000"
_SKIPPED = b"S"
_STAGES = (b"0", b"2", b"3")
"""In a conflict ours is kept before theirs; what has neither was removed."""
_NO_COMMIT = re.compile(rb"^error: '(.+)/' does not have a commit checked out$", re.MULTILINE)
_LEFT_OUT_MAX = 32
"""Nested repositories without a commit; git names them one by one."""


async def add_all(git: GitRunner, tree: Path, index: Path) -> None:
    """Make ``index`` have all that is in ``tree``, ignored files aside. A nested repository is recorded by the commit that it has checked out.

    One without a commit has nothing that could be recorded: it is left as it was in the index, and the log names it. Raises :class:`GitFailed`.
    """
    env = {"GIT_INDEX_FILE": str(index)}
    # First a whole one: the other part of a split index lies beside that of the worktree, where the command can write. Git's own settings say that it stays whole.
    await git.run(tree, "update-index", "--no-split-index", env=env)
    listed = await git.run(tree, "ls-files", "-s", "-t", "-z", env=env)
    links = [_Gitlink(row) for row in listed.split(b"\0") if row[2:8] == _GITLINK]
    if links:
        removed = (b"0 " + b"0" * len(link.oid) + b"\t" + link.path for link in links)
        await git.run(tree, "update-index", "-z", "--index-info", stdin=_rows(removed), env=env)
    left_out = await _add(git, tree, env)
    kept = {link.path: link for stage in reversed(_STAGES) for link in links if link.stage == stage and (link.path in left_out or link.stays(tree))}
    if kept:
        known = (b"%s %s 0\t%s" % (_GITLINK, link.oid, link.path) for link in kept.values())
        await git.run(tree, "update-index", "-z", "--index-info", stdin=_rows(known), env=env)
    if skipped := [link.path for link in kept.values() if link.skipped]:
        await git.run(tree, "update-index", "--skip-worktree", "-z", "--stdin", stdin=_rows(skipped), env=env)


async def _add(git: GitRunner, tree: Path, env: Mapping[str, str]) -> set[bytes]:
    """``git add --all``; the nested repositories without a commit, which are left out."""
    left_out: list[bytes] = []
    while True:
        args = ("add", "--all", "--", ".", *(f":(exclude,literal){os.fsdecode(path)}/" for path in left_out)) if left_out else ("add", "--all")
        answer = await git.call(tree, *args, env=env)
        if answer.ok:
            break
        named = _NO_COMMIT.search(answer.stderr)
        if named is None or named[1] in left_out or len(left_out) == _LEFT_OUT_MAX:
            raise failed(("add", "--all"), answer)
        left_out.append(named[1])
    if left_out:
        _log.warning("not kept of %s, as these repositories in it have no commit: %s", tree, ", ".join(repr(os.fsdecode(path)) for path in left_out))
    return set(left_out)


class _Gitlink:
    """A row of ``git ls-files -s -t``."""

    def __init__(self, row: bytes) -> None:
        said, _, self.path = row.partition(b"\t")
        tag, _, self.oid, self.stage = said.split(b" ")
        self.skipped = tag == _SKIPPED

    def stays(self, tree: Path) -> bool:
        """Its folder is there with no repository in it; or it is none of those that a sparse checkout wants, and not there."""
        folder = tree
        for part in Path(os.fsdecode(self.path)).parts:
            folder /= part
            try:
                is_folder = stat.S_ISDIR(folder.lstat().st_mode)
            except OSError:
                return self.skipped
            if not is_folder:
                return False
        return not os.path.lexists(folder / ".git")


def _rows(rows: Iterable[bytes]) -> bytes:
    return b"".join(row + b"\0" for row in rows)
