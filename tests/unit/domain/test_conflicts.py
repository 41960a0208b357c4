"""The claims of an item, as its log tells them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from fabrik_node.domain.claims import Claim, Fence, encode_claim, successor
from fabrik_node.domain.conflicts import Worked, find_conflicts, reason_of_victory, tell_claims
from fabrik_node.domain.schema import Kind


@dataclass(frozen=True)
class Said:
    kind: int
    author: bytes
    lamport: int
    wall_ms: int
    value: Any


def made(number: int, after: Claim | None = None) -> Claim:
    return successor(after, claim_id=bytes([number]) * 16, node=bytes([number]) * 32, agent="a", ttl_ms=1, incarnation="i")


def said(claim: Claim, lamport: int, author: bytes = b"") -> Said:
    return Said(Kind.CLAIM, author or claim.node, lamport, 1000 + lamport, encode_claim(claim))


def test_each_claim_is_told_once_with_its_last_statement_in_the_order_of_the_log() -> None:
    first = made(1)
    second = made(2, first)
    stories = tell_claims([said(second, 7), said(first.released("over"), 5), said(first, 3), said(first.confirmed(), 4)])
    assert [(story.claim.claim_id, story.claim.reason, story.first_ms, story.last_ms) for story in stories] == [
        (first.claim_id, "over", 1003, 1005),
        (second.claim_id, "", 1007, 1007),
    ]


def test_what_its_author_may_not_say_and_what_nobody_can_read_is_left_out() -> None:
    claim = made(1)
    stage = Said(Kind.ITEM, claim.node, 1, 1, [0])
    assert tell_claims([stage, said(claim, 2, author=b"x" * 32), replace(said(claim, 3), value={1: b"short"}), replace(said(claim, 4), value=7)]) == []


@pytest.mark.parametrize("part", [1, 2, 3, 6, 7, 8, 9, 10, 11])
def test_a_part_of_another_type_makes_no_claim(part: int) -> None:
    """Of a void op it may be anything, and what is left of the list stays readable."""
    claim = made(1)
    stranger: tuple[Any, ...] = ([], {}, None, True, 1.5, "x", b"x", 7)
    for strange in stranger:
        value = encode_claim(claim) | {part: strange}
        stories = tell_claims([said(claim, 1), replace(said(claim, 2), value=value)])
        for story in stories:
            parts = (story.claim.claim_id, story.claim.epoch, story.claim.receipt, story.claim.agent, story.claim.ttl_ms, story.claim.incarnation)
            assert [type(each) for each in parts] == [bytes, int, int, str, int, str]
            assert [type(each) for each in (story.claim.reason, story.claim.oid, story.claim.follows)] == [str, bytes, bytes]


def worked(number: int, follows: bytes | None = b"", epoch: int = 1, receipt: int = 0, *, overtaken: bool = False) -> Worked:
    return Worked(bytes([number]) * 16, epoch, receipt, follows, overtaken)


def beats(one: Fence, other: Fence) -> bool:
    return one > other


def told(current: Claim | None, *claims: Worked) -> list[tuple[str, bytes, bytes]]:
    return [(found.kind, found.winner.claim_id[:1], found.loser.claim_id[:1]) for found in find_conflicts(current, claims, beats)]


def test_rivals_follow_the_same_claim_and_the_best_of_them_keeps() -> None:
    third = made(3)
    assert told(third, worked(1, overtaken=True), worked(2), worked(3)) == [("rival", b"\3", b"\1"), ("rival", b"\3", b"\2")]
    assert told(third, worked(1)) == [("rival", b"\3", b"\1")], "the winner need not have worked yet"


def test_one_after_the_other_is_no_conflict_unless_the_first_went_on() -> None:
    first = made(1)
    second = made(2, first)
    assert told(second, worked(1), worked(2, first.claim_id, 2)) == []
    assert told(second, worked(1, overtaken=True), worked(2, first.claim_id, 2)) == [("takeover", b"\2", b"\1")]
    third = made(3, second)
    assert told(third, worked(1, overtaken=True), worked(2, first.claim_id, 2)) == [("takeover", b"\2", b"\1")], "by whom it was taken over, not who has it now"
    assert told(third, worked(1, overtaken=True)) == [("takeover", b"\3", b"\1")]
    assert told(None, worked(1, overtaken=True)) == []


def test_what_an_older_version_did_not_say_makes_no_rivals() -> None:
    assert told(made(3), worked(1, None), worked(2, None)) == []
    assert told(made(3), worked(1, None, overtaken=True)) == [("takeover", b"\3", b"\1")]


def test_why_a_claim_wins() -> None:
    first = worked(1)
    assert reason_of_victory(worked(2, receipt=3), first) == "the git remote granted it"
    assert reason_of_victory(worked(2, receipt=4), worked(1, receipt=3)) == "its receipt 4 is higher than 3"
    assert reason_of_victory(worked(2, epoch=2), first) == "its epoch 2 is higher than 1"
    assert reason_of_victory(worked(2), first) == "its hash is lower"
