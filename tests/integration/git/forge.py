"""A forge and its nodes for the tests of the git room: real repositories, looked at with git itself."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fabrik_node.git import ClaimRef, GitRunner, Repository, Worktree
from fabrik_node.ids import new_id, show_id
from fabrik_node.ports import ArbiterReceipt, ArbiterTaken, ClaimIntent


@dataclass(frozen=True)
class Remote:
    """A bare repository that plays the forge, looked at with git itself and never through the room under test."""

    path: Path

    def git(self, *args: str, check: bool = True) -> str:
        done = subprocess.run(["git", "-C", str(self.path), *args], check=check, capture_output=True, text=True)
        return done.stdout.strip()

    def ref(self, name: str) -> str:
        return self.git("rev-parse", "--verify", "--quiet", name, check=False)

    def refs(self) -> dict[str, str]:
        rows = self.git("for-each-ref", "--format=%(refname) %(objectname)").splitlines()
        return dict(row.split(" ") for row in rows)

    def merges(self, item: str = "") -> list[str]:
        return self.git("rev-list", "--min-parents=2", *([f"--grep=Fabrik-Item: {item}"] if item else []), "main").split()

    def file(self, name: str) -> str:
        return self.git("show", f"main:{name}")

    def hook(self, name: str, body: str) -> Path:
        path = self.path / "hooks" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path


@dataclass
class Node:
    """One host: a home of its own with its own local repository of the remote."""

    name: str
    home: Path
    repository: Repository
    claims: ClaimRef

    def intent(self, item: str, claim_id: str, state: str = "held", epoch: int = 1) -> ClaimIntent:
        return ClaimIntent(item, claim_id, epoch, self.name, 90_000, state)

    async def claim(self, item: str, claim_id: str, expected: bytes = b"", state: str = "held") -> ArbiterReceipt | ArbiterTaken:
        return await self.claims.cas(expected, self.intent(item, claim_id, state))

    async def work(self, item: str, claim_id: str, files: dict[str, str]) -> Worktree:
        """A worktree with one commit that writes ``files``."""
        await self.repository.fetch()
        tree = await Worktree.create(self.repository, self.home / "work" / claim_id, item, claim_id)
        for name, text in files.items():
            (tree.path / name).write_text(text)
        commit(tree.path, f"work on {item}")
        return tree


def commit(folder: Path, message: str) -> None:
    for args in (["add", "-A"], ["-c", "user.name=agent", "-c", "user.email=agent@example.org", "commit", "-q", "-m", message]):
        subprocess.run(["git", "-C", str(folder), *args], check=True, capture_output=True)


async def no_pause(attempt: int) -> None:
    """For tries that are bound to fail: the wait is not what the test is about."""


def fresh() -> str:
    return show_id(new_id(1_700_000_000_000))


class NodeFactory(Protocol):
    """Makes a node with a home of its own; ``runner`` to give it another git."""

    async def __call__(self, name: str, runner: GitRunner | None = None) -> Node: ...
