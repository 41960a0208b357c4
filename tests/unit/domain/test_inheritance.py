"""What a claim takes over of an item's registers, and what is read of those that it did not write. The whole of it together: tests/model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fabrik_node.domain.claims import Claim, decode_claim, encode_claim, override, successor
from fabrik_node.domain.finished import FinishedWork, finished_facts
from fabrik_node.domain.inheritance import Written, attempts_of, counted_in, inherited, outcome_of
from fabrik_node.domain.schema import ItemField

OUTCOME, ATTEMPTS, STAGE = ItemField.OUTCOME, ItemField.ATTEMPTS, ItemField.STAGE


def made(number: int, after: Claim | None = None) -> Claim:
    return successor(after, claim_id=bytes([number]) * 16, node=b"n" * 32, agent="a", ttl_ms=1, incarnation="i").confirmed()


ONE = made(1)
TWO, FOUND_NOTHING = inherited(made(2, ONE.released("failed")), ONE.released("failed"), {})


def test_a_claim_of_a_new_item_writes_nothing_beside_itself() -> None:
    claim, again = inherited(ONE, None, {})
    assert (claim.found, again) == ((0, 0), {})
    assert len(repr(encode_claim(claim))) - len(repr(encode_claim(ONE))) < 15, "a few bytes"
    assert decode_claim(encode_claim(claim)) == claim


def test_it_takes_over_what_is_read_and_no_more() -> None:
    assert (TWO.found, FOUND_NOTHING) == ((0, 0), {})
    old = {OUTCOME: Written({"result": "old"}, ONE.fence), ATTEMPTS: Written(2, ONE.fence), STAGE: Written([1], ONE.fence)}
    claim, again = inherited(made(2, ONE.released("failed")), ONE.released("failed"), old)
    assert (claim.found, again) == ((2, 1), {OUTCOME: {"result": "old"}}), "a person may move the item still, and that stops the claim"
    claim, again = inherited(made(2, ONE), ONE, old)
    assert (claim.found, again) == ((2, 1), {OUTCOME: {"result": "old"}}), "and that of a takeover"
    ending, again = inherited(override(ONE, claim_id=b"e" * 16, node=b"n" * 32, incarnation="", reason=""), ONE, {})
    assert (ending.found, again) == ((0, 0), {STAGE: [0]}), "it may be on its way out of Backlog"
    assert inherited(made(3, TWO), TWO, old)[0].found == (0, 0), "late words are not handed on"


def test_finished_work_waits_for_the_claim_after_the_one_that_left_it() -> None:
    left = {"result": "infra_lost"} | finished_facts(FinishedWork(b"f" * 20, "branch"))
    ended = ONE.released("its node ended")
    two, again = inherited(made(2, ended), ended, {OUTCOME: Written(left, ONE.fence)})
    assert again[OUTCOME] == left
    _, again = inherited(made(3, two), two, {OUTCOME: Written(left, two.fence)})
    assert again[OUTCOME] == {"result": "infra_lost"}, "somebody was at it since, and nobody knows how far that came"


def test_the_late_words_of_a_superseded_holder_are_not_read() -> None:
    late = {OUTCOME: Written({"result": "old"}, ONE.fence), ATTEMPTS: Written(1, ONE.fence)}
    assert (outcome_of(late, TWO), attempts_of(late, TWO), counted_in(late, TWO)) == (None, 0, 0)
    claim, _ = inherited(made(2, ONE), ONE, {ATTEMPTS: Written(2, ONE.fence)})
    assert (attempts_of(late | {ATTEMPTS: Written(3, ONE.fence)}, claim), counted_in(late, claim)) == (2, 1), "what it was"
    own = {OUTCOME: Written({"result": "new"}, claim.fence), ATTEMPTS: Written(3, claim.fence)}
    assert (outcome_of(own, claim), attempts_of(own, claim), counted_in(own, claim)) == ({"result": "new"}, 3, 2)
    assert counted_in({ATTEMPTS: Written(0, claim.fence)}, claim) == 2, "a requeue forgets them under the claim that wins"


def test_it_states_no_count_of_a_claim_above_itself() -> None:
    """Receipts and epochs need not rise together; what it states would else not be read."""
    counted = replace(ONE, epoch=9)
    now = replace(TWO, epoch=10, found=(1, 9))
    for registers in ({ATTEMPTS: Written(1, counted.fence)}, {}):
        stated, _ = inherited(replace(made(3), epoch=3, receipt=5), now, registers)
        assert (stated.found, decode_claim(encode_claim(stated))) == ((1, 3), stated)


def test_of_a_claim_that_says_nothing_of_it_the_newest_write_is_read() -> None:
    """An earlier build's."""
    old = {OUTCOME: Written({"result": "old"}, ONE.fence), ATTEMPTS: Written(2, ONE.fence)}
    for claim in (None, made(2, ONE)):
        assert (outcome_of(old, claim), attempts_of(old, claim), counted_in(old, claim)) == ({"result": "old"}, 2, 1)
    assert attempts_of({}, None) == 0


@pytest.mark.parametrize("said", [None, 1, [1], [1, 2, 3], [-1, 0], [2**32, 0], [0, 2], [0, 2**64 - 1], [True, 0], ["1", 0], {1: 2}])
def test_what_is_no_pair_of_numbers_is_as_if_it_was_not_there(said: object) -> None:
    assert decode_claim(encode_claim(ONE) | {13: said}).found is None
