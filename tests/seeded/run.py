"""``make seeded``: plant each bug of ``bugs.py`` in a copy of the sources and see that the tests fail. Exit 0 when every bug was noticed.

``--only WORD`` takes those whose name holds it. The copy and its builds are in ``target/seeded``; the tree itself is never touched.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from time import monotonic

sys.path.insert(0, str(Path(__file__).parents[1]))

from seeded.bugs import BUGS, Bug

ROOT = Path(__file__).parents[2]
COPY = ROOT / "target" / "seeded"
BUILDS = ROOT / "target" / "seeded-build"
"""Never ``target`` itself: Cargo takes a crate of the copy for the tree's own, and would link a planted bug into the product."""
COPIED = ("Cargo.toml", "Cargo.lock", "clippy.toml", "pyproject.toml", "rust", "fabrik_node", "sync", "tests", "docs")
BOUND_S = 600


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description="See that the tests notice planted bugs.")
    parser.add_argument("--only", default="", help="bugs whose name holds this text")
    chosen = [bug for bug in BUGS if parser.parse_args().only in bug.name]
    failed: list[str] = []
    for bug in chosen:
        start = monotonic()
        problem = plant(bug)
        print(f"{'NOT NOTICED' if problem else 'noticed':12}{monotonic() - start:6.1f} s  {bug.name}{': ' + problem if problem else ''}", flush=True)
        failed += [bug.name] if problem else []
    print(f"{len(chosen) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed or not chosen else 0


def plant(bug: Bug) -> str:
    """Why the bug was not noticed; empty when the tests failed because of it."""
    copy()
    place = COPY / bug.file
    text = place.read_text(encoding="utf-8") if place.exists() else ""
    if text.count(bug.old) != 1:
        return f"{bug.file} has the old text {text.count(bug.old)} times, so nothing could be planted"
    sound = None if bug.is_rust else attempt(bug)
    if sound is not None and sound.returncode != 0:
        return f"the tests fail without it:\n{sound.stdout[-2000:]}"
    place.write_text(text.replace(bug.old, bug.new), encoding="utf-8")
    result = attempt(bug)
    output = result.stdout + result.stderr
    if result.returncode == 0:
        return f"{' '.join(bug.tests)} passed"
    if bug.is_rust and "test result: FAILED" not in output:
        return f"the copy did not build or run:\n{output[-2000:]}"
    if not bug.is_rust and result.returncode != 1:
        return f"pytest ended with {result.returncode}:\n{output[-2000:]}"
    return ""


def copy() -> None:
    """Bring the copy to the state of the tree; unchanged files keep their times, so that cargo builds little."""
    for name in COPIED:
        source = ROOT / name
        files = [source] if source.is_file() else [path for path in source.rglob("*") if path.is_file() and not hidden(path, ROOT)]
        wanted = {COPY / path.relative_to(ROOT) for path in files}
        target = COPY / name
        held = [target] if target.is_file() else [path for path in target.rglob("*") if path.is_file() and not hidden(path, COPY)] if target.exists() else []
        for path in held:
            if path not in wanted:
                path.unlink()
        for path in files:
            to = COPY / path.relative_to(ROOT)
            if not to.exists() or to.read_bytes() != path.read_bytes():
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, to)


def hidden(path: Path, below: Path) -> bool:
    """Caches and builds, which the copy has of its own."""
    return any(part in {"__pycache__", "target", "fuzz", ".hypothesis"} for part in path.relative_to(below).parts[:-1])


def attempt(bug: Bug) -> subprocess.CompletedProcess[str]:
    """Run the tests of a bug on the copy as it is."""
    if bug.is_rust:
        crate, file = bug.tests
        command = ["cargo", "test", "--release", "--locked", "--quiet", "-p", crate, "--test", file]
        environment = os.environ | {"CARGO_TARGET_DIR": str(BUILDS), "PROPTEST_FAILURE_PERSISTENCE": "off", "PROPTEST_MAX_SHRINK_ITERS": "0"}
    else:
        command = [sys.executable, "-m", "pytest", "-q", "-x", "--tb=no", "-p", "no:cacheprovider", *bug.tests]
        environment = os.environ | {"PYTHONPATH": f"{COPY}{os.pathsep}{COPY / 'sync'}"}
    return subprocess.run(command, cwd=COPY, env=environment, capture_output=True, text=True, timeout=BOUND_S, check=False)


if __name__ == "__main__":
    sys.exit(main())
