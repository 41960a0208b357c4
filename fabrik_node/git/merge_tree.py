"""The tree that a merge of two commits gives, without touching any branch or worktree of others."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fabrik_node.errors import GitFailed
from fabrik_node.git.file_lock import file_lock
from fabrik_node.git.repository import Repository
from fabrik_node.git.runner import Answer, GitRunner, failed
from fabrik_node.git.worktree_link import link_worktree, unlink_worktree

__all__ = ["Conflicts", "merge_tree"]

_MERGE_TREE_SINCE = (2, 38)
_TURN_TIMEOUT_S = 3600.0
"""A merge in a folder takes five git commands of at most two minutes each, and several may be waiting."""


@dataclass(frozen=True, slots=True)
class Conflicts:
    """The work does not merge cleanly; ``files`` are the paths to mend. Nothing was changed anywhere."""

    files: tuple[str, ...]


async def merge_tree(repository: Repository, base_oid: str, work_oid: str) -> str | Conflicts:
    """The id of the merged tree, or the conflicts. Raises :class:`GitFailed` (for example: no common history).

    ``git merge-tree --write-tree`` where git has it (2.38); before that a merge in a temporary detached worktree, with the same result.
    """
    for oid in (base_oid, work_oid):
        # merge-tree answers "not a commit" with the exit code of "conflicts".
        if not await repository.has_object(oid):
            raise GitFailed(f"commit {oid} is not in the local repository", "look at the folder git/ in the node's home, then try again")
    if repository.git_version >= _MERGE_TREE_SINCE:
        return await _in_memory(repository, base_oid, work_oid)
    return await _in_worktree(repository, base_oid, work_oid)


async def _in_memory(repository: Repository, base_oid: str, work_oid: str) -> str | Conflicts:
    args = ("merge-tree", "--write-tree", "--no-messages", "--name-only", "-z", base_oid, work_oid)
    answer = await repository.git.call(repository.directory, *args)
    tree, *files = _names(answer)
    if answer.exit_code == 1 and tree:
        return Conflicts(tuple(files))
    if not answer.ok:
        raise failed(args, answer)
    return tree


async def _in_worktree(repository: Repository, base_oid: str, work_oid: str) -> str | Conflicts:
    """One after the other, in all processes: so what lies there before is of one that was killed, and goes."""
    # Beside the repository: a command in isolation can write to /tmp, where it could lead our git by another .git, and not there.
    beside = repository.directory.parent
    async with file_lock(beside / f"{repository.directory.name}.merge.lock", _TURN_TIMEOUT_S):
        prefix = f"{repository.directory.name}.new-merge-"
        for left in beside.glob(f"{prefix}*"):
            # First the record, as below: one without a folder would never be found again.
            unlink_worktree(repository.directory, _record(left, prefix))
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=prefix, dir=beside) as folder:
            path = Path(folder)
            name = _record(path, prefix)
            link_worktree(repository.directory, path, name, base_oid)
            try:
                return await _merged_in(repository.git, path, work_oid)
            finally:
                unlink_worktree(repository.directory, name)


async def _merged_in(git: GitRunner, path: Path, work_oid: str) -> str | Conflicts:
    await git.run(path, "read-tree", "-u", "--reset", "HEAD")
    args = ("merge", "--quiet", "--no-ff", "--no-commit", "--no-verify", work_oid)
    answer = await git.call(path, *args)
    unmerged = await git.call(path, "diff", "--name-only", "--diff-filter=U", "-z")
    files = [file for file in _names(unmerged) if file]
    if files:
        return Conflicts(tuple(files))
    if not answer.ok:
        raise failed(args, answer)
    return await git.text(path, "write-tree")


def _record(folder: Path, prefix: str) -> str:
    """The name of its worktree in the repository: no claim has such a one."""
    return f"merge-{folder.name.removeprefix(prefix)}"


def _names(answer: Answer) -> list[str]:
    return answer.stdout.decode("utf-8", "backslashreplace").removesuffix("\0").split("\0")
