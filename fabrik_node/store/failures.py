"""What SQLite says, in our words: no sqlite error leaves this room."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from fabrik_node.errors import BrokenStore, StoreFailed

__all__ = ["leaves_store_sound", "translate"]

_HINT_BROKEN = "stop the node, put {path} aside and restore it from a backup, or join again with a new home"
_HINT_FULL = "free space on the disk of {path}, then start the node again"
_HINT_BUSY = "fabrik-node status"
_HINT_OTHER = "look at the disk of {path} and at the system log, then start the node again"


def translate(error: sqlite3.Error | OSError, path: Path, doing: str) -> StoreFailed:
    """The error to raise for ``error`` that came up while ``doing`` (a gerund phrase) with the database at ``path``."""
    if isinstance(error, OSError):
        return StoreFailed(f"{doing} failed: {error.strerror or error}", _HINT_OTHER.format(path=path))
    reason = f"{error} ({_code_name(error)})"
    match _primary(error):
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_FORMAT:
            return BrokenStore(f"{path} is damaged: {doing} failed: {reason}", _HINT_BROKEN.format(path=path))
        case sqlite3.SQLITE_FULL:
            return StoreFailed(f"the disk is full: {doing} failed: {reason}", _HINT_FULL.format(path=path))
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreFailed(f"{path} is locked by another process: {doing} failed: {reason}", _HINT_BUSY)
        case _:
            return StoreFailed(f"{doing} failed: {reason}", _HINT_OTHER.format(path=path))


def leaves_store_sound(error: sqlite3.Error | OSError) -> bool:
    """True when nothing but the one refused transaction is wrong, so that further writes make sense.

    Never true for a failed write, sync or commit: what the kernel did with the pages then is unknown, and a retry may seem to work
    (the "fsyncgate" of 2018: a second fsync reports success for pages that the first one lost).
    """
    return isinstance(error, sqlite3.Error) and _primary(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CONSTRAINT}


def _primary(error: sqlite3.Error) -> int:
    """The primary result code (the low byte, https://www.sqlite.org/rescode.html); -1 for errors of the binding itself."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return -1 if code is None else code & 0xFF


def _code_name(error: sqlite3.Error) -> str:
    return str(getattr(error, "sqlite_errorname", type(error).__name__))
