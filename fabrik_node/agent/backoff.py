"""When this agent tries an item again. On its own clock, counted from what it saw itself; nothing here is written down.

Three causes: an item with failed attempts waits after the last of them was seen; an item that was refused or lost waits here only;
a rate limit stops the whole agent. The waits double up to a limit.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from fabrik_node.ports import ItemView

__all__ = ["WAIT_S_MAX", "Backoff"]

WAIT_S_MAX = 900.0
"""15 minutes: how long anything waits at most."""
_DOUBLINGS_MAX = 30


class Backoff:
    """Memory is bounded by the candidates of the last :meth:`ready` call."""

    def __init__(self, base_s: float, refused_s: float, rng: random.Random) -> None:
        self._base_s = base_s
        self._refused_s = refused_s
        self._rng = rng
        self._attempts: dict[bytes, tuple[int, float]] = {}
        """Item -> attempts as seen, and when they were first seen."""
        self._avoid: dict[bytes, tuple[int, float]] = {}
        """Item -> how often in a row it was in vain, and until when it is left alone."""
        self._limits = 0
        self._closed_until = 0.0

    def ready(self, views: Sequence[ItemView], now: float) -> list[ItemView]:
        """Those that may be tried now, in their order. Forgets every other item."""
        ids = {view.id for view in views}
        self._avoid = {item: entry for item, entry in self._avoid.items() if item in ids or entry[1] > now}
        seen = {view.id: view.attempts for view in views if view.attempts > 0}
        self._attempts = {item: entry if (entry := self._attempts.get(item)) and entry[0] == attempts else (attempts, now) for item, attempts in seen.items()}
        return [] if now < self._closed_until else [view for view in views if self._ready_at(view.id) <= now]

    def next_s(self, views: Sequence[ItemView], now: float) -> float | None:
        """Seconds until one of ``views`` becomes ready; None when that is not a question of waiting."""
        times = [max(self._ready_at(view.id), self._closed_until) - now for view in views]
        waiting = [wait for wait in times if wait > 0]
        return min(waiting) if waiting else None

    def in_vain(self, item: bytes, now: float) -> None:
        """The item was refused, or a run of it was lost through nobody's fault."""
        times, _ = self._avoid.get(item, (0, 0.0))
        self._avoid[item] = (times + 1, now + self._rng.uniform(0.5, 1.0) * _doubled(self._refused_s, times))

    def went_well(self, item: bytes) -> None:
        """A run ended without a rate limit and not in vain."""
        self._avoid.pop(item, None)
        self._limits = 0

    def rate_limited(self, now: float) -> None:
        """The agent's command said that it must wait."""
        self._closed_until = max(self._closed_until, now + self._rng.uniform(0.75, 1.0) * _doubled(self._base_s, self._limits))
        self._limits += 1

    def is_closed(self, now: float) -> bool:
        """A rate limit is waited for."""
        return now < self._closed_until

    def _ready_at(self, item: bytes) -> float:
        attempts, since = self._attempts.get(item, (0, 0.0))
        after_attempts = since + _doubled(self._base_s, attempts - 1) if attempts else 0.0
        return max(after_attempts, self._avoid.get(item, (0, 0.0))[1])


def _doubled(base_s: float, times: int) -> float:
    return min(WAIT_S_MAX, base_s * float(2 ** min(times, _DOUBLINGS_MAX)))
