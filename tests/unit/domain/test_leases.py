from __future__ import annotations

import pytest

from fabrik_node.domain.leases import HOLDER_STOPS_AT, LeaseState, LeaseTable, LeaseTiming, overdue_s

TIMING = LeaseTiming()
CLAIM = b"c" * 16


def test_a_lease_ages_on_the_observers_clock() -> None:
    table = LeaseTable(TIMING)
    assert table.state(CLAIM, 90.0, 0.0) is LeaseState.UNREACHABLE
    table.first_seen(CLAIM, 1000.0)
    assert table.state(CLAIM, 90.0, 1090.0) is LeaseState.FRESH
    assert table.state(CLAIM, 90.0, 1090.1) is LeaseState.UNREACHABLE
    assert table.state(CLAIM, 90.0, 1000.0 + TIMING.takeover_after_s(90.0) + 0.1) is LeaseState.UNREACHABLE, "nobody looked"


def looked(table: LeaseTable, since: float, until: float, *, ttl_s: float = 90.0, listens: bool = True, beat_s: float = TIMING.beat_s) -> list[float]:
    """Watch in each beat; when the claim was suspected anew."""
    told, now = [], since
    while now <= until:
        told += [now] * len(table.watch(now, {CLAIM: ttl_s}, listens=listens))
        now += beat_s
    return told


@pytest.mark.promise("F12")
def test_a_takeover_has_two_phases() -> None:
    table = LeaseTable(TIMING)
    table.observe(CLAIM, 1, 1, b"", 0.0)
    assert table.lost_in_s(CLAIM, 90.0, 50.0) == 100.0, "TTL and grace, a look, and the lock delay in whole beats"
    assert looked(table, 0.0, 130.0) == [130.0], "TTL and grace are over: suspected"
    assert table.lost_in_s(CLAIM, 90.0, 130.0) == 30.0
    assert table.state(CLAIM, 90.0, 130.0) is LeaseState.UNREACHABLE
    assert looked(table, 140.0, 140.0) == []
    assert table.state(CLAIM, 90.0, 140.0) is LeaseState.UNREACHABLE, "ten seconds of the lock delay"
    looked(table, 145.0, 145.0)
    assert table.state(CLAIM, 90.0, 145.0) is LeaseState.LOST
    assert table.lost_in_s(CLAIM, 90.0, 145.0) == 0.0
    table.observe(CLAIM, 2, 1, b"", 146.0)
    assert table.state(CLAIM, 90.0, 146.0) is LeaseState.FRESH
    assert looked(table, 146.0, 290.0) == [276.0], "and all over again"


@pytest.mark.promise("F12", "I17")
def test_an_observer_that_was_asleep_or_cut_off_listens_first() -> None:
    table = LeaseTable(TIMING)
    table.observe(CLAIM, 1, 1, b"", 0.0)
    looked(table, 0.0, 130.0)
    looked(table, 36_000.0, 36_000.0)
    assert table.state(CLAIM, 90.0, 36_000.0) is LeaseState.UNREACHABLE, "it slept for ten hours: what it did not hear meanwhile says nothing"
    looked(table, 36_000.0, 36_020.0)
    assert table.state(CLAIM, 90.0, 36_020.0) is LeaseState.LOST
    looked(table, 36_030.0, 36_030.0, listens=False)
    assert table.state(CLAIM, 90.0, 36_030.0) is LeaseState.UNREACHABLE, "cut off"
    looked(table, 36_040.0, 36_040.0)
    assert table.state(CLAIM, 90.0, 36_040.0) is LeaseState.UNREACHABLE
    looked(table, 36_050.0, 36_060.0)
    assert table.state(CLAIM, 90.0, 36_060.0) is LeaseState.LOST


def test_what_a_watcher_knows_of_the_ttl_counts() -> None:
    table = LeaseTable(TIMING)
    table.observe(CLAIM, 1, 1, b"", 0.0)
    table.watch(0.0, {CLAIM: 500.0}, listens=True)
    assert table.state(CLAIM, 90.0, 400.0) is LeaseState.FRESH
    looked(table, 10.0, 300.0, ttl_s=50.0)
    assert table.state(CLAIM, 90.0, 300.0) is LeaseState.LOST


@pytest.mark.promise("I17")
def test_a_ttl_that_became_shorter_than_the_lease_is_old_counts_from_the_next_renewal() -> None:
    table = LeaseTable(TIMING)
    table.observe(CLAIM, 1, 1, b"", 0.0)
    assert looked(table, 0.0, 140.0, ttl_s=600.0) == []
    assert looked(table, 150.0, 620.0) == [], "its holder went on to a stage with a TTL of 90 s, 150 s after its last renewal"
    assert table.state(CLAIM, 90.0, 600.0) is LeaseState.FRESH
    assert looked(table, 630.0, 640.0) == [640.0], "no renewal came: as if it had not gone on"
    table.observe(CLAIM, 2, 1, b"", 640.0)
    assert looked(table, 650.0, 800.0) == [770.0]


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
    table.watch(10.0, {b"d" * 16: 90.0}, listens=True)
    assert table.get(CLAIM) is None
    assert table.get(b"d" * 16) is not None


@pytest.mark.promise("I17")
@pytest.mark.parametrize("ttl_s", [1.0, 5.0, 90.0, 3600.0])
def test_a_holder_stops_before_any_observer_may_take_over(ttl_s: float) -> None:
    timing = LeaseTiming(beat_s=ttl_s / 9, ttl_s=ttl_s, grace_s=0.0, lock_delay_s=0.0)
    renewed_at = 0.0
    stops_at = renewed_at + ttl_s * HOLDER_STOPS_AT
    assert overdue_s(renewed_at, stops_at - 0.001, ttl_s) is None
    assert overdue_s(renewed_at, stops_at, ttl_s) == pytest.approx(0.8 * ttl_s)
    # The observer saw that renewal at the earliest when it was begun.
    table = LeaseTable(timing)
    table.observe(CLAIM, 1, 1, b"", renewed_at)
    assert table.state(CLAIM, ttl_s, stops_at) is LeaseState.FRESH
