"""Who goes first at which item."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabrik_node.domain.picking import agents_ahead, preferred_labels, required_labels, turn_s

KEYS = st.sets(st.binary(min_size=32, max_size=32), min_size=1, max_size=6)
ITEMS = st.binary(min_size=16, max_size=16)
LABELS = st.sets(st.sampled_from(["a", "b", "c", "a?", "b?"]))


@given(ITEMS, st.dictionaries(st.binary(min_size=32, max_size=32), st.sets(st.sampled_from("abc")), min_size=1, max_size=6), LABELS)
def test_those_who_may_have_an_order_without_ties_and_the_better_equipped_go_first(item: bytes, agents: dict[bytes, set[str]], labels: set[str]) -> None:
    fit = [key for key, has in agents.items() if required_labels(labels) <= has]
    order = sorted(fit, key=lambda key: agents_ahead(item, labels, key, agents))
    assert [agents_ahead(item, labels, key, agents) for key in order] == list(range(len(fit)))
    has = [len(preferred_labels(labels) & agents[key]) for key in order]
    assert has == sorted(has, reverse=True)


@given(ITEMS, KEYS)
def test_who_leaves_changes_the_order_of_nobody_else(item: bytes, keys: set[bytes]) -> None:
    agents = dict.fromkeys(keys, ())
    order = sorted(keys, key=lambda key: agents_ahead(item, (), key, agents))
    without = dict.fromkeys(order[1:], ())
    assert [agents_ahead(item, (), key, without) for key in order[1:]] == list(range(len(order) - 1))


def test_first_places_are_spread() -> None:
    agents = {bytes([number]) * 32: () for number in range(4)}
    first = Counter(key for number in range(400) for key in agents if agents_ahead(number.to_bytes(16, "big"), (), key, agents) == 0)
    assert sum(first.values()) == 400
    assert min(first.values()) > 60


def test_nobody_waits_longer_than_a_settle_delay() -> None:
    assert [turn_s(ahead, 2.0) for ahead in (0, 1, 3, 4, 1000)] == [0.0, 0.5, 1.5, 2.0, 2.0]


def test_where_an_arbiter_answers_slowly_turns_are_longer_but_nobody_waits_for_ever() -> None:
    assert [turn_s(ahead, 2.0, 0.6) for ahead in (0, 1, 3, 1000)] == pytest.approx([0.0, 0.9, 2.7, 3.6])
    assert turn_s(1, 2.0, 0.1) == 0.5, "a quick one changes nothing"
    assert turn_s(1000, 2.0, 3600.0) == 20.0
