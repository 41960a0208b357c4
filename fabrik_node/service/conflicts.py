"""``claims conflicts``: work that was done twice, as objects: both sides with their branches, who was kept and why, and what it cost.

Read from the runs, which every node has: so the list is the same everywhere, and the loser's branch stays in it for as long as its run is known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from fabrik_node.clock import iso
from fabrik_node.domain.conflicts import tell_claims
from fabrik_node.domain.runs import RunRow
from fabrik_node.domain.schema import Kind, RunField
from fabrik_node.node.double_work import conflicts_of
from fabrik_node.service.reading import Reader

__all__ = ["Conflicts"]


class Conflicts:
    """Of one reader."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    @property
    def operations(self) -> Mapping[str, Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]]:
        """By name."""
        return {"claims.conflicts": self._reader.measured(self.conflicts), "claims.show": self._reader.measured(self.show)}

    async def conflicts(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """All, or those of ``item``; newest first."""
        reader = self._reader
        only = reader.find_item(str(args["item"])) if args.get("item") else None
        found = await self._of(only)
        wasted_s = sum(each["wasted_s"] or 0.0 for each in found)
        limit = args.get("limit")
        return reader.stamp({"conflicts": found[:limit] if isinstance(limit, int) and limit > 0 else found, "total": len(found), "wasted_s": wasted_s})

    async def show(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """The winning claim of an item and its conflicts; with ``all`` every claim that it ever had, from the whole log."""
        reader = self._reader
        shown = await reader.claims_show(args)
        item = reader.find_item(shown["item"]["id"])
        shown["conflicts"] = await self._of(item)
        if args.get("all"):
            views = reader.views()
            stories = tell_claims(await reader.touches(item))
            shown["claims"] = [{**views.claim(item, story.claim), "first_at": iso(story.first_ms), "last_at": iso(story.last_ms)} for story in stories]
        return shown

    async def _of(self, only: bytes | None) -> list[dict[str, Any]]:
        self._reader.views()
        return await asyncio.to_thread(self._among, await self._reader.runs(only))  # there may be very many

    def _among(self, rows: Sequence[RunRow]) -> list[dict[str, Any]]:
        by_item: dict[bytes, list[RunRow]] = {}
        for row in rows:
            by_item.setdefault(row.item, []).append(row)
        return [shown for item, runs in by_item.items() for shown in self._of_item(item, runs)]

    def _of_item(self, item: bytes, rows: Sequence[RunRow]) -> list[dict[str, Any]]:
        board, replica = self._reader.board, self._reader.replica
        claim = board.claim(item)
        if len({row.claim_id for row in rows} | ({claim.claim_id} if claim is not None else set())) < 2:  # nearly all: nobody else worked on it
            return []
        view = board.item(item)
        registers = {row.run_id: replica.get(Kind.RUN, row.run_id, RunField.SUMMARY) for row in rows}
        summaries = {run_id: found.value for run_id, found in registers.items() if found is not None and isinstance(found.value, dict)}
        return conflicts_of(item, "" if view is None else view.title, claim, rows, summaries, replica, self._reader.name_of)
