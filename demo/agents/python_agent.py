#!/usr/bin/env python3
"""An agent in Python, in steps: it makes a plan, asks people whether to carry it out, and goes by their answer.

Killed and begun anew, here or on another host, it goes on behind the last step that was done, and meets its question or the answer. What a step leaves
in the worktree is committed by the node.
"""

from __future__ import annotations

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

UNREACHABLE, NOT_OUR_FAULT = 6, 76


def node(*words: str) -> str:
    """One command to the node that runs us: what it prints. Ends this agent when it fails."""
    done = subprocess.run(["fabrik-node", *words], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(NOT_OUR_FAULT if done.returncode == UNREACHABLE else done.returncode)
    return done.stdout.strip()


def step(name: str, *words: str) -> None:
    """Run this program again for one step, unless a run of this item has done it."""
    node("step", name, *words, "--", sys.executable, str(Path(__file__).resolve()), name)


def plan(title: str, prompt: str, folder: Path) -> None:
    """The first step."""
    folder.mkdir(parents=True)
    (folder / "plan.md").write_text(f"# Plan for {title}\n\nWrite down what is wanted:\n\n{prompt}", encoding="utf-8")


def carry_out(_title: str, prompt: str, folder: Path) -> None:
    """The second one."""
    (folder / "result.md").write_text(prompt, encoding="utf-8")


STEPS = {"plan": plan, "carry-out": carry_out}


def main(argv: list[str]) -> int:
    """Without arguments the whole work, else one step of it."""
    title, prompt, folder = os.environ["FABRIK_TITLE"], Path(os.environ["FABRIK_PROMPT_FILE"]), Path("work") / os.environ["FABRIK_ITEM"]
    if argv:
        STEPS[argv[0]](title, prompt.read_text(encoding="utf-8"), folder)
        return 0
    step("plan")
    # The answer stands for this text: another plan is another question.
    digest = sha256((folder / "plan.md").read_bytes()).hexdigest()
    if node("ask", f"{title}: carry out plan {digest[:12]}?", "--option", "go on", "--option", "leave it") != "go on":
        print("people said no")
        return 1
    step("carry-out")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
