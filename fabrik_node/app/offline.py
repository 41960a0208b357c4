"""Reads with no node running: straight from the store, dated by its last change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from fabrik_node import __version__
from fabrik_node._core import Replica
from fabrik_node.app.left_runs import left_in
from fabrik_node.app.opening import Mesh, load_mesh
from fabrik_node.clock import SystemClock
from fabrik_node.config import load_config, shown_config
from fabrik_node.errors import BadConfig, NoNode
from fabrik_node.node.loading import load
from fabrik_node.paths import HomePaths
from fabrik_node.service.approvals import Approvals
from fabrik_node.service.callers import OPERATOR
from fabrik_node.service.checking import check_unserved
from fabrik_node.service.conflicts import Conflicts
from fabrik_node.service.dumping import Dump
from fabrik_node.service.explaining import Explaining
from fabrik_node.service.following import event_json, run_log
from fabrik_node.service.incomplete import Incomplete
from fabrik_node.service.reading import Reader
from fabrik_node.service.steps import StepReads
from fabrik_node.service.whoami import WhoAmI
from fabrik_node.store.readonly import ReadonlyStore, open_readonly
from fabrik_node.store.snapshot_file import SnapshotFile

__all__ = ["OfflineReader"]

_START = "fabrik-node serve"
_ALL = 2**63 - 1
"""Events are nothing to a reader: it takes every row as told."""


class OfflineReader:
    """One call, one look at the store; nothing is kept open and nothing is written."""

    def __init__(self, home: Path) -> None:
        self._paths = HomePaths(home)

    def call(self, op: str, args: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a read. Raises :class:`NoNode` for anything that needs a running node."""
        return asyncio.run(self._call(op, args))

    def stream(self, op: str, args: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """What is there now, then the end; read while it is taken."""
        with asyncio.Runner() as runner, closing(_Taken(runner, self._stream(op, args))) as parts:
            yield from parts

    async def _stream(self, op: str, args: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        mesh = load_mesh(self._paths)
        async with await open_readonly(self._paths.store, mesh_id=mesh.record.mesh_id) as store:
            match op:
                case "events":
                    last, _ = await store.events_upto()
                    after, limit = int(args.get("after") or 0), int(args.get("limit") or 0)
                    for event in await store.events(after, limit or max(1, last - after)):
                        yield event_json(event)
                case "runs.logs":
                    reader = await self._reader(mesh, store)
                    async for part in run_log(reader, mesh.key.public, {**args, "follow": False}):
                        yield part
                case "db.dump":
                    reader = await self._reader(mesh, store)
                    dump = Dump(reader, store, self._config, reader.operations["status"], None)
                    async for record in dump.stream(args):
                        yield record
                case _:
                    raise NoNode(f"no node is running on {self._paths.home}", _START)

    def _config(self) -> Mapping[str, Any]:
        try:
            return shown_config(load_config(self._paths.config))
        except BadConfig as error:
            return {"refused": str(error)}

    def _git(self) -> Mapping[str, Any]:
        said = self._config().get("git") or {}
        return {"remote": said.get("remote") or None, "base": said.get("base") or "main"}

    async def _call(self, op: str, args: Mapping[str, Any]) -> dict[str, Any]:
        mesh = load_mesh(self._paths)
        async with await open_readonly(self._paths.store, mesh_id=mesh.record.mesh_id) as store:
            if op == "ops.check":  # it is about what the others refuse to read
                replica, seen = await check_unserved(mesh.genesis, store)
                return await (await self._around(mesh, store, replica)).checking.report(seen)
            reader = await self._reader(mesh, store)
            if op == "whoami":
                return await WhoAmI(reader, str(self._paths.home), self._git).whoami(args, OPERATOR)
            sources = (
                reader,
                Explaining(reader),
                Conflicts(reader),
                Incomplete(reader, lambda: left_in(self._paths, store)),
                Approvals(reader),
                StepReads(reader),
            )
            operation = next((each.operations[op] for each in sources if op in each.operations), None)
            if operation is None:
                raise NoNode(f"no node is running on {self._paths.home}", _START)
            answer = await operation(args)
            return answer | {"home": str(self._paths.home), "version": __version__} if op == "status" else answer

    async def _reader(self, mesh: Mesh, store: ReadonlyStore) -> Reader:
        loaded = await load(mesh.genesis, store, SnapshotFile(self._paths.snapshot), _ALL)
        return await self._around(mesh, store, loaded.replica)

    @staticmethod
    async def _around(mesh: Mesh, store: ReadonlyStore, replica: Replica) -> Reader:
        return Reader(
            replica=replica,
            genesis=mesh.record,
            store=store,
            clock=SystemClock(),
            own=mesh.key.public,
            source="store",
            as_of_ms=await store.last_op_ms(),
        )


class _Taken:
    """An asynchronous stream for callers that know no event loop."""

    def __init__(self, runner: asyncio.Runner, parts: AsyncGenerator[dict[str, Any]]) -> None:
        self._runner = runner
        self._parts = parts

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self

    def __next__(self) -> dict[str, Any]:
        part = self._runner.run(anext(self._parts, None))
        if part is None:
            raise StopIteration
        return part

    def close(self) -> None:
        """Leave the stream, and let it close what it opened."""
        self._runner.run(self._parts.aclose())
