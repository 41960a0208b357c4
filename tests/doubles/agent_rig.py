"""A whole agent over doubles: real commands in real processes, everything else in memory. And ways to wait for processes without sleeping."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from memory_pipeline import FAILURE_BOUND_S, MemoryPipeline, MemoryWorld
from memory_workspaces import MemoryRemote, MemoryWorkspaces

from fabrik_node.agent.cgroup import RunGroup
from fabrik_node.agent.child import Child, ChildExit, RunLog
from fabrik_node.agent.halt import HaltSwitch
from fabrik_node.agent.isolation import Isolation, isolation_of, trial
from fabrik_node.agent.loop import ClaimLoop
from fabrik_node.agent.members import run_tag
from fabrik_node.agent.setup import AgentSetup
from fabrik_node.clock import Clock, SystemClock
from fabrik_node.config import AgentConfig, GitConfig
from fabrik_node.domain.leases import LeaseTiming
from fabrik_node.domain.runs import RunRow
from fabrik_node.output_log import left_out_line, read_log
from fabrik_node.paths import HomePaths

__all__ = ["DAEMON", "AgentRig", "Gate", "ended", "finish_child", "has_ended", "needs_isolation", "start_child"]

DAEMON = """
import os, signal, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with open(sys.argv[1], "w") as gate:
            gate.write(f"{os.getpid()}\\n")
        while True:
            signal.pause()
    os._exit(0)
"""
"""A program that goes away to a session of its own, ignores SIGTERM, writes its pid to the gate in its argument and stays for ever."""


class Gate:
    """A FIFO in which a command says that it got somewhere: ``echo $$ > gate.path``."""

    def __init__(self, folder: Path, name: str = "gate") -> None:
        self.path = folder / name
        os.mkfifo(self.path)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)
        self._lines: list[str] = []

    async def line(self) -> str:
        """The next line that a command wrote."""
        loop = asyncio.get_running_loop()
        while not self._lines:
            ready = asyncio.Event()
            loop.add_reader(self._descriptor, ready.set)
            try:
                await asyncio.wait_for(ready.wait(), FAILURE_BOUND_S)
            finally:
                loop.remove_reader(self._descriptor)
            self._lines += os.read(self._descriptor, 4096).decode().splitlines()
        return self._lines.pop(0)

    async def process(self) -> int:
        """A pidfd of the process whose pid the next line is."""
        return os.pidfd_open(int(await self.line()))

    def close(self) -> None:
        os.close(self._descriptor)


def needs_isolation(folder: Path) -> None:
    """Skip the test where the kernel does not let this process isolate a command."""
    if problem := trial(Isolation(on=True, paths=HomePaths(folder), network=False)):
        pytest.skip(problem)


async def ended(pidfd: int) -> None:
    """Until the process has ended (reaped or not). Closes the descriptor."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_reader(pidfd, over.set)
    try:
        await asyncio.wait_for(over.wait(), FAILURE_BOUND_S)
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)


def has_ended(pidfd: int) -> bool:
    """Whether the process has ended by now."""
    import select

    return bool(select.select([pidfd], [], [], 0)[0])


@dataclass
class AgentRig:
    """``loop(...)`` makes an agent; keyword arguments are settings of ``[agent]``."""

    folder: Path
    world: MemoryWorld = field(default_factory=MemoryWorld)
    clock: Clock = field(default_factory=SystemClock)
    timing: LeaseTiming = field(default_factory=lambda: LeaseTiming(beat_s=0.05, ttl_s=90.0, settle_s=0.0))
    remote: MemoryRemote = field(default_factory=MemoryRemote)
    gates: list[Gate] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pipeline = MemoryPipeline(self.world, clock=self.clock)
        self.workspaces = MemoryWorkspaces(self.folder / "work", self.remote)
        self.paths = HomePaths(self.folder / "home")
        self.saved_halt = b""

    def gate(self, name: str = "gate") -> Gate:
        self.gates.append(Gate(self.folder, name))
        return self.gates[-1]

    def script(self, name: str, text: str) -> str:
        """A Python program; the command line that starts it."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return f"{sys.executable} -I -S {path}"

    def setup(self, pipeline: MemoryPipeline | None = None, **config: Any) -> AgentSetup:
        settings: dict[str, Any] = {"command": "touch commit-1", "kill_grace_s": 5.0, "backoff_s": 0.0} | config
        git = GitConfig(author_name="Rig", author_email="rig@example.invalid")
        agent = AgentConfig(**settings)
        isolation = isolation_of(agent, self.paths)
        return AgentSetup(pipeline or self.pipeline, self.workspaces, agent, git, self.timing, self.clock, self.paths, self.halts(), isolation=isolation)

    def halts(self) -> HaltSwitch:
        """As the next start of the node finds it."""

        async def save(said: bytes) -> None:
            self.saved_halt = said

        return HaltSwitch(self.saved_halt, save)

    def loop(self, pipeline: MemoryPipeline | None = None, *, setup: AgentSetup | None = None, **config: Any) -> ClaimLoop:
        return ClaimLoop(setup or self.setup(pipeline, **config), random.Random(7))

    @asynccontextmanager
    async def agent(self, pipeline: MemoryPipeline | None = None, *, setup: AgentSetup | None = None, **config: Any) -> AsyncIterator[ClaimLoop]:
        """An agent at work; stopped at the end. ``setup``: a ready one, in place of settings."""
        loop = self.loop(pipeline, setup=setup, **config)
        task = asyncio.create_task(loop.run())
        try:
            yield loop
        finally:
            await loop.stop()
            await asyncio.wait_for(task, FAILURE_BOUND_S)

    async def work(self, item: bytes, finishes: int = 1, **config: Any) -> RunRow:
        """Let an agent work until ``item`` was finished so often; the last run's row as the agent left it."""
        async with self.agent(**config) as loop:
            await self.world.until(lambda: len([finish for finish in self.world.finishes if finish.item == item]) >= finishes)
            await asyncio.wait_for(loop.drain(), FAILURE_BOUND_S)
        return self.pipeline.last_rows()[-1]

    def log(self, row: RunRow) -> str:
        """As ``runs logs`` shows it."""
        text, offset = b"", 0
        while (chunk := read_log(Path(row.log), offset, 65_536)).data:
            text += (left_out_line(chunk.left_out).encode() if chunk.left_out else b"") + chunk.data
            offset = chunk.at + len(chunk.data)
        return text.decode()

    def close(self) -> None:
        for gate in self.gates:
            gate.close()


async def start_child(
    rig: AgentRig, command: str, gate: Gate, *, run: str, marked: bool = True, grace_s: float = 0.1, group: RunGroup | None = None, plan: Sequence[str] = ()
) -> Child:
    """A command of the shell under a shim of its own, with ``GATE`` in its environment; ``marked``: and the run's name, by which its processes are found."""
    log = RunLog(os.open(rig.folder / "log", os.O_WRONLY | os.O_CREAT), rig.folder / "log")
    found = {"PATH": os.environ["PATH"], "GATE": str(gate.path)} | ({"FABRIK_RUN": run} if marked else {})
    try:
        shell = ["/bin/sh", "-c", command]
        return await Child.start(shell, cwd=rig.folder, env=found, log=log, room=4096, grace_s=grace_s, tag=run_tag(run), group=group, plan=plan)
    finally:
        os.close(log.descriptor)


async def finish_child(child: Child) -> ChildExit:
    """How it ended; the child is closed."""
    try:
        return await asyncio.wait_for(child.wait(), FAILURE_BOUND_S)
    finally:
        await child.close()
