"""Reading every stored segment again: is it what was signed, chained and merged?"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

from fabrik_node._core import Replica
from fabrik_node.ids import show_key
from fabrik_node.node.repair import misplaced
from fabrik_node.ports import OpReads, StoredSegment

__all__ = ["Checking", "Finding", "Seen", "SetAside", "check_unserved"]

Finding = tuple[StoredSegment, str]
"""A row, and why it is not what it should be."""
SetAside = Callable[[bytes, int, int, Sequence[StoredSegment]], Awaitable[Any]]
"""Looks at rows of one branch ``(author, epoch, branch, rows)`` again and moves away those that are damaged."""

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
        seen = Seen()
        async for batch in self._store.load():
            rows = [row for row in batch if row.pos <= merged]
            seen.take(rows)
            for (author, epoch, branch), group in groupby(rows, key=lambda row: (row.author, row.epoch, row.branch)):
                together = list(group)
                why = await asyncio.to_thread(self._replica.check, author, epoch, branch, [row.data for row in together])
                bad = [(row, text) for row, found in zip(together, why, strict=True) if (text := found or misplaced(row))]
                seen.findings += bad
                if bad and self._set_aside is not None:
                    await self._set_aside(author, epoch, branch, [row for row, _ in bad])
            if batch[-1].pos > merged:
                break
        return await self.report(seen, _NEXT_STORE if self.only_tells else _NEXT_NODE)

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
                "bytes": seen.bytes,
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
    """What a check has read."""

    def __init__(self) -> None:
        self.rows = self.ops = self.bytes = 0
        self.findings: list[Finding] = []

    def take(self, rows: Sequence[StoredSegment]) -> None:
        """Count these."""
        self.rows += len(rows)
        self.ops += sum(row.last_seq - row.first_seq + 1 for row in rows)
        self.bytes += sum(len(row.data) for row in rows)


async def check_unserved(genesis: bytes, store: OpReads) -> tuple[Replica, Seen]:
    """The check of a store that no node serves: everything is loaded anew. Also gives the replica of what is sound."""
    replica, seen = Replica(genesis, await store.suspended()), Seen()
    async for batch in store.load():
        seen.take(batch)
        loaded = replica.load([row.data for row in batch], [row.branch for row in batch])
        damaged = dict(loaded.damaged)
        stranded = dict.fromkeys(loaded.stranded, _FOLLOWS)
        seen.findings += [(row, why) for place, row in enumerate(batch) if (why := damaged.get(place) or misplaced(row) or stranded.get(place, ""))]
    return replica, seen
