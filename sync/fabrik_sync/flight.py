"""Segments that were made ready for the peer and that it has not reported as processed: which ops are in them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from fabrik_sync.ports import LogId

__all__ = ["Flight"]

_JOINED_BYTES: Final = 32_768
"""Neighbouring segments are remembered as one up to this size: a window of one-op segments costs a few dozen entries."""


@dataclass(slots=True)
class _Part:
    log: LogId
    branch: int
    first: int
    last: int
    begin: int
    end: int


class Flight:
    """What is on its way to one peer, in the order in which it goes. ``total`` counts segment bytes, as ACK does."""

    def __init__(self) -> None:
        self._parts: deque[_Part] = deque()

    @property
    def ops(self) -> int:
        """Ops on their way; those of a segment count until its last byte is acknowledged."""
        return sum(part.last - part.first + 1 for part in self._parts)

    def add(self, log: LogId, branch: int, first: int, last: int, *, begin: int, end: int) -> None:
        """Ops ``first`` to ``last`` are the bytes ``begin`` to ``end`` of all."""
        newest = self._parts[-1] if self._parts else None
        if newest is not None and (newest.log, newest.branch, newest.last + 1) == (log, branch, first) and end - newest.begin <= _JOINED_BYTES:
            newest.last, newest.end = last, end
        else:
            self._parts.append(_Part(log, branch, first, last, begin, end))

    def acked(self, total: int) -> None:
        """The peer processed everything up to this byte."""
        while self._parts and self._parts[0].end <= total:
            self._parts.popleft()

    def behind(self) -> Iterator[tuple[LogId, int, int]]:
        """``(log, branch, seq)``: the peer is not known to have what is behind ``seq``."""
        return ((part.log, part.branch, part.first - 1) for part in self._parts)
