"""When the disk fails: the caller gets an error, nothing half done is seen, and there is no second try in place."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from store_children import CHILD, child_environment
from store_doubles import HandClock, fake_chained

from fabrik_node.errors import FabrikError, Internal, StoreFailed, StoreFull
from fabrik_node.ports import Event
from fabrik_node.store.migrations import Migration, known_migrations
from fabrik_node.store.sqlite import SqliteStore

MESH = bytes(range(32))
Opener = Callable[..., Awaitable[SqliteStore]]


class Faults:
    """Raises ``error`` at ``point`` once armed."""

    def __init__(self) -> None:
        self.point = ""
        self.error: BaseException = AssertionError()
        self.seen: list[str] = []

    def arm(self, point: str, error: BaseException) -> None:
        self.point, self.error = point, error

    def __call__(self, point: str) -> None:
        self.seen.append(point)
        if point == self.point:
            raise self.error


def sqlite_error(code: int, name: str, text: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    error.sqlite_errorname = name
    return error


async def firsts(store: SqliteStore) -> list[int]:
    return [row.first_seq async for batch in store.load() for row in batch]


@pytest.mark.promise("E13")
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (sqlite_error(sqlite3.SQLITE_IOERR_FSYNC, "SQLITE_IOERR_FSYNC", "disk I/O error"), r"disk I/O error \(SQLITE_IOERR_FSYNC\)"),
        (sqlite_error(sqlite3.SQLITE_IOERR_SHMSIZE, "SQLITE_IOERR_SHMSIZE", "disk I/O error"), r"disk I/O error \(SQLITE_IOERR_SHMSIZE\)"),
        (sqlite_error(sqlite3.SQLITE_CORRUPT, "SQLITE_CORRUPT", "database disk image is malformed"), "is damaged"),
        (OSError(5, "Input/output error"), "Input/output error"),
    ],
)
async def test_a_failed_transaction_is_an_error_and_ends_all_writing(reopen: Opener, error: BaseException, words: str) -> None:
    faults = Faults()
    store = await reopen(faults=faults)
    await store.append([fake_chained(1, 1)])
    faults.arm("before_commit", error)
    with pytest.raises(StoreFailed, match=words) as first:
        await store.append([fake_chained(1, 2)])
    assert store.failure is first.value
    faults.arm("", error)
    for write in (store.append([fake_chained(1, 2)]), store.append_events([Event("a", 1)], 0), store.next_start(), store.set_meta("k", b"v")):
        with pytest.raises(StoreFailed, match="the store failed before") as later:
            await write
        assert later.value.hint == first.value.hint
    assert await firsts(store) == [1], "what was acknowledged can still be read"
    await store.close()
    again = await reopen()
    assert await firsts(again) == [1]
    assert await again.append([fake_chained(1, 2)]) == 2


async def test_a_failure_after_the_commit_is_not_acknowledged_but_kept(reopen: Opener) -> None:
    faults = Faults()
    store = await reopen(faults=faults)
    faults.arm("after_commit", sqlite_error(sqlite3.SQLITE_BUSY, "SQLITE_BUSY", "database is locked"))
    with pytest.raises(StoreFailed):
        await store.append([fake_chained(1, 1)])
    assert store.failure is not None, "the caller believes that it is not stored: nothing may follow on that belief"
    with pytest.raises(StoreFailed):
        await store.append([fake_chained(1, 1)])
    await store.close()
    assert await firsts(await reopen()) == [1]


async def test_writes_that_wait_behind_a_failed_one_fail_too(reopen: Opener) -> None:
    faults = Faults()
    store = await reopen(faults=faults)
    faults.arm("before_commit", OSError(5, "Input/output error"))
    outcomes = await asyncio.gather(*(store.append([fake_chained(log, 1)]) for log in range(1, 6)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StoreFailed] * 5
    assert faults.seen.count("before_commit") == 1
    assert await firsts(store) == []


async def test_a_cancelled_caller_leaves_whole_transactions(reopen: Opener) -> None:
    store = await reopen()
    tasks = [asyncio.create_task(store.append([fake_chained(log, 1), fake_chained(log, 2)])) for log in range(1, 20)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await store.append([fake_chained(99, 1)]) % 2 == 1
    rows = [row async for batch in store.load() for row in batch]
    assert all(sum(row.author == other.author for other in rows) == 2 for row in rows if row.author[0] != 99)


async def test_a_cancelled_caller_hides_no_failure(reopen: Opener) -> None:
    faults = Faults()
    store = await reopen(faults=faults)
    faults.arm("before_commit", OSError(5, "Input/output error"))
    task = asyncio.create_task(store.append([fake_chained(1, 1)]))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(StoreFailed, match="the store failed before"):
        await store.append([fake_chained(1, 1)])


@pytest.mark.promise("E13", "I7")
async def test_a_full_disk_is_named_makes_the_store_read_only_and_passes(reopen: Opener) -> None:
    """SQLite's own SQLITE_FULL, from a limit on the file."""
    store = await reopen(bytes_max=400_000)
    stored = 0
    with pytest.raises(StoreFailed, match=r"the disk is full: storing 1 segments failed: .*\(SQLITE_FULL\)") as caught:
        while True:
            await store.append([fake_chained(1, stored + 1, data=b"x" * 50_000)])
            stored += 1
    assert "free space" in caught.value.hint
    assert await firsts(store) == list(range(1, stored + 1))
    assert stored > 2
    for write in (store.append([fake_chained(1, stored + 1)]), store.set_meta("small", b""), store.next_start()):
        with pytest.raises(StoreFull, match="no space was seen since"):
            await write
    assert store.failure is None
    assert not await store.try_again()
    assert await firsts(store) == list(range(1, stored + 1)), "reads go on"
    await store._writer.run(lambda connection: connection.execute("PRAGMA max_page_count = 1000000"))
    assert await store.try_again()
    assert store.full is None
    assert await store.append([fake_chained(1, stored + 1)]) == stored + 1
    assert await store.get_meta("probe") is None
    stored += 1
    await store.close()
    again = await reopen()
    assert await again.append([fake_chained(1, stored + 1)]) == stored + 1


