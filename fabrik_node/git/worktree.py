"""One worktree on one branch, for one claim."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from pathlib import Path

from fabrik_node.errors import Conflict, GitFailed
from fabrik_node.git.claim_ref import push_failed
from fabrik_node.git.index_swap import copy_index, swap_index
from fabrik_node.git.names import work_branch
from fabrik_node.git.push import RefUpdate, push
from fabrik_node.git.repository import Repository
from fabrik_node.git.runner import failed
from fabrik_node.git.staging import add_all
from fabrik_node.git.unreadable import has_ref, to_mend
from fabrik_node.git.worktree_link import index_aside, link_worktree, unlink_worktree

__all__ = ["Worktree"]

_log = logging.getLogger("fabrik_node.git")

_STAGE_TRIES = 5
"""Times that what a command stages beside us is met before it is said."""


class Worktree:
    """A folder with the files of a branch of its own, ``fabrik/<item>/<claim_id>``. Use :meth:`create` or :meth:`reopen`.

    Invariant: no two worktrees share a folder or a branch, in one process or in several; the second :meth:`create` is refused.
    """

    def __init__(self, repository: Repository, path: Path, item: str, claim_id: str) -> None:
        self.repository = repository
        self.path = path
        self.item = item
        self.claim_id = claim_id
        self.branch = work_branch(item, claim_id)
        self.start = ""
        """The commit at which :meth:`create` made the branch begin."""

    @classmethod
    async def create(cls, repository: Repository, path: Path, item: str, claim_id: str, start: str = "") -> Worktree:
        """Make the folder ``path`` (it must not exist) on a new branch at ``start``, the fetched base if empty.

        Raises :class:`Conflict` when the folder or the branch is there already, :class:`GitFailed` otherwise. Then nothing is left behind.
        """
        worktree = cls(repository, path, item, claim_id)
        oid = worktree.start = start or await repository.base_oid()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # git only looks whether the folder is there; making it is what no two processes can both do.
            path.mkdir()
        except FileExistsError as error:
            raise Conflict(f"the folder {path} is in use", "remove it, or claim the item anew") from error
        try:
            await worktree._branch_off(oid)
        except BaseException:
            path.rmdir()
            raise
        try:
            link_worktree(repository.directory, path, claim_id, f"ref: refs/heads/{worktree.branch}")
            await repository.git.run(path, "read-tree", "-u", "--reset", "HEAD")
        except BaseException:
            await asyncio.shield(worktree._undo(oid))
            raise
        return worktree

    @classmethod
    async def reopen(cls, repository: Repository, path: Path, item: str, claim_id: str) -> Worktree:
        """The worktree that an earlier process made. Raises :class:`GitFailed` when ``path`` is not it."""
        worktree = cls(repository, path, item, claim_id)
        common = await repository.git.text(path, "rev-parse", "--path-format=absolute", "--git-common-dir")
        top = await repository.git.text(path, "rev-parse", "--show-toplevel")
        if Path(common) != repository.directory.resolve() or Path(top) != path.resolve() or await worktree._tip() is None:
            raise GitFailed(f"{path} is not the worktree of {worktree.branch}", "claim the item anew")
        return worktree

    async def head_oid(self) -> str:
        """The tip of the claim's branch. Commits on a detached head or another branch are not in it."""
        tip = await self._tip()
        if tip is None:
            raise GitFailed(f"branch {self.branch} is gone from {self.repository.directory}", "claim the item anew")
        return tip

    def moved(self) -> tuple[int, int]:
        """The date and the size of what git writes whenever the head of the worktree moves: a commit, a rebase, a switch. Zeros before the first."""
        try:
            seen = (self.repository.directory / "worktrees" / self.claim_id / "logs" / "HEAD").stat()
        except OSError:
            return (0, 0)
        return (seen.st_mtime_ns, seen.st_size)

    async def commits_ahead(self) -> int:
        """How many commits the branch has that the base, as of the last fetch, has not."""
        return await self.repository.commits_ahead(await self.head_oid(), await self.repository.base_oid())

    async def missing(self) -> str:
        """See :meth:`fabrik_node.ports.Workspace.missing`: the folder, or the branch in a repository that is there."""
        if not self.path.is_dir():
            return f"the worktree {self.path}"
        repository = self.repository
        if await repository.readable_tip(self.branch) is not None or not repository.directory.is_dir():
            return ""
        if await has_ref(repository.git, repository.directory, f"refs/heads/{self.branch}"):
            return f"the commit that branch {self.branch} names: {to_mend(repository.directory)}"
        return f"the branch {self.branch}"

    async def has_changes(self) -> bool:
        """Is anything changed or new (ignored files aside) and not committed? Of a nested repository, as in :meth:`commit_all`, the commit that it has checked out."""
        return bool(await self.repository.git.run(self.path, "status", "--porcelain=v1", "-z", "--untracked-files=all", "--ignore-submodules=dirty"))

    async def commit_all(self, message: str, *, beside: bool = False) -> str | None:
        """Commit everything in the folder (ignored files aside) onto the claim's branch; the commit, None when there was nothing to commit.

        For the work of a run that was stopped: call it when no process of the run is left. It copes with what such a run leaves behind: a
        held ``index.lock``, a detached head, a half-done merge or rebase. No commit that the branch or the head has is lost. Nothing that lies in the
        folder is run, nor what a repository in it names: see :mod:`fabrik_node.git.staging`.
        ``beside``: a command is at work in the folder. What it stages meanwhile stays staged, and what it commits makes this raise :class:`GitFailed`.
        """
        repository, git = self.repository, self.repository.git
        index = repository.directory.resolve() / "worktrees" / self.claim_id / "index"  # not by asking git, which follows a link that a command put there
        own = index_aside(repository.directory, self.claim_id)
        env = {"GIT_INDEX_FILE": str(own)}
        tip = await self.head_oid()
        try:
            for _ in range(_STAGE_TRIES):
                seen = copy_index(index, own)
                await add_all(git, self.path, own)
                tree = await git.text(self.path, "write-tree", env=env)
                parents = await self._parents(tip)
                if parents == [tip] and tree == await repository.text("rev-parse", "--verify", "--quiet", f"{tip}^{{tree}}"):
                    return None
                commit = await repository.make_commit(tree, parents, message)
                # First the index: what the command commits in between has all that is committed here, and the branch is not moved past it.
                if not beside:
                    own.replace(index)
                    break
                if await swap_index(own, index, seen):
                    break
            else:
                raise GitFailed(f"the index of {self.path} changed while it was read, {_STAGE_TRIES} times", "try again when nothing stages files there")
            await repository.text("update-ref", "--no-deref", "-m", "fabrik: keep work", f"refs/heads/{self.branch}", commit, tip)
        finally:
            own.unlink(missing_ok=True)
            own.with_name(f"{own.name}.lock").unlink(missing_ok=True)
        return commit

    async def push_branch(self) -> str:
        """Make the branch on the remote what it is here; its tip. Raises :class:`Unreachable`, or :class:`GitFailed` when it is refused."""
        tip = await self.head_oid()
        # No lease: the branch belongs to this claim alone, and its owner may have amended it.
        answer = await push(self.repository, [RefUpdate(f"refs/heads/{self.branch}", tip, None)])
        if not answer.accepted:
            raise push_failed(self.repository, answer)
        return tip

    async def remove(self) -> None:
        """Remove the folder with everything in it. The branch stays. A folder that is gone already is no error."""
        unlink_worktree(self.repository.directory, self.claim_id)
        if self.path.exists():
            await asyncio.to_thread(_remove_tree, self.path)
        if self.path.exists():
            raise GitFailed(f"{self.path} can not be removed: a file in it is still in use or belongs to another user", f"rm -rf {self.path}")

    async def _branch_off(self, oid: str) -> None:
        # An old value of zeros lets git create the ref only if it does not exist, in one step.
        args = ("update-ref", "-m", "fabrik: branch off", f"refs/heads/{self.branch}", oid, "0" * len(oid))
        answer = await self.repository.git.call(self.repository.directory, *args)
        if not answer.ok:
            if await self._tip() is not None:
                raise Conflict(f"branch {self.branch} exists already", "claim the item anew")
            raise failed(args, answer)

    async def _undo(self, oid: str) -> None:
        await self.remove()
        await self.repository.text("update-ref", "-d", f"refs/heads/{self.branch}", oid)

    async def _tip(self) -> str | None:
        return await self.repository.branch_tip(self.branch)

    async def _parents(self, tip: str) -> list[str]:
        # After a rebase or a checkout the head may be elsewhere: then both lines of work are kept.
        answer = await self.repository.git.call(self.path, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        head = answer.stdout.decode().strip() if answer.ok else tip
        if not answer.ok and (named := (await self.repository.git.call(self.path, "rev-parse", "--verify", "--quiet", "HEAD")).stdout.decode().strip()):
            _log.warning("the HEAD of %s names %s, which git can not read: only the files there are kept, on %s", self.path, named, self.branch)
        return [tip] if head == tip or await self.repository.commits_ahead(head, tip) == 0 else [tip, head]


def _remove_tree(path: Path) -> None:
    # Package caches are unpacked as read-only folders, out of which nothing can be deleted.
    for folder, inner, _ in os.walk(path):
        for name in inner:
            below = Path(folder, name)
            if not below.is_symlink():
                below.chmod(0o700)
    shutil.rmtree(path, ignore_errors=True)
