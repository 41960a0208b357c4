"""``claims conflicts``: work that was done twice, as objects: both sides with their branches, who was kept and why, and what it cost.

Read from the runs, which every node has: so the list is the same everywhere, and the loser's branch stays in it for as long as its run is known.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from fabrik_node.clock import iso
from fabrik_node.domain.conflicts import Conflict, Worked, find_conflicts, reason_of_victory, tell_claims
from fabrik_node.domain.runs import FINAL_STATES, RunRow, RunState
from fabrik_node.domain.schema import Kind, RunField
from fabrik_node.ids import show_id, show_key
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
        runs: dict[bytes, list[RunRow]] = {}
        for row in await self._reader.runs():
            if only is None or row.item == only:
                runs.setdefault(row.item, []).append(row)
        return [shown for item, rows in runs.items() for shown in self._of_item(item, rows)]

    def _of_item(self, item: bytes, rows: Sequence[RunRow]) -> list[dict[str, Any]]:
        board, replica = self._reader.board, self._reader.replica
        current = board.claim(item)
        by_claim = {row.claim_id: row for row in reversed(rows)}
        worked = [self._worked(row, None if current is None else current.claim_id) for row in by_claim.values()]
        view = board.item(item)
        title = "" if view is None else view.title
        found = find_conflicts(current, worked, lambda one, other: replica.fence_beats(item, one, other))
        return [self._shown(item, title, conflict, by_claim) for conflict in reversed(found)]

    def _worked(self, row: RunRow, winning: bytes | None) -> Worked:
        summary = self._reader.replica.get(Kind.RUN, row.run_id, RunField.SUMMARY)
        said = summary.value if summary is not None and isinstance(summary.value, dict) else {}
        epoch, receipt, follows = said.get("claim_epoch"), said.get("claim_receipt"), said.get("claim_follows")
        return Worked(
            row.claim_id,
            epoch if isinstance(epoch, int) else 0,
            receipt if isinstance(receipt, int) else 0,
            follows if isinstance(follows, bytes) else None,
            overtaken=row.claim_id != winning and (row.state is RunState.SUPERSEDED or row.state not in FINAL_STATES),
        )

    def _shown(self, item: bytes, title: str, conflict: Conflict, rows: Mapping[bytes, RunRow]) -> dict[str, Any]:
        lost = rows[conflict.loser.claim_id]
        return {
            "item": show_id(item),
            "title": title,
            "kind": conflict.kind,
            "why": reason_of_victory(conflict.winner, conflict.loser),
            "winner": self._side(item, conflict.winner, rows.get(conflict.winner.claim_id)),
            "loser": self._side(item, conflict.loser, lost),
            "wasted_s": (lost.ended_ms - lost.started_ms) / 1000 if lost.ended_ms >= lost.started_ms else None,
            "at": iso(lost.ended_ms or lost.started_ms),
        }

    def _side(self, item: bytes, side: Worked, row: RunRow | None) -> dict[str, Any]:
        current = self._reader.board.claim(item)
        claim = current if current is not None and current.claim_id == side.claim_id else None
        node = row.node if row is not None else b"" if claim is None else claim.node
        agent = row.agent if row is not None else "" if claim is None else claim.agent
        return {
            "claim_id": show_id(side.claim_id),
            "epoch": side.epoch,
            "receipt": side.receipt,
            "node": show_key(node),
            "node_name": self._reader.name_of(node) if node else "",
            "agent": agent,
            "run_id": None if row is None else show_id(row.run_id),
            "state": None if row is None else row.state.value,
            "branch": f"fabrik/{show_id(item)}/{show_id(side.claim_id)}" if row is None or not row.branch else row.branch,
        }
