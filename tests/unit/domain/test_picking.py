"""Who goes first at which item."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabrik_node.domain.picking import ITEMS_SHARED_MAX, Offer, goes_before, patience_s, preferred_labels, required_labels, share, turn_s

LABELS = st.sets(st.sampled_from(["a", "b", "c", "a?", "b?"]))
OFFERS = st.dictionaries(st.binary(min_size=32, max_size=32), st.builds(Offer, st.sets(st.sampled_from("abc")), st.integers(0, 3)), min_size=1, max_size=6)
ITEMS = st.dictionaries(st.binary(min_size=16, max_size=16), LABELS, max_size=8).map(lambda items: list(items.items()))
PLAIN_ITEMS = [(number.to_bytes(16, "big"), ()) for number in range(200)]


def nobody_is_late(_key: bytes, _item: bytes) -> bool:
    return False


def test_all_agree_who_has_what_first_and_nobody_has_more_than_its_room() -> None:
    @given(st.dictionaries(st.binary(min_size=32, max_size=32), st.integers(0, 3), min_size=1, max_size=6), st.integers(0, 8))
    def check(rooms: dict[bytes, int], count: int) -> None:
        offers = {key: Offer((), room) for key, room in rooms.items()}
        items = PLAIN_ITEMS[:count]
        shares = {key: share(items, key, offers, nobody_is_late) for key in offers}
        assert all(len(shares[key]) <= rooms[key] and len({item for item, _ in shares[key]}) == len(shares[key]) for key in offers)
        places = [(item, ahead) for found in shares.values() for item, ahead in found]
        assert len(places) == len(set(places)), "no two have the same turn at one item"
        first = [item for item, ahead in places if ahead == 0]
        assert sorted(first) == [item for item, _ in items[: sum(rooms.values())]], "as many as can be taken at once are somebody's, the best of them"
        if items:
            assert all(found for key, found in shares.items() if rooms[key]), "who has room has a turn somewhere"

    check()


@given(ITEMS, OFFERS)
def test_nobody_is_given_what_it_may_not_take(items: list[tuple[bytes, set[str]]], offers: dict[bytes, Offer]) -> None:
    own = min(offers)
    mine = [(item, labels) for item, labels in items if required_labels(labels) <= set(offers[own].labels)]
    found = share(mine, own, offers, nobody_is_late)
    assert len(found) <= offers[own].room
    for item, ahead in found:
        labels = dict(mine)[item]
        may = [key for key, offer in offers.items() if required_labels(labels) <= set(offer.labels) and offer.room]
        before = [key for key in may if key != own and goes_before(item, labels, (key, offers[key].labels), (own, offers[own].labels))]
        assert ahead <= len(before) + sum(offer.room for offer in offers.values())


def test_who_takes_what_it_was_given_changes_nothing_for_the_others() -> None:
    offers = {bytes([number]) * 32: Offer((), 1) for number in range(6)}
    items = PLAIN_ITEMS[:20]
    shares = {key: share(items, key, offers, nobody_is_late) for key in offers}
    taker, [(taken, _)] = next(iter(shares.items()))
    left = {key: offer for key, offer in offers.items() if key != taker}
    for key in left:
        assert share([each for each in items if each[0] != taken], key, left, nobody_is_late) == shares[key]


def test_first_places_are_spread() -> None:
    offers = {bytes([number]) * 32: Offer((), 1) for number in range(4)}
    first = Counter(key for item in PLAIN_ITEMS for key in offers if share([item], key, offers, nobody_is_late) == [(item[0], 0)])
    assert sum(first.values()) == 200
    assert min(first.values()) > 30


@given(st.binary(min_size=16, max_size=16), OFFERS, LABELS)
def test_the_better_equipped_go_first(item: bytes, offers: dict[bytes, Offer], labels: set[str]) -> None:
    offers = {key: Offer(offer.labels, 1) for key, offer in offers.items() if required_labels(labels) <= set(offer.labels)}
    order = sorted(offers, key=lambda key: share([(item, labels)], key, offers, nobody_is_late))
    assert [share([(item, labels)], key, offers, nobody_is_late) for key in order] == [[(item, ahead)] for ahead in range(len(order))]
    has = [len(preferred_labels(labels) & set(offers[key].labels)) for key in order]
    assert has == sorted(has, reverse=True)


def test_an_agent_that_did_not_come_has_nothing_left_to_it_but_is_let_go_first() -> None:
    offers = {bytes([number]) * 32: Offer((), 1) for number in range(3)}
    item = next(item for item in PLAIN_ITEMS if share([item], bytes(32), offers, nobody_is_late) == [(item[0], 2)])
    gone = next(key for key in offers if share([item], key, offers, nobody_is_late) == [(item[0], 0)])
    other = next(key for key in offers if key not in {gone, bytes(32)})
    for key, ahead in ((other, 1), (bytes(32), 2)):
        assert share([item], key, offers, lambda late, _: late == gone) == [(item[0], ahead)]


def test_only_the_best_of_many_items_are_shared_out() -> None:
    offers = {number.to_bytes(32, "big"): Offer((), 1) for number in range(3 * ITEMS_SHARED_MAX)}
    found = [share(PLAIN_ITEMS, key, offers, nobody_is_late) for key in offers]
    assert all(len(each) == 1 for each in found)
    assert Counter(ahead for [(_, ahead)] in found) == {0: ITEMS_SHARED_MAX, 1: ITEMS_SHARED_MAX, 2: ITEMS_SHARED_MAX}


def test_nobody_waits_longer_than_a_settle_delay() -> None:
    assert [turn_s(ahead, 2.0) for ahead in (0, 1, 3, 4, 1000)] == [0.0, 0.5, 1.5, 2.0, 2.0]
    assert patience_s(2.0) == 2.0


def test_where_an_arbiter_answers_slowly_turns_are_longer_but_nobody_waits_for_ever() -> None:
    assert [turn_s(ahead, 2.0, 0.6) for ahead in (0, 1, 3, 1000)] == pytest.approx([0.0, 0.9, 2.7, 3.6])
    assert turn_s(1, 2.0, 0.1) == 0.5, "a quick one changes nothing"
    assert turn_s(1000, 2.0, 3600.0) == patience_s(2.0, 3600.0) == 20.0
