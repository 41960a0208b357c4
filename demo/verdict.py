"""The end of the demo: the board, the digests, the base branch, and whether all of it is as promised."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections import Counter
from typing import Any

from fleet import DemoFailed, Fleet, wait_for

__all__ = ["converged", "merges", "program_passes", "show_board"]


def show_board(items: list[dict[str, Any]], merged_by: dict[str, str]) -> None:
    """One line per item."""
    print("\nThe board")
    for item in items:
        merge = str(item.get("stage_data", {}).get("merge_commit", ""))[:10]
        print(f"  {item['id'][:10]}  {item['stage']:<8} {item['title']:<22} merged by {merged_by.get(item['id'], '-'):<5} as {merge}")


def converged(fleet: Fleet, names: list[str], within_s: float) -> dict[str, tuple[str, str]]:
    """``(state digest, frontier digest)`` of each node, once they are equal; as they are when they do not become so in time."""
    seen: dict[str, tuple[str, str]] = {}

    def probe() -> bool | None:
        for name in names:
            status = fleet.ask(name, "status")
            if status is not None and status["source"] == "node":
                seen[name] = (status["state_digest"], status["frontier_digest"])
        return True if len(seen) == len(names) and len(set(seen.values())) == 1 else None

    with contextlib.suppress(DemoFailed):  # the caller shows what differs
        wait_for("equal digests", probe, within_s, 0.2)
    return seen


def merges(fleet: Fleet) -> Counter[str]:
    """How often each item was merged into the base branch, by the trailers of its merge commits."""
    told = fleet.git("log", "--merges", "--format=%(trailers:key=Fabrik-Item,valueonly,separator=%x2C)", "main", folder=fleet.remote)
    return Counter(line.strip() for line in told.splitlines() if line.strip())


def program_passes(fleet: Fleet) -> str:
    """The last lines of the program's own tests on the merged base. Raises :class:`DemoFailed` when they fail."""
    checkout = fleet.root / "checkout"
    shutil.rmtree(checkout, ignore_errors=True)
    fleet.git("clone", "--quiet", "--branch", "main", str(fleet.remote), str(checkout))
    done = subprocess.run([sys.executable, "-B", "-m", "unittest"], cwd=checkout, capture_output=True, text=True, timeout=60, check=False)
    said = done.stderr.strip().splitlines()
    if done.returncode:
        raise DemoFailed(f"the merged program fails its own tests: {said[-1] if said else done.returncode}")
    return ", ".join(line.lower() for line in said[-3:] if line.strip())
