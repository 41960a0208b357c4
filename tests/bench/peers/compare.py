"""Measure this core beside other libraries: ``compare.py [--writes N ...] [--write-report]``. One JSON line per cell on stderr, the tables on stdout.

Each cell is a fresh process of the Python that has all libraries (``make bench-peers`` makes it). With ``--write-report`` the tables go into docs/benchmarks.md.
Exit code 1 when a library's final values are not the workload's: then its figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from report import machine, put_into, tables

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
REPORT = ROOT / "docs" / "benchmarks.md"
ROWS = ("fabrik", "fabrik-one-by-one", "fabrik-snapshot", "pycrdt", "loro", "loro-updates", "automerge")
_LOADS_FROM = {"fabrik-one-by-one": "fabrik", "fabrik-snapshot": "fabrik", "loro-updates": "loro"}
"""Rows that only load, and another saved form of the same document."""
_GRACE_S = 120
"""For starting, building the workload and checking, which is in no figure."""


def run_cell(python: str, name: str, cell: str, writes: int, seed: int, folder: Path, limit: float) -> dict[str, Any]:
    """The cell's figures; ``{"stopped": True}`` when its process was ended at the limit, ``{"failed": ...}`` when it broke."""
    command = [python, str(HERE / "cell.py"), name, cell, str(writes), str(seed), str(folder), str(limit)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")} | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=3 * limit + _GRACE_S, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return {"stopped": True}
    if done.returncode != 0:
        return {"failed": done.stderr.strip().splitlines()[-1:]}
    result: dict[str, Any] = json.loads(done.stdout)
    return result | ({"stopped": True} if result["seconds"] > limit else {})


def measure(python: str, names: list[str], writes: int, seed: int, limit: float, where: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """``{library: {cell: figures}}`` for one size."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name in names:
        folder = where / f"{_LOADS_FROM.get(name, name)}-{writes}"
        folder.mkdir(exist_ok=True)
        found[name] = {}
        for cell in ("bulk",) if name in _LOADS_FROM else ("write", "each", "bulk"):
            began = time.monotonic()
            result = found[name][cell] = run_cell(python, name, cell, writes, seed, folder, limit)
            row = {"system": name, "cell": cell, "writes": writes, "wall_s": round(time.monotonic() - began, 1), "load_1m": round(os.getloadavg()[0], 1)}
            print(json.dumps(row | result), file=sys.stderr, flush=True)
            if cell == "write" and (result.get("stopped") or result.get("failed")):
                break
    return found


def main() -> int:
    """0, or 1 when a cell broke or gave other values than the workload's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--writes", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--systems", nargs="+", default=list(ROWS), choices=ROWS, help="in this order; the variants need the library itself before them")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--limit", type=float, default=600, help="CPU seconds of one cell; what needs more is shown as such")
    parser.add_argument("--python", default=sys.executable, help="the Python that has the libraries")
    parser.add_argument("--json", action="store_true", help="the figures as JSON on stdout, no tables")
    parser.add_argument("--write-report", action="store_true", help=f"put the tables into {REPORT.relative_to(ROOT)}")
    options = parser.parse_args()
    load = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="fabrik-bench-") as folder:
        sizes = {writes: measure(options.python, options.systems, writes, options.seed, options.limit, Path(folder)) for writes in options.writes}
    cells = [figures for found in sizes.values() for rows in found.values() for figures in rows.values()]
    wrong = [figures for figures in cells if figures.get("failed") or (figures.get("right") is False and not figures.get("stopped"))]
    if options.json:
        print(json.dumps(sizes))
    else:
        text = tables(sizes, options.limit) + machine(sizes, load, options.seed)
        print(text)
        if options.write_report:
            put_into(REPORT, text)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
