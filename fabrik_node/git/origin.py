"""A git remote as the rest of the product sees it: the arbiter of claims and the maker of worktrees."""

from __future__ import annotations

import asyncio
import random
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import assert_never

from fabrik_node.errors import GitFailed
from fabrik_node.git.claim_ref import ClaimRef
from fabrik_node.git.fenced_merge import AlreadyMerged, ClaimSuperseded, FencedMerge, Merged, MergeRequest, fenced_merge, go_on
from fabrik_node.git.jitter import pause_from
from fabrik_node.git.merge_message import find_merge
from fabrik_node.git.merge_tree import Conflicts
from fabrik_node.git.names import CLAIMS_PREFIX, check_base, check_remote, is_branch, work_branch
from fabrik_node.git.probe import RemoteProbe, probe_remote
from fabrik_node.git.repository import Repository
from fabrik_node.git.runner import GitRunner
from fabrik_node.git.worktree import Worktree
from fabrik_node.ports import ArbiterReceipt, ArbiterTaken, ClaimIntent, MergeOutcome

__all__ = ["ClaimWorkspace", "Origin"]

_KEEP_TRIES = 3


class Origin:
    """One remote. Fills the :class:`~fabrik_node.ports.Arbiter`, :class:`~fabrik_node.ports.Branches` and :class:`~fabrik_node.ports.Workspaces` ports.

    Making one does no I/O, so a node starts while its remote is away; the local repository is made with the first use. Worktrees are made
    at ``worktrees_dir``/<claim id>. ``rng`` spreads retries. Every method raises :class:`GitFailed` (no usable git, or git failed),
    :class:`Unreachable`, or :class:`Precondition` when the remote has no such base.
    """

    def __init__(
        self, git: GitRunner, home_dir: Path, remote: str, base: str, worktrees_dir: Path, rng: random.Random, claims_prefix: str = CLAIMS_PREFIX
    ) -> None:
        self._git = git
        self._home_dir = home_dir
        self._remote = check_remote(remote)
        self._base = check_base(base)
        self._worktrees_dir = worktrees_dir
        self._pause = pause_from(rng)
        self._claims_prefix = claims_prefix
        self._opening = asyncio.Lock()
        self._claims: ClaimRef | None = None

    async def claims(self) -> ClaimRef:
        """The arbiter with its repository, made on first use."""
        async with self._opening:
            if self._claims is None:
                repository = await Repository.open(self._git, self._home_dir, self._remote, self._base)
                self._claims = ClaimRef(repository, self._pause, self._claims_prefix)
            return self._claims

    async def current(self, item: str) -> ArbiterTaken | None:
        """See :meth:`fabrik_node.ports.Arbiter.current`."""
        return await (await self.claims()).current(item)

    async def cas(self, expected: bytes, intent: ClaimIntent) -> ArbiterReceipt | ArbiterTaken:
        """See :meth:`fabrik_node.ports.Arbiter.cas` and :meth:`ClaimRef.cas`."""
        return await (await self.claims()).cas(expected, intent)

    async def create(self, item: str, claim_id: str, finished: str = "", at: str = "") -> ClaimWorkspace:
        """See :meth:`fabrik_node.ports.Workspaces.create`. Raises :class:`Conflict` when this claim has a worktree."""
        claims = await self.claims()
        start = await claims.repository.fetch()
        if is_branch(finished):
            tip = await claims.repository.fetch_ref(f"refs/heads/{finished}")
            start = (tip if not at else at if await claims.repository.has_object(at) else None) or start
        worktree = await Worktree.create(claims.repository, self._worktrees_dir / claim_id, item, claim_id, start)
        return ClaimWorkspace(self, claims, worktree)

    async def reopen(self, item: str, claim_id: str) -> ClaimWorkspace:
        """The worktree that an earlier process made for this claim. Raises :class:`GitFailed` when there is none."""
        claims = await self.claims()
        worktree = await Worktree.reopen(claims.repository, self._worktrees_dir / claim_id, item, claim_id)
        return ClaimWorkspace(self, claims, worktree)

    async def merged_commit(self, item: str) -> bytes | None:
        """The commit on the base branch, as it is on the remote now, that merged this item; None when there is none."""
        repository = (await self.claims()).repository
        found = await find_merge(repository, item, await repository.fetch())
        return None if found is None else bytes.fromhex(found)

    async def has_commit(self, branch: str, commit: bytes) -> bool:
        """See :meth:`fabrik_node.ports.finished.FinishedWorkspaces.has_commit`."""
        repository = (await self.claims()).repository
        if not is_branch(branch):  # a strange member's word: nobody could work on it, or merge it
            return False
        await repository.fetch_ref(f"refs/heads/{branch}")
        return await repository.has_object(commit.hex())

    async def left_behind(self, item: str, claim_id: str) -> bytes | None:
        """See :meth:`fabrik_node.ports.finished.FinishedWorkspaces.left_behind`. The network is not touched."""
        repository = (await self.claims()).repository
        tip = await repository.branch_tip(work_branch(item, claim_id))
        return bytes.fromhex(tip) if tip is not None and await repository.commits_ahead(tip, await repository.base_oid()) else None

    async def push_left(self, item: str, claim_id: str) -> None:
        """See :meth:`fabrik_node.ports.finished.FinishedWorkspaces.push_left`."""
        await Worktree((await self.claims()).repository, self._worktrees_dir / claim_id, item, claim_id).push_branch()

    async def ahead_of_base(self, branch: str) -> int | None:
        """See :meth:`fabrik_node.ports.Branches.ahead_of_base`."""
        repository = (await self.claims()).repository
        tip = await repository.fetch_ref(f"refs/heads/{branch}") if is_branch(branch) else None
        return None if tip is None else await repository.commits_ahead(tip, await repository.fetch())

    async def merge(self, request: MergeRequest, check: Callable[[], None]) -> MergeOutcome:
        """See :func:`fenced_merge`. Raises also :class:`NoCommits`, and what ``check`` raises."""
        claims = await self.claims()
        done = await fenced_merge(claims.repository, claims, request, self._pause, check=check)
        branch = work_branch(request.item, request.claim_id)
        return _outcome(done, branch, _to_resolve(claims.repository, branch))

    async def probe(self) -> RemoteProbe:
        """What the remote is able to do. Changes nothing that stays."""
        return await probe_remote((await self.claims()).repository)


