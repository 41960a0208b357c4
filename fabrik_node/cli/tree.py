"""What of the git tree in which a command is typed agents get to see: the base branch of the remote, and nothing else."""

from __future__ import annotations

import re
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fabrik_node.config import bare_url, child_environment

__all__ = ["Tree", "TreeUnknown", "has_tree", "look"]

_WAIT_S = 10.0
"""For each look of git, which reads files of this machine alone."""


class TreeUnknown(Exception):
    """git can not say it; the message is one line."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree beside the base branch as this clone fetched it last. Counts of commits that base and tree do not share, and of files that are not committed."""

    top: str
    head: str
    base: str
    """The remote-tracking branch, like ``origin/main``; agents begin at the tip of its branch on the remote."""
    base_commit: str
    unsent_commits: int
    missing_commits: int
    changed: int
    untracked: int

    @property
    def unsent(self) -> str:
        """What agents do not get, for people; empty when they get all of it."""
        parts = [
            (self.unsent_commits, "commit that is not in " + self.base, "commits that are not in " + self.base),
            (self.changed, "changed file", "changed files"),
            (self.untracked, "new file or folder", "new files or folders"),
        ]
        return ", ".join(f"{count} {one if count == 1 else many}" for count, one, many in parts if count)

    def shown(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "unsent": self.unsent}


def has_tree(folder: Path) -> bool:
    """Whether the folder may be in a git tree; no process is started for it."""
    return any((above / ".git").exists() for above in (folder, *folder.parents))


def look(folder: Path, remote: str | None, base: str) -> Tree | None:
    """The tree of ``folder``, if it is one of the repository that agents work on: with the node's ``remote``, or with ``origin`` when the node has none. Raises TreeUnknown."""
    name = _remote_of(folder, remote)
    if name is None:
        return None
    lines = _git(folder, "status", "--porcelain=v2", "--branch", "--untracked-files=normal").splitlines()
    said = dict(line[2:].split(" ", 1) for line in lines if line.startswith("# branch."))
    tracking = f"refs/remotes/{name}/{base}"
    try:
        base_commit = _git(folder, "rev-parse", "--verify", "--quiet", f"{tracking}^{{commit}}").strip()
        missing, unsent = map(int, _git(folder, "rev-list", "--left-right", "--count", f"{tracking}...HEAD").split())
    except TreeUnknown as error:
        raise TreeUnknown(f"this clone has no {name}/{base} to compare with: git fetch {name}") from error
    return Tree(
        top=_git(folder, "rev-parse", "--show-toplevel").strip(),
        head=said.get("branch.oid", ""),
        base=f"{name}/{base}",
        base_commit=base_commit,
        unsent_commits=unsent,
        missing_commits=missing,
        changed=sum(line[:2] in ("1 ", "2 ", "u ") for line in lines),
        untracked=sum(line.startswith("? ") for line in lines),
    )


def _remote_of(folder: Path, remote: str | None) -> str | None:
    """The name under which this clone knows the remote; None when it is another repository's."""
    lines = _git(folder, "config", "--get-regexp", r"^remote\..*\.url$", may_fail=True).splitlines()
    known = {found[1]: found[2] for line in lines if (found := _URL.fullmatch(line))}
    if remote is None:
        return "origin" if "origin" in known else None
    return next((name for name, url in known.items() if _plain(url) == _plain(remote)), None)


_URL = re.compile(r"remote\.(.*)\.url (.*)")


def _plain(url: str) -> str:
    return bare_url(url).rstrip("/").removesuffix(".git")


def _git(folder: Path, *args: str, may_fail: bool = False) -> str:
    env = child_environment({"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"})
    try:
        done = subprocess.run(["git", *args], cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=_WAIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TreeUnknown(f"git {args[0]}: {error}") from error
    if done.returncode != 0 and not may_fail:
        said = " ".join(done.stderr.decode("utf-8", "replace").split())
        raise TreeUnknown(f"git {args[0]}: {said or f'exit code {done.returncode}'}")
    return done.stdout.decode("utf-8", "replace")
