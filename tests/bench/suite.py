"""Run benchmarks: ``suite.py [--only NAME] [--full]``. One JSON line per benchmark on stdout, progress on stderr.

Exit code 0 unless a benchmark could not be measured; whether a goal is reached is in ``ok``.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback

from benchmark import BENCHMARKS, Scale, note, result_line

_MODULES = (
    "core_benches",
    "store_benches",
    "session_benches",
    "node_benches",
    "stalled_benches",
    "tls_benches",
    "loop_benches",
    "question_benches",
    "merge_benches",
    "claim_benches",
    "takeover_benches",
)


def main() -> int:
    """0, or 1 when something could not be measured, 2 for an unknown name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a benchmark's name, or the part before its dot")
    parser.add_argument("--full", action="store_true", help="logs of 1,000,000 ops instead of 100,000")
    parser.add_argument("--ops", type=int, default=0, help="another size of the large logs")
    parser.add_argument("--list", action="store_true", help="names, goals and what is measured")
    options = parser.parse_args()
    for module in _MODULES:
        importlib.import_module(module)
    scale = Scale(options.ops or (1_000_000 if options.full else 100_000), options.full)
    wanted = [name for name in BENCHMARKS if not options.only or name == options.only or name.startswith(options.only + ".")]
    if not wanted:
        note(f"no benchmark {options.only!r}; there are: {', '.join(sorted(BENCHMARKS))}")
        return 2
    failed = False
    for name in wanted:
        row, measure = BENCHMARKS[name]
        if options.list:
            print(f"{name:20} {'>=' if row.at_least else '<='} {row.goal:g} {row.unit}: {(measure.__doc__ or '').splitlines()[0]}")
            continue
        try:
            print(result_line(row, measure(scale)[name]), flush=True)
        except Exception:
            note(f"{name}: not measured\n{traceback.format_exc()}")
            failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
