"""One session's book of logs: what we hold, what the peer holds as far as we know, and the digests that compare both."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from fabrik_sync.frames import BUCKET_BYTES, BUCKETS, FrontierFrame
from fabrik_sync.limits import HEADS_PER_LOG_MAX
from fabrik_sync.ports import MARKER, Head, Heads, LogId, Place, is_crowded, is_marker

__all__ = ["Fork", "LogBook", "LogRow", "announced", "bucket_of", "frontier_of"]

_DOMAIN: Final = b"fabrik/v1/sync frontier\0"


def announced(heads: Heads) -> Heads:
    """What a peer is told of our heads: no numbers of ours, and of a suspended or crowded log its marker only."""
    if len(heads) == 1 and heads[0].branch == 0:
        return heads
    if heads and is_marker(heads[-1]):
        return heads[-1:]
    if len(heads) > HEADS_PER_LOG_MAX:
        return (MARKER,)
    return tuple(Head(head.seq, head.h) for head in heads)


@dataclass(slots=True)
class Fork:
    """What a session knows besides of a log that one of its two sides has more than one branch of. From here on no sequence number stands for an op."""

    cursors: dict[int, int] | None = None
    """By our number of the branch: the peer has, or will have, everything up to there. None: it does not take this log from us (yet)."""
    stuck: set[int] = field(default_factory=set)
    """Branches that the store could not go on with. Looked at again at the log's next head."""
    given: dict[int, Place] = field(default_factory=dict)
    """By our number of the branch: the last that the peer itself sent of it."""
    asked: Heads | None = None
    """What the peer had announced when we last sent a WANT with places. None: we did not yet."""
    asked_at: float = 0.0
    asks: int = 0
    """WANTs with places since our heads last changed."""
    ours: Heads = ()
    """Our heads at the last of them."""
    since: dict[Head, float] = field(default_factory=dict)
    """When each head that we left to another peer was seen first."""


@dataclass(slots=True)
class LogRow:
    """One log as this session sees it. Sequence numbers are 0 while nothing is held or known."""

    local: Heads = ()
    """Our branches, without the marker."""
    local_seq: int = 0
    suspended: bool = False
    """We take nothing more of it, until its author is spared: an admin, or revoked by one."""
    shown: Heads = ()
    """How we announce it."""
    remote: Heads = ()
    """As the peer last announced it; its segments may have shown more since."""
    lacking: Heads = ()
    """Those of ``remote`` that we are not known to hold."""
    remote_seq: int = 0
    """The highest place that the peer is known to have."""
    sent: int | None = None
    """Our cursor while no fork is known: the peer has, or will have, everything up to here. None: it does not take this log from us (yet)."""
    told: Heads = ()
    """What we last announced."""
    stopped: bool = False
    """The peer said STOP."""
    wanted: bool = False
    """The peer streams this log to us, or was asked to."""
    gap_at: int = -1
    """Where we last asked again because of a gap."""
    missing_at: int = -1
    """Behind which place we last asked for what we had and lost."""
    fetch_bytes: int = 0
    """How much of that may still come before we ask for what is new again."""
    fork: Fork | None = None

    def set_local(self, heads: Heads) -> bool:
        """Our heads of this moment; False when we know of later ones already (commits are not always told in order)."""
        if len(heads) == 1 and len(self.local) < 2 and not self.suspended and not is_marker(heads[0]):  # nearly always
            if heads[0].seq < self.local_seq:
                return False
            self.local = self.shown = heads
            self.local_seq = heads[0].seq
            return True
        if len(heads) > 1:
            heads = tuple(sorted(heads, key=lambda head: (head.seq, head.h)))
        shown = announced(heads)
        suspended = shown == (MARKER,)
        tips = heads[:-1] if is_marker(heads[-1]) else heads
        ends = {tip.branch: tip.seq for tip in tips}
        if not suspended and any(ends.get(old.branch, 0) < old.seq for old in self.local):
            return False
        resumed = self.suspended and not suspended
        self.local, self.suspended = tips, suspended
        self.local_seq = max(ends.values(), default=0)
        self.shown = shown
        if resumed:
            self.reopen()
            self.remote = () if self.remote == (MARKER,) else self.remote
            self.lacking = self.remote
        return True

    def reopen(self) -> None:
        """One of the two sides takes the log again, after it was suspended there: what was asked counts no more. What the peer asked since then does."""
        fork = self.fork or Fork()
        self.fork = Fork(cursors=fork.cursors, asks=fork.asks, ours=fork.ours)
        self.wanted = self.stopped = False

    @property
    def forked(self) -> bool:
        """What we and the peer say of it: some side has more than one branch, or ours are not the peer's."""
        return len(self.local) > 1 or self.suspended or len(self.remote) > 1 or (self.remote != () and is_marker(self.remote[0]))

    @property
    def outdated(self) -> bool:
        """The peer knows a marker of ours that is no longer ours: it hears of what came after it although it takes the log."""
        return self.told != () and is_marker(self.told[0]) and self.told != self.shown

    @property
    def has_news(self) -> bool:
        """The peer of a forked log announced other heads than when we asked with places. Another digest of a crowded one names none."""
        asked = self.fork.asked if self.fork else None
        return asked is None or (asked != self.remote and not is_crowded(self.remote))

    # ---- our cursors

    @property
    def taken(self) -> bool:
        """The peer takes this log from us."""
        return self.sent is not None if self.fork is None else self.fork.cursors is not None

    def cursor(self, branch: int) -> int | None:
        """Up to where the peer has a branch; None when it does not take the log."""
        if self.fork is None:
            return self.sent if branch == 0 else None
        if self.fork.cursors is None:
            return None
        if branch not in self.fork.cursors:
            self.fork.cursors[branch] = next((tip.base[1] for tip in self.local if tip.branch == branch and tip.base), 0)
        return self.fork.cursors[branch]

    def advance(self, branch: int, seq: int) -> None:
        """The peer has, or will have, a branch up to ``seq``."""
        if self.fork is None:
            self.sent = seq
        elif self.fork.cursors is not None:
            self.fork.cursors[branch] = seq

    def reach(self, branch: int, seq: int) -> None:
        """The peer of a forked log was seen to have a branch up to ``seq``, and so what it stands on."""
        tips = {tip.branch: tip for tip in self.local}
        while (at := self.cursor(branch)) is not None:
            if at < seq:
                self.advance(branch, seq)
            base = tips[branch].base if branch in tips else None
            if base is None:
                return
            branch, seq = base

    def next_read(self) -> tuple[int, int] | None:
        """``(branch, behind which seq)`` of what is to be sent next: nothing before what it stands on."""
        if self.fork is None:
            return (0, self.sent) if self.sent is not None and self.sent < self.local_seq else None
        if self.fork.cursors is None:
            return None
        for tip in sorted(self.local, key=lambda tip: tip.branch):
            at = self.cursor(tip.branch) or 0
            rooted = tip.base is None or (self.cursor(tip.base[0]) or 0) >= tip.base[1]
            if at < tip.seq and rooted and tip.branch not in self.fork.stuck:
                return tip.branch, at
        return None

    def owed(self, cursors: Sequence[tuple[int, int]]) -> int:
        """How many ops of ours lie behind ``cursors``."""
        ends = {tip.branch: tip.seq for tip in self.local}
        return sum(max(0, ends.get(branch, 0) - seq) for branch, seq in cursors)


