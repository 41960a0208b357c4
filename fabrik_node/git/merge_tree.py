"""The tree that a merge of two commits gives, without touching any branch or worktree of others."""

from __future__ import annotations

import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fabrik_node.errors import GitFailed
from fabrik_node.git.repository import Repository
from fabrik_node.git.runner import Answer, failed
from fabrik_node.git.worktree_link import link_worktree, unlink_worktree

__all__ = ["Conflicts", "merge_tree"]

_MERGE_TREE_SINCE = (2, 38)


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
    git = repository.git
    name = f"merge-{secrets.token_hex(8)}"
    # Beside the repository: a command in isolation can write to /tmp, where it could lead our git by another .git, and not there.
    with tempfile.TemporaryDirectory(prefix=f"{repository.directory.name}.new-merge-", dir=repository.directory.parent) as folder:
        path = Path(folder)
        link_worktree(repository.directory, path, name, base_oid)
        try:
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
        finally:
            unlink_worktree(repository.directory, name)


def _names(answer: Answer) -> list[str]:
    return answer.stdout.decode("utf-8", "backslashreplace").removesuffix("\0").split("\0")
