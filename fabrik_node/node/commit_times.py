"""When this node committed what it holds, on its own clock: how long somebody has lacked an op. Bounded, so of old ops only roughly known."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

__all__ = ["CommitTimes"]

_PER_BRANCH_MAX = 128
"""Even."""
_BRANCHES_MAX = 4_096
Place: TypeAlias = tuple[bytes, int, int]
"""Author, epoch, our number of the branch."""


@dataclass(slots=True)
class _Times:
    first_seq: int
    ends: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)


class CommitTimes:
    """Ages are never told too small; too large by what a halving joined, and of ops from before ``start``, and of branches that were forgotten, since then."""

    def __init__(self, start: float) -> None:
        self._start = start
        self._times: dict[Place, _Times] = {}
        self.forgotten = 0
        """Branches that were forgotten for others."""

    def note(self, place: Place, first_seq: int, last_seq: int, at: float) -> None:
        """These ops of a branch are durable since ``at``."""
        found = self._times.pop(place, None)
        if found is None:
            while len(self._times) >= _BRANCHES_MAX:
                del self._times[next(iter(self._times))]
                self.forgotten += 1
            found = _Times(first_seq)
        self._times[place] = found  # the last of them: those without news go first
        found.ends.append(last_seq)
        found.times.append(at)
        if len(found.ends) > _PER_BRANCH_MAX:  # an odd number: of two neighbours the later end and the earlier time, and the newest as it is
            found.ends = [*found.ends[1:-1:2], found.ends[-1]]
            found.times = [*found.times[:-1:2], found.times[-1]]

    def age_s(self, behind: Iterable[tuple[Place, int]], now: float) -> float:
        """How long ago the oldest op behind any of these places was committed; 0 when there are none."""
        return max((max(0.0, now - self._at(place, seq + 1)) for place, seq in behind), default=0.0)

    def _at(self, place: Place, seq: int) -> float:
        found = self._times.get(place)
        if found is None or seq < found.first_seq:
            return self._start
        at = bisect_left(found.ends, seq)
        return found.times[min(at, len(found.times) - 1)]
