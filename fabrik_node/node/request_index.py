"""Which questions there are of which item, and which of them nobody ended: kept by changes, so that nobody looks at all questions to find a few."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from fabrik_node._core import Changes, Replica
from fabrik_node.domain.requests import decode_request
from fabrik_node.domain.schema import Kind, RequestField

__all__ = ["RequestIndex"]


class RequestIndex:
    """Changed in the event loop alone, and must be told of every change; may be read in any thread. Ids are given oldest first, as far as clocks agree.

    Invariant: the questions of the replica as of the last change. What a question says may be anybody's word: only ids are kept here.
    """

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._asked: dict[bytes, tuple[bytes, bytes]] = {}
        """Item and run by question."""
        self._of_item: dict[bytes, set[bytes]] = {}
        self._of_run: Counter[tuple[bytes, bytes]] = Counter()
        self._unended: set[bytes] = set()
        for request, row in replica.rows(Kind.REQUEST):
            self._put(request, row)

    def note(self, changes: Changes) -> None:
        """What became of questions."""
        if Kind.REQUEST in changes.kinds:
            for request in {change.id for change in changes.of(Kind.REQUEST)}:
                self._drop(request)
                self._put(request, self._replica.row(Kind.REQUEST, request))

    def ids(self) -> list[bytes]:
        """Of all of them."""
        return sorted(self._asked)

    def of(self, item: bytes) -> list[bytes]:
        """Of one item."""
        return sorted(self._of_item.get(item, ()))

    def unended(self, item: bytes | None = None) -> list[bytes]:
        """Those that nobody ended; of one item, or of all. An answer may be there, and an end that counts for nothing: an answer taken that nobody gave."""
        return sorted(self._unended if item is None else self._of_item.get(item, set()) & self._unended)

    def asked_by(self, item: bytes, run_id: bytes) -> int:
        """How many questions a run has asked, whatever became of them."""
        return self._of_run[item, run_id]

    def _put(self, request: bytes, row: Mapping[int, Any]) -> None:
        if (question := row.get(RequestField.QUESTION)) is None:
            return
        item, run_id = question[1], question[2]
        self._asked[request] = (item, run_id)
        self._of_item.setdefault(item, set()).add(request)
        self._of_run[item, run_id] += 1
        if RequestField.WITHDRAWN not in row or ((found := decode_request(request, row, {})) is not None and found.end is None):
            self._unended.add(request)

    def _drop(self, request: bytes) -> None:
        if (known := self._asked.pop(request, None)) is None:
            return
        self._unended.discard(request)
        self._of_run[known] -= 1
        if not self._of_run[known]:
            del self._of_run[known]
        left = self._of_item[known[0]]
        left.discard(request)
        if not left:
            del self._of_item[known[0]]
