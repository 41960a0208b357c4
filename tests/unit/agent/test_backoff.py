from __future__ import annotations

import random

from fabrik_node.agent.backoff import WAIT_S_MAX, Backoff
from fabrik_node.domain.stages import Backlog
from fabrik_node.ports import ItemView


def view(name: bytes) -> ItemView:
    return ItemView(name * 16, "", "", Backlog(), (), 0, (), 0, 0, None, None, None)


A, B = view(b"a"), view(b"b")


def test_a_refused_item_is_left_alone_for_about_a_beat() -> None:
    backoff = Backoff(30.0, 10.0, random.Random(1))
    assert backoff.ready([A, B], 100.0) == [A, B]
    backoff.refused(A.id, 100.0)
    assert backoff.ready([A, B], 104.9) == [B]
    wait = backoff.next_s([A, B], 100.0)
    assert wait is not None
    assert 5.0 <= wait <= 10.0
    assert backoff.ready([A, B], 100.0 + wait) == [A, B]
    assert backoff.next_s([A, B], 110.0) is None


def test_losses_wait_longer_each_time_up_to_a_limit() -> None:
    backoff, waits = Backoff(30.0, 10.0, random.Random(1)), []
    for _ in range(40):
        backoff.lost(A.id, 0.0)
        waits.append(backoff.next_s([A], 0.0) or 0.0)
    assert 22.5 <= waits[0] <= 30.0
    assert 45.0 <= waits[1] <= 60.0
    assert all(0.75 * WAIT_S_MAX <= wait <= WAIT_S_MAX for wait in waits[6:])
    backoff.went_well(A.id)
    assert backoff.ready([A], 0.0) == [A]
    backoff.lost(A.id, 0.0)
    assert (backoff.next_s([A], 0.0) or 0.0) <= 30.0


def test_a_rate_limit_stops_everything() -> None:
    backoff = Backoff(30.0, 10.0, random.Random(1))
    backoff.rate_limited(0.0)
    assert backoff.is_closed(22.0)
    assert 0.5 <= backoff.closed_s(22.0) <= 8.0
    assert backoff.closed_s(31.0) == 0.0
    assert backoff.ready([A, B], 22.0) == []
    assert backoff.ready([A, B], 30.0) == [A, B]
    backoff.rate_limited(30.0)
    assert backoff.is_closed(30.0 + 44.0)
    backoff.went_well(A.id)
    backoff.rate_limited(1000.0)
    assert not backoff.is_closed(1030.0)


def test_what_is_no_candidate_any_more_is_forgotten() -> None:
    backoff = Backoff(30.0, 10.0, random.Random(1))
    backoff.lost(A.id, 0.0)
    backoff.refused(B.id, 0.0)
    backoff.keep({B.id})
    assert backoff.ready([A, B], 0.0) == [A]
