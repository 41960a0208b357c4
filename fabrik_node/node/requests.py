"""Questions to people as the replica has them now, and the writes that ask, answer and end them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from fabrik_node._core import Changes, Replica
from fabrik_node.domain.requests import (
    Asked,
    End,
    EndKind,
    Question,
    Request,
    RequestState,
    decode_request,
    encode_answer,
    encode_end,
    encode_question,
    judge_request,
    may_wait,
)
from fabrik_node.domain.schema import Kind, RequestField
from fabrik_node.domain.stages import Stage
from fabrik_node.ids import show_id
from fabrik_node.node.board import Board
from fabrik_node.node.request_index import RequestIndex

if TYPE_CHECKING:  # names of the stub, not of the extension
    from fabrik_node._core import Write

__all__ = ["Requests", "answer_command", "answer_write", "asked", "end_write", "question_write"]

_ID_BYTES = 16
_LINE_CHARS_MAX = 200
_PENDING = frozenset({RequestState.OPEN, RequestState.ANSWERED})


def question_write(request: bytes, question: Question) -> Write:
    """Ask."""
    return (Kind.REQUEST, request, RequestField.QUESTION, encode_question(question), None)


def answer_write(request: Request, said: str, at_ms: int, note: str) -> Write:
    """Answer, as a person."""
    return (Kind.REQUEST, request.id, RequestField.ANSWER, encode_answer(request.question, said, at_ms, note), None)


def end_write(request: bytes, end: End) -> Write:
    """Say that nobody waits any more, and why."""
    return (Kind.REQUEST, request, RequestField.WITHDRAWN, encode_end(end), None)


def answer_command(request: Request) -> str:
    """What a person types to answer it."""
    # Words, not bars: pasted as it stands into a shell it must answer nothing.
    return f"fabrik-node approvals answer {show_id(request.id)} {' or '.join(map(shlex.quote, request.question.options)) or 'TEXT'}"


def asked(request: Request) -> Asked:
    """For one line about it."""
    line = " ".join(request.question.text.split())
    return Asked(line if len(line) <= _LINE_CHARS_MAX else f"{line[: _LINE_CHARS_MAX - 4]} ...", answer_command(request))


class Requests:
    """A typed view of a replica. Without an ``index`` each call that looks for questions reads all of them; with one, :meth:`note` must hear of every change."""

    def __init__(self, replica: Replica, index: RequestIndex | None = None) -> None:
        self._replica = replica
        self._index = index
        self._board = Board(replica)

    @classmethod
    def kept(cls, replica: Replica) -> Requests:
        """Of a node that serves."""
        return cls(replica, RequestIndex(replica))

    def note(self, changes: Changes) -> None:
        """In the event loop, after each commit."""
        if self._index is not None:
            self._index.note(changes)

    @property
    def _known(self) -> RequestIndex:
        return RequestIndex(self._replica) if self._index is None else self._index

    def get(self, request: bytes) -> Request | None:
        """One of them; None when there is none with this id."""
        if len(request) != _ID_BYTES:
            return None
        row = self._replica.row(Kind.REQUEST, request)
        authors = {}
        for field in RequestField:
            if (register := self._replica.get(Kind.REQUEST, request, field)) is not None:
                authors[int(field)] = register.author
        return decode_request(request, row, authors)

    def ids(self) -> list[bytes]:
        """Of all of them, in the order of their ids: oldest first, as far as the wall clocks of their nodes agree."""
        return self._known.ids()

    def all(self) -> Iterator[Request]:
        """Oldest first."""
        return self._got(self.ids())

    def of(self, item: bytes) -> list[Request]:
        """Those of one item, oldest first."""
        return list(self._got(self._known.of(item)))

    def asked_by(self, item: bytes, run_id: bytes) -> int:
        """How many questions one run has asked of its item's people, whatever became of them."""
        return self._known.asked_by(item, run_id)

    def state(self, request: Request) -> RequestState:
        """See :func:`~fabrik_node.domain.requests.judge_request`."""
        return judge_request(request, stage=self._stage(request.question.item))

    def _stage(self, item: bytes) -> Stage | None:
        alive = self._board.item(item) is not None and not self._replica.tombstoned(item)
        return self._board.stage(item) if alive else None

    def is_open(self, request: Request) -> bool:
        """It waits for an answer."""
        return self.state(request) is RequestState.OPEN

    def open(self, item: bytes | None = None) -> list[Request]:
        """Those that wait for an answer, oldest first; of one item, or of all."""
        return [request for request in self._got(self._known.unended(item)) if self.is_open(request)]

    def count_open(self) -> int:
        """How many :meth:`open` would give, each looked at only as far as it has to be."""
        count, waits = 0, dict[bytes, bool]()
        for request in self._known.unended():
            row = self._replica.row(Kind.REQUEST, request)
            if RequestField.QUESTION not in row:
                continue
            if len(row) > 1:  # an answer, or an end: it may count or not
                count += (found := self.get(request)) is not None and self.is_open(found)
                continue
            item = row[RequestField.QUESTION][1]
            if item not in waits:
                waits[item] = may_wait(self._stage(item))
            count += waits[item]
        return count

    def met(self, question: Question) -> Request | None:
        """The question that a run finds when it asks this one: answered, or open. The newest, if there are several. One that is over it asks anew."""
        for request in self._got(reversed(self._known.of(question.item))):
            if request.question.is_same(question) and self.state(request) in _PENDING | {RequestState.TAKEN}:
                return request
        return None

    def twins(self, request: bytes, question: Question) -> list[Request]:
        """Others than ``request`` in which people read the same, and that nobody ended: two nodes asked without knowing of each other, or the timeout is another one now."""
        same = (each for each in self._got(self._known.unended(question.item)) if each.id != request and each.question.says_same(question))
        return [each for each in same if self.state(each) in _PENDING]

    def withdrawals(self, item: bytes, reason: str, at_ms: int, *, anew: bool = False) -> list[Write]:
        """The writes that end what is asked for ``item``. ``anew``: answers that were taken do not count for its next run either."""
        ended = _PENDING | ({RequestState.TAKEN} if anew else frozenset())
        return [
            end_write(request.id, replace(request.end or End(EndKind.WITHDRAWN, 0), kind=EndKind.WITHDRAWN, at_ms=at_ms, reason=reason))
            for request in self.of(item)
            if self.state(request) in ended
        ]

    def _got(self, requests: Iterable[bytes]) -> Iterator[Request]:
        return (found for request in requests if (found := self.get(request)) is not None)
