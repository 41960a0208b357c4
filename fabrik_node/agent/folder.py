"""The folder of one run: its prompt, its log, and how to see from outside that it moves."""

from __future__ import annotations

import os
from pathlib import Path

from fabrik_node.agent.child import RunLog
from fabrik_node.domain.run_inputs import one_line, prompt_text
from fabrik_node.ids import show_id
from fabrik_node.output_log import log_parts
from fabrik_node.paths import HomePaths
from fabrik_node.ports import ItemView

__all__ = ["RunFolder", "one_line"]


class RunFolder:
    """``<home>/runs/<run id>``, made with the object, for this run alone.

    Raises OSError when it can not be made; a folder that exists already is an error too: no two runs share one.
    """

    def __init__(self, paths: HomePaths, run_id: bytes) -> None:
        self.path = paths.run_folder(show_id(run_id))
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.mkdir(mode=0o700)
        self.log.touch(mode=0o600)

    @property
    def log(self) -> Path:
        """Everything that the run's commands print, both streams in order; what is too much for this file is beside it (:mod:`fabrik_node.output_log`)."""
        return self.path / "output.log"

    @property
    def prompt(self) -> Path:
        """Title and body of the item, for the command to read. Outside the worktree, so that it is never committed."""
        return self.path / "prompt.md"

    def write_prompt(self, view: ItemView) -> None:
        """See :func:`~fabrik_node.domain.run_inputs.prompt_text`."""
        self.prompt.write_bytes(prompt_text(view.title, view.body).encode("utf-8", "replace"))

    def say(self, line: str) -> None:
        """A line of ours in the log. Only between commands."""
        with log_parts(self.log)[-1].path.open("a", encoding="utf-8", errors="replace") as file:
            file.write(f"[fabrik-node: {one_line(line)}]\n")

    def open_log(self) -> RunLog:
        """The log at its end, for a shim. The caller closes its descriptor."""
        newest = log_parts(self.log)[-1]
        descriptor = os.open(newest.path, os.O_WRONLY | os.O_CLOEXEC)
        os.lseek(descriptor, 0, os.SEEK_END)
        return RunLog(descriptor, self.log, newest.end)

    def log_bytes(self) -> int:
        """What all of the log takes on disk."""
        return sum(part.size for part in log_parts(self.log))

    def mark(self) -> tuple[int, int]:
        """Differs from before when there was output since. Thread-safe."""
        try:
            newest = log_parts(self.log)[-1]
            return (newest.end, newest.path.stat().st_mtime_ns)
        except FileNotFoundError:  # somebody cleaned up; that is no progress
            return (0, 0)
