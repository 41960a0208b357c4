from __future__ import annotations

import pytest

from fabrik_node.domain.leases import LeaseState, LeaseTable, LeaseTiming, overdue_s

TIMING = LeaseTiming()
CLAIM = b"c" * 16


def test_a_lease_ages_on_the_observers_clock() -> None:
    table = LeaseTable(TIMING)
    assert table.state(CLAIM, 90.0, 0.0) is LeaseState.UNREACHABLE
    table.first_seen(CLAIM, 1000.0)
    assert table.state(CLAIM, 90.0, 1090.0) is LeaseState.FRESH
    assert table.state(CLAIM, 90.0, 1090.1) is LeaseState.UNREACHABLE
    assert table.state(CLAIM, 90.0, 1135.0 + 90.0 - 90.0) is LeaseState.UNREACHABLE
    assert table.state(CLAIM, 90.0, 1000.0 + TIMING.takeover_after_s(90.0) + 0.1) is LeaseState.LOST


def test_only_news_renews() -> None:
    table = LeaseTable(TIMING)
    assert table.observe(CLAIM, 5, 1, b"", 10.0)
    assert not table.observe(CLAIM, 5, 2, b"", 50.0)
    assert not table.observe(CLAIM, 4, 2, b"", 50.0)
    assert table.age_s(CLAIM, 50.0) == 40.0
    assert table.observe(CLAIM, 6, 1, b"run", 60.0)
    lease = table.get(CLAIM)
    assert lease is not None
    assert (lease.seen_at, lease.progress_at, lease.run_id) == (60.0, 10.0, b"run")
    table.first_seen(CLAIM, 99.0)
    assert table.age_s(CLAIM, 60.0) == 0.0


def test_progress_is_a_signal_of_its_own() -> None:
    table = LeaseTable(TIMING)
    table.observe(CLAIM, 1, 1, b"", 10.0)
    table.observe(CLAIM, 2, 2, b"", 20.0)
    table.observe(CLAIM, 3, 2, b"", 30.0)
    lease = table.get(CLAIM)
    assert lease is not None
    assert (lease.seen_at, lease.progress_at) == (30.0, 20.0)


def test_a_clock_that_stands_still_makes_nothing_old() -> None:
    table = LeaseTable(TIMING)
    table.observe(CLAIM, 1, 1, b"", 10.0)
    assert table.age_s(CLAIM, 5.0) == 0.0


def test_what_is_not_kept_is_forgotten() -> None:
    table = LeaseTable(TIMING)
    table.observe(CLAIM, 1, 1, b"", 10.0)
    table.observe(b"d" * 16, 1, 1, b"", 10.0)
    table.keep({b"d" * 16})
    assert table.get(CLAIM) is None
    assert table.get(b"d" * 16) is not None


@pytest.mark.promise("I17")
@pytest.mark.parametrize("ttl_s", [1.0, 5.0, 90.0, 3600.0])
def test_a_holder_stops_before_any_observer_may_take_over(ttl_s: float) -> None:
    timing = LeaseTiming(beat_s=ttl_s / 9, ttl_s=ttl_s, grace_s=0.0, lock_delay_s=0.0)
    renewed_at = 0.0
    stops_at = renewed_at + timing.holder_stop_s
    assert overdue_s(renewed_at, stops_at - 0.001, timing) is None
    assert overdue_s(renewed_at, stops_at, timing) == pytest.approx(timing.holder_stop_s)
    # The observer saw that renewal at the earliest when it was begun.
    table = LeaseTable(timing)
    table.observe(CLAIM, 1, 1, b"", renewed_at)
    assert table.state(CLAIM, ttl_s, stops_at) is LeaseState.FRESH
