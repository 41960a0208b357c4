#!/usr/bin/env python3
"""An agent in Python that makes a plan, asks people whether to carry it out, and goes by their answer."""

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


def main() -> int:
    """From the prompt to the commit."""
    title = os.environ["FABRIK_TITLE"]
    plan = f"# Plan\n\nWrite down what is wanted:\n\n{Path(os.environ['FABRIK_PROMPT_FILE']).read_text(encoding='utf-8')}"
    # The answer stands for this text: a run that begins anew with the same plan is not asked again, one with another plan is.
    said = node("ask", f"{title}: carry out plan {sha256(plan.encode()).hexdigest()[:12]}?", "--option", "go on", "--option", "leave it")
    if said != "go on":
        print("people said no")
        return 1
    file = Path("plans") / f"{os.environ['FABRIK_ITEM']}.md"
    file.parent.mkdir(exist_ok=True)
    file.write_text(plan, encoding="utf-8")
    subprocess.run(["git", "add", str(file)], check=True)
    subprocess.run(["git", "commit", "--quiet", "--message", f"Plan: {title}"], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
