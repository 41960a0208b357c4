"""Putting a new index in the place of that of a worktree in which a command may be at work: what the command stages meanwhile is not lost.

Git's own rule is kept: who changes ``index`` holds ``index.lock``. It is held for the moment of the swap only; a command of git that wants it
just then says that it is there, as it does for any other git in the same worktree.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from pathlib import Path
from typing import TypeAlias

__all__ = ["Seen", "copy_index", "swap_index"]

_PAUSE_S = 0.05
_STALE_PAUSES = 200
"""So often (10 s) somebody may be met with the same lock. After that it is taken for left behind by a git that was killed."""
Seen: TypeAlias = tuple[int, int, int] | None
"""Which index it is: git writes each in a file of its own. None: there is none."""


def copy_index(index: Path, copy: Path) -> Seen:
    """What is copied is this or newer."""
    seen = _seen(index)
    if seen is not None:
        # The command owns this folder: by a link in the place of the index it would have any file of ours copied to where it can read it.
        copy.unlink(missing_ok=True)
        with os.fdopen(os.open(index, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file, copy.open("xb") as written:
            found = os.fstat(file.fileno())
            if stat.S_ISREG(found.st_mode):
                shutil.copyfileobj(file, written)
                written.flush()
                # By this git knows which files may have changed after it looked at them, in the same moment.
                os.utime(written.fileno(), ns=(found.st_atime_ns, found.st_mtime_ns))
    return seen


async def swap_index(own: Path, index: Path, seen: Seen) -> bool:
    """Rename ``own`` to ``index``. False, and nothing is done: it is not the one that was ``seen`` any more."""
    lock, met, pauses = index.with_name(f"{index.name}.lock"), None, 0
    while pauses < _STALE_PAUSES:
        try:
            os.close(os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        except FileExistsError:
            now = _seen(lock)
            met, pauses = now, pauses + 1 if now == met else 1
            await asyncio.sleep(_PAUSE_S)
            continue
        try:
            return _swap(own, index, seen)
        finally:
            lock.unlink(missing_ok=True)
    return _swap(own, index, seen)


def _swap(own: Path, index: Path, seen: Seen) -> bool:
    if _seen(index) != seen:
        return False
    own.replace(index)
    return True


def _seen(path: Path) -> Seen:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return (found.st_ino, found.st_mtime_ns, found.st_size) if stat.S_ISREG(found.st_mode) else None
