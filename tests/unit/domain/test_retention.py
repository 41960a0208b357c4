"""Which run folders go: checked over random sets of runs, against the rules said one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabrik_node.domain.retention import KeptRun, Retention, WallWatch, plan_cleanup

DAY_MS = 86_400_000
NOW_MS = 1_800_000_000_000
ITEMS = st.sampled_from([b"a", b"b", b"c"])
FINISHED = {b"a": True, b"b": False, b"c": False}
RUNS = st.lists(st.tuples(ITEMS, st.integers(0, 5000), st.none() | st.integers(NOW_MS - 60 * DAY_MS, NOW_MS + DAY_MS)), max_size=12).map(
    lambda rows: [KeptRun(f"{number:02}", item, size, ended, FINISHED[item]) for number, (item, size, ended) in enumerate(rows)]
)


@pytest.mark.promise("C24")
@given(runs=RUNS, days=st.sampled_from([0.0, 1.0, 30.0, 100.0]), most=st.integers(0, 20_000))
def test_what_goes_is_old_or_too_much_and_never_what_somebody_needs(runs: list[KeptRun], days: float, most: int) -> None:
    limits = Retention(days, most)
    leftovers = plan_cleanup(runs, limits, NOW_MS)
    gone = [each.run for each in leftovers]
    left = [run for run in runs if run not in gone]
    assert all(run.ended_ms is not None for run in gone), "a run without an end stays"
    for item in (b"b", b"c"):
        mine = [run for run in runs if run.item == item]
        assert not mine or mine[-1] in left, "the newest run of unfinished work stays"
    may_go = [run for run in left if run.ended_ms is not None and (run.finished or run is not [each for each in runs if each.item == run.item][-1])]
    assert not any((NOW_MS - (run.ended_ms or 0)) / DAY_MS > days for run in may_go), "nothing that may go is too old"
    assert sum(run.size_bytes for run in left) <= most or not may_go, "the bound holds for what may go"
    assert [run.ended_ms for run in gone] == sorted(run.ended_ms or 0 for run in gone), "the oldest go first"
    assert plan_cleanup(left, limits, NOW_MS) == [], "and then nothing is left to do"


@pytest.mark.parametrize(("moved_s", "believed"), [(0.0, True), (3600.0, True), (-3600.0, True), (3601.0, False), (-3601.0, False), (1e9, False)])
def test_ages_are_not_believed_for_a_day_after_the_wall_clock_jumped(moved_s: float, believed: bool) -> None:
    watch = WallWatch()
    assert watch.is_steady(50.0, NOW_MS), "nothing is known against it"
    at_ms = NOW_MS + round(moved_s * 1000)
    looks = [watch.is_steady(50.0 + hours * 3600.0, at_ms + hours * 3_600_000) for hours in range(1, 30)]
    assert looks == [believed or hours > 25 for hours in range(1, 30)]


def test_without_the_rule_of_age_the_bound_on_bytes_holds() -> None:
    runs = [KeptRun(f"{number}", b"a", 100, NOW_MS - (90 - number) * DAY_MS, finished=True) for number in range(3)]
    assert [each.run.run_id for each in plan_cleanup(runs, Retention(30.0, 200), NOW_MS, by_age=False)] == ["0"]
