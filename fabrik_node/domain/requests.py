"""Questions that runs ask people, their answers, and what came of them. Pure: registers in, meaning out (docs/spec/merge.md, kind ``request``).

A question belongs to its item, not to the process that waits: it stays open when the run or its node dies, and the next run of the item that asks the
same meets it. Three parts, each a register of its own: the question, which nobody changes; the answer, which agents can not give; and the end, with which
the one who asked says what it did with the answer. Whoever asked goes by the first answer that it meets; any other one is too late, and is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from fabrik_node._core import blake3, cbor_encode
from fabrik_node.domain.schema import RequestField
from fabrik_node.domain.stages import Archived, Done, Stage

__all__ = [
    "Answer",
    "Asked",
    "End",
    "EndKind",
    "Question",
    "Request",
    "RequestState",
    "decode_request",
    "encode_answer",
    "encode_end",
    "encode_question",
    "is_allowed",
    "judge_request",
    "may_wait",
]


@dataclass(frozen=True, slots=True)
class Question:
    """What a run wants to know. ``options`` empty: any text is an answer. ``timeout_ms`` None: it waits for ever. ``default``: the answer after the timeout."""

    item: bytes
    run_id: bytes
    claim_id: bytes
    text: str
    options: tuple[str, ...] = ()
    timeout_ms: int | None = None
    default: str | None = None
    asked_ms: int = 0

    def is_same(self, other: Question) -> bool:
        """Whether a run that asks ``other`` meets this one: of one item, word for word, with one timeout and default. Another agent that changes any of it is not met."""
        return self.says_same(other) and (self.timeout_ms, self.default) == (other.timeout_ms, other.default)

    def says_same(self, other: Question) -> bool:
        """Whether people read the same: item, text and options."""
        return (self.item, self.text, self.options) == (other.item, other.text, other.options)

    @property
    def digest(self) -> bytes:
        """Of what people read. An answer names it, so that it counts for no other text that the register has before or after."""
        return blake3(cbor_encode([self.item, self.text, list(self.options)]))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person said, on the node ``by``."""

    said: str
    by: bytes
    at_ms: int
    note: str = ""


class EndKind(StrEnum):
    """Why nobody waits for an answer any more."""

    TAKEN = "taken"
    """The run has its answer and goes by it."""
    TIMEOUT = "timeout"
    """Nobody answered in time; ``said`` is the default by which the run goes, empty when there is none."""
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class End:
    """Written by whoever asked, or by an operator who took the item away. ``said``: what the run goes by."""

    kind: EndKind
    at_ms: int
    said: str = ""
    reason: str = ""
    run_id: bytes = b""
    """The run that took it: not always the one that asked."""
    answered_by: bytes = b""
    by: bytes = b""


@dataclass(frozen=True, slots=True)
class Request:
    """A question with what is known of its answer and its end."""

    id: bytes
    question: Question
    asked_by: bytes
    answer: Answer | None = None
    end: End | None = None

    def as_seen_by(self, asker: bytes) -> Request:
        """What the node ``asker`` goes by: agents may write ends, and only people answer, so an answer that another node says to have taken counts for itself alone.

        That nobody is to wait any more counts, whoever says it.
        """
        is_own = self.end is None or self.end.by == asker
        return self if is_own or (self.end is not None and self.end.kind is not EndKind.TAKEN) else replace(self, end=None)

    @property
    def is_too_late(self) -> bool:
        """The answer that is known is not what the run went by: it came after that, or when nobody waited any more."""
        if self.answer is None or self.end is None:
            return False
        return (self.end.said, self.end.answered_by) != (self.answer.said, self.answer.by)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that waits for a person, in one line, and what to type to answer it."""

    text: str
    command: str

    def __str__(self) -> str:
        return f"{self.text} ({self.command})"


class RequestState(StrEnum):
    """What is shown of a question."""

    OPEN = "open"
    ANSWERED = "answered"
    """There is an answer, and the run has not met it yet."""
    TAKEN = "taken"
    TIMED_OUT = "timed out"
    WITHDRAWN = "withdrawn"


def judge_request(request: Request, *, stage: Stage | None) -> RequestState:
    """``stage``: of its item; None when that was deleted. A question of an item that is deleted, done or archived is withdrawn without anybody's word."""
    if request.end is not None:
        return {EndKind.TAKEN: RequestState.TAKEN, EndKind.TIMEOUT: RequestState.TIMED_OUT, EndKind.WITHDRAWN: RequestState.WITHDRAWN}[request.end.kind]
    if not may_wait(stage):
        return RequestState.WITHDRAWN
    return RequestState.OPEN if request.answer is None else RequestState.ANSWERED


