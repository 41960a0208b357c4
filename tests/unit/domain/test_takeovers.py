"""When an observer does not trust its own view."""

from __future__ import annotations

import pytest

from fabrik_node.domain.takeovers import MassLoss, is_minority


@pytest.mark.parametrize(
    ("known", "here", "minority"),
    [(0, 0, False), (1, 0, False), (1, 1, False), (2, 0, True), (2, 1, False), (3, 0, True), (3, 1, False), (4, 1, True), (9, 4, False)],
)
def test_fewer_than_half_is_a_minority(known: int, here: int, minority: bool) -> None:
    heard = {bytes([number]): 5.0 for number in range(known)}
    assert is_minority(heard, [bytes([number]) for number in range(here)]) is minority


def test_who_is_silent_for_an_hour_does_not_count() -> None:
    assert is_minority({b"a": 3600.0, b"b": 5.0}, [])
    assert not is_minority({b"a": 3601.0, b"b": 5.0}, [])
    assert not is_minority({b"a": 4000.0, b"b": 4000.0}, [b"stranger"])


def ids(number: int) -> list[bytes]:
    return [bytes([each]) for each in range(number)]


@pytest.mark.parametrize(("lost", "held", "brake"), [(1, 1, False), (2, 10, False), (2, 6, True), (3, 100, True), (0, 5, False)])
def test_three_or_more_than_thirty_percent_put_it_on(lost: int, held: int, brake: bool) -> None:
    assert MassLoss(90.0, 135.0).look(0.0, ids(lost), held) is brake


def test_it_is_put_on_once_and_ends_by_itself() -> None:
    rule = MassLoss(90.0, 135.0)
    assert rule.look(10.0, ids(3), 3)
    assert not rule.look(20.0, ids(3), 3)
    assert rule.is_on(144.0)
    assert not rule.is_on(145.0)
    assert not rule.look(146.0, ids(3), 3), "the same ones"
    assert not rule.look(300.0, ids(4), 10), "one more, long after the others"
    assert rule.look(310.0, ids(6), 10)


def test_losses_that_come_slowly_do_not() -> None:
    rule = MassLoss(90.0, 135.0)
    assert not any(rule.look(number * 100.0, ids(number), 100) for number in range(20))
