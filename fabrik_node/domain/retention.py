"""Which folders of runs may go: by age, then by size, and never one that somebody may still need."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["KeptRun", "Leftover", "Retention", "plan_cleanup"]

_DAY_MS = 86_400_000


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


def plan_cleanup(runs: Iterable[KeptRun], limits: Retention, now_ms: int) -> list[Leftover]:
    """What to remove, oldest first. Pure: who asks twice gets one answer.

    Kept in any case: runs that have no end, and the newest run of each item that is not finished. So the bound on bytes holds for what
    may go, not for those. A date in the future is not old.
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
        if age_days > limits.keep_days:
            why = f"ended {age_days:.0f} days ago: more than {limits.keep_days:g}"
        elif total > limits.keep_bytes:
            why = f"all runs take {total} bytes: more than {limits.keep_bytes}"
        else:
            continue
        total -= run.size_bytes
        chosen.append(Leftover(run, why))
    return chosen
