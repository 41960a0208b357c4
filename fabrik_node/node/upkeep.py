"""What a node does for its store beside its work: packing, snapshots, looking for damage, and waiting for space on a full disk.

All of it in small steps, when nothing else wants the store for a moment; none of it is needed for an answer to be right.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fabrik_node.errors import FabrikError, StoreFull
from fabrik_node.ids import show_key
from fabrik_node.node.repair import judge
from fabrik_node.ports import Snapshots, StoredSegment

if TYPE_CHECKING:
    from fabrik_node._core import Head
    from fabrik_node.node.node import Node

__all__ = ["PROBE_S", "SNAPSHOT_OPS", "SNAPSHOT_STOP_OPS", "Upkeep"]

IDLE_S = 2.0
"""Seconds without a commit after which there is time for upkeep."""
PROBE_S = 5.0
"""Seconds between two looks at a full disk."""
SNAPSHOT_OPS = 50_000
"""New ops after which a running node writes a snapshot."""
SNAPSHOT_STOP_OPS = 2_000
"""New ops for which it is worth one at a clean stop: below, reading the rows is as fast."""
_PACK_ROWS = 512
"""Rows in one transaction of packing."""
_CHECK_BYTES = 1_048_576
"""Stored bytes that are checked at a time."""
_PAUSE_S = 0.05
_ASK_AGAIN_S = 5.0
_log = logging.getLogger("fabrik_node")


class Upkeep:
    """Call :meth:`run` as a task. Raises what makes a store unusable, as every write does: then the node stops."""

    def __init__(self, node: Node, snapshots: Snapshots | None, *, idle_s: float = IDLE_S, probe_s: float = PROBE_S) -> None:
        self._node = node
        self._snapshots = snapshots
        self.idle_s = idle_s
        self.probe_s = probe_s
        self.full: StoreFull | None = None
        """Why nothing can be written just now; None while it can."""
        self._new_ops = node.loaded.ops_beyond
        self._commits = 0
        self._moved = asyncio.Event()
        self._filled = asyncio.Event()
        self._rows = node.repair.rows

    def committed(self, ops: int) -> None:
        """A batch is durable and merged."""
        self._new_ops += ops
        self._commits += 1
        self._moved.set()

    def disk_full(self, error: StoreFull) -> None:
        """A write found no space. Reads go on; :meth:`run` looks for space and says when there is some."""
        if self.full is None:
            self.full = error
            self._node.tally.disk_full += 1
            _log.error("%s; %s", error.message, error.hint)
            self._node.tell("store.full", {"message": error.message})
        self._filled.set()

    async def run(self) -> None:
        """Until cancelled."""
        self._moved.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._probe(), name="space")
            tasks.create_task(self._tidy(), name="tidy")
            tasks.create_task(self._fetch(), name="fetch")

    async def snapshot(self) -> bool:
        """Write one if anything is new; False when it could not be written, or when the events of what it holds are not told yet."""
        if self._snapshots is None or not self._new_ops:
            return False
        counted, node = self._new_ops, self._node
        data = await asyncio.to_thread(node.replica.snapshot)
        if not await node.stream.stored(node.writer.pos):  # what a snapshot holds is told by nobody at the next start
            return False
        try:
            await asyncio.to_thread(self._snapshots.write, data)
        except (FabrikError, OSError) as error:
            _log.warning("no snapshot was written, so the next start takes longer: %s", error)
            return False
        self._new_ops -= counted
        return True

    async def last(self) -> None:
        """After :meth:`run`, before the store is closed: a snapshot, when it spares the next start something."""
        if self._new_ops >= SNAPSHOT_STOP_OPS and self.full is None:
            await self.snapshot()

    async def check_log(self, author: bytes, epoch: int, branch: int, after_seq: int, bytes_max: int = _CHECK_BYTES) -> int:
        """Look again at the rows there, and set aside what is not what was merged; how many rows that is."""
        async with self._rows:
            rows = await self._node.store.read(author, epoch, after_seq, bytes_max, branch)
            return await self._node.repair.check(author, epoch, branch, rows)

    async def recheck(self, author: bytes, epoch: int, branch: int, rows: Sequence[StoredSegment]) -> int:
        """These rows of one branch may be damaged: look again, and set aside those that are; how many. Their places may have changed meanwhile."""
        return sum([await self.check_log(author, epoch, branch, row.first_seq - 1, bytes_max=1) for row in rows])

    async def check_all(self, *, pause_s: float = 0.0) -> dict[str, Any]:
        """Every stored row against what was merged: bytes, chain and signature. What is damaged is set aside and asked for again."""
        rows = ops = size = 0
        damaged: list[dict[str, Any]] = []
        for head in self._node.replica.heads():
            after = 0 if head.base is None else head.base[1]
            while after < head.seq:
                async with self._rows:
                    found = await self._node.store.read(head.author, head.epoch, after, _CHECK_BYTES, head.branch)
                    bad = await self._node.repair.check(head.author, head.epoch, head.branch, found) if found else 0
                if not found:
                    break
                rows, ops, size = rows + len(found), ops + sum(row.last_seq - row.first_seq + 1 for row in found), size + sum(len(row.data) for row in found)
                if bad:
                    damaged.append(self._shown(head, bad))
                after = found[-1].last_seq
                await asyncio.sleep(pause_s)
        return {"rows": rows, "ops": ops, "bytes": size, "damaged": damaged}

    def _shown(self, head: Head, rows: int) -> dict[str, Any]:
        return {"author": show_key(head.author), "name": self._node.name_of(head.author), "epoch": head.epoch, "branch": head.branch, "rows": rows}

    async def _probe(self) -> None:
        node = self._node
        while True:
            await self._filled.wait()
            await asyncio.sleep(self.probe_s)
            if not await node.store.try_again():
                continue
            self._filled.clear()
            self.full = None
            _log.warning("there is space for the store again: writes are taken")
            node.stream.resume()
            node.tell("store.writable", {})
            try:
                await node.space()
            except StoreFull as error:
                self.disk_full(error)

    async def _fetch(self) -> None:
        """Have what was lost sent again: by whoever connects, and by another peer when one brings nothing."""
        repair = self._node.repair
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_ASK_AGAIN_S if repair.holes else None):
                    await self._node.peers_moved()
            repair.ask_again()

    async def _tidy(self) -> None:
        unchecked = self._node.loaded.snapshot == "used"
        while True:
            await self._moved.wait()
            self._moved.clear()
            before = self._commits
            await asyncio.sleep(self.idle_s)
            if self._new_ops >= SNAPSHOT_OPS:
                await self.snapshot()
            if self._commits != before:
                self._moved.set()
                continue
            try:
                await self._pack()
                if unchecked:  # a start from a snapshot looked at the newest rows only
                    unchecked = False
                    await self.check_all(pause_s=_PAUSE_S)
            except StoreFull as error:
                self.disk_full(error)

    async def _pack(self) -> None:
        node, bad = self._node, list[StoredSegment]()

        def check(rows: Sequence[StoredSegment]) -> Sequence[str]:
            found = judge(node.replica, rows)
            bad.extend(row for row, why in zip(rows, found, strict=True) if why)
            return found

        while not self._moved.is_set():
            async with self._rows:
                packed = await node.store.pack(_PACK_ROWS, node.public, check)
            if bad:
                for row in bad:
                    await self.recheck(row.author, row.epoch, row.branch, [row])
                bad.clear()
            elif not packed:
                return
            await asyncio.sleep(_PAUSE_S)
