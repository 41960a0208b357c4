"""What a test holds in its hand while an agent's command runs: a gate that the command waits at, and a look at its processes."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from acceptance.fleet import BOUND_S, FAST_LEASES, git

__all__ = ["COMMIT", "LONG_LEASES", "QUICK_AGENT", "STEADY_LEASES", "WAIT", "Gate", "merges_of", "processes_of", "signal_run"]

LONG_LEASES = FAST_LEASES.replace("ttl_s = 2.0", "ttl_s = 120.0")
"""Beats as quick as ever, but no lease ends within a test."""

STEADY_LEASES = FAST_LEASES.replace("ttl_s = 2.0", "ttl_s = 4.0")
"""For leases that are to end within a test, though a holder that shares two cores with others must not lose its own."""

QUICK_AGENT = "[agent]\nbackoff_s = 0.1\nkill_grace_s = 1.0\n"

COMMIT = 'echo "$FABRIK_TITLE" > "$FABRIK_ITEM.txt" && git add . && git commit -q -m "$FABRIK_TITLE"'
"""A command that changes the program and commits."""

WAIT = 'cat "$GATE" > /dev/null'
"""A command that waits until the gate of its node is opened."""


class Gate:
    """A named pipe at which a command of one node waits. Use as a context manager: what waits at the end is let through."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._writer = -1

    @property
    def env(self) -> dict[str, str]:
        """For the node whose commands wait here."""
        return {"GATE": str(self.path)}

    def await_waiting(self) -> None:
        """Until a command waits: opening a pipe for writing succeeds exactly then (fifo(7), ENXIO)."""
        deadline = time.monotonic() + BOUND_S
        pause = threading.Event()
        while True:
            try:
                self._writer = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:
                assert time.monotonic() < deadline, f"no command waited at {self.path} within {BOUND_S} s"
                pause.wait(0.02)
            else:
                return

    def write(self, text: str) -> None:
        """To the command that waits."""
        os.write(self._writer, text.encode())

    def open(self) -> None:
        """Let it through."""
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.open()


def processes_of(run: str) -> list[int]:
    """Living processes that carry this run's id in their environment."""
    tag = f"FABRIK_RUN={run}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if tag in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:  # it ended while we looked, or it is not ours
                continue
    return found


def signal_run(run: str, number: signal.Signals) -> None:
    """To every process of a run."""
    for pid in processes_of(run):
        with suppress(ProcessLookupError):  # it ended while we looked
            os.kill(pid, number)


def merges_of(remote: Path, item: str) -> list[str]:
    """Merge commits on the base branch that carry this item's trailer."""
    said = git(remote, "log", "--merges", "--format=%H %(trailers:key=Fabrik-Item,valueonly,separator=%x2C)", "main")
    return [line.split()[0] for line in said.splitlines() if line.split()[1:] == [item]]
