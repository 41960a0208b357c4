"""What SQLite says, in our words: no sqlite error leaves this room."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

from fabrik_node.errors import BrokenStore, StoreFailed, StoreFull

__all__ = ["is_full", "leaves_store_sound", "translate"]

_SPACE_BYTES = 1_048_576
"""With less free than this a file system is full for us."""
_HINT_BROKEN = "stop the node, put {path} aside and restore it from a backup, or join again with a new home"
_HINT_FULL = "free space on the disk of {path}: a running node goes on by itself"
_HINT_BUSY = "fabrik-node status"
_HINT_OTHER = "look at the disk of {path} and at the system log, then start the node again"


def translate(error: sqlite3.Error | OSError, path: Path, doing: str) -> StoreFailed:
    """The error to raise for ``error`` that came up while ``doing`` (a gerund phrase) with the database at ``path``."""
    if is_full(error, path):
        return StoreFull(f"the disk is full: {doing} failed: {_reason(error)}", _HINT_FULL.format(path=path))
    if isinstance(error, OSError):
        return StoreFailed(f"{doing} failed: {error.strerror or error}", _HINT_OTHER.format(path=path))
    reason = _reason(error)
    match _primary(error):
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_FORMAT:
            return BrokenStore(f"{path} is damaged: {doing} failed: {reason}", _HINT_BROKEN.format(path=path))
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreFailed(f"{path} is locked by another process: {doing} failed: {reason}", _HINT_BUSY)
        case _:
            return StoreFailed(f"{doing} failed: {reason}", _HINT_OTHER.format(path=path))


def is_full(error: sqlite3.Error | OSError, path: Path) -> bool:
    """True when there is no space: the write that failed was rolled back, and a later one may succeed.

    SQLite gives ``SQLITE_FULL`` for ENOSPC in the database and its write-ahead log, and ``SQLITE_IOERR_SHMSIZE`` when the index of the log can not grow,
    whatever the cause: that counts only when the file system has no space indeed.
    """
    if isinstance(error, OSError):
        return error.errno in {errno.ENOSPC, errno.EDQUOT}
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_IOERR_SHMSIZE:
        return _free_bytes(path.parent) < _SPACE_BYTES
    return _primary(error) == sqlite3.SQLITE_FULL


def _free_bytes(folder: Path) -> int:
    try:
        found = os.statvfs(folder)
    except OSError:
        return _SPACE_BYTES  # nothing is known, so the error stays what it is
    return found.f_bavail * found.f_frsize


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


def _reason(error: sqlite3.Error | OSError) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return f"{error} ({getattr(error, 'sqlite_errorname', type(error).__name__)})"
