"""Looking into a store without owning it: answers reads while no node runs, and beside a node that does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Self

from fabrik_node.errors import StoreFailed
from fabrik_node.store.connection import connect
from fabrik_node.store.identity import look
from fabrik_node.store.migrations import known_migrations
from fabrik_node.store.reads import StoreReads

__all__ = ["ReadonlyStore", "open_readonly"]


class ReadonlyStore(StoreReads):
    """The reading methods only. Made by :func:`open_readonly`; close it after use."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def open_readonly(path: Path, *, mesh_id: bytes | None = None) -> ReadonlyStore:
    """Open for reading. Never changes the database or its write-ahead log, also after a crash: what was acknowledged is read from both.

    SQLite may leave its index files (``-shm``, an empty ``-wal``) beside the database; the next node takes them over.
    Raises what :func:`~fabrik_node.store.identity.look` raises, and :class:`StoreFailed` for a schema that the node must bring up to date first.
    """
    newest = len(known_migrations())
    version = await asyncio.to_thread(look, path, mesh_id, known_migrations())
    if version < newest:
        raise StoreFailed(
            f"{path} has schema {version}; this version reads schema {newest}", "start the node once, it upgrades the database: fabrik-node serve"
        )
    try:
        return ReadonlyStore(path, await connect(path, "ro"), version)
    except StoreFailed:
        if path.with_name(path.name + "-wal").exists():
            raise
        # A directory that can not be written to has no place for SQLite's index files. Without a log the main file is everything.
        return ReadonlyStore(path, await connect(path, "immutable"), version)
