"""``make seeded``: plant each bug of ``bugs.py`` in a copy of the sources and see that the tests fail. Exit 0 when every bug was noticed.

``--only WORD`` takes those whose name holds it; ``--share N`` one in N, other ones for the next commit. The copies are in ``target/seeded``, their builds in ``target/seeded-build``; the tree itself is never touched.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic

sys.path.insert(0, str(Path(__file__).parents[1]))

from seeded.bugs import BUGS, Bug

ROOT = Path(__file__).parents[2]
COPIES = ROOT / "target" / "seeded"
BUILDS = ROOT / "target" / "seeded-build"
"""Never ``target`` itself: Cargo takes a crate of the copy for the tree's own, and would link a planted bug into the product."""
COPIED = ("Cargo.toml", "Cargo.lock", "clippy.toml", "pyproject.toml", "rust", "fabrik_node", "sync", "tests", "docs")
QUICK_BUILD = {
    "CARGO_PROFILE_RELEASE_LTO": "off",
    "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16",
    "CARGO_PROFILE_RELEASE_DEBUG": "0",
    "CARGO_PROFILE_RELEASE_INCREMENTAL": "true",
}
"""What is built is run for seconds and thrown away: here the compiler's time counts."""
BOUND_S = 600


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description="See that the tests notice planted bugs.")
    parser.add_argument("--only", default="", help="bugs whose name holds this text")
    parser.add_argument("--share", type=int, default=1, metavar="N", help="one bug in N; which ones goes by the number of commits")
    options = parser.parse_args()
    turn = commits() % options.share if options.share > 1 else 0
    chosen = [bug for place, bug in enumerate(BUGS) if options.only in bug.name and place % options.share == turn]
    print(f"planting {len(chosen)} of {len(BUGS)} bugs", flush=True)
    with ThreadPoolExecutor(2) as pool:  # the compiler and the tests in Python, side by side, each in a copy of its own
        halves = [
            pool.submit(plant_all, Copy(COPIES / "core"), [bug for bug in chosen if bug.is_rust]),
            pool.submit(plant_all, Copy(COPIES / "node"), [bug for bug in chosen if not bug.is_rust]),
        ]
        failed = sum(half.result() for half in halves)
    print(f"{len(chosen) - failed} passed, {failed} failed")
    return 1 if failed or not chosen else 0


def commits() -> int:
    """How many lead to this one: neighbours in history take different shares. 0 where there is no history."""
    counted = subprocess.run(["git", "rev-list", "--count", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return int(counted.stdout or 0)


def plant_all(copy: Copy, bugs: list[Bug]) -> int:
    """Plant one after the other; how many were not noticed."""
    failed = 0
    for bug in bugs:
        start = monotonic()
        problem = copy.plant(bug)
        print(f"{'NOT NOTICED' if problem else 'noticed':12}{monotonic() - start:6.1f} s  {bug.name}{': ' + problem if problem else ''}", flush=True)
        failed += bool(problem)
    return failed


class Copy:
    """The sources in a folder of their own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._sound: dict[tuple[str, ...], subprocess.CompletedProcess[str]] = {}

    def plant(self, bug: Bug) -> str:
        """Why the bug was not noticed; empty when the tests failed because of it."""
        self.refresh()
        place = self.root / bug.file
        text = place.read_text(encoding="utf-8") if place.exists() else ""
        if text.count(bug.old) != 1:
            return f"{bug.file} has the old text {text.count(bug.old)} times, so nothing could be planted"
        if not bug.is_rust:
            if bug.tests not in self._sound:
                self._sound[bug.tests] = self.attempt(bug)
            if self._sound[bug.tests].returncode != 0:
                return f"the tests fail without it:\n{self._sound[bug.tests].stdout[-2000:]}"
        place.write_text(text.replace(bug.old, bug.new), encoding="utf-8")
        result = self.attempt(bug)
        output = result.stdout + result.stderr
        if result.returncode == 0:
            return f"{' '.join(bug.tests)} passed"
        if bug.is_rust and "test result: FAILED" not in output:
            return f"the copy did not build or run:\n{output[-2000:]}"
        if not bug.is_rust and result.returncode != 1:
            return f"pytest ended with {result.returncode}:\n{output[-2000:]}"
        return ""

    def refresh(self) -> None:
        """Bring the copy to the state of the tree; unchanged files keep their times, so that cargo builds little."""
        for name in COPIED:
            source = ROOT / name
            files = [source] if source.is_file() else [path for path in source.rglob("*") if path.is_file() and not hidden(path, ROOT)]
            wanted = {self.root / path.relative_to(ROOT) for path in files}
            target = self.root / name
            held = (
                [target]
                if target.is_file()
                else [path for path in target.rglob("*") if path.is_file() and not hidden(path, self.root)]
                if target.exists()
                else []
            )
            for path in held:
                if path not in wanted:
                    path.unlink()
            for path in files:
                to = self.root / path.relative_to(ROOT)
                if not to.exists() or to.read_bytes() != path.read_bytes():
                    to.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, to)

    def attempt(self, bug: Bug) -> subprocess.CompletedProcess[str]:
        """Run the tests of a bug on the copy as it is."""
        if bug.is_rust:
            crate, file = bug.tests
            command = ["cargo", "test", "--release", "--locked", "--quiet", "-p", crate, "--test", file]
            environment = os.environ | QUICK_BUILD | {"CARGO_TARGET_DIR": str(BUILDS), "PROPTEST_FAILURE_PERSISTENCE": "off", "PROPTEST_MAX_SHRINK_ITERS": "0"}
        else:
            command = [sys.executable, "-m", "pytest", "-q", "-x", "--tb=no", "-p", "no:cacheprovider", *bug.tests]
            environment = os.environ | {"PYTHONPATH": f"{self.root}{os.pathsep}{self.root / 'sync'}"}
        return subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=BOUND_S, check=False)


def hidden(path: Path, below: Path) -> bool:
    """Caches and builds, which the copy has of its own."""
    return any(part in {"__pycache__", "target", "fuzz", ".hypothesis"} for part in path.relative_to(below).parts[:-1])


if __name__ == "__main__":
    sys.exit(main())
