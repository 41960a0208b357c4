"""The pages of ``items list`` and ``claims list``, and what lists are narrowed by. There may be very many items, so each page is made in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from fabrik_node.domain.claims import Claim
from fabrik_node.domain.runs import RunState
from fabrik_node.domain.stages import Archived, parse_reason, stage_type
from fabrik_node.errors import UsageError
from fabrik_node.node.board import Board
from fabrik_node.ports import ItemView
from fabrik_node.service.one_state import Watch, of_one_state
from fabrik_node.service.views import Views

__all__ = ["claims_page", "items_page", "limited", "run_state"]

T = TypeVar("T")
_LIST_MAX = 10_000
_Claimed: TypeAlias = tuple[Claim, ItemView | None]
"""A claim and its item; None: that is not known here."""


async def items_page(board: Board, watch: Watch, views: Views, args: Mapping[str, Any]) -> dict[str, Any]:
    """``items`` and their ``total``, of one state (:func:`of_one_state`). Filters: ``stage``, ``reason`` (of archived ones), ``label``, ``held``; ``limit``. Raises UsageError."""
    stage = stage_type(str(args["stage"])) if args.get("stage") else None
    reason = parse_reason(str(args["reason"])) if args.get("reason") else None
    label, held = args.get("label"), args.get("held")
    found = await of_one_state(board, watch, lambda: {view.id: view for view in board.items()}, board.item)

    def page() -> dict[str, Any]:
        chosen = [
            view
            for _, view in _taken(found)
            if (stage is None or isinstance(view.stage, stage))
            and (reason is None or (isinstance(view.stage, Archived) and view.stage.reason is reason))
            and (not label or label in view.labels)
            and (held is None or (view.hold is not None) == bool(held))
        ]
        return {"items": [views.item(view) for view in limited(chosen, args)], "total": len(chosen)}

    return await asyncio.to_thread(page)


async def claims_page(board: Board, watch: Watch, views: Views, args: Mapping[str, Any], held: Sequence[tuple[bytes, Claim]] | None) -> dict[str, Any]:
    """``claims`` and their ``total``, in order of their items, of one state (:func:`of_one_state`); with ``all`` the released ones too. Raises UsageError.

    ``held``: those that are, where that is kept; it may be some moments old.
    """
    everything = bool(args.get("all"))

    def one(item: bytes) -> _Claimed | None:
        claim = board.claim(item)
        return (claim, board.item(item)) if claim is not None and (everything or claim.held) else None

    def look() -> dict[bytes, _Claimed]:
        if everything or held is None:
            items = {view.id: view for view in board.items()}
            return {item: (claim, items.get(item)) for item, claim in board.claims() if everything or claim.held}
        return {item: claimed for item, _ in held if (claimed := one(item)) is not None}

    found = await of_one_state(board, watch, look, one)

    def page() -> dict[str, Any]:
        rows, shown = _taken(found), []
        for item, (claim, view) in limited(rows, args):
            shown.append(views.claim(item, claim) if view is None else views.claim(item, claim, view.title, view.stage))
        return {"claims": shown, "total": len(rows)}

    return await asyncio.to_thread(page)


def _taken(found: dict[bytes, T]) -> list[tuple[bytes, T]]:
    """In order of the items, and out of ``found``: so very many end in the thread in which they were used, and not in the event loop."""
    rows = sorted(found.items(), key=lambda row: row[0])
    found.clear()
    return rows


def run_state(text: str) -> str:
    """The state of a run by its name, in any case; empty for empty. Raises UsageError."""
    names = [state.value for state in RunState]
    if text and text.lower() not in names:
        raise UsageError(f"no state {text!r} of a run", "states: " + ", ".join(names))
    return text.lower()


def limited(rows: Sequence[Any], args: Mapping[str, Any]) -> list[Any]:
    """As many as ``limit`` says, and never more than fit into an answer. Raises UsageError."""
    limit = args.get("limit") or _LIST_MAX
    if not isinstance(limit, int) or limit < 1:
        raise UsageError(f"limit {limit!r} is not a number above 0", "--limit N")
    return list(rows[: min(limit, _LIST_MAX)])
