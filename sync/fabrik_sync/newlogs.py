"""Logs of which we hold nothing, of authors who begin many of them: asked for at once up to a number, then slowly. None is refused."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from fabrik_sync.counters import Counters
from fabrik_sync.limits import LOGS_PER_STEP, Limits
from fabrik_sync.logbook import LogRow
from fabrik_sync.logsets import ByAuthor
from fabrik_sync.ports import LogId
from fabrik_sync.wants import Wants

__all__ = ["NewLogs"]


class NewLogs:
    """Those of one session; the numbers are counted in ``wants``, for all sessions of a node together."""

    def __init__(self, limits: Limits, wants: Wants, counters: Counters) -> None:
        self._limits = limits
        self._wants = wants
        self._counters = counters
        self._late = ByAuthor()
        self.until: float | None = None
        """When to call :meth:`retry`."""

    def may_begin(self, log: LogId, row: LogRow | None, now: float) -> bool:
        """False for a log of which we hold nothing, and whose author began too many of them: it waits, if we know it."""
        if row is not None and row.local:
            return True
        if self._wants.may_begin(log, self, now, burst=self._limits.new_logs, every_s=self._limits.new_log_s):
            self._late.discard(log)
            return True
        if row is not None:
            self._counters.hit("" if log in self._late else "new_logs")
            self._late.add(log)
            if self.until is None:
                self.until = now + self._limits.new_log_s
        return False

    def discard(self, log: LogId) -> None:
        """We hold it, or nobody needs it."""
        self._late.discard(log)

    def retry(self, now: float, consider: Callable[[LogId, float], None]) -> None:
        """Of each author as many as may be asked for by now."""
        for author in list(self._late.authors()):
            for log in list(islice(self._late.of(author), LOGS_PER_STEP)):
                consider(log, now)
                if log in self._late:
                    break
                self._counters.hit("new_log_s")
        self.until = now + self._limits.new_log_s if self._late else None
