"""The demo's stage: a temporary folder, a real bare git remote, and nodes as real processes.

Everything that is started here is known by its pid and is ended by :meth:`Fleet.close`, whatever happens.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

__all__ = ["DemoFailed", "Fleet", "wait_for"]

T = TypeVar("T")
CALL_S = 20.0
"""No command of the demo may take longer."""

CONFIG = """\
[lease]
beat_s = 0.5
ttl_s = 3.0
grace_s = 1.0
lock_delay_s = 0.5
settle_s = 0.2

[agent]
kill_grace_s = 2.0
keep_worktrees = "failed"
"""


class DemoFailed(Exception):
    """What went wrong, in one line."""


def wait_for(what: str, probe: Callable[[], T | None], within_s: float, every_s: float = 0.1) -> T:
    """Ask ``probe`` until it gives something. Raises :class:`DemoFailed` when it does not in time."""
    end = time.monotonic() + within_s
    while True:
        answer = probe()
        if answer is not None:
            return answer
        if time.monotonic() >= end:
            raise DemoFailed(f"waited {within_s:.0f} s in vain for {what}")
        time.sleep(every_s)


class Fleet:
    """All processes and files of one demo."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.remote = root / "program.git"
        self.program = str(Path(sys.executable).with_name("fabrik-node"))
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}
        self._others: list[subprocess.Popen[Any]] = []
        self._files: list[IO[bytes]] = []
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith(("FABRIK_", "GIT_", "PYTHON"))} | {
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "NO_COLOR": "1",
        }
        if not Path(self.program).exists():
            raise DemoFailed(f"{self.program} is not installed: make setup")

    # ---- git -----------------------------------------------------------------------------------

    def git(self, *arguments: str, folder: Path | None = None) -> str:
        """What git prints. Raises :class:`DemoFailed` with what it complains about."""
        identity = ("-c", "user.name=Demo", "-c", "user.email=demo@localhost", "-c", "init.defaultBranch=main")
        return self._run(["git", *identity, *arguments], folder or self.root)

    def make_remote(self, program: Path) -> None:
        """A bare repository with the program as its first commit on ``main``."""
        first = self.root / "first"
        shutil.copytree(program, first, ignore=shutil.ignore_patterns("__pycache__"))
        self.git("init", "--quiet", "--bare", str(self.remote))
        self.git("init", "--quiet", folder=first)
        self.git("add", "--all", folder=first)
        self.git("commit", "--quiet", "--message", "textkit: the frame, and the first function", folder=first)
        self.git("push", "--quiet", str(self.remote), "HEAD:refs/heads/main", folder=first)
        shutil.rmtree(first)

    # ---- nodes ---------------------------------------------------------------------------------

    def home(self, name: str) -> Path:
        return self.root / name

    def make_home(self, name: str) -> Path:
        """An empty home with the demo's settings in it."""
        self.home(name).mkdir(mode=0o700)
        (self.home(name) / "config.toml").write_text(CONFIG, encoding="utf-8")
        return self.home(name)

    def call(self, name: str, *arguments: str) -> Any:
        """The JSON answer of one command. Raises :class:`DemoFailed` with its complaint."""
        return json.loads(self._run([self.program, "--home", str(self.home(name)), "--json", *arguments], self.root))

    def ask(self, name: str, *arguments: str) -> Any | None:
        """Like :meth:`call`, but None when the command fails, for use while waiting."""
        with contextlib.suppress(DemoFailed, json.JSONDecodeError):
            return self.call(name, *arguments)
        return None

    def start(self, name: str, *arguments: str) -> int:
        """Start a node that runs until it is ended; its pid."""
        log = (self.root / f"{name}.log").open("ab")
        self._files.append(log)
        command = [self.program, "--home", str(self.home(name)), *arguments]
        self.nodes[name] = subprocess.Popen(
            command, cwd=self.root, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        return self.nodes[name].pid

    def wait_serving(self, name: str, within_s: float = 20) -> Any:
        """The status of a node that was started, once it answers itself."""

        def probe() -> Any | None:
            if (status := self.nodes[name].poll()) is not None:
                raise DemoFailed(f"{name} ended with exit code {status}: {self.last_words(name)}")
            answer = self.ask(name, "status")
            return answer if answer and answer.get("source") == "node" else None

        return wait_for(f"{name} to answer", probe, within_s)

    def last_words(self, name: str) -> str:
        """The last lines of a node's log, as one."""
        lines = (self.root / f"{name}.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return " / ".join(lines[-4:]) or "it said nothing"

    def kill(self, name: str) -> int:
        """SIGKILL, as a power cut would. The pid that died."""
        node = self.nodes.pop(name)
        node.send_signal(signal.SIGKILL)
        node.wait(timeout=CALL_S)
        return node.pid

    def follow_events(self, name: str) -> IO[str]:
        """The node's event stream, from its beginning; one JSON object per line."""
        command = [self.program, "--home", str(self.home(name)), "--json", "events", "--after", "0", "--follow"]
        complaints = (self.root / "events.log").open("ab")
        self._files.append(complaints)
        process = subprocess.Popen(
            command,
            cwd=self.root,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            start_new_session=True,
        )
        self._others.append(process)
        if process.stdout is None:
            raise DemoFailed("the event stream has no output")
        return process.stdout

    def run_says(self, name: str, item: str, text: str) -> bool | None:
        """True once the log of the node's newest run of ``item`` has ``text`` in it; None before."""
        answer = self.ask(name, "runs", "list", "--item", item)
        logs = [Path(run["log"]) for run in (answer or {"runs": []})["runs"] if run.get("own") and run.get("log")]
        return True if any(log.exists() and text in log.read_text(encoding="utf-8", errors="replace") for log in logs) else None

    def left_behind(self, below: Path) -> list[str]:
        """Processes that work in a folder below ``below``, as ``pid command`` (Linux; elsewhere none can be seen)."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (entry / "cwd").resolve().is_relative_to(below):
                    found.append(f"{entry.name} {(entry / 'cmdline').read_bytes().replace(bytes(1), b' ').decode(errors='replace').strip()[:80]}")
        return found

    def stop(self) -> list[str]:
        """End all nodes as an operator would (SIGTERM); the names of those that did not follow in time."""
        slow = []
        for process in self.nodes.values():
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        for name, process in self.nodes.items():
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                slow.append(name)
        return slow

    def close(self) -> None:
        """End everything that was started, by force where needed."""
        processes = [*self._others, *self.nodes.values()]
        for signum, patience_s in ((signal.SIGTERM, 3.0), (signal.SIGTERM, 3.0), (signal.SIGKILL, 5.0)):
            alive = [process for process in processes if process.poll() is None]
            for process in alive:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signum)
            end = time.monotonic() + patience_s
            for process in alive:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=max(0.05, end - time.monotonic()))
        for file in self._files:
            file.close()

    def _run(self, command: Sequence[str], folder: Path) -> str:
        shown = " ".join(Path(part).name if part == command[0] else part for part in command)
        try:
            done = subprocess.run(
                command, cwd=folder, env=self._environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=CALL_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise DemoFailed(f"{shown}: no answer within {CALL_S:.0f} s") from error
        if done.returncode:
            raise DemoFailed(f"{shown}: exit code {done.returncode}: {' / '.join(done.stderr.strip().splitlines()) or done.stdout.strip()[-300:]}")
        return done.stdout


def free_port() -> int:
    """A port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def lines_of(stream: IO[str]) -> Iterator[dict[str, Any]]:
    """Decoded lines of an event stream, until it ends."""
    for line in stream:
        if line.strip():
            yield json.loads(line)
