"""What a node does between two beats: nothing, until the next one is due or asked for."""

from __future__ import annotations

import asyncio

__all__ = ["rest"]


async def rest(asked: asyncio.Event, seconds: float) -> None:
    """Return when ``asked`` is set, or after this many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await asked.wait()
    except TimeoutError:
        return
