"""Segments that came before what they stand on: kept for a while, tried again, never asked for twice."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from fabrik_node._core import Verified

__all__ = ["PENDING_BYTES_MAX", "PENDING_MAX", "Pending"]

PENDING_BYTES_MAX = 8_388_608
"""Bytes of all segments together: 32 of the largest."""
PENDING_MAX = 1_024
"""Segments of all authors together."""

Log = tuple[bytes, int]


@dataclass(frozen=True, slots=True)
class _Kept:
    verified: Verified
    data: bytes


class Pending:
    """Verified segments whose ``prev`` is missing, by log. Bounded; the oldest of the author who has most goes first. What goes is asked for again later."""

    def __init__(self, *, bytes_max: int = PENDING_BYTES_MAX, count_max: int = PENDING_MAX) -> None:
        self._bytes_max = bytes_max
        self._count_max = count_max
        self._kept: dict[Log, OrderedDict[tuple[int, int, bytes], _Kept]] = {}
        self._weight: dict[bytes, int] = {}
        self.count = 0
        """Segments that wait now."""
        self.bytes = 0
        """Their bytes."""
        self.dropped = 0
        """Segments that had to go since the start."""

    def put(self, verified: Verified, data: bytes) -> None:
        """Keep a segment. One that waits already is kept once."""
        log = (verified.author, verified.epoch)
        name = (verified.first_seq, verified.last_seq, data[-64:])  # its signature
        rows = self._kept.setdefault(log, OrderedDict())
        if name not in rows:
            rows[name] = _Kept(verified, data)
            self._count(log[0], 1, len(data))
        while self.count > self._count_max or self.bytes > self._bytes_max:
            self._drop_one()

    def places(self) -> list[tuple[bytes, int, int, int, int]]:
        """``(author, epoch, first_seq, last_seq, bytes)`` of each segment that waits."""
        return [(*log, name[0], name[1], len(kept.data)) for log, rows in self._kept.items() for name, kept in rows.items()]

    def take(self, log: Log, first_seq: int, last_seq: int) -> list[tuple[Verified, bytes]]:
        """Those of a log that may stand on its ops ``first_seq`` to ``last_seq``, in order, with their bytes. They wait no more: what still does not fit is put anew."""
        rows = self._kept.get(log) or OrderedDict()
        ready = sorted(name for name in rows if first_seq <= name[0] <= last_seq + 1)
        found = [rows.pop(name) for name in ready]
        if not rows:
            self._kept.pop(log, None)
        for kept in found:
            self._count(log[0], -1, -len(kept.data))
        return [(kept.verified, kept.data) for kept in found]

    def forget(self, log: Log) -> None:
        """Nothing of this log is taken any more."""
        for kept in (self._kept.pop(log, None) or OrderedDict()).values():
            self._count(log[0], -1, -len(kept.data))

    def logs(self) -> list[Log]:
        """Logs of which something waits."""
        return list(self._kept)

    def _count(self, author: bytes, count: int, size: int) -> None:
        self.count += count
        self.bytes += size
        weight = self._weight.get(author, 0) + size
        if weight:
            self._weight[author] = weight
        else:
            self._weight.pop(author, None)

    def _drop_one(self) -> None:
        author = max(self._weight, key=lambda key: self._weight[key])
        log = next(log for log in self._kept if log[0] == author)
        _, kept = self._kept[log].popitem(last=False)
        if not self._kept[log]:
            del self._kept[log]
        self._count(author, -1, -len(kept.data))
        self.dropped += 1
