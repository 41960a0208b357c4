"""Reading beside a writer: nobody waits for anybody, and a reader without a node sees the same."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import tempfile
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from store_doubles import HandClock, fake_chained

from fabrik_node.domain.runs import RunRow, RunState
from fabrik_node.errors import StoreFailed
from fabrik_node.ports import Event, OpReads, OpStore, PeerAddress
from fabrik_node.store.migrations import known_migrations
from fabrik_node.store.readonly import open_readonly
from fabrik_node.store.sqlite import SqliteStore

MESH = bytes(range(32))
Opener = Callable[..., Awaitable[SqliteStore]]


def _the_ports(store: SqliteStore, reads: OpReads) -> tuple[OpStore, OpReads]:
    """Checked by mypy."""
    return store, reads


async def test_reads_are_answered_in_the_middle_of_a_write(reopen: Opener) -> None:
    within, go_on = threading.Event(), threading.Event()
    armed = False

    def faults(point: str) -> None:
        if armed and point == "before_commit":
            within.set()
            assert go_on.wait(30)

    store = await reopen(faults=faults)
    await store.append([fake_chained(1, 1)])
    armed = True
    writing = asyncio.create_task(store.append([fake_chained(1, 2)]))
    assert await asyncio.to_thread(within.wait, 30)
    assert [row.first_seq for row in await store.read(b"\x01" * 32, 1, 0, 1000)] == [1]
    async with await open_readonly(store.path) as other:
        assert [row.first_seq for row in await other.read(b"\x01" * 32, 1, 0, 1000)] == [1]
        go_on.set()
        assert await writing == 2
        assert [row.first_seq for row in await other.read(b"\x01" * 32, 1, 0, 1000)] == [1, 2]
    assert [row.first_seq for row in await store.read(b"\x01" * 32, 1, 0, 1000)] == [1, 2]


async def test_rows_stored_during_a_load_come_at_its_end(reopen: Opener) -> None:
    store = await reopen()
    await store.append([fake_chained(1, n) for n in range(1, 6)])
    seen: list[int] = []
    async for batch in store.load(batch_bytes=1):
        seen += [row.pos for row in batch]
        if len(seen) == 2:
            await store.append([fake_chained(1, 6)])
    assert seen == [1, 2, 3, 4, 5, 6]


async def test_a_reader_without_a_node_sees_everything(reopen: Opener, clock: HandClock) -> None:
    store = await reopen()
    await store.append([fake_chained(1, 1)])
    await store.append_events([Event("a", 1, {"x": 1})], 1)
    await store.put_peer(PeerAddress("ws://a"))
    await store.put_run(RunRow(b"r" * 16, b"i" * 16, b"c" * 16, b"n" * 32, "agent", RunState.RUNNING, "coding", 1000))
    for _ in range(2):  # beside the node, and after its clean end
        async with await open_readonly(store.path, mesh_id=MESH) as other:
            assert [row.data async for batch in other.load() for row in batch] == [b"1/1:1-1"]
            assert await other.last_op_ms() == clock.wall_ms()
            assert [event.type for event in await other.events(0, 5)] == ["a"]
            assert await other.events_upto() == (1, 1)
            assert await other.peers() == [PeerAddress("ws://a")]
            assert [row.state for row in await other.runs()] == [RunState.RUNNING]
            assert await other.get_meta("mesh_id") == MESH
            stats = await other.stats()
            assert (stats["ops"], stats["events"], stats["schema"]) == (1, 1, len(known_migrations()))
            assert await other.integrity_check() == []
            with pytest.raises(StoreFailed, match="readonly"):
                await other._read("writing", lambda connection: connection.execute("UPDATE counters SET value = 9"))
        await store.close()
    again = await reopen()
    assert await again.append([fake_chained(1, 2)]) == 2, "the reader's leftovers are in nobody's way"


async def test_a_reader_needs_no_right_to_write(clock: HandClock) -> None:
    """As another user when this one is the superuser, who may write everywhere."""
    with tempfile.TemporaryDirectory() as folder:
        db = Path(folder) / "fabrik.db"
        async with await SqliteStore.open(db, clock, mesh_id=MESH, create_missing=True) as store:
            await store.append([fake_chained(1, 1)])
        db.chmod(0o444)
        db.parent.chmod(0o555)
        me = os.geteuid()
        if me == 0:
            os.seteuid(65534)
        try:
            with pytest.raises(PermissionError):
                (db.parent / "x").touch()
            async with await open_readonly(db) as other:
                assert [row.pos async for batch in other.load() for row in batch] == [1]
        finally:
            os.seteuid(me)
            db.parent.chmod(0o755)


async def test_the_files_are_private_and_marked(reopen: Opener, db: Path) -> None:
    store = await reopen()
    await store.append([fake_chained(1, 1)])
    assert {stat.S_IMODE(path.stat().st_mode) for path in db.parent.iterdir()} == {0o600}
    await store.close()
    assert [path.name for path in db.parent.iterdir()] == ["fabrik.db"], "a clean end leaves one file"
    header = db.read_bytes()[:100]
    assert header[68:72] == b"FabN"
    assert int.from_bytes(header[60:64], "big") == len(known_migrations())


async def test_the_writer_is_durable(reopen: Opener) -> None:
    store = await reopen()

    def pragmas(connection: sqlite3.Connection) -> dict[str, object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        return {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names}

    assert await store._writer.run(pragmas) == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}


async def test_bytes_on_disk_per_op_in_bulk(reopen: Opener, db: Path) -> None:
    """``bytes.disk``: what the store adds to segments of 1,000 ops of 150 bytes."""
    store = await reopen()
    data = os.urandom(150_000)
    for n in range(20):
        await store.append([fake_chained(1, n * 1000 + 1, n * 1000 + 1000, data=data)])
    await store.close()
    assert db.stat().st_size - 20 * len(data) < 20_000 * 10
