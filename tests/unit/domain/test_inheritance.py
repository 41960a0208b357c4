"""What a claim takes over of an item's registers, and what is read of those that it did not write. The whole of it together: tests/model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fabrik_node._core import cbor_encode, fence_beats
from fabrik_node.domain.claims import Claim, decode_claim, encode_claim, override, successor
from fabrik_node.domain.finished import FinishedWork, finished_facts
from fabrik_node.domain.inheritance import Written, attempts_of, counted_in, inherited, outcome_of, stage_of
from fabrik_node.domain.schema import ItemField

ITEM = b"the item of it! "
OUTCOME, ATTEMPTS, STAGE = ItemField.OUTCOME, ItemField.ATTEMPTS, ItemField.STAGE


def made(number: int, after: Claim | None = None) -> Claim:
    return successor(after, claim_id=bytes([number]) * 16, node=b"n" * 32, agent="a", ttl_ms=1, incarnation="i").confirmed()


ONE = made(1)
TWO, FOUND_NOTHING = inherited(ITEM, made(2, ONE.released("failed")), ONE.released("failed"), {})


def test_a_claim_of_a_new_item_writes_nothing_beside_itself() -> None:
    claim, again = inherited(ITEM, ONE, None, {})
    assert (claim.found, claim.found_stage, again) == ((0, 0), (0,), {})
    assert len(cbor_encode(encode_claim(claim))) - len(cbor_encode(encode_claim(ONE))) == 9, "a few bytes"
    assert decode_claim(encode_claim(claim)) == claim


def test_it_takes_over_what_is_read_and_no_more() -> None:
    assert (TWO.found, FOUND_NOTHING) == ((0, 0), {})
    old = {OUTCOME: Written({"result": "old"}, ONE.fence), ATTEMPTS: Written(2, ONE.fence), STAGE: Written([1], ONE.fence)}
    for before in (ONE.released("failed"), ONE):
        claim, again = inherited(ITEM, made(2, before), before, old)
        assert (claim.found, claim.found_stage, again) == ((2, 1), (1,), {OUTCOME: {"result": "old"}}), (
            "a person may archive the item still, and that stops the claim"
        )
    ending, again = inherited(ITEM, override(ONE, claim_id=b"e" * 16, node=b"n" * 32, incarnation="", reason=""), ONE, {})
    assert (ending.found, ending.found_stage, again) == ((0, 0), (0,), {STAGE: [0]}), "it may be on its way out of Backlog"
    two, _ = inherited(ITEM, made(2, ONE), ONE, {})
    late, _ = inherited(ITEM, made(3, two), two, old)
    assert (late.found, late.found_stage) == ((0, 0), (0,)), "late words are not handed on"


def test_finished_work_waits_for_the_claim_after_the_one_that_left_it() -> None:
    left = {"result": "infra_lost"} | finished_facts(FinishedWork(b"f" * 20, "branch"))
    ended = ONE.released("its node ended")
    two, again = inherited(ITEM, made(2, ended), ended, {OUTCOME: Written(left, ONE.fence)})
    assert again[OUTCOME] == left
    _, again = inherited(ITEM, made(3, two), two, {OUTCOME: Written(left, two.fence)})
    assert again[OUTCOME] == {"result": "infra_lost"}, "somebody was at it since, and nobody knows how far that came"


def test_the_late_words_of_a_superseded_holder_are_not_read() -> None:
    late = {OUTCOME: Written({"result": "old"}, ONE.fence), ATTEMPTS: Written(1, ONE.fence)}
    assert (outcome_of(ITEM, late, TWO), attempts_of(ITEM, late, TWO), counted_in(ITEM, late, TWO)) == (None, 0, 0)
    claim, _ = inherited(ITEM, made(2, ONE), ONE, {ATTEMPTS: Written(2, ONE.fence)})
    assert (attempts_of(ITEM, late | {ATTEMPTS: Written(3, ONE.fence)}, claim), counted_in(ITEM, late, claim)) == (2, 1), "what it was"
    own = {OUTCOME: Written({"result": "new"}, claim.fence), ATTEMPTS: Written(3, claim.fence)}
    assert (outcome_of(ITEM, own, claim), attempts_of(ITEM, own, claim), counted_in(ITEM, own, claim)) == ({"result": "new"}, 3, 2)
    assert counted_in(ITEM, {ATTEMPTS: Written(0, claim.fence)}, claim) == 2, "a requeue forgets them under the claim that wins"


@pytest.mark.promise("I15")
def test_the_late_move_of_a_superseded_holder_is_not_read() -> None:
    """But that work is merged is a fact, and the archive a person's word: both stop the successor."""
    claim, _ = inherited(ITEM, made(2, ONE), ONE, {STAGE: Written([1], ONE.fence)})
    for late in ([2], [0], [3, "branch", 1]):
        assert stage_of(ITEM, {STAGE: Written(late, ONE.fence)}, claim) == [1]
        assert stage_of(ITEM, {STAGE: Written(late, claim.fence)}, claim) == stage_of(ITEM, {STAGE: Written(late, ONE.fence)}, ONE) == late
    for told in ([4, 5, bytes(20)], [5, 5, 0]):
        assert stage_of(ITEM, {STAGE: Written(told, ONE.fence)}, claim) == told
    archived, _ = inherited(ITEM, made(2, ONE), ONE, {STAGE: Written([5, 5, 0], ONE.fence)})
    assert stage_of(ITEM, {STAGE: Written([1], ONE.fence)}, archived) == [5, 5, 0], "nor is the archive left by one"
    assert (stage_of(ITEM, {}, claim), stage_of(ITEM, {}, ONE), stage_of(ITEM, {}, None)) == ([1], [0], [0])


