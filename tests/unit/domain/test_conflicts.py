"""The claims of an item, as its log tells them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from fabrik_node.domain.claims import Claim, encode_claim, override, successor
from fabrik_node.domain.conflicts import reason_of_victory, rival_groups, tell_claims
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


def test_rivals_follow_the_same_claim_and_successors_do_not() -> None:
    first = made(1)
    rival, second = made(2), made(3, first)
    third = made(4, first)
    assert rival_groups([first, rival, second]) == [[first, rival]]
    assert rival_groups([first, second, third]) == [[second, third]]
    assert rival_groups([first, second]) == []


def test_why_a_claim_wins() -> None:
    first = made(1)
    granted, later = first.confirmed(3, b"o"), override(first, claim_id=b"z" * 16, node=b"n" * 32, incarnation="", reason="")
    assert reason_of_victory(granted, first) == "the git remote granted it"
    assert reason_of_victory(first.confirmed(4, b"o"), granted) == "its receipt 4 is higher than 3"
    assert reason_of_victory(later, first) == "its epoch 2 is higher than 1"
    assert reason_of_victory(first, made(2)) == "its hash is lower"
