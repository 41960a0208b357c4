"""Rows of the store that are not what was merged: set aside, told, never relayed, asked for again, put back.

Two kinds. A **hole**: the damage was met after its ops were merged, so the state stays, and the range waits for its bytes. **Lost**: the damage was met
while loading, so the log ends before it and its peers are asked like for anything that is new.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from fabrik_node._core import Replica, Verified, cut, segment_span
from fabrik_node.errors import FabrikError, InvalidOp
from fabrik_node.ids import show_key
from fabrik_node.node.loading import FOLLOWS
from fabrik_node.ports import DamagedRow, OpStore, StoredSegment

__all__ = ["PARTS_BYTES", "Hole", "Repair", "judge", "misplaced"]

PARTS_BYTES = 4 * 1_048_576
"""Bytes of fetched segments that wait until they cover their holes, of all holes together: a hole is one row, at most 256 KiB."""


@dataclass(slots=True)
class Hole:
    """Ops ``first`` to ``last`` of one branch that are merged, but whose bytes are not here. ``parts``: what has been fetched of them, by first op.

    No part is needless beside the others, so an op is in two of them at most.
    """

    author: bytes
    epoch: int
    branch: int
    first: int
    last: int
    parts: dict[int, tuple[int, bytes]] = field(default_factory=dict)


class Repair:
    """``ask(author, epoch, have_seq)`` has the range behind ``have_seq`` sent again by some peer. Use from the event loop."""

    def __init__(
        self,
        replica: Replica,
        store: OpStore,
        tell: Callable[[str, Mapping[str, Any]], None],
        name_of: Callable[[bytes], str],
        ask: Callable[[bytes, int, int], None],
    ) -> None:
        self._replica = replica
        self._store = store
        self._tell = tell
        self._name_of = name_of
        self._ask = ask
        self.holes: list[Hole] = []
        self.lost: list[DamagedRow] = []
        """Rows that the log waits for, and sound ones that wait behind them."""
        self.rows = asyncio.Lock()
        """Whoever replaces rows, or names rows by their place, holds it. The caller of :meth:`check` does; :meth:`fetched` takes it."""
        self.healed = 0
        """Rows that were put back or came again since the start."""

    async def start(self) -> None:
        """Take up what an earlier start left open."""
        over: list[int] = []
        for row in await self._store.damaged():
            if self._end(row.author, row.epoch) < row.last_seq:
                self.lost.append(row)
            elif row.why == FOLLOWS or await self._is_there(row):
                over.append(row.pos)
            else:
                self.holes.append(Hole(row.author, row.epoch, row.branch, row.first_seq, row.last_seq))
        if over:
            await self._store.forget_damaged(over)

    async def waiting(self) -> list[tuple[Verified, bytes]]:
        """The sound rows that wait behind damaged ones, with their bytes. One that is damaged by now waits for a peer like the others."""
        found: list[tuple[Verified, bytes]] = []
        for row in self.lost:
            if row.why == FOLLOWS:
                data = await self._store.damaged_data(row.pos)
                with suppress(FabrikError):
                    found += zip(self._replica.verify([data]), [data], strict=True)
        return found

    async def check(self, author: bytes, epoch: int, branch: int, rows: Sequence[StoredSegment]) -> int:
        """Set aside those rows that are not what was merged; how many. Hold :attr:`rows` since they were read."""
        found = await asyncio.to_thread(judge, self._replica, rows)
        bad = [(row, why) for row, why in zip(rows, found, strict=True) if why]
        if not bad:
            return 0
        await self._store.set_aside([(row.pos, f"damaged: {why}") for row, why in bad])
        for row, why in bad:
            self.holes.append(Hole(author, epoch, branch, row.first_seq, row.last_seq))
            self.tell_damaged(author, epoch, 1, row.last_seq - row.first_seq + 1, why)
        self.ask_again()
        return len(bad)

    def ask_again(self) -> None:
        """Ask for every hole, each log once, from its first missing op."""
        first: dict[tuple[bytes, int], int] = {}
        for hole in self.holes:
            log = (hole.author, hole.epoch)
            first[log] = min(first.get(log, hole.first), hole.first)
        for (author, epoch), seq in first.items():
            self._ask(author, epoch, seq - 1)

    def tell_damaged(self, author: bytes, epoch: int, rows: int, ops: int, why: str) -> None:
        """One event for what was set aside of one log."""
        self._tell("store.damaged", {"author": show_key(author), "name": self._name_of(author), "epoch": epoch, "rows": rows, "ops": ops, "why": why})

    async def fetched(self, verified: Sequence[Verified], data: Sequence[bytes]) -> bool:
        """Segments of a peer that may fill holes. Returns whether one was filled; the log can be relayed beyond it then."""
        if not self.holes:
            return False
        async with self.rows:
            return await self._fill(verified, data)

    def unlost(self, author: bytes, epoch: int, first: int, last: int) -> int:
        """How many of these ops are in no row that the log lost: the others were here before, and only come again."""
        ops, upto = 0, first - 1
        lost = ((row.first_seq, row.last_seq) for row in self.lost if (row.author, row.epoch) == (author, epoch))
        for start, end in sorted(lost):
            ops += max(0, min(start - 1, last) - upto)
            upto = max(upto, end)
        return ops + max(0, last - upto)

    async def _fill(self, verified: Sequence[Verified], data: Sequence[bytes]) -> bool:
        filled = False
        for hole in tuple(self.holes):
            for segment, raw in zip(verified, data, strict=True):
                if (segment.author, segment.epoch) == (hole.author, hole.epoch) and segment.first_seq <= hole.last and segment.last_seq >= hole.first:
                    self._keep(hole, segment, raw)
            parts = _cover(hole)
            if parts is None:
                continue
            try:
                await self._store.refill(hole.author, hole.epoch, hole.branch, parts)
            except FabrikError as error:  # another peer may have them cut otherwise
                hole.parts.clear()
                self._tell("store.not_repaired", {"author": show_key(hole.author), "epoch": hole.epoch, "message": error.message})
                continue
            self.holes.remove(hole)
            self._tell_repaired(hole.author, hole.epoch, 1, hole.last - hole.first + 1)
            filled = True
        self._trim()
        return filled

    async def after_commit(self, logs: set[tuple[bytes, int]]) -> None:
        """These logs grew: what was lost of them may be here again."""
        done = [row for row in self.lost if (row.author, row.epoch) in logs and self._end(row.author, row.epoch) >= row.last_seq]
        if not done:
            return
        await self._store.forget_damaged([row.pos for row in done])
        self.lost = [row for row in self.lost if row not in done]
        for author, epoch in logs:
            rows = [row for row in done if (row.author, row.epoch) == (author, epoch)]
            if rows and not any((row.author, row.epoch) == (author, epoch) for row in self.lost):
                self._tell_repaired(author, epoch, len(rows), sum(row.last_seq - row.first_seq + 1 for row in rows))

    def _tell_repaired(self, author: bytes, epoch: int, rows: int, ops: int) -> None:
        self.healed += rows
        self._tell("store.repaired", {"author": show_key(author), "name": self._name_of(author), "epoch": epoch, "rows": rows, "ops": ops})

    def _keep(self, hole: Hole, segment: Verified, raw: bytes) -> None:
        first, last = max(segment.first_seq, hole.first), min(segment.last_seq, hole.last)
        if any(start <= first and end >= last for start, (end, _) in hole.parts.items()):
            return
        if not self._replica.check(hole.author, hole.epoch, hole.branch, [raw])[0]:
            hole.parts[first] = (last, cut(raw, first) if segment.first_seq < first else raw)
            _drop_needless(hole)

    def _trim(self) -> None:
        """Down to :data:`PARTS_BYTES`: from the hole with the most bytes each time, what is farthest from its start."""
        sizes = {place: sum(len(raw) for _, raw in hole.parts.values()) for place, hole in enumerate(self.holes) if hole.parts}
        while sum(sizes.values()) > PARTS_BYTES:
            most = max(sizes, key=lambda place: sizes[place])
            parts = self.holes[most].parts
            sizes[most] -= len(parts.pop(max(parts))[1])

    def _end(self, author: bytes, epoch: int) -> int:
        return max((head.seq for head in self._replica.heads() if (head.author, head.epoch) == (author, epoch)), default=0)

    async def _is_there(self, row: DamagedRow) -> bool:
        rows = await self._store.read(row.author, row.epoch, row.first_seq - 1, 1, row.branch)
        return bool(rows) and rows[0].first_seq <= row.first_seq


def _drop_needless(hole: Hole) -> None:
    """Drop each part of which the others hold every op."""
    kept: list[int] = []
    for first in sorted(hole.parts):
        last = hole.parts[first][0]
        if kept and hole.parts[kept[-1]][0] >= last:
            del hole.parts[first]
            continue
        if len(kept) > 1 and hole.parts[kept[-2]][0] + 1 >= first:
            del hole.parts[kept.pop()]
        kept.append(first)


def _cover(hole: Hole) -> list[bytes] | None:
    """Fetched segments that follow each other over the whole hole; None while some are missing."""
    upto, chosen = hole.first - 1, list[bytes]()
    while upto < hole.last:
        best = max(((last, raw) for first, (last, raw) in hole.parts.items() if first <= upto + 1), default=(0, b""), key=lambda part: part[0])
        if best[0] <= upto:
            return None
        upto = best[0]
        chosen.append(best[1])
    return chosen


def judge(replica: Replica, rows: Sequence[StoredSegment]) -> list[str]:
    """Of stored rows of one branch: why each is not what was merged, or not where it belongs; empty texts for sound ones. Takes a signature each."""
    if not rows:
        return []
    first = rows[0]
    found = replica.check(first.author, first.epoch, first.branch, [row.data for row in rows])
    return [why or misplaced(row) for row, why in zip(rows, found, strict=True)]


def misplaced(row: StoredSegment) -> str:
    """Why the data of a row, sound or not, is not what the row says that it holds; empty when it is."""
    try:
        author, epoch, first_seq, last_seq = segment_span(row.data)
    except InvalidOp as error:
        return error.message
    if (author, epoch, first_seq, last_seq) != (row.author, row.epoch, row.first_seq, row.last_seq):
        return f"it holds ops {first_seq} to {last_seq} of {show_key(author)[:8]} epoch {epoch}"
    return ""
