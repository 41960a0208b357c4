"""All runs that this node knows: its own as written down here, those of others as their owners summed them up.

There may be very many, and most of them are over. So they are read in a thread, and nobody looks at all of them for one that is named by its whole id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fabrik_node._core import Replica
from fabrik_node.domain.runs import FINAL_STATES, RunRow
from fabrik_node.domain.schema import Kind, RunField
from fabrik_node.errors import NotFound
from fabrik_node.ids import matching, parse_id, resolve, show_id
from fabrik_node.node.by_item import ByItem
from fabrik_node.node.run_summaries import run_from_summary
from fabrik_node.ports import OpReads

__all__ = ["RunRows"]

_OVER = frozenset(state.value for state in FINAL_STATES)


class RunRows:
    """Of one node's replica and store. Holds nothing."""

    def __init__(self, replica: Replica, store: OpReads, by_item: ByItem) -> None:
        self._replica = replica
        self._store = store
        self._by_item = by_item

    async def all(self, item: bytes | None = None) -> list[RunRow]:
        """Newest first; ``item``: those of one item."""
        if item is None:
            own = await self._store.runs()
            return await asyncio.to_thread(self._all, own, self._by_item.all_runs())
        return _merged(await self._store.runs_of(item), self._by_item.runs(item).items())

    async def open(self, own: bytes) -> list[RunRow]:
        """Those that have no end yet; ``own``: this node's key, whose runs count as they are written down here."""
        own_rows = await self._store.open_runs()
        return await asyncio.to_thread(self._still_open, own_rows, own, self._by_item.all_runs())

    async def one(self, run_id: bytes) -> RunRow | None:
        """A run by its id; None when there is none."""
        own = await self._store.run(run_id)
        if own is not None:
            return own
        summary = self._replica.get(Kind.RUN, run_id, RunField.SUMMARY)
        return None if summary is None else run_from_summary(run_id, summary.value)

    async def find(self, text: str) -> RunRow:
        """The one run whose id is ``text``, or begins with it. Raises NotFound and Conflict as :func:`~fabrik_node.ids.resolve` does."""
        whole = parse_id(text)
        if whole is not None:
            row = await self.one(whole)
            if row is None:
                raise NotFound(f"no run {text!r}", "fabrik-node runs list")
            return row
        rows = {row.run_id: row for row in await self.all()}
        found = {show_id(run_id): rows[run_id] for run_id in matching(text, rows)}
        return found[resolve(text, found, "run")]

    def _all(self, own: Sequence[RunRow], known: Sequence[bytes]) -> list[RunRow]:
        return _merged(own, self._said(known))

    def _said(self, known: Sequence[bytes]) -> Iterator[tuple[bytes, Mapping[str, Any]]]:
        """One by one: reading all rows in one call of the core would keep the event loop from its turn meanwhile."""
        for run_id in known:
            if (register := self._replica.get(Kind.RUN, run_id, RunField.SUMMARY)) is not None:
                yield run_id, register.value

    def _still_open(self, own_rows: Sequence[RunRow], own: bytes, known: Sequence[bytes]) -> list[RunRow]:
        rows = {row.run_id: row for row in own_rows}
        for run_id, said in self._said(sorted(known)):  # most of them are over
            state = said.get("state")
            is_open = isinstance(state, str) and state not in _OVER and said.get("node") != own
            if is_open and (found := run_from_summary(run_id, said)) is not None:
                rows[run_id] = found
        return [row for row in rows.values() if row.state not in FINAL_STATES]


def _merged(own: Sequence[RunRow], said: Iterable[tuple[bytes, Mapping[str, Any]]]) -> list[RunRow]:
    rows = {row.run_id: row for row in own}
    for run_id, summary in said:
        if run_id not in rows and (foreign := run_from_summary(run_id, summary)) is not None:
            rows[run_id] = foreign
    return sorted(rows.values(), key=lambda row: row.run_id, reverse=True)
