"""The agent command of the demo: reads the task, changes the program in the worktree, tests the change and commits it.

A node starts it in a fresh worktree of the program. It finds the task in ``FABRIK_TITLE`` and ``FABRIK_PROMPT_FILE``, and takes a few
seconds, as agents do, so that one can be lost in the middle. Exit code 0: committed. Anything else: not done.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from recipes import RECIPES, Recipe


def say(text: str) -> None:
    """A line of the run's log."""
    print(text, flush=True)


def think(share: float) -> None:
    """Take a part of the time that this work is to take (``DEMO_WORK_S``, seconds)."""
    time.sleep(share * float(os.environ.get("DEMO_WORK_S", "2.5")))


def write_function(source: Path, name: str, recipe: Recipe) -> None:
    """Put the body in the place of the function's ``raise`` line. Raises SystemExit when there is no such line."""
    text = source.read_text(encoding="utf-8")
    line = f'    raise NotImplementedError("{name}")\n'
    if text.count(line) != 1:
        sys.exit(f"{source} has no unwritten function {name}")
    source.write_text(text.replace(line, recipe.body.lstrip("\n")), encoding="utf-8")


def write_tests(path: Path, name: str, recipe: Recipe) -> None:
    """A test file of its own, so that two agents never edit the same one."""
    checks = "\n".join(f"        {check}" for check in recipe.checks)
    path.write_text(
        f"import unittest\n\nfrom textkit import functions as f\n\n\nclass {name.title()}(unittest.TestCase):\n    def test_{name}(self) -> None:\n{checks}\n",
        encoding="utf-8",
    )


def main() -> int:
    """One task, from its prompt to its commit."""
    title = os.environ["FABRIK_TITLE"]
    prompt = Path(os.environ["FABRIK_PROMPT_FILE"]).read_text(encoding="utf-8")
    say(f"task: {title} (attempt {os.environ['FABRIK_ATTEMPT']}, branch {os.environ['FABRIK_BRANCH']})")
    found = re.search(r"`(\w+)`", prompt)
    recipe = RECIPES.get(found.group(1)) if found else None
    if found is None or recipe is None:
        say("this worker does not know how to write that")
        return 3
    name = found.group(1)

    say("reading the program")
    think(0.5)
    write_function(Path("textkit/functions.py"), name, recipe)
    write_tests(Path(f"tests/test_{name}.py"), name, recipe)
    say(f"wrote {name} and its tests")
    think(0.4)
    tests = subprocess.run([sys.executable, "-m", "unittest", "--quiet", f"tests.test_{name}"], check=False)
    if tests.returncode:
        say("the new tests fail")
        return 1
    think(0.1)
    subprocess.run(["git", "add", "--", "textkit", "tests"], check=True)
    subprocess.run(["git", "commit", "--quiet", "--message", f"{title}\n\n{recipe.task}"], check=True)
    say("committed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
