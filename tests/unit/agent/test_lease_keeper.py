from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from node_rig import eventually
from store_doubles import HandClock

from fabrik_node.agent.results import Result
from fabrik_node.agent.stop import StopSwitch
from fabrik_node.agent.supervisor import LeaseKeeper
from fabrik_node.domain.leases import LeaseTiming

BOUND_S = 60.0


def keeper(clock: HandClock, renew: Callable[[int], bool], switch: StopSwitch, mark: Callable[[], object] = lambda: 0) -> LeaseKeeper:
    timing = LeaseTiming(beat_s=0.001, ttl_s=90.0)
    return LeaseKeeper(renew=renew, mark=mark, timing=timing, clock=clock, switch=switch, since=clock.now(), name="test")


def thrown(switch: StopSwitch) -> threading.Event:
    event = threading.Event()
    switch.attach(event.set)
    return event


async def test_it_renews_in_a_thread_of_its_own_until_it_is_stopped() -> None:
    threads, enough = set(), threading.Event()
    switch = StopSwitch()
    made: list[LeaseKeeper] = []

    def renew(_: int) -> bool:
        threads.add(threading.get_ident())
        if made[0].beats >= 3:
            enough.set()
        return True

    made.append(keeper(HandClock(), renew, switch))
    made[0].start()
    assert enough.wait(BOUND_S)
    await made[0].stop()
    beats = made[0].beats
    assert threads == {next(iter(threads))} - {threading.get_ident()}
    assert switch.stop is None
    assert made[0].beats == beats


async def test_80_percent_of_the_ttl_counts_from_before_the_last_renewal_that_succeeded() -> None:
    clock, switch, calls = HandClock(), StopSwitch(), []

    def renew(_: int) -> bool:
        calls.append(clock.seconds)
        clock.advance(30.0)  # each call takes long, the first too
        return len(calls) == 1

    made = keeper(clock, renew, switch)
    lost = thrown(switch)
    made.start()
    assert lost.wait(BOUND_S)
    await made.stop()
    # 100 + 30 is the end of the renewal that succeeded: 72 s after its beginning is 172, so the third call is the last.
    assert calls[:3] == [100.0, 130.0, 160.0]
    assert made.renewed_at == 100.0
    assert switch.stop is not None
    assert switch.stop.result is Result.LEASE_LOST
    assert switch.stop.reason == "the lease could not be renewed for 90 of 90 s"


async def test_a_renewal_that_raises_counts_as_failed_and_the_thread_goes_on() -> None:
    clock, switch = HandClock(), StopSwitch()

    def renew(_: int) -> bool:
        clock.advance(20.0)
        raise RuntimeError("no presence")

    made = keeper(clock, renew, switch)
    lost = thrown(switch)
    made.start()
    assert lost.wait(BOUND_S)
    await made.stop()
    assert switch.stop is not None
    assert switch.stop.reason.endswith("(no presence)")


async def test_progress_rises_only_when_something_moved() -> None:
    marks = iter(["a", "a", "b", "b", "c"])
    seen: list[int] = []
    done = threading.Event()

    def renew(progress_n: int) -> bool:
        seen.append(progress_n)
        if len(seen) >= 6:
            done.set()
        return True

    made = keeper(HandClock(), renew, StopSwitch(), lambda: next(marks, "c"))
    made.start()
    assert done.wait(BOUND_S)
    await made.stop()
    assert seen[:6] == [1, 1, 2, 2, 3, 3]


async def test_a_keeper_that_never_started_can_be_stopped_and_asked() -> None:
    clock, switch = HandClock(), StopSwitch()
    made = keeper(clock, lambda _: True, switch)
    thrown_early = thrown(switch)
    made.check()
    assert not thrown_early.is_set()
    clock.advance(72.0)
    made.check()
    assert thrown_early.is_set()
    await made.stop()


def checked(made: LeaseKeeper, switch: StopSwitch) -> str:
    """Why it stops now; empty when it does not."""
    made.check()
    return "" if switch.stop is None else switch.stop.reason


async def test_a_shorter_ttl_counts_at_once_and_a_longer_one_from_the_next_renewal() -> None:
    clock, switch = HandClock(), StopSwitch()
    made = keeper(clock, lambda _: True, switch)
    made.enter(10.0, 10.0)
    clock.advance(7.5)
    assert checked(made, switch) == ""
    made.enter(1000.0, 10.0)
    clock.advance(0.5)
    assert checked(made, switch) == "the lease could not be renewed for 8 of 10 s", "nobody need know of the longer one"


async def test_a_longer_ttl_counts_after_a_renewal() -> None:
    clock, switch = HandClock(), StopSwitch()
    made = keeper(clock, lambda _: True, switch)
    made.enter(1000.0, 10.0)
    made.start()
    await eventually(lambda: made.beats > 0)
    await made.stop()
    clock.advance(700.0)
    assert checked(made, switch) == ""
    clock.advance(100.0)
    assert checked(made, switch) == "the lease could not be renewed for 800 of 1000 s"


@pytest.mark.promise("I17")
async def test_the_ttl_and_beat_of_the_stage_count_from_the_claim_on() -> None:
    clock, switch = HandClock(), StopSwitch()
    timing = LeaseTiming(beat_s=1000.0, ttl_s=90.0)
    made = LeaseKeeper(renew=lambda _: False, mark=lambda: 0, timing=timing, clock=clock, switch=switch, since=clock.now(), name="test", stage=(600.0, 120.0))
    clock.advance(479.0)
    assert checked(made, switch) == "", "nothing was entered yet"
    clock.advance(1.0)
    assert checked(made, switch) == "the lease could not be renewed for 480 of 600 s"


