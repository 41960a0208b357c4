"""How often in a row the work on an item was interrupted, and nothing that charges an attempt came of it: healing has an end, too.

An item that brings down whatever works on it would otherwise be begun again for ever: its runs are lost, never failed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fabrik_node.domain.runs import FINAL_STATES, RunState

__all__ = ["NODE_ENDED", "SUPERVISOR_KILLED", "Interruptions", "PastRun", "count_interruptions"]

NODE_ENDED = "the node ended in phase"
"""In the reason of a run that its node found at its next start."""
SUPERVISOR_KILLED = "its supervisor process was killed"
_LOST = (f"infra_lost: {NODE_ENDED}", "lease_lost:")
"""How the reason of a lost run begins. Others that charge nothing (a rate limit, a service that is away) say themselves that the work is not to blame."""


@dataclass(frozen=True, slots=True)
class PastRun:
    """A run of the item under an earlier claim. ``epoch``: of that claim."""

    epoch: int
    state: RunState
    reason: str


@dataclass(frozen=True, slots=True)
class Interruptions:
    """``count`` in a row, and the reason of the ``last`` one, one line."""

    count: int
    last: str = ""


def count_interruptions(runs: Iterable[PastRun]) -> Interruptions:
    """From the newest back to the first that came to an end of another kind. One that was replaced says neither."""
    count, last = 0, ""
    for run in sorted(runs, key=lambda each: each.epoch, reverse=True):
        match run.state:
            case RunState.SUPERSEDED:
                continue
            case RunState.INTERRUPTED if run.reason.startswith(_LOST) or SUPERVISOR_KILLED in run.reason:
                said = run.reason
            case state if state not in FINAL_STATES:
                said = "its node was lost, and another claim followed"
            case _:
                break
        count, last = count + 1, last or said
    return Interruptions(count, last)
