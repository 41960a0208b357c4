"""Logs that are left to another peer for a while: for how long, and when to look at which of them again."""

from __future__ import annotations

from collections import deque

from fabrik_sync.counters import Counters
from fabrik_sync.limits import LOGS_PER_STEP, Limits
from fabrik_sync.ports import ORDINARY, LogId, Replica

__all__ = ["Deferred", "Patience"]


class Patience:
    """How long a log is left to the peer that was asked for it."""

    def __init__(self, limits: Limits, replica: Replica, counters: Counters) -> None:
        self._limits = limits
        self._replica = replica
        self._counters = counters

    def __call__(self, log: LogId, lack: int = 0) -> tuple[bool, float]:
        """Whether what is lacking may say who is out (the next ``lack`` ops of the log of an admin, or of one that was), and the seconds."""
        if self._replica.priority(log.author) >= ORDINARY:
            return False, self._limits.defer_s
        if lack > self._limits.urgent_ops:
            self._counters.hit("urgent_ops")
            return False, self._limits.defer_s
        return True, self._limits.urgent_s


class Deferred:
    """Each waits for ``urgent_s`` or ``defer_s`` of the limits, so in each of the two queues who came first is due first."""

    def __init__(self, limits: Limits) -> None:
        self._waits_s = (limits.urgent_s, limits.defer_s)
        self._due: tuple[dict[LogId, float], dict[LogId, float]] = ({}, {})
        self._anew: deque[LogId] = deque()
        self._anew_at = 0.0

    @property
    def until(self) -> float | None:
        """When :meth:`due` has to be called next; None while nothing waits."""
        if self._anew:
            return self._anew_at
        return min((next(iter(queue.values())) for queue in self._due if queue), default=None)

    @property
    def is_urgent(self) -> bool:
        """An admin's log is among them."""
        return bool(self._due[0])

    def put(self, log: LogId, now: float, *, urgent: bool) -> bool:
        """Look at it again later; False when it waits already. A log that became urgent waits no longer than such."""
        calm = self._due[1].pop(log, None) if urgent else None
        queue, wait_s = self._due[not urgent], self._waits_s[not urgent]
        if log in queue or (not urgent and log in self._due[0]):
            return False
        queue[log] = now + wait_s
        return calm is None

    def discard(self, log: LogId) -> None:
        """It need not be looked at."""
        for queue in self._due:
            queue.pop(log, None)

    def due(self, now: float, *, anew: bool) -> list[LogId]:
        """So many as are looked at in one step; they wait again until they are discarded. ``anew``: all are due, also those that were just looked at."""
        if anew:
            self._anew, self._anew_at = deque(log for queue in self._due for log in queue), now
        found = [self._anew.popleft() for _ in range(min(len(self._anew), LOGS_PER_STEP))]
        for queue, wait_s in zip(self._due, self._waits_s, strict=True):
            while len(found) < LOGS_PER_STEP and queue and (first := next(iter(queue.items())))[1] <= now:
                log = first[0]
                del queue[log]
                queue[log] = now + wait_s
                found.append(log)
        return found
