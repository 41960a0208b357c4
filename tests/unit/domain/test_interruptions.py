"""Which ends of runs count as one more interruption in a row."""

from __future__ import annotations

import pytest

from fabrik_node.domain.interruptions import NODE_ENDED, SUPERVISOR_KILLED, Interruptions, PastRun, count_interruptions
from fabrik_node.domain.runs import RunState

LOST = PastRun(1, RunState.INTERRUPTED, f"infra_lost: {NODE_ENDED} coding; process 7 was gone")


def at(epoch: int, state: RunState, reason: str = "") -> PastRun:
    return PastRun(epoch, state, reason)


@pytest.mark.promise("C23")
def test_lost_runs_are_counted_back_to_the_first_that_was_not() -> None:
    lease = at(3, RunState.INTERRUPTED, "lease_lost: the lease could not be renewed")
    killed = at(2, RunState.INTERRUPTED, f"infra_lost: coding: {SUPERVISOR_KILLED}")
    gone = at(4, RunState.RUNNING)
    assert count_interruptions([gone, LOST, lease, killed]) == Interruptions(4, "its node was lost, and another claim followed")
    assert count_interruptions([killed, lease, LOST]) == Interruptions(3, lease.reason)
    assert count_interruptions([LOST, at(2, RunState.SUPERSEDED)]) == Interruptions(1, LOST.reason), "who was replaced says neither"
    assert count_interruptions([]) == Interruptions(0)


@pytest.mark.promise("C23")
@pytest.mark.parametrize(
    "end",
    [
        at(5, RunState.COMPLETED, "ok: merged"),
        at(5, RunState.FAILED, "agent_failed: coding failed with exit code 3"),
        at(5, RunState.CANCELLED, "cancelled: by hand"),
        at(5, RunState.INTERRUPTED, "rate_limited: coding ended with exit code 75"),
        at(5, RunState.INTERRUPTED, "infra_lost: coding ended with exit code 76: something that it depends on failed"),
    ],
    ids=lambda end: end.reason.partition(":")[0] + str(end.state),
)
def test_any_other_end_begins_anew(end: PastRun) -> None:
    assert count_interruptions([LOST, LOST, end]).count == 0
    newer = PastRun(9, LOST.state, LOST.reason)
    assert count_interruptions([LOST, end, newer]).count == 1
