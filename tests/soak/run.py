"""``make soak``: 8 agents, 100 items, kills from a seed. Exit 0 when everything that :mod:`soak.checker` asks is true. ``--seed N`` plays another one."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from soak.checker import check, figures
from soak.play import Plan, Soak


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description="Many agents, many items, random kills: each item is merged once.")
    parser.add_argument("--agents", type=int, default=8)
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--kills", type=float, default=0.35, help="the share of commands that bring a kill")
    parser.add_argument("--keep", action="store_true", help="keep the folder")
    options = parser.parse_args()
    plan = Plan(options.agents, options.items, options.seed, options.kills, (0.5, 4.0))
    say(f"seed {plan.seed}")
    folder = Path(tempfile.mkdtemp(prefix="fabrik-soak-"))
    soak = Soak(plan, folder, say)
    began = time.monotonic()
    try:
        soak.run()
        wall_s = time.monotonic() - began
        wrong = check(soak)
        found = figures(soak, wall_s)
        wrong += soak.end()
    except BaseException:
        say(f"seed {plan.seed}; the folder is {folder}")
        soak.abort()
        raise
    print(json.dumps(found | {"load_1m": round(os.getloadavg()[0], 1), "cpus": os.cpu_count()}), flush=True)
    for problem in wrong:
        say(f"WRONG (seed {plan.seed}): {problem}")
    if wrong or options.keep:
        say(f"the folder is {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if wrong else 0


def say(text: str) -> None:
    """For people, on stderr."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