def bucket_of(log: LogId) -> int:
    """The bucket of a log: the low bits of its author's first byte."""
    return log.author[0] % BUCKETS


def frontier_of(logs: Mapping[LogId, Heads]) -> FrontierFrame:
    """The digests of a set of heads: equal sets, and only those, give equal digests."""
    hashes = [hashlib.sha256(_DOMAIN + bytes((number,))) for number in range(BUCKETS)]
    for log in sorted(logs):
        heads = announced(logs[log])
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
        self.touched: set[LogId] = set()
        """Logs whose row may have changed since somebody emptied this."""
        self._base: dict[LogId, Heads] = {}
        self._ends: dict[LogId, dict[int, int]] = {}  # of crowded logs: what their digest stands for
        for log, tips in heads:
            if tips:
                row = self.rows[log] = LogRow()
                row.set_local(tips)
                self._base[log] = row.shown
                if is_crowded(row.shown):
                    self._ends[log] = {tip.branch: tip.seq for tip in row.local}
                if row.forked:
                    row.fork = Fork()
        self.frontier = frontier_of(self._base)

    def row(self, log: LogId) -> LogRow:
        """The row of a log, made when there is none."""
        self.touched.add(log)
        row = self.rows.get(log)
        if row is None:
            row = self.rows[log] = LogRow()
        return row

    def known(self, log: LogId) -> LogRow | None:
        """The row of a log, if there is one."""
        row = self.rows.get(log)
        if row is not None:
            self.touched.add(log)
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
        for log, shown in self._base.items():
            if equal or bucket_of(log) not in differing:
                row = self.rows[log]
                row.remote = row.told = shown
                row.remote_seq = 0 if is_marker(shown[-1]) else shown[-1].seq
                if row.fork is None:
                    row.sent = row.remote_seq
                elif log in self._ends:
                    row.fork.cursors, row.fork.asked, row.wanted = self._ends[log], shown, True  # and so it is on the other side
        self._base.clear()
        self._ends.clear()
        self.touched.update(self.rows)
        return equal


def _bucket(frontier: FrontierFrame, number: int) -> bytes:
    return frontier.buckets[number * BUCKET_BYTES : (number + 1) * BUCKET_BYTES]
