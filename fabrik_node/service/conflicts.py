"""``claims conflicts``: work that was done twice, as objects: both sides with their branches, who was kept and why, and what it cost.

Read from the runs, which every node has: so the list is the same everywhere, and the loser's branch stays in it for as long as its run is known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from fabrik_node._core import Touch, effects, history
from fabrik_node.clock import iso
from fabrik_node.domain.claims import Claim
from fabrik_node.domain.conflicts import tell_claims
from fabrik_node.domain.runs import RunRow
from fabrik_node.domain.schema import ClaimField, Kind, Role, RunField, needed_role
from fabrik_node.node.double_work import conflicts_of
from fabrik_node.service.reading import Reader

__all__ = ["Conflicts"]

_UNHEARD: Mapping[str, Any] = {"label": "without effect", "lease": None, "lease_age_s": None, "lease_heard": False, "stale": None}
"""Of a claim that does not count: whatever it says of itself, it holds nothing, and has no lease."""


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
        """The winning claim of an item and its conflicts; with ``all`` every claim that it ever had, from the whole log, those without effect marked as such."""
        reader = self._reader
        named = args.get("item")
        view = reader.must_item(named) if args.get("all") and isinstance(named, str) and named else None
        if view is not None and view.claim is None and (without := await self._claims(view.id)):
            return reader.stamp({"claim": None, "item": reader.views().item(view), "conflicts": [], "claims": without})
        shown = await reader.claims_show(args)
        item = reader.find_item(shown["item"]["id"])
        shown["conflicts"] = await self._of(item)
        if args.get("all"):
            shown["claims"] = await self._claims(item)
        return shown

    async def _claims(self, item: bytes) -> list[dict[str, Any]]:
        """Every claim that an item ever had, in the order of their first statements. One that no statement with effect states is among them, and ``without_effect`` says why."""
        reader, replica = self._reader, self._reader.replica
        stated: list[Touch] = []
        counted: set[tuple[bytes, int, bytes]] = set()

        def read(segments: Sequence[bytes], of: bytes) -> list[Touch]:
            found = [touch for touch in history(segments, of) if touch.kind == Kind.CLAIM]
            if found:
                merged: dict[tuple[bytes, int], int] = {}
                for head in replica.heads():
                    merged[head.author, head.epoch] = max(head.seq, merged.get((head.author, head.epoch), 0))
                # Of what is stored and not merged yet nobody can tell.
                stated.extend(touch for touch in found if touch.seq <= merged.get((touch.author, touch.epoch), 0))
                counted.update(_op(touch) for touch in effects(replica, segments, of))
            return found

        await reader.touches(item, read)
        views = reader.views()
        effective = tell_claims(touch for touch in stated if _op(touch) in counted)
        ids = {story.claim.claim_id for story in effective}
        void = [story for story in tell_claims(stated) if story.claim.claim_id not in ids]
        why = {story.claim.claim_id: self._why_void(story.claim, stated) for story in void}
        return [
            {
                **views.claim(item, story.claim),
                **(_UNHEARD if story.claim.claim_id in why else {}),
                "first_at": iso(story.first_ms),
                "last_at": iso(story.last_ms),
                "without_effect": why.get(story.claim.claim_id),
            }
            for story in sorted([*effective, *void], key=lambda story: (story.lamport, story.claim.node))
        ]

    def _why_void(self, claim: Claim, stated: Sequence[Touch]) -> str:
        """As far as what is known of the author now tells it."""
        replica, name = self._reader.replica, self._reader.name_of(claim.node)
        member, suspended = replica.member(claim.node), set(replica.suspended())
        if any((touch.author, touch.epoch) in suspended for touch in stated if _states(touch, claim)):
            return f"the log of {name} that states it has too many branches and is suspended"
        if member.revoked:
            return f"{name} was put out, and this is not of what was kept"
        if member.successor is not None:
            return f"{name} had rotated its key, and this was written with the old one"
        if member.role < needed_role(Kind.CLAIM, ClaimField.CLAIM):
            role = Role(member.role)
            return f"{name} is no member" if role is Role.NONE else f"{name} has the role {role.name.lower()}, and a claim takes the role agent"
        return f"{name} had no right to it then, or its op breaks a rule"

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
        return conflicts_of(item, "" if view is None else view.title, claim, rows, summaries, self._reader.name_of)


def _op(touch: Touch) -> tuple[bytes, int, bytes]:
    return touch.author, touch.epoch, touch.digest


def _states(touch: Touch, claim: Claim) -> bool:
    return touch.author == claim.node and isinstance(touch.value, dict) and touch.value.get(1) == claim.claim_id