def staged(clock: HandClock, renew: Callable[[int], bool], switch: StopSwitch) -> LeaseKeeper:
    """Of an item in a stage with a TTL of 600 s and a beat of 120 s; it renewed once, and does not by itself before the next beat."""
    timing = LeaseTiming(stage_ttl_s={"Coding": 600.0}, stage_beat_s={"Coding": 120.0})
    made = LeaseKeeper(renew=renew, mark=lambda: 0, timing=timing, clock=clock, switch=switch, since=clock.now(), name="test")
    made.enter(600.0, 120.0)
    made.start()
    return made


@pytest.mark.promise("I17")
async def test_before_a_stage_with_a_shorter_ttl_the_lease_is_renewed() -> None:
    clock, switch = HandClock(), StopSwitch()
    made = staged(clock, lambda _: True, switch)
    await eventually(lambda: made.beats == 1)
    clock.advance(119.0)
    assert await made.ready(90.0, 10.0)
    assert made.beats >= 2
    made.enter(90.0, 10.0)
    assert checked(made, switch) == "", "no renewal failed"
    await made.stop()
    clock.advance(71.0)
    assert checked(made, switch) == ""
    clock.advance(1.0)
    assert checked(made, switch) == "the lease could not be renewed for 72 of 90 s", "from that renewal on"


@pytest.mark.promise("I17")
async def test_while_that_renewal_reaches_nobody_the_ttl_of_the_stage_before_goes_on_counting() -> None:
    clock, switch, calls = HandClock(), StopSwitch(), []

    def renew(_: int) -> bool:
        calls.append(clock.seconds)
        if len(calls) > 1:
            clock.advance(100.0)
        return len(calls) == 1

    made = staged(clock, renew, switch)
    await eventually(lambda: made.beats == 1)
    clock.advance(119.0)
    assert not await made.ready(90.0, 0.001)
    await made.stop()
    assert made.beats == 1
    assert switch.stop is not None
    assert switch.stop.reason == "the lease could not be renewed for 519 of 600 s"


@pytest.mark.promise("I17")
async def test_a_shorter_ttl_that_is_set_while_a_renewal_is_under_way_counts() -> None:
    clock, switch, calls = HandClock(), StopSwitch(), []
    made: list[LeaseKeeper] = []

    def renew(_: int) -> bool:
        calls.append(clock.seconds)
        if len(calls) == 2:
            made[0].enter(10.0, 120.0)
        return len(calls) <= 2

    made.append(staged(clock, renew, switch))
    await eventually(lambda: made[0].beats == 1)
    assert await made[0].ready(500.0, 120.0)
    await made[0].stop()
    clock.advance(8.0)
    assert checked(made[0], switch) == "the lease could not be renewed for 8 of 10 s"


async def test_a_slower_beat_waits_for_the_renewal_that_makes_its_longer_ttl_count() -> None:
    clock, switch = HandClock(), StopSwitch()
    made = LeaseKeeper(renew=lambda _: True, mark=lambda: 0, timing=LeaseTiming(), clock=clock, switch=switch, since=clock.now(), name="test")
    made.start()
    await eventually(lambda: made.beats == 1)
    made.enter(600.0, 120.0)
    await eventually(lambda: made.ttl_s == 600.0)
    clock.advance(119.0)
    assert checked(made, switch) == "", "the longer TTL counts at once, not after a beat of 120 s"
    await made.stop()


class SleepyClock(HandClock):
    """At its ``nth`` reading the machine has just been asleep, for longer than the holder may be silent. Read by one thread."""

    def __init__(self, nth: int) -> None:
        super().__init__()
        self.left = nth

    def now(self) -> float:
        self.left -= 1
        if self.left == 0:
            self.advance(80.0)
        return super().now()


@pytest.mark.promise("I17")
@pytest.mark.parametrize("nth", range(2, 30))
async def test_wherever_a_machine_falls_asleep_its_holder_stops_when_it_wakes_up(nth: int) -> None:
    clock, switch, after = SleepyClock(nth), StopSwitch(), []
    enough = threading.Event()

    def renew(_: int) -> bool:
        if clock.left <= 0 and switch.stop is None:  # a run that is being stopped is renewed until its command is gone
            after.append(clock.left)
        if len(after) > 3:
            enough.set()
        return True

    made = keeper(clock, renew, switch)
    switch.attach(enough.set)
    made.start()
    assert enough.wait(BOUND_S)
    await made.stop()
    assert switch.stop is not None, "it renewed an overdue lease as if nothing had been"
    assert switch.stop.result is Result.LEASE_LOST
    assert len(after) <= 1, "the renewal that was under way"


async def test_the_beat_is_that_of_the_stage() -> None:
    clock, switch = HandClock(), StopSwitch()
    timing = LeaseTiming(beat_s=1000.0, ttl_s=9000.0, stage_beat_s={"Qa": 0.001})
    made = LeaseKeeper(renew=lambda _: True, mark=lambda: 0, timing=timing, clock=clock, switch=switch, since=clock.now(), name="test")
    assert (timing.beat_in_s("Coding"), timing.beat_in_s("Qa")) == (1000.0, 0.001)
    made.enter(9000.0, timing.beat_in_s("Qa"))
    made.start()
    await eventually(lambda: made.beats > 3)
    await made.stop()
