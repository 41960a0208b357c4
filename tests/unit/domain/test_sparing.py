"""Events that a peer can cause are bounded in number, whatever it does."""

from __future__ import annotations

import pytest

from fabrik_node.domain.sparing import Sparing


@pytest.mark.promise("I18")
def test_each_key_has_its_count_in_a_window() -> None:
    sparing = Sparing(count=2, window_s=10.0)
    assert [sparing.may("a", now) for now in (0.0, 1.0, 2.0, 9.9)] == [True, True, False, False]
    assert sparing.may("b", 9.9), "others have their own"
    assert sparing.left_out == 2
    assert [sparing.may("a", now) for now in (10.0, 10.1, 10.2)] == [True, True, False], "a new window, with a count of its own"


def test_keys_are_bounded_and_the_oldest_goes_first() -> None:
    sparing = Sparing(count=1, window_s=100.0, keys_max=3)
    assert all(sparing.may(key, 0.0) for key in "abc")
    assert sparing.may("d", 1.0)
    assert not sparing.may("b", 2.0)
    assert sparing.may("a", 2.0), "it was forgotten: the price of a bound"
    assert len(sparing._said) == 3
