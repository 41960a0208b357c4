"""A lock file that serialises tasks and processes on one local repository."""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fabrik_node.errors import GitFailed

__all__ = ["file_lock"]

_POLL_S = 0.02


@asynccontextmanager
async def file_lock(path: Path, timeout_s: float) -> AsyncIterator[None]:
    """Hold ``flock(2)`` on ``path``, which is made if needed and never removed. The kernel frees it when the holder dies.

    Two tasks of one process exclude each other too, because each opens the file itself. It is polled, so a waiter can be cancelled.
    Raises :class:`GitFailed` when it is not free within ``timeout_s`` seconds.
    """
    with path.open("wb") as handle:
        try:
            async with asyncio.timeout(timeout_s):
                while not _try_lock(handle.fileno()):
                    await asyncio.sleep(_POLL_S)
        except TimeoutError as error:
            raise GitFailed(f"{path} was held by another process for {timeout_s:g} s", "fabrik-node status") from error
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
