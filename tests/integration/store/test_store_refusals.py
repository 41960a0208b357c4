"""A database that is not ours, not whole or too new is refused with one line, and nothing of it is changed."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from store_doubles import HandClock, fake_chained

from fabrik_node.errors import BrokenStore, ForeignStore, StoreFailed
from fabrik_node.store.migrations import Migration, known_migrations
from fabrik_node.store.readonly import open_readonly
from fabrik_node.store.sqlite import SqliteStore

MESH = bytes(range(32))


def snapshot(folder: Path) -> dict[str, str]:
    """Every file but SQLite's shared-memory index, which is no data and dies with the boot."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file() and not path.name.endswith("-shm")}


@pytest.fixture
async def filled(db: Path, clock: HandClock) -> Path:
    """A sound database of some size, closed."""
    async with await SqliteStore.open(db, clock, mesh_id=MESH, create_missing=True) as store:
        await store.append([fake_chained(1, 1 + 10 * n, 10 + 10 * n, data=bytes([n]) * 20_000) for n in range(20)])
    return db


def _change_header(path: Path, offset: int, value: bytes) -> None:
    raw = bytearray(path.read_bytes())
    raw[offset : offset + len(value)] = value
    path.write_bytes(raw)


def _truncate(path: Path, size: int) -> None:
    with path.open("rb+") as file:
        file.truncate(size)


REFUSALS: dict[str, tuple[Callable[[Path], object], type[StoreFailed], str]] = {
    "empty": (lambda path: path.write_bytes(b""), BrokenStore, "is empty"),
    "text": (lambda path: path.write_text("hello " * 50), BrokenStore, "is not a SQLite database"),
    "short": (lambda path: _truncate(path, 60), BrokenStore, "is not a SQLite database"),
    "torn in a page": (lambda path: _truncate(path, 100_001), BrokenStore, "is cut short: 100001 of at least"),
    "torn at a page": (lambda path: _truncate(path, 4096 * 20), BrokenStore, "is cut short"),
    "header only": (lambda path: _truncate(path, 100), BrokenStore, "is cut short"),
    "first page zeroed": (lambda path: _change_header(path, 100, bytes(3996)), BrokenStore, "damaged"),
    "another program": (lambda path: _change_header(path, 68, b"\x0f\x05\x51\x12"), ForeignStore, "belongs to another program"),
    "no program": (lambda path: _change_header(path, 68, bytes(4)), ForeignStore, "belongs to another program"),
    "newer version": (lambda path: _change_header(path, 60, (99).to_bytes(4, "big")), ForeignStore, "newer version"),
    "never set up": (lambda path: _change_header(path, 60, bytes(4)), BrokenStore, "never set up"),
}


@pytest.mark.parametrize("name", REFUSALS)
@pytest.mark.parametrize("readonly", [False, True])
async def test_refused_and_unchanged(filled: Path, clock: HandClock, name: str, readonly: bool) -> None:
    damage, expected, words = REFUSALS[name]
    damage(filled)
    before = snapshot(filled.parent)
    with pytest.raises(expected, match=words) as caught:
        if readonly:
            await open_readonly(filled)
        else:
            await SqliteStore.open(filled, clock, mesh_id=MESH, create_missing=True)
    assert "\n" not in str(caught.value)
    assert str(filled) in str(caught.value)
    assert caught.value.hint
    assert snapshot(filled.parent) == before


async def test_another_mesh_is_refused(filled: Path, clock: HandClock) -> None:
    before = snapshot(filled.parent)
    with pytest.raises(ForeignStore, match="belongs to mesh 000102030405, this home to mesh ffff"):
        await SqliteStore.open(filled, clock, mesh_id=b"\xff" * 32)
    with pytest.raises(ForeignStore, match="belongs to mesh"):
        await open_readonly(filled, mesh_id=b"\xff" * 32)
    assert snapshot(filled.parent) == before
    async with await open_readonly(filled) as store:
        assert await store.last_op_ms() == clock.wall_ms()


