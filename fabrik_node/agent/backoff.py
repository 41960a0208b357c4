"""What this agent leaves alone for a while, besides what the node keeps back after a failed attempt.

On the agent's own clock, and nothing here is written down. An item that was refused is tried again after about a beat; an item whose
run was lost through nobody's fault waits longer each time; a rate limit stops the whole agent, longer each time.
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
    """``base_s``: the first wait after a loss or a rate limit; ``refused_s``: after a refusal. Memory is bounded by the candidates of the last look."""

    def __init__(self, base_s: float, refused_s: float, rng: random.Random) -> None:
        self._base_s = base_s
        self._refused_s = refused_s
        self._rng = rng
        self._until: dict[bytes, float] = {}
        self._losses: dict[bytes, int] = {}
        self._limits = 0
        self._closed_until = 0.0

    def ready(self, views: Sequence[ItemView], now: float) -> list[ItemView]:
        """Those that may be tried now, in their order."""
        return [] if self.is_closed(now) else [view for view in views if self._until.get(view.id, now) <= now]

    def next_s(self, views: Sequence[ItemView], now: float) -> float | None:
        """Seconds until one more of ``views`` may be tried; None when that is not a question of waiting."""
        waits = [wait for view in views if (wait := max(self._until.get(view.id, now), self._closed_until) - now) > 0]
        return min(waits, default=None)

    def keep(self, items: set[bytes]) -> None:
        """Forget every other item."""
        self._until = {item: until for item, until in self._until.items() if item in items}
        self._losses = {item: times for item, times in self._losses.items() if item in items}

    def refused(self, item: bytes, now: float) -> None:
        """Somebody else was faster, or nobody could be asked."""
        self._until[item] = now + self._rng.uniform(0.5, 1.0) * self._refused_s

    def lost(self, item: bytes, now: float) -> None:
        """A run was lost, and neither the item nor the agent is to blame."""
        times = self._losses.get(item, 0)
        self._losses[item] = times + 1
        self._until[item] = now + self._rng.uniform(0.75, 1.0) * _doubled(self._base_s, times)

    def went_well(self, item: bytes) -> None:
        """A run said something about the item: it is neither lost nor limited."""
        self._until.pop(item, None)
        self._losses.pop(item, None)
        self._limits = 0

    def rate_limited(self, now: float) -> None:
        """The agent's command said that it must wait."""
        self._closed_until = max(self._closed_until, now + self._rng.uniform(0.75, 1.0) * _doubled(self._base_s, self._limits))
        self._limits += 1

    def is_closed(self, now: float) -> bool:
        """A rate limit is waited for."""
        return self.closed_s(now) > 0

    def closed_s(self, now: float) -> float:
        """Seconds for which nothing at all may be tried."""
        return max(0.0, self._closed_until - now)


def _doubled(base_s: float, times: int) -> float:
    return min(WAIT_S_MAX, base_s * float(2 ** min(times, _DOUBLINGS_MAX)))
