"""Real nodes for benchmarks: a home in a temporary folder, served by a process of its own, asked over its socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
from workload import append_ops, as_segments

from fabrik_node._core import Replica
from fabrik_node.app.opening import load_mesh
from fabrik_node.cli.client import Client
from fabrik_node.clock import SystemClock
from fabrik_node.domain.schema import Kind, MemberField, Role
from fabrik_node.errors import FabrikError
from fabrik_node.paths import HomePaths
from fabrik_node.store.sqlite import SqliteStore

__all__ = ["PROGRAM", "Home", "homes"]

PROGRAM = str(Path(sys.executable).with_name("fabrik-node"))
_READY_S = 120.0


class Home:
    """One node. ``log`` of the served process lies beside the home."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths = HomePaths(folder)
        self.process: subprocess.Popen[bytes] | None = None

    def cli(self, *arguments: str) -> dict[str, Any]:
        """The JSON answer of one command. Raises RuntimeError with its complaint."""
        done = subprocess.run(
            [PROGRAM, "--home", str(self.folder), "--json", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False
        )
        if done.returncode:
            raise RuntimeError(f"fabrik-node {' '.join(arguments)}: {done.stderr.strip()}")
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def serve(self, *arguments: str) -> float:
        """Start serving; the moment (``time.perf_counter``) at which the process was started."""
        with self.folder.with_suffix(".log").open("ab") as log:
            began = time.perf_counter()
            self.process = subprocess.Popen([PROGRAM, "--home", str(self.folder), *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return began

    def wait_ready(self) -> dict[str, Any]:
        """The first status that the served node gives."""
        end = time.monotonic() + _READY_S
        while time.monotonic() < end:
            if self.process is None or self.process.poll() is not None:
                raise RuntimeError(f"{self.folder} is not served: {self.folder.with_suffix('.log').read_text(encoding='utf-8')[-1000:]}")
            with contextlib.suppress(FabrikError):
                client = Client.connect(self.paths)
                if client is not None:
                    with client:
                        return client.call("status", {})
            time.sleep(0.004)
        raise RuntimeError(f"{self.folder} did not answer within {_READY_S:.0f} s")

    def ask(self, op: str, args: dict[str, Any] | None = None) -> dict[str, Any]:
        """One call of the served node."""
        client = Client.connect(self.paths)
        if client is None:
            raise RuntimeError(f"{self.folder} is not served")
        with client:
            return client.call(op, args or {})

    def cpu_s(self) -> float:
        """Processor seconds that the served node has used since its start."""
        if self.process is None:
            raise RuntimeError(f"{self.folder} is not served")
        used = psutil.Process(self.process.pid).cpu_times()
        return float(used.user + used.system)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that does not end it."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(timeout=15)
        self.process = None

    def fill(self, ops: int) -> int:
        """Put ``ops`` ops of the home's own author into its store, as full segments; the ops of the store then. The node must not be served."""
        return asyncio.run(self._fill(ops))

    def admit(self, keys: Sequence[bytes]) -> None:
        """Write member records for ``keys``; the home must be the admin's, and not be served."""
        asyncio.run(self._admit(keys))

    async def _admit(self, keys: Sequence[bytes]) -> None:
        mesh = load_mesh(self.paths)
        async with await SqliteStore.open(self.paths.store, SystemClock(), mesh_id=mesh.record.mesh_id) as store:
            replica = Replica(mesh.genesis)
            async for batch in store.load():
                replica.load([row.data for row in batch])
            epoch = next(head.epoch for head in replica.heads() if head.author == mesh.key.public)
            draft = replica.draft(mesh.key, epoch)
            await store.append([each for key in keys for each in draft.append([(Kind.MEMBER, key, MemberField.RECORD, {1: int(Role.PEER)}, None)], 0)])

    async def _fill(self, ops: int) -> int:
        mesh = load_mesh(self.paths)
        async with await SqliteStore.open(self.paths.store, SystemClock(), mesh_id=mesh.record.mesh_id) as store:
            signer, checker = Replica(mesh.genesis), Replica(mesh.genesis)
            async for batch in store.load():
                signer.load([row.data for row in batch])
                checker.load([row.data for row in batch])
            epoch = next(head.epoch for head in signer.heads() if head.author == mesh.key.public)
            pos = 0
            for segments in as_segments(append_ops(signer, mesh.key, epoch, ops)):
                chained = checker.chain(checker.verify(segments)).chained
                pos = await store.append(chained)
                checker.merge(chained)
            await store.append_events([], pos)
            return checker.ops


@contextlib.contextmanager
def homes(*names: str) -> Iterator[list[Home]]:
    """Folders for homes; all processes are ended and all files removed at the end."""
    with tempfile.TemporaryDirectory(prefix="fabrik-bench-", ignore_cleanup_errors=True) as folder:
        made = [Home(Path(folder) / name) for name in names]
        os.environ.pop("FABRIK_HOME", None)
        try:
            yield made
        finally:
            for home in made:
                home.stop()
