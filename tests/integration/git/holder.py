"""A claim holder as a process of its own, to be killed: merges its items one after the other and says each step."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

from fabrik_node.git import ClaimRef, GitRunner, MergeRequest, Repository, fenced_merge, pause_from


async def hold(home: Path, remote: str, requests: list[MergeRequest]) -> None:
    repository = await Repository.open(GitRunner(os.environ), home, remote, "main")
    pause = pause_from(random.Random(1))
    claims = ClaimRef(repository, pause)
    for number, request in enumerate(requests):
        print("start", number, flush=True)
        outcome = await fenced_merge(repository, claims, request, pause)
        print("done", number, type(outcome).__name__, flush=True)


if __name__ == "__main__":
    asyncio.run(hold(Path(sys.argv[1]), sys.argv[2], [MergeRequest(*row.split(",", 4)) for row in sys.argv[3:]]))
