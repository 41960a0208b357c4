"""Whose database is this, and is it whole: looked at before it is opened for writing.

The look changes neither the database nor its write-ahead log, so a refusal leaves both as they were. It is cheap: header, size, schema
version, mesh and the newest row. Damage in the middle of a file shows when the node reads its log at start, or in ``integrity_check``.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from fabrik_node.errors import BrokenStore, ForeignStore, StoreFailed
from fabrik_node.store.connection import connect_sync
from fabrik_node.store.failures import translate
from fabrik_node.store.migrations import Migration, apply, check_applied
from fabrik_node.store.queries import queries

__all__ = ["APPLICATION_ID", "MESH_ID_KEY", "create", "look", "sync_directory"]

APPLICATION_ID = int.from_bytes(b"FabN", "big")
"""``application_id`` of the header (https://www.sqlite.org/fileformat.html#application_id): this file is ours."""
MESH_ID_KEY = "mesh_id"
"""The meta key that ties a database to a mesh. Written once, at creation."""

_HEADER_BYTES = 100
_MAGIC = b"SQLite format 3\0"
_WAL_HEADER_BYTES = 32
_WAL_FRAME_BYTES = 24
_RESTORE = "put it aside and restore it from a backup, or join again with a new home: fabrik-node --home DIR join TOKEN"
_OTHER_HOME = "choose another home: fabrik-node --home DIR ..."


@dataclass(frozen=True, slots=True)
class _Header:
    page_bytes: int
    pages: int
    """0 when the header does not know (written by a very old SQLite)."""
    application_id: int
    file_bytes: int


def look(path: Path, mesh_id: bytes | None, migrations: Sequence[Migration]) -> int:
    """The schema version of a database that is ours and whole; ``mesh_id`` None accepts any mesh.

    Raises :class:`BrokenStore` (missing, empty, torn, not SQLite), :class:`ForeignStore` (another program's, another mesh's, a newer version's)
    or :class:`StoreFailed` (can not be read). Changes nothing.
    """
    header = _read_header(path)
    if header.application_id != APPLICATION_ID:
        raise ForeignStore(f"{path} belongs to another program (application id 0x{header.application_id:08x})", _OTHER_HOME)
    wal_frames = _wal_frames(path, header.page_bytes)
    if not wal_frames:
        _check_size(path, header, header.pages, 0)
    try:
        with closing(connect_sync(path, "ro" if wal_frames else "immutable")) as connection:
            version = check_applied(connection, migrations, str(path))
            if version == 0:
                raise BrokenStore(f"{path} was never set up", _RESTORE)
            _check_size(path, header, int(connection.execute("PRAGMA page_count").fetchone()[0]), wal_frames)
            _check_mesh(connection, path, mesh_id)
            connection.execute(queries()["last_segment"]).fetchone()
            connection.execute(queries()["last_event"]).fetchone()
    except sqlite3.Error as error:
        raise translate(error, path, f"looking at {path}") from error
    return version


def create(path: Path, mesh_id: bytes, migrations: Sequence[Migration], wall_ms: int, faults: Callable[[str], None]) -> None:
    """A new, empty database, made beside its place and renamed into it: it is there whole or not at all.

    The caller made sure that there is none, and holds the home's lock. Raises :class:`StoreFailed`.
    """
    if _file_bytes(_beside(path, "-wal")):
        raise BrokenStore(f"{path} is missing, but its write-ahead log {path.name}-wal is there", "put the database back beside it, or move the log away")
    fresh = _beside(path, ".new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for leftover in (fresh, _beside(fresh, "-wal"), _beside(fresh, "-shm")):
            leftover.unlink(missing_ok=True)
        os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))  # it will hold invitation secrets
        with closing(connect_sync(fresh, "rw")) as connection:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID:d}")
            apply(connection, migrations, wall_ms, faults)
            connection.execute(queries()["set_meta"], {"key": MESH_ID_KEY, "value": mesh_id})
        faults("before_rename")
        fresh.rename(path)
        sync_directory(path.parent)
    except (sqlite3.Error, OSError) as error:
        raise translate(error, path, f"creating {path}") from error


def _read_header(path: Path) -> _Header:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            head = file.read(_HEADER_BYTES)
    except FileNotFoundError:
        raise BrokenStore(f"there is no database {path}", _RESTORE) from None
    except IsADirectoryError:
        raise BrokenStore(f"{path} is a directory, not a database", _RESTORE) from None
    except OSError as error:
        raise StoreFailed(f"{path} can not be read: {error.strerror or error}", f"ls -l {path}") from error
    if not stat.S_ISREG(status.st_mode):
        raise BrokenStore(f"{path} is not a regular file", _RESTORE)
    if not head:
        raise BrokenStore(f"{path} is empty (0 bytes)", _RESTORE)
    if len(head) < _HEADER_BYTES or not head.startswith(_MAGIC):
        raise BrokenStore(f"{path} is not a SQLite database", _RESTORE)
    page_bytes = int.from_bytes(head[16:18], "big")
    knows_pages = head[24:28] == head[92:96]
    return _Header(
        page_bytes=65536 if page_bytes == 1 else max(page_bytes, 1),
        pages=int.from_bytes(head[28:32], "big") if knows_pages else 0,
        application_id=int.from_bytes(head[68:72], "big"),
        file_bytes=status.st_size,
    )


def _check_size(path: Path, header: _Header, pages: int, wal_frames: int) -> None:
    """Every page is in the file or in the write-ahead log. (After a crash within a checkpoint the file alone may be short.)"""
    have = header.file_bytes // header.page_bytes
    if pages > have + wal_frames:
        raise BrokenStore(f"{path} is cut short: {header.file_bytes} of at least {(pages - wal_frames) * header.page_bytes} bytes are there", _RESTORE)


def _check_mesh(connection: sqlite3.Connection, path: Path, mesh_id: bytes | None) -> None:
    row = connection.execute(queries()["get_meta"], {"key": MESH_ID_KEY}).fetchone()
    if row is None:
        raise BrokenStore(f"{path} does not say which mesh it belongs to", _RESTORE)
    if mesh_id is not None and row[0] != mesh_id:
        raise ForeignStore(
            f"{path} belongs to mesh {row[0].hex()[:12]}, this home to mesh {mesh_id.hex()[:12]}", "put back the database of this home, or " + _OTHER_HOME
        )


def _wal_frames(path: Path, page_bytes: int) -> int:
    """How many frames the write-ahead log may hold at most; 0 when there is none."""
    return max(0, _file_bytes(_beside(path, "-wal")) - _WAL_HEADER_BYTES) // (page_bytes + _WAL_FRAME_BYTES)


def _file_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise StoreFailed(f"{path} can not be looked at: {error.strerror or error}", f"ls -l {path}") from error


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def sync_directory(path: Path) -> None:
    """Make a rename durable (fsync(2): the directory entry needs an fsync of its own)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
