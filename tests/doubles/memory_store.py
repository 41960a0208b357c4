"""The in-memory twin of the store: the port ``OpStore`` without a disk, for fast tests of the rooms above it.

The contract tests of ``tests/integration/store`` run against both.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from fabrik_node._core import coalesce, cut, segment_span
from fabrik_node.clock import Clock
from fabrik_node.domain.runs import RunRow
from fabrik_node.errors import StoreFailed, StoreFull
from fabrik_node.ports import DamagedRow, Event, ForkRow, Invite, JoinRow, PeerAddress, RowCheck, StoredSegment

if TYPE_CHECKING:
    from fabrik_node._core import Chained, Head

__all__ = ["MemoryStore"]

_Branch: TypeAlias = tuple[bytes, int, int]


def _covered(row: DamagedRow, log: _Branch, first: int, last: int) -> bool:
    return (row.author, row.epoch, row.branch) == log and row.first_seq >= first and row.last_seq <= last


def _place(old: list[tuple[int, int, int]], seq: int) -> int:
    """The place of the old row that held this op: what chains onto it came later."""
    for begin, end, pos in old:
        if begin <= seq <= end:
            return pos
    raise StoreFailed("nothing was put back: an op that was in no row")


class MemoryStore:
    """See :class:`~fabrik_node.ports.OpStore`. Set :attr:`failing` to make every further write fail like a broken disk."""

    def __init__(self, clock: Clock) -> None:
        self.failing: StoreFailed | None = None
        self._clock = clock
        self._closed = False
        self._rows: list[StoredSegment] = []
        self._pos = 0
        self._bases: dict[_Branch, int] = {}
        self._aside: dict[int, tuple[DamagedRow, bytes]] = {}
        self._forks: list[ForkRow] = []
        self._suspended: set[tuple[bytes, int]] = set()
        self._last_ms = 0
        self._events: list[Event] = []
        self._upto = 0
        self._meta: dict[str, bytes] = {}
        self._starts = 0
        self._peers: dict[str, PeerAddress] = {}
        self._invites: dict[bytes, Invite] = {}
        self._joins: dict[tuple[bytes, bytes], JoinRow] = {}
        self._runs: dict[bytes, RunRow] = {}

    async def append(self, chained: Sequence[Chained]) -> int:
        self._check(writing=True)
        if not chained:
            return 0
        bases, ends, rows = dict(self._bases), dict[_Branch, int](), list[StoredSegment]()
        for segment in chained:
            branch = (segment.author, segment.epoch, segment.branch)
            if segment.base is not None:
                if self._rows_of(branch) or branch in ends or (branch not in bases and len([one for one in bases if one[:2] == branch[:2]]) != segment.branch):
                    raise StoreFailed(f"branch {segment.branch} is not the next one")
                bases[branch], wanted = segment.base[1], {segment.base[1] + 1}
            elif segment.branch and branch not in bases:
                raise StoreFailed(f"branch {segment.branch} is not in the store")
            else:
                base = bases.setdefault(branch, 0)
                wanted = {ends[branch] + 1} if branch in ends else self._wanted(branch, base)
            if segment.first_seq not in wanted:
                raise StoreFailed(f"a segment starts at op {segment.first_seq}, but the store goes on at op {min(wanted)}")
            ends[branch] = segment.last_seq
            pos = self._pos + len(rows) + 1
            rows.append(StoredSegment(pos, segment.author, segment.epoch, segment.first_seq, segment.last_seq, segment.data, segment.branch))
        self._bases, self._pos, self._last_ms = bases, rows[-1].pos, self._clock.wall_ms()
        self._rows += rows
        return self._pos

    async def set_aside(self, rows: Sequence[tuple[int, str]]) -> None:
        self._check(writing=True)
        for pos, why in rows:
            for row in [row for row in self._rows if row.pos == pos]:
                self._rows.remove(row)
                about = DamagedRow(pos, row.author, row.epoch, row.branch, row.first_seq, row.last_seq, why, self._clock.wall_ms())
                self._aside[pos] = (about, row.data)

    async def damaged(self) -> list[DamagedRow]:
        self._check()
        return [self._aside[pos][0] for pos in sorted(self._aside)]

    async def damaged_data(self, pos: int) -> bytes:
        self._check()
        return self._aside[pos][1] if pos in self._aside else b""

    async def forget_damaged(self, places: Sequence[int]) -> None:
        self._check(writing=True)
        for pos in places:
            self._aside.pop(pos, None)

    async def refill(self, author: bytes, epoch: int, branch: int, segments: Sequence[bytes]) -> None:
        """The obvious way: all sound rows of the branch and the fetched ones, in order, each cut to what is new; refused when that leaves a gap."""
        self._check(writing=True)
        log = (author, epoch, branch)
        spans = [(*segment_span(data)[2:], data) for data in segments]
        first, last = spans[0][0], max(span[1] for span in spans)
        pieces = sorted([(row.first_seq, row.last_seq, row.data) for row in self._rows_of(log)] + spans, key=lambda piece: (piece[0], -piece[1]))
        kept, upto = list[tuple[int, int, bytes]](), self._bases[log]
        for begin, end, data in pieces:
            if end > upto:
                if begin > upto + 1 and begin >= first and upto <= last:
                    raise StoreFailed(f"ops behind {upto} are still missing: nothing was put back")
                kept.append((max(begin, upto + 1), end, data if begin > upto else cut(data, upto + 1)))
                upto = end
        if upto < max((row.last_seq for row, _ in self._aside.values() if (row.author, row.epoch, row.branch) == log), default=0):
            raise StoreFailed("ops at the end are still missing: nothing was put back")
        old = [(row.first_seq, row.last_seq, row.pos) for row in self._rows_of(log)]
        old += [(row.first_seq, row.last_seq, pos) for pos, (row, _) in self._aside.items() if _covered(row, log, first, last)]
        new = [data for begin, _, data in kept if first <= begin <= last]
        rows = [(begin, end, data) for begin, end, data in kept if not first <= begin <= last]
        rows += [(*segment_span(data)[2:], data) for data in (coalesce(new, 262_144) if new else [])]
        placed = [StoredSegment(_place(old, begin), author, epoch, begin, end, data, branch) for begin, end, data in sorted(rows)]
        self._rows = [row for row in self._rows if row not in self._rows_of(log)] + placed
        self._rows.sort(key=lambda row: row.pos)
        self._aside = {pos: (row, data) for pos, (row, data) in self._aside.items() if not _covered(row, log, first, last)}

    async def pack(self, rows_max: int, keep_author: bytes, check: RowCheck | None = None) -> int:
        """There is nothing to gain in memory."""
        self._check(writing=True)
        return 0

    async def put_fork(self, author: bytes, epoch: int, seq: int, proof: bytes, wall_ms: int) -> bool:
        self._check(writing=True)
        known = [row for row in self._forks if (row.author, row.epoch) == (author, epoch)]
        if len(known) >= 64 or any((row.seq, row.proof) == (seq, proof) for row in known):
            return False
        self._forks.append(ForkRow(len(self._forks) + 1, author, epoch, seq, proof, wall_ms))
        return True

    async def forks(self) -> list[ForkRow]:
        self._check()
        return list(self._forks)

    async def suspend(self, author: bytes, epoch: int) -> None:
        self._check(writing=True)
        self._suspended.add((author, epoch))

    async def suspended(self) -> list[tuple[bytes, int]]:
        self._check()
        return sorted(self._suspended)

    async def try_again(self) -> bool:
        """Writes are taken again when the test has taken back :attr:`failing`."""
        return not isinstance(self.failing, StoreFull)

    async def damage(self, pos: int, data: bytes) -> None:
        """As a broken disk would: other bytes in the row at ``pos``. Not of the port."""
        self._rows = [replace(row, data=data) if row.pos == pos else row for row in self._rows]

    async def load(self, batch_bytes: int = 4_194_304) -> AsyncIterator[list[StoredSegment]]:
        self._check()
        batch: list[StoredSegment] = []
        for row in self._rows:
            batch.append(row)
            if sum(len(member.data) for member in batch) >= batch_bytes:
                yield batch
                batch = []
        if batch:
            yield batch

    async def load_beyond(self, heads: Sequence[Head]) -> AsyncIterator[list[StoredSegment]]:
        self._check()
        known = {(head.author, head.epoch, head.branch): head.seq for head in heads}
        rows = [row for row in self._rows if row.last_seq > known.get((row.author, row.epoch, row.branch), 0)]
        if rows:
            yield rows

    async def head_rows(self, heads: Sequence[Head]) -> list[StoredSegment | None]:
        self._check()
        rows = [[row for row in self._rows_of((head.author, head.epoch, head.branch)) if row.first_seq <= head.seq <= row.last_seq] for head in heads]
        return [found[0] if found else None for found in rows]

    async def read(self, author: bytes, epoch: int, after_seq: int, max_bytes: int, branch: int = 0) -> list[StoredSegment]:
        self._check()
        found: list[StoredSegment] = []
        for row in self._rows_of((author, epoch, branch)):
            if row.last_seq > after_seq:
                if found and sum(len(member.data) for member in found) + len(row.data) > max_bytes:
                    break
                found.append(row)
        return found

    async def last_op_ms(self) -> int:
        self._check()
        return self._last_ms

    async def append_events(self, events: Sequence[Event], upto_pos: int) -> list[Event]:
        self._check(writing=True)
        if upto_pos > self._pos:
            raise StoreFailed(f"events can not be done up to row {upto_pos}: the store ends at row {self._pos}")
        numbered = [replace(event, seq=len(self._events) + index + 1) for index, event in enumerate(events)]
        self._events += numbered
        self._upto = max(self._upto, upto_pos)
        return numbered

    async def events(self, after: int, limit: int) -> list[Event]:
        self._check()
        return self._events[max(after, 0) :][: max(limit, 0)]

    async def events_upto(self) -> tuple[int, int]:
        self._check()
        return len(self._events), self._upto

    async def get_meta(self, key: str) -> bytes | None:
        self._check()
        return self._meta.get(key)

    async def set_meta(self, key: str, value: bytes) -> None:
        self._check(writing=True)
        self._meta[key] = value

    async def next_start(self) -> int:
        self._check(writing=True)
        self._starts += 1
        return self._starts

    async def peers(self) -> list[PeerAddress]:
        self._check()
        return [self._peers[url] for url in sorted(self._peers)]

    async def put_peer(self, peer: PeerAddress) -> None:
        self._check(writing=True)
        self._peers[peer.url] = peer

    async def put_invite(self, invite: Invite) -> None:
        self._check(writing=True)
        if invite.token_id in self._invites:
            raise StoreFailed("this invitation exists")
        self._invites[invite.token_id] = invite

    async def invite(self, token_id: bytes) -> Invite | None:
        self._check()
        return self._invites.get(token_id)

    async def invites(self) -> list[Invite]:
        self._check()
        return sorted(self._invites.values(), key=lambda invite: (-invite.created_ms, invite.token_id))

    async def joins(self) -> list[JoinRow]:
        self._check()
        return sorted(self._joins.values(), key=lambda join: (join.at_ms, join.key))

    async def reseal_invite(self, token_id: bytes, secret: bytes) -> None:
        self._check(writing=True)
        if (found := self._invites.get(token_id)) is not None and not found.ended:
            self._invites[token_id] = replace(found, secret=secret)

    async def use_invite(self, token_id: bytes, key: bytes, wall_ms: int) -> bool:
        self._check(writing=True)
        found = self._invites.get(token_id)
        if found is None or found.ended:
            return False
        uses = found.uses + 1
        counted = replace(found, uses=uses)
        self._invites[token_id] = replace(counted, ended="used", secret=b"") if 0 < found.uses_max <= uses else counted
        await self.note_join(JoinRow(token_id, key, wall_ms))
        return True

    async def end_invites(self, token_ids: Sequence[bytes], why: str) -> int:
        self._check(writing=True)
        ended = [found for token_id in token_ids if (found := self._invites.get(token_id)) is not None and not found.ended]
        self._invites |= {found.token_id: replace(found, ended=why, secret=b"") for found in ended}
        return len(ended)

    async def note_join(self, join: JoinRow) -> None:
        self._check(writing=True)
        self._joins[join.token_id, join.key] = join

    async def scrub(self) -> bool:
        self._check()
        return True

    async def put_run(self, row: RunRow) -> None:
        self._check(writing=True)
        self._runs[row.run_id] = row

    async def runs(self) -> list[RunRow]:
        self._check()
        return sorted(self._runs.values(), key=lambda row: (row.started_ms, row.run_id), reverse=True)

    async def runs_of(self, item: bytes) -> list[RunRow]:
        return [row for row in await self.runs() if row.item == item]

    async def open_runs(self) -> list[RunRow]:
        return [row for row in await self.runs() if not row.ended_ms]

    async def run(self, run_id: bytes) -> RunRow | None:
        self._check()
        return self._runs.get(run_id)

    async def stats(self) -> dict[str, Any]:
        self._check()
        return {
            "logs": len({branch[:2] for branch in self._bases}),
            "ops": sum(max(0, max((row.last_seq for row in self._rows_of(branch)), default=0) - base) for branch, base in self._bases.items()),
            "segments": len(self._rows),
            "last_op_ms": self._last_ms,
            "events": len(self._events),
            "runs": len(self._runs),
            "peers": len(self._peers),
        }

    async def close(self) -> None:
        self._closed = True

    def _rows_of(self, branch: _Branch) -> list[StoredSegment]:
        return sorted((row for row in self._rows if (row.author, row.epoch, row.branch) == branch), key=lambda row: row.first_seq)

    def _wanted(self, branch: _Branch, base: int) -> set[int]:
        stored = max((row.last_seq for row in self._rows_of(branch)), default=base)
        aside = max((row.last_seq for row, _ in self._aside.values() if (row.author, row.epoch, row.branch) == branch), default=0)
        return {stored + 1} | ({aside + 1} if aside > stored else set())

    def _check(self, *, writing: bool = False) -> None:
        if self._closed:
            raise StoreFailed("the store is closed")
        if writing and self.failing is not None:
            raise self.failing
