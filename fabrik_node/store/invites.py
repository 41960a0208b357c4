"""Invitations in the database: counted in one transaction, and their secrets really gone when they are over.

SQLite leaves what was deleted in the unused bytes of its pages, and in the write-ahead log until that is overwritten. So writes here zero what they
free (``secure_delete``, https://www.sqlite.org/pragma.html#pragma_secure_delete), and :func:`empty_log` folds the log into the database. What the file
system and the device keep of freed blocks is out of our reach.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from fabrik_node.ports import Invite
from fabrik_node.store.connection import BUSY_TIMEOUT_MS
from fabrik_node.store.queries import queries

__all__ = ["empty_log", "end_invites", "put_invite", "reseal_invite", "use_invite"]

_log = logging.getLogger("fabrik_node.store")
_PATIENCE_MS = 50
"""How long the writer waits for readers before it leaves the log as it is."""


def put_invite(connection: sqlite3.Connection, invite: Invite) -> None:
    """Inserting moves other rows between pages, so their old places are zeroed too."""
    with _zeroing(connection):
        connection.execute(queries()["put_invite"], {name: getattr(invite, name) for name in ("token_id", "secret", "role", "expires_at", "boot_id")})
        _note(connection, invite)


def reseal_invite(connection: sqlite3.Connection, token_id: bytes, secret: bytes) -> None:
    """Other bytes for the secret of an open one; the old ones are zeroed."""
    with _zeroing(connection):
        connection.execute(queries()["reseal_invite"], {"token_id": token_id, "secret": secret})


def use_invite(connection: sqlite3.Connection, token_id: bytes, key: bytes, wall_ms: int) -> bool:
    """Count one use and note who joined; False when the invitation is not open."""
    found = _open_one(connection, token_id)
    if found is None:
        return False
    used = replace(found, uses=found.uses + 1, ended="used" if 0 < found.uses_max <= found.uses + 1 else "")
    _note(connection, used)
    if used.ended:
        _close(connection, token_id)
    connection.execute(queries()["add_join"], {"token_id": token_id, "key": key, "at_ms": wall_ms})
    return True


def end_invites(connection: sqlite3.Connection, token_ids: Sequence[bytes], why: str) -> int:
    """Close the open ones; how many."""
    found = [each for token_id in token_ids if (each := _open_one(connection, token_id)) is not None]
    for each in found:
        _note(connection, replace(each, ended=why))
        _close(connection, each.token_id)
    return len(found)


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


def _open_one(connection: sqlite3.Connection, token_id: bytes) -> Invite | None:
    row = connection.execute(queries()["invite"], {"token_id": token_id}).fetchone()
    found = None if row is None else Invite(*row)
    return None if found is None or found.ended else found


def _note(connection: sqlite3.Connection, invite: Invite) -> None:
    connection.execute(queries()["note_invite"], {name: getattr(invite, name) for name in ("token_id", "uses_max", "uses", "created_ms", "ended")})


def _close(connection: sqlite3.Connection, token_id: bytes) -> None:
    with _zeroing(connection):
        connection.execute(queries()["close_invite"], {"token_id": token_id})


@contextmanager
def _zeroing(connection: sqlite3.Connection) -> Iterator[None]:
    before = int(connection.execute("PRAGMA secure_delete").fetchone()[0])
    connection.execute("PRAGMA secure_delete = ON")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA secure_delete = {before:d}")
