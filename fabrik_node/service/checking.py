"""Reading every stored segment again: is it what was signed, chained and merged?"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from fabrik_node._core import Head, Replica
from fabrik_node.ids import show_key
from fabrik_node.node.repair import misplaced
from fabrik_node.ports import OpReads, StoredSegment

__all__ = ["Checking", "Finding", "Seen", "SetAside", "check_unserved"]

Finding = tuple[StoredSegment, str]
"""A row, and why it is not what it should be."""
SetAside = Callable[[bytes, int, int, Sequence[StoredSegment]], Awaitable[Any]]
"""Looks at rows of one branch ``(author, epoch, branch, rows)`` again and moves away those that are damaged."""

_READ_BYTES = 4_194_304
_FOLLOWS = "what stands before it is missing or damaged"
_NEXT_NODE = "damaged rows are set aside and asked from the peers again: fabrik-node events shows store.repaired when they are back"
_NEXT_STORE = "the next start of this node sets them aside and asks its peers for them: fabrik-node serve"
_NEXT_BEFORE = "what was set aside before is still waited for: a peer that has it must be connected"


class Checking:
    """The check of a store whose ops are merged in ``replica``. ``set_aside`` None: nothing is changed, only told."""

    def __init__(
        self,
        replica: Replica,
        store: OpReads,
        stamp: Callable[[Mapping[str, Any]], dict[str, Any]],
        name_of: Callable[[bytes], str],
        set_aside: SetAside | None = None,
    ) -> None:
        self._replica = replica
        self._store = store
        self._stamp = stamp
        self._name_of = name_of
        self._set_aside = set_aside

    @property
    def only_tells(self) -> bool:
        """Nobody here can set rows aside."""
        return self._set_aside is None

    async def ops_check(self, _args: Mapping[str, Any]) -> dict[str, Any]:
        """Every row: bytes, signature, chain hashes. Rows that arrive while it runs were verified a moment ago and may be left out."""
        _, merged = await self._store.events_upto()
        heads = self._replica.heads()
        seen = Seen()
        async for batch in self._store.load():
            await self._judge([row for row in batch if row.pos <= merged], seen)
            if batch[-1].pos > merged:
                break
        for head in heads:
            if seen.ops_of(head.author, head.epoch, head.branch) < head.seq - _start(head):
                await self._look_again(head, seen)
        return await self.report(seen, _NEXT_STORE if self.only_tells else _NEXT_NODE)

    async def _look_again(self, head: Head, seen: Seen) -> None:
        """Rows that were packed meanwhile have another place now, behind the one that was read last: read this branch by its numbers."""
        seen.forget(head.author, head.epoch, head.branch)
        after = _start(head)
        while after < head.seq:
            found = await self._store.read(head.author, head.epoch, after, _READ_BYTES, head.branch)
            rows = [row for row in found if row.last_seq <= head.seq]
            if not rows:
                return
            await self._judge(rows, seen)
            after = rows[-1].last_seq

    async def _judge(self, rows: Sequence[StoredSegment], seen: Seen) -> None:
        for (author, epoch, branch), group in groupby(rows, key=_branch_of):
            together = list(group)
            seen.take(together)
            why = await asyncio.to_thread(self._replica.check, author, epoch, branch, [row.data for row in together])
            bad = [(row, text) for row, found in zip(together, why, strict=True) if (text := found or misplaced(row))]
            seen.find(bad)
            if bad and self._set_aside is not None:
                await self._set_aside(author, epoch, branch, [row for row, _ in bad])

    async def report(self, seen: Seen, then: str = _NEXT_STORE) -> dict[str, Any]:
        """The answer: ``sound``, what was read, what is ``damaged`` now, what was ``aside`` before, and what happens ``next``."""
        found = {row.pos for row, _ in seen.findings}
        before = [(row, row.why) for row in await self._store.damaged() if row.pos not in found]
        steps = [then] * bool(seen.findings) + [_NEXT_BEFORE] * bool(before)
        return self._stamp(
            {
                "sound": not seen.findings and not before,
                "rows": seen.rows,
                "ops": seen.ops,
                "bytes": seen.size_bytes,
                "damaged": [self._show(row, why) for row, why in seen.findings],
                "aside": [self._show(row, why) for row, why in before],
                "next": "; ".join(steps),
            }
        )

    def _show(self, row: Any, why: str) -> dict[str, Any]:
        return {
            "row": row.pos,
            "author": show_key(row.author),
            "name": self._name_of(row.author),
            "epoch": row.epoch,
            "branch": row.branch,
            "first_seq": row.first_seq,
            "last_seq": row.last_seq,
            "why": why,
        }


class Seen:
    """What a check has read, and what of it is not as it should be."""

    def __init__(self) -> None:
        self._read: dict[tuple[bytes, int, int], tuple[int, int, int]] = {}
        self._findings: dict[int, Finding] = {}

    @property
    def rows(self) -> int:
        return sum(rows for rows, _, _ in self._read.values())

    @property
    def ops(self) -> int:
        return sum(ops for _, ops, _ in self._read.values())

    @property
    def size_bytes(self) -> int:
        return sum(size for _, _, size in self._read.values())

    @property
    def findings(self) -> list[Finding]:
        """Once per row, in the order in which they were met."""
        return list(self._findings.values())

    def take(self, rows: Sequence[StoredSegment]) -> None:
        """Count these."""
        for row in rows:
            known, ops, size = self._read.get(_branch_of(row), (0, 0, 0))
            self._read[_branch_of(row)] = known + 1, ops + row.last_seq - row.first_seq + 1, size + len(row.data)

    def find(self, findings: Iterable[Finding]) -> None:
        """These are damaged."""
        self._findings |= {row.pos: (row, why) for row, why in findings}

    def ops_of(self, author: bytes, epoch: int, branch: int) -> int:
        """How many of a branch were read."""
        return self._read.get((author, epoch, branch), (0, 0, 0))[1]

    def forget(self, author: bytes, epoch: int, branch: int) -> None:
        """A branch is read anew. What was found stays."""
        self._read.pop((author, epoch, branch), None)


async def check_unserved(genesis: bytes, store: OpReads) -> tuple[Replica, Seen]:
    """The check of a store that no node serves: everything is loaded anew. Also gives the replica of what is sound."""
    replica, seen = Replica(genesis, await store.suspended()), Seen()
    async for batch in store.load():
        seen.take(batch)
        loaded = replica.load([row.data for row in batch], [row.branch for row in batch])
        damaged = dict(loaded.damaged)
        stranded = dict.fromkeys(loaded.stranded, _FOLLOWS)
        seen.find((row, why) for place, row in enumerate(batch) if (why := damaged.get(place) or misplaced(row) or stranded.get(place, "")))
    return replica, seen


def _branch_of(row: StoredSegment) -> tuple[bytes, int, int]:
    return row.author, row.epoch, row.branch


def _start(head: Head) -> int:
    """The number behind which a branch's own ops begin."""
    return 0 if head.base is None else head.base[1]
