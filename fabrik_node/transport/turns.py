"""The event loop is everybody's: frames of peers and callers at the gate get half of it together; the other half is free for local commands.

As long as they need less, nobody waits: live traffic and bulk dumps leave the loop alone most of the time.
"""

from __future__ import annotations

__all__ = ["BURST_S", "TURN_S", "Pace", "Turn"]

TURN_S = 0.004
"""Seconds of work of one connection after which we look whether it has to wait. One frame may be more."""
BURST_S = 0.008
"""Seconds of work beyond half of the time that nobody has to wait for."""


class Pace:
    """What all together worked beyond half of the time. Times are seconds on one clock."""

    def __init__(self) -> None:
        self._over_s = 0.0
        self._at = 0.0

    def add(self, worked_s: float, now: float) -> None:
        """Somebody worked for so long, until now."""
        self._over_s = max(0.0, self._over_s - (now - self._at) / 2) + worked_s
        self._at = now

    def rest_s(self) -> float:
        """How long whoever asks has to stay away, so that it comes down to half of the time."""
        return max(0.0, self._over_s - BURST_S) * 2


class Turn:
    """The work of one connection."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._worked_s = 0.0

    def rest_s(self, worked_s: float, now: float) -> float:
        """It worked for ``worked_s`` until now: how long it has to stay away."""
        self._pace.add(worked_s, now)
        self._worked_s += worked_s
        if self._worked_s < TURN_S:
            return 0.0
        self._worked_s = 0.0
        return self._pace.rest_s()
