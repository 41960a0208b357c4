"""Real nodes as real processes for acceptance tests: started, asked through the command line, killed, ended by pid.

No sleeps: waiting means following the node's own event stream or its stderr, with a bound after which the test fails.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["BOUND_S", "FAST_LEASES", "PROGRAM", "THIS_BUILD", "Build", "Fleet", "NodeProcess", "Refused", "environment", "git", "make_remote"]

BOUND_S = 60.0
"""A failure bound, not a measurement: nothing here takes a tenth of it."""

FAST_LEASES = "[lease]\nbeat_s = 0.3\nttl_s = 2.0\ngrace_s = 0.5\nlock_delay_s = 0.3\nsettle_s = 0.2\n"
PROGRAM = str(Path(sys.executable).parent / "fabrik-node")


class Refused(AssertionError):
    """A command that did not exit with 0."""

    def __init__(self, status: int, stdout: str, stderr: str) -> None:
        super().__init__(f"exit {status}: {stderr or stdout}")
        self.status = status
        self.stdout = stdout
        self.stderr = stderr


def environment(home: Path | None = None) -> dict[str, str]:
    """Ours without anything of a node, and a HOME in which there is nothing."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("FABRIK_", "GIT_"))}
    return kept | {"NO_COLOR": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"} | ({} if home is None else {"HOME": str(home)})


def git(where: Path, *args: str) -> str:
    """Run git and give its output."""
    identity = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
    done = subprocess.run(["git", *identity, *args], cwd=where, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def make_remote(folder: Path) -> Path:
    """A bare remote whose base branch ``main`` has one commit."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "--bare", "-b", "main", "remote.git")
    git(folder, "init", "-q", "-b", "main", "seed")
    (folder / "seed" / "README").write_text("a program\n")
    git(folder / "seed", "add", ".")
    git(folder / "seed", "commit", "-q", "-m", "begin")
    git(folder / "seed", "push", "-q", str(folder / "remote.git"), "main")
    return folder / "remote.git"


@dataclass(frozen=True, slots=True)
class Build:
    """A version of the product that can be run. ``listen``: the plain WebSocket on a free port of loopback, as this version writes it."""

    program: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    listen: str = "ws://127.0.0.1:0"


THIS_BUILD = Build((PROGRAM,))


class NodeProcess:
    """One home and, while it runs, its process."""

    def __init__(self, home: Path, name: str, build: Build | None = None) -> None:
        self.home = home
        self.name = name
        self.build = build or THIS_BUILD
        self.process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader: threading.Thread | None = None
        self.stderr: list[str] = []
        self.url = ""

    # ---- command line -----------------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        """What its processes get."""
        return environment() | dict(self.build.environment)

    def run(self, *args: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """One command on this home, whatever its exit status."""
        return subprocess.run(
            [*self.build.program, "--home", str(self.home), *args],
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
            input=stdin,
            timeout=BOUND_S,
        )

    def ask(self, *args: str) -> Any:
        """One command with ``--json`` that must succeed; its data."""
        done = self.run(*args, "--json")
        if done.returncode != 0:
            raise Refused(done.returncode, done.stdout, done.stderr)
        return json.loads(done.stdout)

    def add(self, title: str, *args: str) -> str:
        """A new item; its id."""
        return str(self.ask("items", "add", title, *args)["item"]["id"])

    def stage(self, item: str) -> str:
        """Where an item is."""
        return str(self.ask("items", "show", item)["item"]["stage"])

    def digest(self) -> str:
        """The state digest, over the socket: it is asked often."""
        return str(self.call("status")["state_digest"])

    def call(self, op: str, **args: Any) -> Any:
        """One question over the running node's socket, without the price of a process."""
        owner = dict(line.split("=", 1) for line in (self.home / "owner.lock").read_text().splitlines())
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(BOUND_S)
            link.connect(owner["socket"])
            link.sendall(json.dumps({"v": 1, "op": op, "args": args}).encode() + b"\n")
            with link.makefile() as lines:
                answer = json.loads(lines.readline())
        assert answer["ok"], answer
        return answer["data"]

    # ---- life -------------------------------------------------------------------------------------

    def start(self, *args: str, env: Mapping[str, str] | None = None) -> NodeProcess:
        """``serve`` (or the given arguments) until it says that it is up."""
        command = args if args and args[0] in ("serve", "--rendezvous") else ("serve", *args)
        self.launch(*command, env=env)
        self.await_line("is up")
        return self

    def launch(self, *args: str, env: Mapping[str, str] | None = None) -> None:
        """Start without waiting."""
        assert self.process is None or self.process.poll() is not None, "it runs already"
        self._lines = queue.Queue()
        self.process = subprocess.Popen(
            [*self.build.program, "--home", str(self.home), *args],
            env=self.environment() | dict(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self.process, self._lines), daemon=True)
        self._reader.start()

    def await_line(self, text: str) -> str:
        """The first stderr line with this text."""
        while True:
            try:
                line = self._lines.get(timeout=BOUND_S)
            except queue.Empty:
                raise AssertionError(f"{self.name} said nothing with {text!r} for {BOUND_S} s: {self.stderr}") from None
            if line is None:
                raise AssertionError(f"{self.name} ended before it said {text!r}: {self.stderr}")
            if "listens on " in line:
                self.url = line.rsplit("listens on ", 1)[1].strip()
            if text in line:
                return line

    def send(self, number: int) -> None:
        """To the node's process alone."""
        assert self.process is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """SIGKILL, and gone."""
        assert self.process is not None
        self.send(signal.SIGKILL)
        self.process.wait(BOUND_S)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """A signal, then the exit status; ``stderr`` has all that it said."""
        assert self.process is not None
        assert self._reader is not None
        self.send(number)
        status = self.process.wait(BOUND_S)
        self._reader.join(5.0)  # unless a process that it left holds its stderr
        return status

    @property
    def runs(self) -> bool:
        """The process is there."""
        return self.process is not None and self.process.poll() is None

    def _read(self, process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
        assert process.stderr is not None
        with process.stderr as stream:
            for line in stream:
                self.stderr.append(line.rstrip())
                lines.put(line.rstrip())
        lines.put(None)

    # ---- waiting ----------------------------------------------------------------------------------

    def events(self, after: int = 0) -> list[dict[str, Any]]:
        """What there is of the stream now."""
        done = self.run("events", "--after", str(after), "--json")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def follow(self, after: int = 0) -> Iterator[dict[str, Any]]:
        """The stream for ever; the test fails when nothing comes for the bound."""
        process = subprocess.Popen(
            [*self.build.program, "--home", str(self.home), "events", "--after", str(after), "--follow", "--json"],
            env=self.environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        watchdog = threading.Timer(BOUND_S, process.kill)
        watchdog.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                yield json.loads(line)
            raise AssertionError(f"{self.name}: the expected event did not come within {BOUND_S} s")
        finally:
            watchdog.cancel()
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def await_event(self, kind: str, after: int = 0, **wanted: Any) -> dict[str, Any]:
        """The first event of this type with these values."""
        stream = self.follow(after)
        try:
            return next(event for event in stream if event["type"] == kind and all(event.get(key) == value for key, value in wanted.items()))
        finally:
            stream.close()  # type: ignore[attr-defined]  # a generator

    def await_stage(self, item: str, stage: str) -> None:
        """Until the item is there."""
        self.await_true(lambda: self.stage(item) == stage, f"item {item} in {stage}")

    def await_merged(self, item: str) -> None:
        """Until the item is Done and its run has had its last word here, too: outcome, end of the claim and end of the run come after the stage, one by one."""

        def merged() -> bool:
            shown = self.call("items.show", id=item)
            return shown["item"]["stage"] == "Done" and shown["item"]["claim"] is None and any(run["state"] == "completed" for run in shown["runs"])

        self.await_true(merged, f"item {item} in Done, and the end of its run")

    def listed_run(self, *args: str) -> dict[str, Any]:
        """The run that this node lists, as soon as it does: one of another node takes a moment to come."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            found[:] = self.ask("runs", "list", *args)["runs"]
            return bool(found)

        self.await_true(look, "a run")
        (run,) = found
        return run

    def await_true(self, question: Callable[[], bool], what: str) -> None:
        """Ask again after each event of the node, and at a modest pace, until it is true."""
        deadline = time.monotonic() + BOUND_S
        pause = threading.Event()
        while not question():
            assert time.monotonic() < deadline, f"{self.name}: not within {BOUND_S} s: {what}; stderr: {self.stderr[-5:]}"
            pause.wait(0.05)


class Fleet:
    """All nodes of a test; ends every process that it started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes: list[NodeProcess] = []

    def host(self, *args: str, config: str = FAST_LEASES, listen: str = "127.0.0.1:0") -> NodeProcess:
        """A node with a mesh of its own, serving and listening."""
        node = self.new("host", config)
        node.ask("init", "--name", "host", "--mesh", "test")
        return node.start("serve", "--listen", listen, *args)

    def new(self, name: str, config: str = FAST_LEASES, build: Build | None = None) -> NodeProcess:
        """An empty home with a configuration."""
        node = NodeProcess(self.folder / name, name, build)
        node.home.mkdir(parents=True)
        (node.home / "config.toml").write_text(config)
        self.nodes.append(node)
        return node

    def token(self, host: NodeProcess, role: str = "peer") -> str:
        """An invitation."""
        return str(host.ask("invite", "--role", role)["token"])

    def member(self, host: NodeProcess, name: str, *args: str, config: str = FAST_LEASES) -> NodeProcess:
        """A node that joined through ``host`` and serves."""
        node = self.new(name, config)
        node.ask("join", self.token(host), "--name", name)
        return node.start("serve", *args)

    def agent(self, host: NodeProcess, name: str, *args: str, config: str = FAST_LEASES, env: Mapping[str, str] | None = None) -> NodeProcess:
        """A build agent by ``--rendezvous`` on a fresh home."""
        node = self.new(name, config)
        return node.start("--rendezvous", self.token(host, "agent"), "--name", name, *args, env=env)

    def await_equal(self, nodes: Sequence[NodeProcess]) -> str:
        """Until all print one state digest; that digest."""
        nodes[0].await_true(lambda: len({node.digest() for node in nodes}) == 1, "equal state digests")
        return nodes[0].digest()

    def end(self) -> None:
        """Kill what still runs."""
        for node in self.nodes:
            if node.runs:
                node.kill()
