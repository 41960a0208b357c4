"""Every way in which a holder and an observer can be awake, asleep, connected and cut off, beat by beat, until nothing new can happen.

The holder stops before the observer may take over, whatever sleeps, and nobody is taken for lost who was not listened for.
"""

from __future__ import annotations

import itertools
from copy import deepcopy
from dataclasses import dataclass, field

import pytest

from fabrik_node.domain.leases import LeaseState, LeaseTable, LeaseTiming, overdue_s

CLAIM = b"c" * 16
TIMING = LeaseTiming(beat_s=5.0, ttl_s=25.0, grace_s=5.0, lock_delay_s=10.0)
UNNOTICED_BEATS = 2
"""For so long a holder may take a dead connection for a live one."""


@dataclass
class Moment:
    """``dead_for``: beats since the connection broke, None while it is whole. ``attentive``: beats in which the observer was awake and connected, since it was not or slept for two in a row; ``slept``: beats in a row until now."""

    table: LeaseTable = field(default_factory=lambda: LeaseTable(TIMING))
    now: float = 0.0
    renewed_at: float = 0.0
    renew_n: int = 1
    stopped: bool = False
    dead_for: int | None = None
    attentive: int = 0
    slept: int = 0

    def key(self) -> tuple[object, ...]:
        """What counts of it for the future: ages, cut off where they stop to matter."""
        lease = self.table.get(CLAIM)
        assert lease is not None
        ages = (self.now - self.renewed_at, self.now - lease.seen_at, self.now - (self.table._watched_at or 0.0))
        unseen = self.renew_n > lease.renew_n
        suspect = self.table._suspects.get(CLAIM)
        heard = None if suspect is None else min(suspect, 20.0)
        return (*(min(age, 60.0) for age in ages), heard, self.table._listens, self.stopped, self.dead_for, min(self.attentive, 4), self.slept, unseen)

    def step(self, *, holder: bool, observer: bool, connected: bool) -> Moment:
        """One beat later. ``holder`` and ``observer``: whether they are awake."""
        then = deepcopy(self)
        then.now += TIMING.beat_s
        then.dead_for = None if connected else min((-1 if self.dead_for is None else self.dead_for) + 1, UNNOTICED_BEATS)
        if holder and not then.stopped:
            if overdue_s(then.renewed_at, then.now, TIMING.ttl_s) is not None:
                then.stopped = True
            else:
                then.renew_n += 1
                if then.dead_for is None or then.dead_for < UNNOTICED_BEATS:
                    then.renewed_at = then.now
        then.slept = 0 if observer else min(self.slept + 1, 2)
        then.attentive = 0 if then.slept > 1 or (observer and not connected) else self.attentive + observer
        if observer:
            if connected:
                then.table.observe(CLAIM, then.renew_n, 0, b"", then.now)
            then.table.watch(then.now, {CLAIM: TIMING.ttl_s}, listens=connected)
        return then


def explore(*, old_rule: bool = False) -> tuple[int, int]:
    """States, and those with a lost lease. ``old_rule``: a lease is lost by its age alone."""
    first = Moment()
    first.table.observe(CLAIM, 1, 0, b"", 0.0)
    first.table.watch(0.0, {CLAIM: TIMING.ttl_s}, listens=True)
    seen, waiting, lost = {first.key()}, [first], 0
    while waiting:
        moment = waiting.pop()
        age_s = moment.table.age_s(CLAIM, moment.now)
        assert age_s is not None
        is_lost = moment.table.state(CLAIM, TIMING.ttl_s, moment.now) is LeaseState.LOST
        if old_rule:
            is_lost = age_s > TIMING.takeover_after_s(TIMING.ttl_s)
        if is_lost and moment.slept == 0:  # who sleeps takes nothing over
            lost += 1
            overdue = overdue_s(moment.renewed_at, moment.now, TIMING.ttl_s) is not None  # one that sleeps sees it before it does anything else
            assert moment.stopped or overdue, "the holder is at work and taken for lost"
            assert moment.attentive * TIMING.beat_s >= TIMING.lock_delay_s, "nobody listened for it"
        for holder, observer, connected in itertools.product((True, False), repeat=3):
            then = moment.step(holder=holder, observer=observer, connected=connected)
            if then.key() not in seen:
                seen.add(then.key())
                waiting.append(then)
    return len(seen), lost


@pytest.mark.promise("I17", "F12")
def test_a_holder_has_stopped_before_anybody_may_take_over() -> None:
    states, lost = explore()
    print(f"leases: {states} states, {lost} with a lost lease")
    assert states > 2_000
    assert lost > 50


def test_a_lease_that_ends_by_its_age_alone_is_taken_from_a_holder_that_lives() -> None:
    """The counterexample that gave a takeover its second phase: an observer wakes up, and nobody whom it did not hear in its sleep seems to live."""
    with pytest.raises(AssertionError, match="at work|listened"):
        explore(old_rule=True)