class ClaimWorkspace:
    """The worktree of one claim. Fills the :class:`~fabrik_node.ports.Workspace` port."""

    def __init__(self, origin: Origin, claims: ClaimRef, worktree: Worktree) -> None:
        self._origin = origin
        self._claims = claims
        self.worktree = worktree

    @property
    def path(self) -> Path:
        """The folder."""
        return self.worktree.path

    @property
    def branch(self) -> str:
        """``fabrik/<item>/<claim id>``."""
        return self.worktree.branch

    @property
    def start(self) -> bytes:
        """See :attr:`fabrik_node.ports.Workspace.start`."""
        return bytes.fromhex(self.worktree.start)

    async def missing(self) -> str:
        """See :meth:`fabrik_node.ports.Workspace.missing`."""
        return await self.worktree.missing()

    async def commits_ahead(self) -> int:
        """Commits on the branch that the base, as of the last fetch, has not."""
        return await self.worktree.commits_ahead()

    def moved(self) -> tuple[int, int]:
        """See :meth:`fabrik_node.ports.Workspace.moved`."""
        return self.worktree.moved()

    async def keep_work(self, message: str) -> None:
        """Commit what is uncommitted and push the branch if it holds anything. What was committed stays when the push raises."""
        await self.worktree.commit_all(message)
        if await self.worktree.commits_ahead():
            await self.worktree.push_branch()

    async def keep_step(self, message: str) -> bytes:
        """See :meth:`fabrik_node.ports.Workspace.keep_step`. The command may commit at the same moment: then it is tried again."""
        for left in reversed(range(_KEEP_TRIES)):
            try:
                await self.worktree.commit_all(message, beside=True)
                break
            except GitFailed:
                if not left:
                    raise
        return bytes.fromhex(await self.worktree.push_branch())

    async def contains(self, commit: bytes) -> bool:
        """See :meth:`fabrik_node.ports.Workspace.contains`."""
        repository = self.worktree.repository
        if not await repository.has_object(commit.hex()):
            return False
        return await repository.commits_ahead(commit.hex(), await self.worktree.head_oid()) == 0

    async def push(self) -> None:
        """Push the branch."""
        await self.worktree.push_branch()

    async def tip(self) -> bytes:
        """The newest commit of the branch."""
        return bytes.fromhex(await self.worktree.head_oid())

    async def merge(self, claim_oid: bytes, message: str, check: Callable[[], None] = go_on) -> MergeOutcome:
        """See :meth:`fabrik_node.ports.Workspace.merge`: of the branch as it is now."""
        tree = self.worktree
        return await self._origin.merge(MergeRequest(tree.item, tree.claim_id, claim_oid.hex(), await tree.head_oid(), message), check)

    async def remove(self) -> None:
        """Remove the folder; the branch stays."""
        await self.worktree.remove()


def _to_resolve(repository: Repository, branch: str) -> str:
    """What to type in a clone of the program to solve the conflicts of ``branch`` with the base, one command in a line."""
    remote = shlex.quote(repository.shown_remote)
    commands = (
        f"git fetch {remote} {branch}",
        "git switch --detach FETCH_HEAD",
        f"git pull --no-rebase --no-edit {remote} {repository.base}  # stops at the conflicts: mend the files",
        "git commit --all --no-edit",
        f"git push {remote} HEAD:refs/heads/{branch}",
    )
    return "\n".join(commands)


def _outcome(done: FencedMerge, branch: str, to_resolve: str) -> MergeOutcome:
    match done:
        case Merged(merge_commit, claim_oid):
            return MergeOutcome("merged", bytes.fromhex(merge_commit), bytes.fromhex(claim_oid))
        case AlreadyMerged(merge_commit, ""):
            return MergeOutcome("already_merged", bytes.fromhex(merge_commit))
        case AlreadyMerged(merge_commit, by):
            detail = f"the work of claim {by} was merged as {merge_commit} meanwhile; that of this run stays on branch {branch}"
            return MergeOutcome("superseded", bytes.fromhex(merge_commit), detail=detail)
        case ClaimSuperseded(current):
            detail = (
                "the claim ref is gone from the remote"
                if current is None
                else f"claim {current.claim_id} of {current.node} is {current.state} (receipt {current.number})"
            )
            return MergeOutcome("superseded", detail=detail)
        case Conflicts(files):
            return MergeOutcome("conflicts", detail=", ".join(files), resolve=to_resolve)
        case _:
            assert_never(done)