async def test_a_lost_database_is_not_replaced_by_an_empty_one(db: Path, clock: HandClock) -> None:
    with pytest.raises(BrokenStore, match="there is no database"):
        await SqliteStore.open(db, clock, mesh_id=MESH)
    with pytest.raises(BrokenStore, match="there is no database"):
        await open_readonly(db)
    assert not db.parent.exists()
    db.parent.mkdir()
    db.with_name("fabrik.db-wal").write_bytes(b"x" * 5000)
    with pytest.raises(BrokenStore, match="its write-ahead log"):
        await SqliteStore.open(db, clock, mesh_id=MESH, create_missing=True)
    assert snapshot(db.parent).keys() == {"fabrik.db-wal"}


async def test_a_directory_or_a_hidden_file_is_refused(tmp_path: Path, clock: HandClock) -> None:
    with pytest.raises(BrokenStore, match="is a directory"):
        await SqliteStore.open(tmp_path, clock, mesh_id=MESH)
    under_a_file = tmp_path / "file"
    under_a_file.write_text("x")
    with pytest.raises(StoreFailed, match="can not be read"):
        await SqliteStore.open(under_a_file / "fabrik.db", clock, mesh_id=MESH)
    with pytest.raises(StoreFailed, match="can not be looked at"):
        await SqliteStore.open(under_a_file / "fabrik.db", clock, mesh_id=MESH, create_missing=True)


async def test_damage_in_the_middle_shows_when_the_log_is_read(filled: Path, clock: HandClock) -> None:
    raw = bytearray(filled.read_bytes())
    with closing(sqlite3.connect(filled)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'segments'").fetchone()
    raw[(root - 1) * 4096 : root * 4096] = b"\xa5" * 4096
    filled.write_bytes(raw)
    with pytest.raises(BrokenStore, match="damaged") as caught:  # at the look or at the reading, wherever the page is met first
        async with await SqliteStore.open(filled, clock, mesh_id=MESH) as store:
            async for _ in store.load():
                pass
    assert "SQLITE_CORRUPT" in str(caught.value)


async def test_integrity_check_tells_what_a_look_does_not_see(filled: Path) -> None:
    async with await open_readonly(filled) as store:
        assert await store.integrity_check() == []
    with closing(sqlite3.connect(filled)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_segments_1'").fetchone()
    raw = bytearray(filled.read_bytes())
    raw[(root - 1) * 4096 + 3 : (root - 1) * 4096 + 5] = b"\x00\x03"  # the index forgets all but three of its entries
    filled.write_bytes(raw)
    async with await open_readonly(filled) as store:
        found = await store.integrity_check()
    assert any("missing from index" in line for line in found), found


async def test_another_history_of_migrations_is_refused(filled: Path, clock: HandClock) -> None:
    before = snapshot(filled.parent)
    others = [*known_migrations()[:-1], Migration(len(known_migrations()), "last", known_migrations()[-1].sql + "\n-- edited")]
    with pytest.raises(ForeignStore, match="development version"):
        await SqliteStore.open(filled, clock, mesh_id=MESH, migrations=others)
    assert snapshot(filled.parent) == before


async def test_readonly_asks_for_an_upgrade_first(db: Path, clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> None:
    async with await SqliteStore.open(db, clock, mesh_id=MESH, create_missing=True):
        pass
    newer = (*known_migrations(), Migration(len(known_migrations()) + 1, "more", "CREATE TABLE more (x INTEGER) STRICT;"))
    monkeypatch.setattr("fabrik_node.store.readonly.known_migrations", lambda: newer)
    with pytest.raises(StoreFailed, match=f"schema {len(known_migrations())}; this version reads schema {len(known_migrations()) + 1}") as caught:
        await open_readonly(db)
    assert "fabrik-node serve" in caught.value.hint


async def test_an_old_sqlite_is_named(db: Path, clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 31, 1))
    with pytest.raises(StoreFailed, match="is too old: 3.37.0 or newer is needed"):
        await SqliteStore.open(db, clock, mesh_id=MESH, create_missing=True)
