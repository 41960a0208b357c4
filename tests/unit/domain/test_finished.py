"""What an outcome says of finished work: its own words, and those of members that write anything."""

from __future__ import annotations

from typing import Any

import pytest

from fabrik_node.domain.finished import FinishedWork, finished_facts, finished_from, without_finished

WORK = FinishedWork(b"c" * 20, "fabrik/x/y", b"p" * 32)


@pytest.mark.parametrize("work", [WORK, FinishedWork(b"c" * 32, "b")])
def test_it_is_read_as_it_was_written_among_other_facts(work: FinishedWork) -> None:
    outcome = {"result": "cancelled", "branch": "own"} | finished_facts(work)
    assert finished_from(outcome) == work
    assert without_finished(outcome) == {"result": "cancelled", "branch": "own"}
    assert finished_facts(None) == {}


@pytest.mark.parametrize(
    "outcome",
    [
        None,
        {},
        "finished",
        *(
            finished_facts(WORK) | changes
            for changes in (
                {"finished": b"short"},
                {"finished": "c" * 20},
                {"finished_branch": ""},
                {"finished_branch": b"x"},
                {"finished_branch": "x" * 201},
                {"finished_prompt": 5},
            )
        ),
    ],
)
def test_what_can_not_be_read_is_none(outcome: Any) -> None:
    assert finished_from(outcome) is None


def test_it_is_of_its_own_text_alone_unless_that_is_not_known() -> None:
    assert WORK.is_of(b"p" * 32)
    assert not WORK.is_of(b"q" * 32)
    assert FinishedWork(b"c" * 20, "b").is_of(b"q" * 32)