def test_what_people_say_of_the_stage_while_nobody_holds_the_item_stands_until_the_next_holder_moves_it() -> None:
    ended = ONE.released("failed")
    for before, fence in ((None, None), (ended, ended.fence)):
        claim, _ = inherited(ITEM, made(2, before), before, {STAGE: Written([3, "bad", 1], fence)})
        assert claim.follows_ended
        assert stage_of(ITEM, {STAGE: Written([0], fence)}, claim) == [0]
        assert stage_of(ITEM, {STAGE: Written([0], made(9).fence)}, claim) == [3, "bad", 1], "of a rival that followed the same one"
    taken_over, _ = inherited(ITEM, made(2, ONE), ONE, {STAGE: Written([3, "bad", 1], ONE.fence)})
    assert not taken_over.follows_ended
    assert stage_of(ITEM, {STAGE: Written([0], ONE.fence)}, taken_over) == [3, "bad", 1]
    strange, _ = inherited(ITEM, replace(made(2), follows=b"x" * 16), None, {})
    assert not strange.follows_ended, "it follows one that is not known here"


def test_what_has_a_fence_above_the_winning_claim_was_written_by_people_who_saw_a_claim_that_is_not_here() -> None:
    """Yet, or any more: its author was put out with all that he wrote."""
    claim, _ = inherited(ITEM, made(2, ONE), ONE, {STAGE: Written([1], ONE.fence), ATTEMPTS: Written(2, ONE.fence)})
    above = replace(made(3, claim), receipt=1).fence
    said = {STAGE: Written([3, "mended", 1], above), ATTEMPTS: Written(0, above), OUTCOME: Written({"result": "x"}, above)}
    assert (stage_of(ITEM, said, claim), attempts_of(ITEM, said, claim), outcome_of(ITEM, said, claim)) == ([3, "mended", 1], 0, {"result": "x"})
    one, other = (replace(claim, claim_id=bytes([number]) * 16) for number in (7, 8))
    high, low = (one, other) if fence_beats(ITEM, one.fence, other.fence) else (other, one)
    assert stage_of(ITEM, {STAGE: Written([2], high.fence)}, low) == [2], "also by the rank alone"
    assert stage_of(ITEM, {STAGE: Written([2], low.fence)}, high) == [1]


def test_it_states_no_count_of_a_claim_above_itself() -> None:
    """Receipts and epochs need not rise together; what it states would else not be read."""
    counted = replace(ONE, epoch=9)
    now = replace(TWO, epoch=10, found=(1, 9))
    for registers in ({ATTEMPTS: Written(1, counted.fence)}, {}):
        stated, _ = inherited(ITEM, replace(made(3), epoch=3, receipt=5), now, registers)
        assert (stated.found, decode_claim(encode_claim(stated))) == ((1, 3), stated)


def test_of_a_claim_that_says_nothing_of_it_the_newest_write_is_read() -> None:
    """An earlier build's."""
    old = {OUTCOME: Written({"result": "old"}, ONE.fence), ATTEMPTS: Written(2, ONE.fence)}
    for claim in (None, made(2, ONE)):
        assert (outcome_of(ITEM, old, claim), attempts_of(ITEM, old, claim), counted_in(ITEM, old, claim)) == ({"result": "old"}, 2, 1)
    assert attempts_of(ITEM, {}, None) == 0


@pytest.mark.parametrize("said", [None, 1, [1], [1, 2, 3], [-1, 0], [2**32, 0], [0, 2], [0, 2**64 - 1], [True, 0], ["1", 0], {1: 2}])
def test_what_is_no_pair_of_numbers_is_as_if_it_was_not_there(said: object) -> None:
    assert decode_claim(encode_claim(ONE) | {13: said}).found is None


def test_the_stage_that_was_found_is_any_that_a_register_can_have() -> None:
    for stage in ([0], [1], [2], [3, "b" * 255, 2**32 - 1], [4, 0, bytes(20)], [4, 9, bytes(32)], [5, 0, 5]):
        claim = decode_claim(encode_claim(ONE) | {14: stage})
        assert claim.found_stage == tuple(stage)
        assert decode_claim(encode_claim(claim)) == claim


NO_STAGES: list[object] = [
    None,
    1,
    "Qa",
    {},
    [],
    [6],
    [-1],
    [True],
    ["1"],
    [0, 0],
    [3],
    [3, "", 1],
    [3, "b" * 256, 1],
    [3, "b", 0],
    [3, "b", 2**32],
    [3, "b", True],
    [3, 1, 1],
]
NO_ENDS = [[4, 0, bytes(19)], [4, -1, bytes(20)], [4, True, bytes(20)], [4, 0, "x" * 20], [5, 0, 6], [5, 0, -1], [5, -1, 0], [5, 0, False], [5, 0, 0, 0]]


@pytest.mark.parametrize("said", [*NO_STAGES, *NO_ENDS], ids=repr)
def test_what_is_no_stage_is_as_if_it_was_not_there(said: object) -> None:
    assert decode_claim(encode_claim(ONE) | {14: said}).found_stage is None
