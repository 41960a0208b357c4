"""One SQLite connection on a thread of its own.

:meth:`Connection.run` hands a whole function to that thread, so that a transaction is one unit: the cancellation of the caller can not
leave it half done, and it costs one hop between threads instead of one per statement.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

import aiosqlite

from fabrik_node.errors import StoreFailed
from fabrik_node.store.failures import translate

__all__ = ["BUSY_TIMEOUT_MS", "Connection", "Mode", "connect", "connect_sync"]

Result = TypeVar("Result")
Mode = Literal["rw", "rwc", "ro", "immutable"]
"""``immutable`` touches nothing but the main file, and does not see a write-ahead log."""

BUSY_TIMEOUT_MS = 5000
"""How long a statement waits for another process that holds the database."""
_SQLITE_MIN = (3, 37, 0)
"""The first with STRICT tables (https://www.sqlite.org/stricttables.html)."""


class Connection(aiosqlite.Connection):
    """aiosqlite's connection with :meth:`run`. Made by :func:`connect`."""

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connector, iter_chunk_size=64)
        # A node that stops at a failure must be able to exit although nobody closed this; for SQLite that is a crash, which it survives.
        self._thread.daemon = True

    async def run(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """``work(connection)`` on the connection's thread. If the caller is cancelled, the work is still done, and its result is lost."""
        try:
            raw = self._conn
        except ValueError:
            raise StoreFailed("the store is closed", "fabrik-node serve") from None
        result: Result = await self._execute(work, raw)  # type: ignore[no-untyped-call]
        return result


async def connect(path: Path, mode: Mode) -> Connection:
    """A connection in autocommit mode with our settings. Raises :class:`StoreFailed`."""
    try:
        return await _started(Connection(lambda: connect_sync(path, mode)))
    except sqlite3.Error as error:
        raise translate(error, path, f"opening {path}") from error


async def _started(connection: Connection) -> Connection:
    await connection
    return connection


def connect_sync(path: Path, mode: Mode) -> sqlite3.Connection:
    """The plain connection. Raises :class:`sqlite3.Error`. With ``rw`` and ``rwc`` the write-ahead log is switched on."""
    if sqlite3.sqlite_version_info < _SQLITE_MIN:
        raise sqlite3.NotSupportedError(f"SQLite {sqlite3.sqlite_version} is too old: {'.'.join(map(str, _SQLITE_MIN))} or newer is needed")
    flag = "mode=ro&immutable=1" if mode == "immutable" else f"mode={mode}"
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?{flag}", uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_MS / 1000)
    try:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS:d}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        if mode in {"rw", "rwc"}:
            journal = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if journal != "wal":
                raise sqlite3.OperationalError(f"the file system can not do write-ahead logging (journal mode is {journal!r})")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA journal_size_limit = 67108864")  # the log file shrinks to this after a bulk load
        else:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("PRAGMA schema_version").fetchone()  # meets the write-ahead log now, and what may be wrong with it
    except BaseException:
        connection.close()
        raise
    return connection
