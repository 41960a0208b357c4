"""Reads with no node running: straight from the store, dated by its last change."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fabrik_node._core import Replica
from fabrik_node.app.opening import load_mesh
from fabrik_node.clock import SystemClock
from fabrik_node.errors import NoNode
from fabrik_node.paths import HomePaths
from fabrik_node.service.reading import Reader
from fabrik_node.service.service import event_json
from fabrik_node.store.readonly import open_readonly

__all__ = ["OfflineReader"]

_START = "fabrik-node serve"


class OfflineReader:
    """One call, one look at the store; nothing is kept open and nothing is written."""

    def __init__(self, home: Path) -> None:
        self._paths = HomePaths(home)

    def call(self, op: str, args: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a read. Raises :class:`NoNode` for anything that needs a running node."""
        return asyncio.run(self._call(op, args))

    async def _call(self, op: str, args: Mapping[str, Any]) -> dict[str, Any]:
        mesh = load_mesh(self._paths)
        clock = SystemClock()
        async with await open_readonly(self._paths.store, mesh_id=mesh.record.mesh_id) as store:
            if op == "events":
                found = await store.events(int(args.get("after") or 0), int(args.get("limit") or 10_000))
                return {"events": [event_json(event) for event in found]}
            replica = Replica(mesh.genesis)
            async for batch in store.load():
                replica.load([row.data for row in batch])
            reader = Reader(
                replica=replica, genesis=mesh.record, store=store, clock=clock, own=mesh.key.public, source="store", as_of_ms=await store.last_op_ms()
            )
            operation = reader.operations.get(op)
            if operation is None:
                raise NoNode(f"no node is running on {self._paths.home}", _START)
            return await operation(args)
