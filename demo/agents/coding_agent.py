#!/usr/bin/env python3
"""Lets any command-line coding agent work for fabrik-node: a program that reads a prompt and edits the files of its working directory.

    command = ["coding_agent.py", "--prompt", "argument", "--", "my-coding-agent", "--yes", "{prompt}"]

The prompt (title and body of the item) goes to the program as the path of a file, as an argument or on stdin. What it prints goes to the log of the
run. What it changed is committed in the name of the item and the run, unless it committed all of it itself. Its end becomes one of the exit codes
that the node knows: a rate limit is no failure of the work, and a program that is not there is the host's fault, not the item's.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

OK, FAILED, RATE_LIMITED, HOST_FAULT, TIMED_OUT = 0, 1, 75, 76, 124
NAMES = {"failed": FAILED, "rate_limited": RATE_LIMITED, "infra_lost": HOST_FAULT, "timeout": TIMED_OUT}
RATE_LIMIT = r"rate.?limit|too many requests|usage limit|quota (?:exceeded|reached)|overloaded|\b429\b"
"""What programs say when they are told to wait. Looked for in the last lines of a program that failed or changed nothing."""
LAST_LINES = 40
PLACE = "{prompt}"
"""In the program's arguments: where the path of the prompt, or its text, goes. Without it, it becomes the last argument."""


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The adapter's own options, and behind ``--`` the program with its arguments."""
    parser = argparse.ArgumentParser(description="Run a coding agent on the item of this run.", usage="%(prog)s [options] -- PROGRAM [ARGUMENT ...]")
    parser.add_argument("--prompt", choices=["file", "argument", "stdin"], default="file", help="how the program gets the prompt (default: the path of a file)")
    parser.add_argument("--exit", action="append", default=[], metavar="STATUS=RESULT", help=f"what an exit status of the program means: {', '.join(NAMES)}")
    parser.add_argument("--rate-limit", default=RATE_LIMIT, metavar="REGEX", help="what the program prints when it is rate limited")
    parser.add_argument("program", nargs="+", metavar="PROGRAM")
    return parser.parse_args(argv)


def meanings(pairs: Sequence[str]) -> Mapping[int, int]:
    """``29=rate_limited`` as exit codes of the program and of ours. Raises SystemExit for anything else."""
    found = {}
    for pair in pairs:
        status, _, name = pair.partition("=")
        if not status.isdigit() or name not in NAMES:
            sys.exit(f"coding_agent: --exit {pair}: want STATUS=RESULT with one of {', '.join(NAMES)}")
        found[int(status)] = NAMES[name]
    return found


def command_line(program: Sequence[str], how: str, prompt: Path) -> tuple[list[str], str]:
    """The program with its prompt put in, and what it gets on stdin."""
    text = prompt.read_text(encoding="utf-8")
    if how == "stdin":
        return list(program), text
    value = str(prompt) if how == "file" else text
    if not any(PLACE in part for part in program[1:]):
        return [*program, value], ""
    return [program[0], *(part.replace(PLACE, value) for part in program[1:])], ""


def run(command: Sequence[str], stdin: str) -> tuple[int | None, str]:
    """Its wait status (None: it could not be started) and the last lines that it printed. All that it prints goes to our output, at once."""
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    except OSError as error:
        print(f"coding_agent: {command[0]} can not be started: {error.strerror}", flush=True)
        return None, ""
    assert process.stdin is not None
    assert process.stdout is not None
    feeder = threading.Thread(target=feed, args=(process, stdin), daemon=True)
    feeder.start()
    last: deque[str] = deque(maxlen=LAST_LINES)
    for line in process.stdout:
        print(line, end="", flush=True)
        last.append(line)
    status = process.wait()
    feeder.join()
    return status, "".join(last)


def feed(process: subprocess.Popen[str], text: str) -> None:
    """Give it its stdin. One that does not read all of it is free to."""
    assert process.stdin is not None
    try:
        with process.stdin as pipe:
            pipe.write(text)
    except BrokenPipeError:
        return


def git(*args: str) -> str:
    """Run git in the worktree and give its output. Raises CalledProcessError."""
    return subprocess.run(["git", *args], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def commit() -> bool:
    """Commit what is not committed yet, in the name of the item and the run. False: there was nothing."""
    git("add", "--all")
    if not git("status", "--porcelain"):
        return False
    title, item, run_id = (os.environ[f"FABRIK_{name}"] for name in ("TITLE", "ITEM", "RUN"))
    git("commit", "--quiet", "--message", f"{title[:100] or item}\n\nItem {item}, run {run_id}, attempt {os.environ['FABRIK_ATTEMPT']}.")
    return True


def main(argv: Sequence[str]) -> int:
    """One run of the program, from its prompt to the commit and the exit code."""
    options = arguments(argv)
    means = meanings(options.exit)
    before = git("rev-parse", "HEAD")
    command, stdin = command_line(options.program, options.prompt, Path(os.environ["FABRIK_PROMPT_FILE"]))
    status, said = run(command, stdin)
    if status is None:
        return HOST_FAULT
    limited = re.search(options.rate_limit, said, re.IGNORECASE)
    if status in means:
        return means[status]
    if status != 0:
        print(f"coding_agent: {command[0]} ended with {status}", flush=True)
        return RATE_LIMITED if limited else 128 - status if status < 0 else FAILED
    if not commit() and git("rev-parse", "HEAD") == before:
        print(f"coding_agent: {command[0]} changed nothing", flush=True)
        return RATE_LIMITED if limited else FAILED
    return OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