@pytest.mark.promise("E13")
async def test_a_write_that_the_kernel_refuses_is_an_error(db: Path, reopen: Opener) -> None:
    """A real failing write(2): the process may not make files any larger."""
    child = subprocess.run([sys.executable, str(CHILD), "grow", str(db)], env=child_environment(), capture_output=True, text=True, timeout=60, check=False)
    first, second = child.stdout.splitlines()
    stored = int(first.split()[0])
    assert "IOERR" in first or "SQLITE_FULL" in first
    assert "the store failed before" in second
    assert stored > 2
    assert await firsts(await reopen()) == list(range(1, stored + 1))


async def test_a_database_locked_by_another_process_is_named_and_not_final(reopen: Opener, db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fabrik_node.store.connection.BUSY_TIMEOUT_MS", 50)
    store = await reopen()
    other = sqlite3.connect(db, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreFailed, match="locked by another process"):
        await store.append([fake_chained(1, 1)])
    other.execute("ROLLBACK")
    other.close()
    assert store.failure is None
    assert await store.append([fake_chained(1, 1)]) == 1


async def test_two_writers_on_one_database_can_not_write_one_place_twice(reopen: Opener) -> None:
    """Nobody should get here past the owner lock; if somebody does, the database refuses."""
    one, other = await reopen(), await reopen()
    await one.append([fake_chained(1, 1)])
    with pytest.raises(StoreFailed, match="starts at op 1, but the store goes on at op 2"):
        await other.append([fake_chained(1, 1)])
    assert await other.append([fake_chained(1, 2)]) == 2


async def test_what_has_no_place_in_the_database_is_our_bug_and_not_its_end(reopen: Opener) -> None:
    store = await reopen()
    for data in ({"x": b"bytes"}, {"x": float("nan")}, {"seq": 1}):
        with pytest.raises(Internal):
            await store.append_events([Event("a", 1, data)], 0)
    with pytest.raises(Internal, match="no place"):
        await store.append_events([Event("a", 2**70)], 0)
    assert [event.seq for event in await store.append_events([Event("half \udcff", 1, {"path": "caf\udce9"})], 0)] == [1]
    assert (await store.events(0, 1))[0].data == {"path": "caf\udce9"}
    with pytest.raises(Internal, match="stays with its mesh"):
        await store.set_meta("mesh_id", b"\xff" * 32)


@pytest.mark.parametrize("point", ["before_migration_commit", "before_rename"])
async def test_an_interrupted_creation_leaves_no_database(db: Path, clock: HandClock, reopen: Opener, point: str) -> None:
    faults = Faults()
    faults.arm(point, OSError(5, "Input/output error"))
    with pytest.raises(StoreFailed, match="creating"):
        await SqliteStore.open(db, clock, mesh_id=MESH, create_missing=True, faults=faults)
    assert not db.exists()
    assert await firsts(await reopen()) == []
    assert [path.name for path in db.parent.iterdir() if ".new" in path.name] == []


KNOWN = len(known_migrations())
MORE = (
    *known_migrations(),
    Migration(KNOWN + 1, "more", "CREATE TABLE more (x INTEGER) STRICT;\n-- a comment; with a semicolon\nINSERT INTO more VALUES (1);"),
    Migration(KNOWN + 2, "most", "CREATE TRIGGER t AFTER INSERT ON more BEGIN\n  SELECT 1;\n  SELECT 2;\nEND;\nINSERT INTO more VALUES (2);"),
)


@pytest.mark.parametrize("fail_at", [1, 2])
async def test_an_interrupted_migration_is_run_again_at_the_next_start(db: Path, clock: HandClock, reopen: Opener, fail_at: int) -> None:
    store = await reopen()
    assert store.schema == len(known_migrations())
    await store.append([fake_chained(1, 1)])
    await store.close()
    commits: list[str] = []

    def faults(point: str) -> None:
        if point == "before_migration_commit":
            commits.append(point)
            if len(commits) == fail_at:
                raise OSError(28, "No space left on device")

    with pytest.raises(FabrikError, match="bringing .* up to date failed: No space left on device"):
        await SqliteStore.open(db, clock, mesh_id=MESH, migrations=MORE, faults=faults)
    again = await reopen(migrations=MORE)
    assert [migration.number for migration in again.migrated] == list(range(KNOWN + fail_at, KNOWN + 3))
    assert again.schema == KNOWN + 2
    assert await firsts(again) == [1]
    await again.close()
    third = await reopen(migrations=MORE)
    assert third.migrated == ()
    raw = sqlite3.connect(db)
    assert raw.execute("SELECT x FROM more").fetchall() == [(1,), (2,)]
    assert raw.execute("SELECT number, name FROM migrations").fetchall() == [
        (1, "first"),
        (2, "branches"),
        (KNOWN + 1, "more"),
        (KNOWN + 2, "most"),
    ]
    raw.close()
