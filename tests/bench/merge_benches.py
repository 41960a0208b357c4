"""Many finishers at one remote: what the queue of merges is for."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from benchmark import Measured, Scale, benchmark

from fabrik_node.git import GitRunner, Origin
from fabrik_node.ids import new_id, show_id
from fabrik_node.ports import ArbiterReceipt, ClaimIntent, Workspace

_FINISHERS = 20


def _git(where: Path, *args: str) -> None:
    identity = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    subprocess.run(["git", "-C", str(where), *identity, *args], check=True, capture_output=True)


def make_remote(folder: Path) -> Path:
    for name, *options in (("remote.git", "--bare"), ("seed",)):
        subprocess.run(["git", "init", "-q", "-b", "main", *options, str(folder / name)], check=True)
    (folder / "seed" / "README").write_text("a program\n")
    _git(folder / "seed", "add", ".")
    _git(folder / "seed", "commit", "-q", "-m", "begin")
    _git(folder / "seed", "push", "-q", str(folder / "remote.git"), "main")
    return folder / "remote.git"


def _counting_git(folder: Path) -> Path:
    """A git that writes a line for each push of the base into ``folder``/pushes."""
    folder.mkdir()
    program = folder / "git"
    program.write_text(f'#!/bin/sh\ncase "$*" in *push*:refs/heads/main*) echo >> {folder}/pushes;; esac\nexec {shutil.which("git")} "$@"\n')
    program.chmod(0o755)
    (folder / "pushes").touch()
    return folder / "pushes"


async def _finisher(folder: Path, remote: Path, number: int) -> tuple[Workspace, bytes, Path]:
    """A node of its own with a home of its own, up to its merge."""
    pushes = _counting_git(folder / f"bin{number}")
    environment = os.environ | {"PATH": f"{pushes.parent}:{os.environ['PATH']}"}
    origin = Origin(GitRunner(environment), folder / f"home{number}", str(remote), "main", folder / f"work{number}", random.Random(number))
    (folder / f"home{number}").mkdir()
    item, claim = show_id(new_id(1_795_000_000_000 + number)), show_id(new_id(1_795_000_000_000 + number))
    receipt = await origin.cas(b"", ClaimIntent(item, claim, 1, f"node{number}", 90_000))
    assert isinstance(receipt, ArbiterReceipt)
    workspace = await origin.create(item, claim)
    (workspace.path / f"{number}.txt").write_text("done\n")
    await workspace.keep_work("work")
    return workspace, receipt.oid, pushes


async def _crowd(folder: Path) -> tuple[list[float], list[int]]:
    """Seconds and pushes of the base that each finisher needed when all begin to merge at once."""
    remote = make_remote(folder)
    ready = [await _finisher(folder, remote, number) for number in range(_FINISHERS)]
    began = time.perf_counter()

    async def merge(workspace: Workspace, claim_oid: bytes) -> float:
        outcome = await workspace.merge(claim_oid, "work", lambda: None)
        if outcome.kind != "merged":
            raise RuntimeError(f"a merge ended as {outcome}")
        return time.perf_counter() - began

    took = await asyncio.gather(*(merge(workspace, oid) for workspace, oid, _ in ready))
    return took, [len(pushes.read_text()) for _, _, pushes in ready]


@benchmark(("merge.crowd_s", "s", "<=", 20.0), ("merge.crowd_pushes", "pushes of the base by one", "<=", 6.0))
def merge_crowd(scale: Scale) -> dict[str, Measured]:
    """20 nodes that finish at once, one bare repository on this machine: until the last is merged, and the most tries of one."""
    with tempfile.TemporaryDirectory(prefix="fabrik-bench-") as folder:
        took, pushes = asyncio.run(_crowd(Path(folder)))
    env = {"finishers": _FINISHERS, "median_s": round(sorted(took)[_FINISHERS // 2], 2), "pushes": sum(pushes)}
    return {"merge.crowd_s": Measured(max(took), env), "merge.crowd_pushes": Measured(max(pushes), env)}