def may_wait(stage: Stage | None) -> bool:
    """Whether questions of an item in this stage wait for people; None when it was deleted."""
    return stage is not None and not isinstance(stage, Done | Archived)


def is_allowed(question: Question, said: str) -> bool:
    """Whether this text answers it: word for word one of its options, or anything when it has none."""
    return bool(said) and (not question.options or said in question.options)


# ---- registers ------------------------------------------------------------------------------------------


def encode_question(question: Question) -> dict[int, Any]:
    """The value of the question register."""
    value: dict[int, Any] = {1: question.item, 2: question.run_id, 3: question.claim_id, 4: question.text, 5: list(question.options), 8: question.asked_ms}
    if question.timeout_ms is not None:
        value[6] = question.timeout_ms
    if question.default is not None:
        value[7] = question.default
    return value


def encode_answer(question: Question, said: str, at_ms: int, note: str = "") -> dict[int, Any]:
    """The value of the answer register: a person's, to this question."""
    return {1: said, 2: at_ms, 4: "person", 5: question.digest} | ({3: note} if note else {})


def encode_end(end: End) -> dict[str, Any]:
    """The value of the register ``withdrawn``."""
    more = {"said": end.said, "reason": end.reason, "run": end.run_id, "answered_by": end.answered_by}
    return {"kind": str(end.kind), "wall_ms": end.at_ms, **{name: value for name, value in more.items() if value}}


def decode_request(request: bytes, row: Mapping[int, Any], author_of: Mapping[int, bytes]) -> Request | None:
    """A row of the replica; None without a question. ``author_of``: by field. The core checked questions and answers; an end may be anything."""
    asked = row.get(RequestField.QUESTION)
    if asked is None:
        return None
    question = Question(asked[1], asked[2], asked[3], asked[4], tuple(asked[5]), asked.get(6), asked.get(7), asked[8])
    said = row.get(RequestField.ANSWER)
    answer = None
    if said is not None and is_allowed(question, said[1]) and said.get(5) == question.digest:  # else it is to another text: nobody asked that
        answer = Answer(said[1], author_of.get(RequestField.ANSWER, b""), said[2], said.get(3, ""))
    end = _decode_end(row.get(RequestField.WITHDRAWN), author_of.get(RequestField.WITHDRAWN, b""))
    if end is not None and end.kind is EndKind.TAKEN and answer is None:
        end = None  # nobody can have taken what nobody said
    return Request(request, question, author_of.get(RequestField.QUESTION, b""), answer, end)


def _decode_end(value: Any, by: bytes) -> End | None:
    """An end of another version is one all the same: whoever wrote it waits no more."""
    if not isinstance(value, Mapping):
        return None
    kind = value.get("kind")

    def text(name: str) -> str:
        found = value.get(name)
        return found if isinstance(found, str) else ""

    def raw(name: str) -> bytes:
        found = value.get(name)
        return found if isinstance(found, bytes) else b""

    at_ms = value.get("wall_ms")
    known = EndKind(kind) if isinstance(kind, str) and kind in set(EndKind) else EndKind.WITHDRAWN
    return End(known, at_ms if isinstance(at_ms, int) and at_ms >= 0 else 0, text("said"), text("reason"), raw("run"), raw("answered_by"), by)
