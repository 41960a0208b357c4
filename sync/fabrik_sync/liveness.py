"""Is the other end alive, and does it take what waits for it? Two questions, each with its own limit."""

from __future__ import annotations

from fabrik_sync.limits import Limits
from fabrik_sync.reasons import Reason

__all__ = ["Liveness"]


class Liveness:
    """Times silence and progress. Progress is told as a number that rises, so that no other code needs to read a clock."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self.heard_at = now
        self._sent_at = now
        self._pinged_at = now - limits.ping_s
        self._look_at = now + limits.progress_s / 4
        self._mark: tuple[int, float] | None = None
        self._doubted_at: float | None = None

    def doubt(self, now: float) -> None:
        """The peer has a newer connection: this one may be dead, and has ``rival_s`` to show that it is not."""
        self._doubted_at = now

    @property
    def doubted(self) -> bool:
        """It has a few seconds to show that it lives, because there is a newer connection."""
        return self._doubted_at is not None

    def heard(self, now: float) -> None:
        """A frame came, or a part of one."""
        self.heard_at = now
        self._doubted_at = None

    def sent(self, now: float) -> None:
        """A frame left."""
        self._sent_at = now

    def _ping_at(self) -> float:
        return max(min(self.heard_at, self._sent_at), self._pinged_at) + self._limits.ping_s

    def next_timeout(self) -> float:
        """When :meth:`check` or :meth:`ping_due` has something to do."""
        at = min(self._ping_at(), self.heard_at + self._limits.silent_s, self._look_at)
        return at if self._doubted_at is None else min(at, self._doubted_at + self._limits.rival_s)

    def check(self, now: float, *, progress: int, waiting: bool) -> Reason | None:
        """Why to end the session, if so. ``waiting``: something waits for the peer; ``progress`` rises when it takes some."""
        if now >= self.heard_at + self._limits.silent_s:
            return Reason.SILENT
        if self._doubted_at is not None and now >= self._doubted_at + self._limits.rival_s:
            return Reason.SILENT
        if now >= self._look_at:
            self._look_at = now + self._limits.progress_s / 4
            if not waiting:
                self._mark = None
            elif self._mark is None or self._mark[0] != progress:
                self._mark = (progress, now)
            elif now - self._mark[1] >= self._limits.progress_s:
                return Reason.NO_PROGRESS
        return None

    def ping_due(self, now: float) -> bool:
        """True when we have heard nothing for long enough to ask, or said nothing for so long that the peer may be in doubt about us.

        A peer that sends us much over a slow link hears us this way: its own question would wait behind what it sends.
        """
        if now < self._ping_at():
            return False
        self._pinged_at = now
        return True
