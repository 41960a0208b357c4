"""Which folders of runs may go: by age, then by size, and never one that somebody may still need."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["KeptRun", "Leftover", "Retention", "WallWatch", "plan_cleanup"]

_DAY_MS = 86_400_000
_JUMP_S = 3600.0
"""More than corrections of a clock that is nearly right, more than a wrong daylight saving time."""
_RESTS_S = 86_400.0
"""After a jump: time for whoever keeps the clock to see it and put it right."""


@dataclass(frozen=True, slots=True)
class Retention:
    """``keep_days``: how long a folder stays after its run; ``keep_bytes``: what all of them may take together."""

    keep_days: float = 30.0
    keep_bytes: int = 1_073_741_824


@dataclass(frozen=True, slots=True)
class KeptRun:
    """A folder that is there. ``ended_ms`` None: its run has no end yet. ``finished``: its item is done, archived or deleted."""

    run_id: str
    item: bytes
    size_bytes: int
    ended_ms: int | None
    finished: bool


@dataclass(frozen=True, slots=True)
class Leftover:
    """A folder that may go, and why."""

    run: KeptRun
    why: str


@dataclass(slots=True)
class WallWatch:
    """Whether ages on the wall clock may be believed: not for a day after it jumped, which makes every run years old at once."""

    _last: tuple[float, float] | None = None
    _jumped_at: float | None = None

    def is_steady(self, now: float, wall_ms: int) -> bool:
        """``now``: seconds on a clock that never jumps, never less than the last time. False when both moved apart by more than an hour within the last day."""
        wall_s = wall_ms / 1000
        if self._last is not None and abs((wall_s - self._last[1]) - (now - self._last[0])) > _JUMP_S:
            self._jumped_at = now
        self._last = (now, wall_s)
        return self._jumped_at is None or now - self._jumped_at > _RESTS_S


def plan_cleanup(runs: Iterable[KeptRun], limits: Retention, now_ms: int, *, by_age: bool = True) -> list[Leftover]:
    """What to remove, oldest first. Pure: who asks twice gets one answer.

    Kept in any case: runs that have no end, and the newest run of each item that is not finished. So the bound on bytes holds for what
    may go, not for those. A date in the future is not old. ``by_age`` False: only the bound on bytes counts.
    """
    known = list(runs)
    newest: dict[bytes, str] = {}
    for run in known:
        if not run.finished and run.run_id > newest.get(run.item, ""):
            newest[run.item] = run.run_id
    free = sorted(
        (run for run in known if run.ended_ms is not None and (run.finished or newest[run.item] != run.run_id)),
        key=lambda run: (run.ended_ms or 0, run.run_id),
    )
    total = sum(run.size_bytes for run in known)
    chosen = []
    for run in free:
        age_days = (now_ms - (run.ended_ms or 0)) / _DAY_MS
        if by_age and age_days > limits.keep_days:
            why = f"ended {age_days:.0f} days ago: more than {limits.keep_days:g}"
        elif total > limits.keep_bytes:
            why = f"all runs take {total} bytes: more than {limits.keep_bytes}"
        else:
            continue
        total -= run.size_bytes
        chosen.append(Leftover(run, why))
    return chosen
