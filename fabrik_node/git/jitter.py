"""Waiting between tries so that racers spread out."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

__all__ = ["Pause", "pause_from"]

Pause = Callable[[int], Awaitable[None]]
"""``await pause(attempt)`` before try number ``attempt`` (1, 2, ...)."""

_FIRST_S = 0.05
_CAP_S = 2.0


def pause_from(rng: random.Random) -> Pause:
    """Full jitter: a wait between 0 and a ceiling that doubles from 50 ms to 2 s with each try.

    Source: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    async def pause(attempt: int) -> None:
        await asyncio.sleep(rng.uniform(0.0, min(_CAP_S, _FIRST_S * 2.0 ** min(attempt, 16))))

    return pause
