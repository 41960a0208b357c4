"""Questions to people: what their registers mean together, whatever another version wrote."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fabrik_node.domain.requests import (
    Answer,
    End,
    EndKind,
    Question,
    Request,
    RequestState,
    decode_request,
    encode_answer,
    encode_end,
    encode_question,
    is_allowed,
    judge_request,
)
from fabrik_node.domain.schema import RequestField
from fabrik_node.domain.stages import Archived, ArchiveReason, Backlog, Coding, Done

QUESTION = Question(b"i" * 16, b"r" * 16, b"c" * 16, "deploy?", ("yes", "no"), 60_000, "no", 7)
OPEN = Request(b"q" * 16, QUESTION, b"n" * 32)
ANSWERED = replace(OPEN, answer=Answer("yes", b"p" * 32, 8, "fine"))
TAKEN = replace(ANSWERED, end=End(EndKind.TAKEN, 9, "yes", run_id=b"s" * 16, answered_by=b"p" * 32, by=b"n" * 32))


@pytest.mark.parametrize("request_", [OPEN, ANSWERED, TAKEN, replace(OPEN, question=Question(b"i" * 16, b"r" * 16, b"c" * 16, "which?"))])
def test_what_is_written_is_what_is_read(request_: Request) -> None:
    row = {int(RequestField.QUESTION): encode_question(request_.question)}
    if request_.answer is not None:
        row[RequestField.ANSWER] = encode_answer(request_.question, request_.answer.said, request_.answer.at_ms, request_.answer.note)
    if request_.end is not None:
        row[RequestField.WITHDRAWN] = encode_end(request_.end)  # type: ignore[assignment]  # text keys
    authors = {int(RequestField.QUESTION): b"n" * 32, int(RequestField.ANSWER): b"p" * 32, int(RequestField.WITHDRAWN): b"n" * 32}
    assert decode_request(request_.id, row, authors) == request_
    assert decode_request(request_.id, {}, {}) is None


@pytest.mark.parametrize(
    ("request_", "state"),
    [
        (OPEN, RequestState.OPEN),
        (ANSWERED, RequestState.ANSWERED),
        (TAKEN, RequestState.TAKEN),
        (replace(OPEN, end=End(EndKind.TIMEOUT, 9)), RequestState.TIMED_OUT),
        (replace(ANSWERED, end=End(EndKind.WITHDRAWN, 9)), RequestState.WITHDRAWN),
    ],
)
def test_the_states(request_: Request, state: RequestState) -> None:
    for stage in (Backlog(), Coding()):
        assert judge_request(request_, stage=stage) is state
    over = (None, Done(1, b"m" * 20), Archived(1, ArchiveReason.SUPERSEDED))
    for stage_ in over:
        assert judge_request(request_, stage=stage_) is (RequestState.WITHDRAWN if request_.end is None else state)


@pytest.mark.parametrize(
    ("request_", "late"),
    [
        (ANSWERED, False),
        (TAKEN, False),
        (replace(TAKEN, answer=Answer("no", b"p" * 32, 10)), True),
        (replace(TAKEN, answer=Answer("yes", b"o" * 32, 10)), True),
        (replace(ANSWERED, end=End(EndKind.TIMEOUT, 9, "no")), True),
        (replace(ANSWERED, end=End(EndKind.WITHDRAWN, 9)), True),
    ],
)
def test_an_answer_that_the_run_does_not_go_by_came_too_late(request_: Request, *, late: bool) -> None:
    assert request_.is_too_late is late


@pytest.mark.promise("D31")
def test_an_answer_that_nobody_asked_for_is_none() -> None:
    row = {int(RequestField.QUESTION): encode_question(QUESTION), int(RequestField.ANSWER): encode_answer(QUESTION, "maybe", 8)}
    found = decode_request(OPEN.id, row, {})
    assert found is not None
    assert found.answer is None
    another = encode_answer(replace(QUESTION, text="mend a typo?"), "yes", 8)
    for said in (another, {**another, 5: b""}, {key: value for key, value in another.items() if key != 5}):
        found = decode_request(OPEN.id, {**row, int(RequestField.ANSWER): said}, {})
        assert found is not None
        assert found.answer is None, "it was given to another text"
    assert decode_request(OPEN.id, {**row, int(RequestField.ANSWER): {**another, 5: QUESTION.digest}}, {}) == replace(
        OPEN, asked_by=b"", answer=Answer("yes", b"", 8)
    )
    assert not is_allowed(QUESTION, "Yes")
    assert not is_allowed(replace(QUESTION, options=()), "")
    assert is_allowed(replace(QUESTION, options=()), "anything")


@pytest.mark.parametrize("value", [{}, {"kind": "later"}, {"kind": 7, "said": 8, "run": "x", "wall_ms": "y"}, {"kind": "withdrawn", "more": [1]}])
def test_an_end_of_another_version_is_an_end(value: dict[str, object]) -> None:
    found = decode_request(OPEN.id, {RequestField.QUESTION: encode_question(QUESTION), RequestField.WITHDRAWN: value}, {})
    assert found is not None
    assert judge_request(found, stage=Coding()) is RequestState.WITHDRAWN


def test_the_same_question_is_the_same_item_text_options_timeout_and_default() -> None:
    assert QUESTION.is_same(replace(QUESTION, run_id=b"s" * 16, claim_id=b"d" * 16, asked_ms=9))
    for other in (replace(QUESTION, item=b"j" * 16), replace(QUESTION, text="deploy it?"), replace(QUESTION, options=("no", "yes"))):
        assert not QUESTION.is_same(other)
        assert not QUESTION.says_same(other)
        assert QUESTION.digest != other.digest
    for other in (replace(QUESTION, default="yes"), replace(QUESTION, timeout_ms=1)):
        assert not QUESTION.is_same(other)
        assert QUESTION.says_same(other)
        assert QUESTION.digest == other.digest
