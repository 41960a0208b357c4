"""Which disk place this home was last served from: a copied or restored home shows by it, before any peer can say so.

The mark is the machine's id, the inode of the database file and the time at which that file was made. A copy has another inode or another birth;
a start on another machine another id. An older database whose bytes were put into the same file keeps its mark; the exported events beside it show
that one (:func:`older_than`). What neither can see shows when peers know more of our log: a whole disk that was put back, exported events and all; an
older database after those were deleted, or when the node died in the moment between its last commit and its last line there.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

__all__ = ["differs", "home_mark", "older_than"]

_MACHINE_ID = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
_AT_FDCWD = -100
_STATX_BTIME = 0x800
_STATX_BYTES = 256
_BTIME_AT = 80
"""Offset of ``stx_btime`` in ``struct statx`` (statx(2))."""


def home_mark(database: Path) -> str:
    """``machine:inode:birth`` of an existing database file; a part that this system does not tell is empty or 0."""
    found = database.stat()
    return f"{_machine_id()}:{found.st_ino}:{_birth_ns(database, found)}"


def differs(before: str, now: str) -> str:
    """In which way a home is not where it was; empty when it is. A mark of unknown form is no evidence."""
    old, new = before.split(":"), now.split(":")
    if len(old) != len(new) or before == now:
        return ""
    if old[0] != new[0]:
        return "it was served on another machine before"
    return "its database file is not the one that was served before"


def older_than(witnessed: int, stored: int) -> str:
    """What it says of a database when the files beside it hold events up to ``witnessed``, and itself up to ``stored``; empty when all is well.

    The events of a store only grow, and one is exported only when it is durable.
    """
    if witnessed <= stored:
        return ""
    return f"the database is older than what lies beside it: the exported events go up to {witnessed}, its own to {stored}"


def _machine_id() -> str:
    for path in _MACHINE_ID:
        try:
            text = path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if text:
            return text.replace(":", "")
    return ""


def _birth_ns(path: Path, found: os.stat_result) -> int:
    """Nanoseconds since 1970; 0 where file system or system do not say."""
    birth = getattr(found, "st_birthtime", None)
    if birth is not None:
        return int(birth * 1_000_000_000)
    if not sys.platform.startswith("linux"):
        return 0
    statx = getattr(ctypes.CDLL(None, use_errno=True), "statx", None)
    buffer = ctypes.create_string_buffer(_STATX_BYTES)
    if statx is None or statx(_AT_FDCWD, os.fsencode(path), 0, _STATX_BTIME, buffer) != 0:
        return 0
    if not int.from_bytes(buffer.raw[:4], sys.byteorder) & _STATX_BTIME:
        return 0
    seconds = int.from_bytes(buffer.raw[_BTIME_AT : _BTIME_AT + 8], sys.byteorder, signed=True)
    return seconds * 1_000_000_000 + int.from_bytes(buffer.raw[_BTIME_AT + 8 : _BTIME_AT + 12], sys.byteorder)
