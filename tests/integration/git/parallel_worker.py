"""One run in a process of its own: opens the shared home, makes its worktree, commits and pushes; prints what it made as JSON."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

from fabrik_node.git import GitRunner, Repository, Worktree


async def work(home: Path, remote: str, item: str, claim_id: str) -> dict[str, str | int]:
    repository = await Repository.open(GitRunner(os.environ), home, remote, "main")
    tree = await Worktree.create(repository, home / "work" / claim_id, item, claim_id, await repository.fetch())
    for number in range(3):
        (tree.path / "result.txt").write_text(f"{item} {number}\n")
        subprocess.run(["git", "add", "-A"], cwd=tree.path, check=True)
        subprocess.run(["git", "commit", "-q", "-m", f"{item} {number}"], cwd=tree.path, check=True)
    return {"path": str(tree.path), "branch": tree.branch, "tip": await tree.push_branch(), "ahead": await tree.commits_ahead(), "pid": os.getpid()}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(work(Path(sys.argv[1]), *sys.argv[2:]))))
