"""Whose turn it is at which item, by what others say of their agents: each rule by itself."""

from __future__ import annotations

from typing import Any

import pytest
from store_doubles import HandClock

from fabrik_node.domain.leases import LeaseTiming
from fabrik_node.domain.picking import patience_s
from fabrik_node.domain.stages import Backlog
from fabrik_node.node.presence import Heard
from fabrik_node.node.turns import ASKING_S_MAX, Turns
from fabrik_node.ports import ItemView

TIMING = LeaseTiming()
STEP_S = TIMING.settle_s / 4
PATIENCE_S = patience_s(TIMING.settle_s)
OWN, OTHER, THIRD = (bytes([number]) * 32 for number in (1, 2, 3))
FREE = {"labels": [], "slots": 1, "busy": 0}


def view(number: int) -> ItemView:
    return ItemView(number.to_bytes(16, "big"), f"item {number}", "", Backlog(), (), 0, (), 0, 0, None, None, None)


class Seat:
    """One agent's view of the others, by hand."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.here: set[bytes] = set()
        self.told = 0
        self.withdrawn: list[bytes] = []
        self.turns = Turns(OWN, TIMING, self.clock, lambda: self.here, tell=self._tell, withdrawn=self.withdrawn.append)

    def _tell(self) -> None:
        self.told += 1

    def hear(self, key: bytes, agent: object, **more: Any) -> None:
        self.here.add(key)
        self.turns.hear(Heard(key, 1, b"", {"agent": agent, **more}, self.clock.now()))

    def choose(self, *items: ItemView, room: int = 1) -> list[tuple[bytes, float]]:
        return self.turns.choose(items, [], room, 0.0)

    def others_first(self) -> ItemView:
        """An item at which the other one goes first."""
        return next(each for each in map(view, range(1000, 2000)) if self._is_first(each, OTHER))

    def own_first(self) -> ItemView:
        return next(each for each in map(view, range(1000, 2000)) if self._is_first(each, OWN))

    def _is_first(self, each: ItemView, key: bytes) -> bool:
        seat = Seat()
        seat.choose()
        seat.hear(OTHER, FREE)
        return (seat.choose(each) == [(each.id, 0.0)]) == (key == OWN)


@pytest.fixture
def seat() -> Seat:
    seat = Seat()
    seat.choose()  # it looked a moment ago
    return seat


def test_alone_the_best_come_at_once(seat: Seat) -> None:
    assert seat.choose(view(1), view(2), view(3), room=2) == [(view(1).id, 0.0), (view(2).id, 0.0)]


def test_what_falls_to_another_is_left_to_it_while_there_is_more(seat: Seat) -> None:
    seat.hear(OTHER, FREE)
    item = seat.others_first()
    assert seat.choose(item, view(5)) == [(view(5).id, 0.0)]
    assert seat.choose(item) == [(item.id, STEP_S)], "with nothing else the turn after it is ours"
    seat.clock.advance(0.2)
    [(again, wait_s)] = seat.choose(item)
    assert again == item.id
    assert wait_s == pytest.approx(STEP_S - 0.2), "counted from when the item was there"


@pytest.mark.parametrize(
    "said",
    [
        {**FREE, "busy": 1},
        {**FREE, "asking": [view(9).id]},
        {**FREE, "problem": "a rate limit"},
        {"slots": 1, "busy": 0},
        {"labels": 7},
        None,
        "free",
    ],
)
def test_nobody_waits_for_who_takes_nothing_now(seat: Seat, said: object) -> None:
    seat.hear(OTHER, said)
    item = seat.others_first()
    assert seat.choose(item) == [(item.id, 0.0)]
    seat.hear(OTHER, FREE, accepting=False)
    assert seat.choose(item) == [(item.id, 0.0)], "it drains"


@pytest.mark.parametrize("asking", [5, ["x", 7, None], [[]], {"a": 1}, "abc"])
def test_another_version_may_say_anything(seat: Seat, asking: object) -> None:
    seat.hear(OTHER, {"labels": [1, "a", b""], "slots": "x", "busy": -5, "asking": asking})
    assert len(seat.choose(view(1))) == 1


def test_who_does_not_come_in_its_time_is_waited_for_no_more(seat: Seat) -> None:
    seat.hear(OTHER, FREE)
    item, next_one = seat.others_first(), view(5)
    assert seat.choose(item, next_one) == [(next_one.id, 0.0)]
    seat.clock.advance(PATIENCE_S)
    assert seat.choose(item, next_one) == [(item.id, 0.0)]


def test_what_may_have_been_left_for_long_is_not_left_again(seat: Seat) -> None:
    """Our agent was at work and can not know since when the other one leaves the item alone: it gives it one turn, and does not pass the item by."""
    seat.hear(OTHER, FREE)
    seat.clock.advance(2 * TIMING.beat_s)
    item, next_one = seat.others_first(), view(5)
    assert seat.choose(item, next_one) == [(item.id, STEP_S)]
    seat.clock.advance(STEP_S)
    assert seat.choose(item, next_one) == [(item.id, 0.0)]


def test_who_has_just_become_free_is_left_what_falls_to_it(seat: Seat) -> None:
    seat.hear(OTHER, {**FREE, "busy": 1})
    seat.clock.advance(2 * TIMING.beat_s)
    seat.hear(OTHER, FREE)
    item = seat.others_first()
    assert seat.choose(item, view(5)) == [(view(5).id, 0.0)]


def test_an_item_that_is_asked_for_is_left_alone_but_not_for_ever(seat: Seat) -> None:
    item = view(1)
    seat.hear(OTHER, {**FREE, "asking": [item.id]})
    assert seat.turns.is_asked_by_others(item, [])
    assert seat.choose(item, view(2)) == [(view(2).id, 0.0)]
    seat.clock.advance(ASKING_S_MAX - 0.1)
    seat.hear(OTHER, {**FREE, "asking": [item.id]})  # says it again: that makes it no newer
    assert seat.choose(item) == []
    seat.clock.advance(0.1)
    assert not seat.turns.is_asked_by_others(item, [])
    assert seat.choose(item) == [(item.id, 0.0)]


@pytest.mark.parametrize("period_s", [0.1, 0.4, 3.0])
def test_who_asks_and_takes_it_back_again_and_again_keeps_nobody_from_it(seat: Seat, period_s: float) -> None:
    item = seat.others_first()
    began, kept = seat.clock.now(), 0
    for number in range(round(200.0 / period_s)):
        seat.hear(OTHER, {**FREE, "slots": 2, **({"asking": [item.id]} if number % 2 else {})})
        kept += not any(wait_s == 0.0 for _, wait_s in seat.choose(item))
        seat.clock.advance(period_s)
    assert kept * period_s <= 2 * (ASKING_S_MAX + PATIENCE_S + 2 * period_s), "ten seconds of each hundred, and a turn"
    assert len(seat.withdrawn) <= 1 + (seat.clock.now() - began) / 100, "and nobody has to look again each time"


def test_silent_ones_ask_for_nothing(seat: Seat) -> None:
    seat.hear(OTHER, {**FREE, "asking": [view(1).id]})
    seat.here.clear()
    assert seat.choose(view(1)) == [(view(1).id, 0.0)]


def test_who_asks_no_more_gives_way_to_all_in_their_order(seat: Seat) -> None:
    item = seat.others_first()
    seat.hear(THIRD, {**FREE, "asking": [item.id]})
    seat.hear(OTHER, FREE)
    seat.choose(item)
    seat.clock.advance(2 * PATIENCE_S)
    seat.hear(OTHER, {**FREE, "busy": 1})
    seat.hear(OTHER, FREE)
    seat.hear(THIRD, {**FREE, "problem": "git"})
    assert seat.withdrawn == [item.id]
    assert seat.choose(item) == [(item.id, STEP_S)]


def test_of_two_that_ask_at_once_both_know_who_goes_first(seat: Seat) -> None:
    for item, waits in ((seat.others_first(), True), (seat.own_first(), False)):
        with seat.turns.intent(item.id, 0.0) as listen_s:
            seat.hear(OTHER, {**FREE, "asking": [item.id]})
            assert listen_s in (0.0, TIMING.settle_s / 16)
            assert seat.turns.is_asked_by_others(item, []) == waits
        assert seat.turns.is_asked_by_others(item, []), "ours is over, the other one's is not"


def test_who_asks_listens_for_a_part_of_what_a_claim_takes(seat: Seat) -> None:
    def listens_s(claim_s: float) -> float:
        with seat.turns.intent(view(1).id, claim_s) as listen_s:
            return listen_s

    assert listens_s(2.0) == 0.0, "there is nobody to listen to"
    seat.hear(OTHER, FREE)
    assert [listens_s(claim_s) for claim_s in (0.0, 0.4, 2.0, 60.0)] == [0.125, 0.125, 0.5, 1.0]


def test_intents_are_told_at_once_but_only_so_often(seat: Seat) -> None:
    for _ in range(50):
        with seat.turns.intent(view(1).id, 0.0):
            assert seat.turns.asking == {view(1).id}
    assert seat.turns.asking == set()
    assert seat.told == 20
    seat.clock.advance(TIMING.beat_s)
    seat.turns.say()
    assert seat.told == 21
