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
        self._pinged = False
        self._look_at = now + limits.progress_s / 4
        self._mark: tuple[int, float] | None = None
        self._doubted_at: float | None = None

    def doubt(self, now: float) -> None:
        """The peer has a newer connection: this one may be dead, and has ``rival_s`` to show that it is not."""
        self._doubted_at = now

    def heard(self, now: float) -> None:
        """A frame came."""
        self.heard_at = now
        self._pinged = False
        self._doubted_at = None

    def next_timeout(self) -> float:
        """When :meth:`check` has something to do."""
        silence = self._limits.silent_s if self._pinged else self._limits.ping_s
        at = min(self.heard_at + silence, self._look_at)
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
        """True once for each silence that is long enough to ask."""
        if self._pinged or now < self.heard_at + self._limits.ping_s:
            return False
        self._pinged = True
        return True
