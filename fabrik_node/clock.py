"""The only room that reads time. Everything else is given a clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol

__all__ = ["Clock", "SystemClock", "iso"]

_WALL_MS_SHOWN_MAX = 253_402_300_799_999
"""The last millisecond of the year 9999: ISO 8601 and :mod:`datetime` end there."""
_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)


class Clock(Protocol):
    """Two clocks: one that decides (``now``) and one for people (``wall_ms``)."""

    def now(self) -> float:
        """Seconds since an arbitrary start; never goes back; counts time asleep where the system can."""
        ...

    def wall_ms(self) -> int:
        """Unix time in milliseconds. For display only: it may jump."""
        ...


class SystemClock:
    """``CLOCK_BOOTTIME`` where it exists (Linux), ``CLOCK_MONOTONIC`` elsewhere."""

    def now(self) -> float:
        """See :meth:`Clock.now`."""
        return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)

    def wall_ms(self) -> int:
        """See :meth:`Clock.wall_ms`."""
        return time.time_ns() // 1_000_000


def iso(wall_ms: int) -> str:
    """UTC, ISO 8601 with milliseconds and ``Z``: the one format in which times are shown.

    Any number has a text: what a peer's clock says may lie beyond every calendar, and is shown as the nearest time within 1970 to 9999.
    """
    wall_ms = min(max(wall_ms, 0), _WALL_MS_SHOWN_MAX)
    seconds, ms = divmod(wall_ms, 1000)
    return f"{_to_the_second(seconds)}.{ms:03d}Z"


@lru_cache(64)
def _to_the_second(seconds: int) -> str:
    """Many things happen in one second."""
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S")
