"""The pages of ``items list`` and ``claims list``, and what lists are narrowed by. There may be very many items, so each page is for a thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fabrik_node.domain.claims import Claim
from fabrik_node.domain.runs import RunState
from fabrik_node.domain.stages import Archived, parse_reason, stage_type
from fabrik_node.errors import UsageError
from fabrik_node.node.board import Board
from fabrik_node.service.views import Views

__all__ = ["claims_page", "items_page", "limited", "run_state"]

_LIST_MAX = 10_000


def items_page(board: Board, views: Views, args: Mapping[str, Any]) -> dict[str, Any]:
    """``items`` and their ``total``. Filters: ``stage``, ``reason`` (of archived ones), ``label``, ``held``; ``limit``. Raises UsageError. Of one state only where nothing is merged meanwhile (:meth:`Board.state`)."""
    stage = stage_type(str(args["stage"])) if args.get("stage") else None
    reason = parse_reason(str(args["reason"])) if args.get("reason") else None
    label, held = args.get("label"), args.get("held")
    chosen = [
        view
        for view in board.items()
        if (stage is None or isinstance(view.stage, stage))
        and (reason is None or (isinstance(view.stage, Archived) and view.stage.reason is reason))
        and (not label or label in view.labels)
        and (held is None or (view.hold is not None) == bool(held))
    ]
    return {"items": [views.item(view) for view in limited(chosen, args)], "total": len(chosen)}


def claims_page(board: Board, views: Views, args: Mapping[str, Any], held: Sequence[tuple[bytes, Claim]] | None) -> dict[str, Any]:
    """``claims`` and their ``total``, in order of their items. ``held``: those that are, where that is kept; with ``all`` the released ones too. Raises UsageError.

    Of one state only where nothing is merged meanwhile (:meth:`Board.state`); ``held`` may be older.
    """
    everything = bool(args.get("all"))
    known = (
        board.claims() if everything or held is None else [(item, claim) for item, _ in sorted(held, key=lambda each: each[0]) if (claim := board.claim(item))]
    )
    found = [(item, claim) for item, claim in known if everything or claim.held]
    shown = []
    for item, claim in limited(found, args):
        view = board.item(item)
        shown.append(views.claim(item, claim) if view is None else views.claim(item, claim, view.title, view.stage))
    return {"claims": shown, "total": len(found)}


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
