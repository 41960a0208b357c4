"""Worktrees and the fenced merge without git: real folders, in which each file ``commit-*`` is a commit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha1
from pathlib import Path
from typing import Any

from fabrik_node.errors import FabrikError, NoCommits
from fabrik_node.ports import MergeOutcome

__all__ = ["MemoryRemote", "MemoryWorkspace", "MemoryWorkspaces"]


def tip_of(branch: str, commits: int) -> bytes:
    """The newest of so many commits of a branch."""
    return sha1(f"{branch} {commits}".encode()).digest()


@dataclass
class MemoryRemote:
    """The base branch and the branches that were pushed. ``merge_fails`` gives other outcomes than ``merged``."""

    merges: list[tuple[str, str]] = field(default_factory=list)
    """``(item, claim id)`` of each merge that landed."""
    branches: dict[str, int] = field(default_factory=dict)
    """What was pushed, with its number of commits."""
    messages: list[str] = field(default_factory=list)
    claim_oids: list[bytes] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    merge_fails: dict[str, MergeOutcome] = field(default_factory=dict)
    down: FabrikError | None = None

    def commit_of(self, item: str) -> bytes:
        return sha1(item.encode()).digest()

    def check(self) -> None:
        if self.down is not None:
            raise self.down


class MemoryWorkspace:
    """Fills :class:`fabrik_node.ports.Workspace`."""

    def __init__(self, remote: MemoryRemote, folder: Path, item: str, claim_id: str) -> None:
        self.remote = remote
        self.path = folder / claim_id
        self.path.mkdir(parents=True)
        self.branch = f"fabrik/{item}/{claim_id}"
        self.start = bytes(19) + b"\x01"
        self.removed = False
        self.hang: Callable[[], Any] | None = None
        self.before_merge: Callable[[], None] = lambda: None
        """What happens while the merge waits for its turn."""
        self._item = item
        self._claim_id = claim_id

    async def missing(self) -> str:
        return "" if self.path.is_dir() else f"the worktree {self.path}"

    def moved(self) -> tuple[int, int]:
        return (len(list(self.path.glob("commit-*"))), 0) if self.path.is_dir() else (0, 0)

    async def commits_ahead(self) -> int:
        return len(list(self.path.glob("commit-*")))

    async def keep_work(self, message: str) -> None:
        self.remote.check()
        self.remote.kept.append(self.branch)
        self.remote.branches[self.branch] = await self.commits_ahead()

    async def keep_step(self, message: str) -> bytes:
        await self.push()
        self.remote.messages.append(message)
        return self.start

    async def contains(self, commit: bytes) -> bool:
        return commit == self.start

    async def tip(self) -> bytes:
        return tip_of(self.branch, await self.commits_ahead())

    async def push(self) -> None:
        if self.hang is not None:
            await self.hang()
        self.remote.check()
        self.remote.branches[self.branch] = await self.commits_ahead()

    async def merge(self, claim_oid: bytes, message: str, check: Callable[[], None]) -> MergeOutcome:
        check()
        self.before_merge()
        check()
        self.remote.check()
        if await self.commits_ahead() == 0:
            raise NoCommits("zero commits ahead")
        if self._item in self.remote.merge_fails:
            return self.remote.merge_fails[self._item]
        self.remote.merges.append((self._item, self._claim_id))
        self.remote.messages.append(message)
        self.remote.claim_oids.append(claim_oid)
        return MergeOutcome("merged", self.remote.commit_of(self._item), b"c" * 20)

    async def remove(self) -> None:
        self.removed = True


class MemoryWorkspaces:
    """Fills :class:`fabrik_node.ports.Workspaces`."""

    def __init__(self, folder: Path, remote: MemoryRemote | None = None) -> None:
        self.folder = folder
        self.remote = remote or MemoryRemote()
        self.made: list[MemoryWorkspace] = []
        self.on_made: Callable[[MemoryWorkspace], None] = lambda _: None

    async def create(self, item: str, claim_id: str, finished: str = "", at: str = "") -> MemoryWorkspace:
        self.remote.check()
        workspace = MemoryWorkspace(self.remote, self.folder, item, claim_id)
        for number in range(self.remote.branches.get(finished, 0) or await self._here(finished)):
            (workspace.path / f"commit-{number}").touch()
        self.on_made(workspace)
        self.made.append(workspace)
        return workspace

    async def has_commit(self, branch: str, commit: bytes) -> bool:
        self.remote.check()
        return commit in (tip_of(branch, self.remote.branches.get(branch, 0)), tip_of(branch, await self._here(branch)))

    async def left_behind(self, item: str, claim_id: str) -> bytes | None:
        branch = f"fabrik/{item}/{claim_id}"
        return tip_of(branch, ahead) if (ahead := await self._here(branch)) else None

    async def push_left(self, item: str, claim_id: str) -> None:
        self.remote.check()
        branch = f"fabrik/{item}/{claim_id}"
        self.remote.branches[branch] = await self._here(branch)

    async def _here(self, branch: str) -> int:
        return sum([await made.commits_ahead() for made in self.made if made.branch == branch])

    async def merged_commit(self, item: str) -> bytes | None:
        self.remote.check()
        return self.remote.commit_of(item) if any(merged == item for merged, _ in self.remote.merges) else None
