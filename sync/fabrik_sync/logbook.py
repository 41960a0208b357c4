"""One session's book of logs: what we hold, what the peer holds as far as we know, and the digests that compare both."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from fabrik_sync.frames import BUCKET_BYTES, BUCKETS, FrontierFrame
from fabrik_sync.ports import Heads, LogId

__all__ = ["LogBook", "LogRow", "bucket_of", "frontier_of"]

_DOMAIN: Final = b"fabrik/v1/sync frontier\0"


@dataclass(slots=True)
class LogRow:
    """One log as this session sees it. Sequence numbers are 0 while nothing is held or known."""

    local: Heads = ()
    local_seq: int = 0
    remote: Heads = ()
    """As the peer last announced them; its segments may have shown more since."""
    remote_seq: int = 0
    """The highest place that the peer is known to have."""
    sent: int | None = None
    """Our cursor: the peer has, or will have, everything up to here. None: it does not take this log from us (yet)."""
    announced_seq: int = 0
    stopped: bool = False
    """The peer said STOP."""
    wanted: bool = False
    """The peer streams this log to us, or was asked to."""
    refused: bool = False
    """We said STOP."""
    gap_at: int = -1
    """Where we last asked again because of a gap."""
    forked: bool = False
    """The peer's heads contradict ours: having the same place does not mean having the same ops."""


def bucket_of(log: LogId) -> int:
    """The bucket of a log: the low bits of its author's first byte."""
    return log.author[0] % BUCKETS


def frontier_of(logs: Mapping[LogId, Heads]) -> FrontierFrame:
    """The digests of a set of heads: equal sets, and only those, give equal digests."""
    hashes = [hashlib.sha256(_DOMAIN + bytes((number,))) for number in range(BUCKETS)]
    for log in sorted(logs):
        heads = logs[log]
        parts = [log.author, log.epoch.to_bytes(8, "big"), len(heads).to_bytes(4, "big")]
        for head in heads:
            parts += (head.seq.to_bytes(8, "big"), head.h)
        hashes[bucket_of(log)].update(b"".join(parts))
    digests = [part.digest() for part in hashes]
    return FrontierFrame(hashlib.sha256(_DOMAIN + b"".join(digests)).digest(), b"".join(digest[:BUCKET_BYTES] for digest in digests))


class LogBook:
    """Rows by log. The base, taken when FRONTIER is sent, is what the digests are about; rows go on from there."""

    def __init__(self, heads: Iterable[tuple[LogId, Heads]]) -> None:
        self.rows: dict[LogId, LogRow] = {}
        self._base: dict[LogId, Heads] = {}
        for log, tips in heads:
            if tips:
                self._base[log] = tips
                self.rows[log] = LogRow(local=tips, local_seq=tips[-1].seq)
        self.frontier = frontier_of(self._base)

    def row(self, log: LogId) -> LogRow:
        """The row of a log, made when there is none."""
        row = self.rows.get(log)
        if row is None:
            row = self.rows[log] = LogRow()
        return row

    def compare(self, theirs: FrontierFrame) -> bool:
        """Take note of the logs that are equal; True when all are. Once per session.

        Logs in unequal buckets are left for HEADS. When digests differ while every bucket looks equal, all buckets count as unequal.
        """
        ours = self.frontier
        equal = ours.digest == theirs.digest
        differing = {number for number in range(BUCKETS) if _bucket(ours, number) != _bucket(theirs, number)}
        if not equal and not differing:
            differing = set(range(BUCKETS))
        for log, tips in self._base.items():
            if equal or bucket_of(log) not in differing:
                row = self.rows[log]
                row.remote = tips
                row.remote_seq = row.sent = row.announced_seq = tips[-1].seq
        self._base.clear()
        return equal


def _bucket(frontier: FrontierFrame, number: int) -> bytes:
    return frontier.buckets[number * BUCKET_BYTES : (number + 1) * BUCKET_BYTES]
