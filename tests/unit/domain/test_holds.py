"""What of the registers of holds counts; the first one alone is what earlier builds write."""

from __future__ import annotations

from typing import Any

from fabrik_node.domain.holds import Said, standing_hold

OLD, NEW = b"o" * 16, b"n" * 16
PERSON: dict[str, Any] = {"reason": "cancelled"}


def of(claim: bytes) -> dict[str, Any]:
    return {"reason": "failed", "claim": claim}


def test_a_persons_word_stands_beside_whatever_holders_write() -> None:
    for late in (of(OLD), of(NEW)):
        assert standing_hold(Said(late, 9), Said(PERSON, 5), Said(late, 9), NEW) == PERSON
    assert standing_hold(Said(of(OLD), 9), None, Said(of(NEW), 5), NEW) == of(NEW), "written over by the late word of who lost its claim"
    assert standing_hold(Said(of(OLD), 9), None, Said(of(OLD), 9), NEW) is None
    assert standing_hold(None, None, None, None) is None


def test_the_end_of_a_hold_ends_all_that_was_said_before_it() -> None:
    ended = Said(None, 7)
    assert standing_hold(ended, ended, Said(of(NEW), 5), NEW) is None
    assert standing_hold(Said(of(OLD), 9), ended, Said(of(NEW), 5), NEW) is None, "whatever became of the common register since"
    assert standing_hold(Said(of(NEW), 9), ended, Said(of(NEW), 9), NEW) == of(NEW), "held again since"


def test_what_a_build_says_that_knows_the_common_register_alone_counts() -> None:
    assert standing_hold(Said(PERSON, 5), None, None, NEW) == PERSON
    assert standing_hold(Said(of(NEW), 5), None, None, NEW) == of(NEW)
    assert standing_hold(Said(of(OLD), 5), None, None, NEW) is None
    assert standing_hold(Said(None, 7), Said(PERSON, 5), Said(of(NEW), 5), NEW) is None, "its requeue frees the item"
    assert standing_hold(Said(None, 5), Said(PERSON, 7), None, NEW) == PERSON, "cancelled after that"
