"""How long ago an op was committed here: never told too small, with bounded memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fabrik_node.node.commit_times import CommitTimes

A, B = (b"a" * 32, 1, 0), (b"b" * 32, 1, 0)


def test_the_oldest_op_that_is_lacked_counts() -> None:
    times = CommitTimes(0.0)
    times.note(A, 1, 5, 10.0)
    times.note(A, 6, 6, 20.0)
    times.note(B, 1, 1, 30.0)
    assert times.age_s([], 100.0) == 0
    assert times.age_s([(A, 6), (B, 1)], 100.0) == 80, "whoever has all lacks at most what came last"
    assert times.age_s([(A, 5)], 100.0) == 80
    assert times.age_s([(A, 4), (B, 0)], 100.0) == 90
    assert times.age_s([(B, 0)], 100.0) == 70


def test_what_was_there_before_the_start_is_as_old_as_the_start() -> None:
    times = CommitTimes(40.0)
    assert times.age_s([(A, 0)], 100.0) == 60
    times.note(A, 8, 9, 90.0)
    assert times.age_s([(A, 7)], 100.0) == 10
    assert times.age_s([(A, 6)], 100.0) == 60


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), min_size=1, max_size=1_000), st.data())
def test_ages_are_never_too_small_and_memory_is_bounded(steps: list[tuple[int, int]], data: st.DataObject) -> None:
    times, now, seq, truth = CommitTimes(0.0), 0.0, 0, dict[int, float]()
    for count, pause in steps:
        now += pause
        times.note(A, seq + 1, seq + count, now)
        truth |= dict.fromkeys(range(seq + 1, seq + count + 1), now)
        seq += count
    behind = data.draw(st.integers(0, seq - 1))
    told = times.age_s([(A, behind)], now)
    assert now - truth[behind + 1] <= told <= now
    assert len(times._times[A].ends) <= 128
    assert times.age_s([(A, seq - 1)], now) == now - truth[seq], "the newest is known exactly"


def test_branches_without_news_are_forgotten_first() -> None:
    times = CommitTimes(0.0)
    for number in range(5_000):
        times.note((number.to_bytes(32, "big"), 1, 0), 1, 1, 50.0)
        times.note(A, number + 1, number + 1, 60.0)
    assert len(times._times) == 4_096
    assert times.forgotten == 905
    assert times.age_s([(((4_999).to_bytes(32, "big"), 1, 0), 0)], 100.0) == 50
    assert times.age_s([(((0).to_bytes(32, "big"), 1, 0), 0)], 100.0) == 100, "as old as the start"
    assert times.age_s([(A, 4_999)], 100.0) == 40
