"""Invitations in the database: counted in one transaction, and their secrets really gone when they are over.

SQLite leaves what was deleted in the unused bytes of its pages, and in the write-ahead log until that is overwritten. So writes here zero what they
free (``secure_delete``, https://www.sqlite.org/pragma.html#pragma_secure_delete), and :func:`empty_log` folds the log into the database. What the file
system and the device keep of freed blocks is out of our reach.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from fabrik_node.store.connection import BUSY_TIMEOUT_MS
from fabrik_node.store.queries import queries

__all__ = ["empty_log", "end_invites", "put_invite", "use_invite"]

_log = logging.getLogger("fabrik_node.store")
_PATIENCE_MS = 50
"""How long the writer waits for readers before it leaves the log as it is."""


def put_invite(connection: sqlite3.Connection, params: Mapping[str, Any]) -> None:
    """Inserting moves other rows between pages, so their old places are zeroed too."""
    with _zeroing(connection):
        connection.execute(queries()["put_invite"], params)


def use_invite(connection: sqlite3.Connection, token_id: bytes, key: bytes, wall_ms: int) -> bool:
    """Count one use and note who joined; False when the invitation is not open."""
    with _zeroing(connection):
        if connection.execute(queries()["use_invite"], {"token_id": token_id}).rowcount != 1:
            return False
        connection.execute(queries()["add_join"], {"token_id": token_id, "key": key, "at_ms": wall_ms})
        return True


def end_invites(connection: sqlite3.Connection, token_ids: Sequence[bytes], why: str) -> int:
    """Close the open ones; how many."""
    with _zeroing(connection):
        return sum(connection.execute(queries()["end_invite"], {"token_id": token_id, "ended": why}).rowcount for token_id in token_ids)


def empty_log(connection: sqlite3.Connection) -> bool:
    """Write the whole log into the database and cut it to nothing. False when somebody reads from it, or it does not work now."""
    try:
        connection.execute(f"PRAGMA busy_timeout = {_PATIENCE_MS:d}")
        try:
            busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        finally:
            connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS:d}")
    except sqlite3.Error as error:
        _log.debug("the write-ahead log was not emptied: %s", error)
        return False
    return not busy


@contextmanager
def _zeroing(connection: sqlite3.Connection) -> Iterator[None]:
    before = int(connection.execute("PRAGMA secure_delete").fetchone()[0])
    connection.execute("PRAGMA secure_delete = ON")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA secure_delete = {before:d}")
