"""Items, their history and tombstones as people see them."""

from __future__ import annotations

from collections.abc import Sequence

from fabrik_node.cli.render_claims import holder
from fabrik_node.cli.render_page import FILTERED_ID_CHARS, Data, cut_short, footer, value
from fabrik_node.cli.render_runs import drifts, run_state, run_table
from fabrik_node.cli.render_steps import step_table
from fabrik_node.cli.table import Screen, age, clean, short_ids

__all__ = ["Board", "added", "history", "item", "moved", "one_line", "tombstone", "tombstones"]

_HOLD_CHARS = 40
"""Of the reason of a hold on the board; the item's page has it whole."""


class Board:
    """``items list``. ``filtered``: not all items are on the page, so ids are shown longer."""

    def __init__(self, *, filtered: bool) -> None:
        self._at_least = FILTERED_ID_CHARS if filtered else 8

    def __call__(self, screen: Screen, data: Data) -> None:
        """Draw it."""
        items: Sequence[Data] = data["items"]
        ids = short_ids([entry["id"] for entry in items], at_least=self._at_least)
        rows = [(ids[entry["id"]], stage(entry), entry["title"], _occupied(screen, entry), age(entry.get("age_s"))) for entry in items]
        screen.table(("ID", "STAGE", "TITLE", "HOLDER", "AGE"), rows, flexible="TITLE", empty="no items")
        cut_short(screen, data, items)
        footer(screen, data)


def stage(entry: Data) -> str:
    """The stage with its own data in short: archived with the reason, a merge with its commits."""
    own: Data = entry.get("stage_data") or {}
    ahead = own.get("commits_ahead")
    return " ".join(str(part) for part in (entry["stage"], own.get("reason"), None if ahead is None else f"+{ahead}") if part)


def _occupied(screen: Screen, entry: Data) -> str:
    """A claim with its age, whole; why it is held in short, for the title has to be read too."""
    if entry.get("claim"):
        return holder(entry["claim"])
    hold = entry.get("hold")
    return "" if hold is None else screen.shortened(f"held: {hold.get('reason') or 'no reason given'}", _HOLD_CHARS)


def one_line(screen: Screen, data: Data) -> None:
    """An item after a change."""
    entry = data["item"]
    screen.line(clean(f"{entry['id']}  {stage(entry)}  {entry['title']}"))


def added(screen: Screen, data: Data) -> None:
    """A new item, and the run that began it, if one was waited for."""
    one_line(screen, data)
    if (tree := data.get("tree")) and not tree["unsent"]:
        screen.line(
            clean(f"agents get all of this tree: {tree['base']} was {tree['base_commit'][:12]} at the last fetch, and nothing here goes beyond it"), "dim"
        )
    if run := data.get("run"):
        screen.line(clean(f"run {run['run_id']}  {run_state(run)}  on {run['node_name']}/{run['agent']}"))


def moved(screen: Screen, data: Data) -> None:
    """An item after a move, whose work that stops, and where it goes on."""
    one_line(screen, data)
    stopped = data.get("superseded")
    if stopped:
        screen.line(clean(f"this stops the work of {stopped['node_name']}/{stopped['agent']} (claim {stopped['claim_id']})"), "yellow")
    if data.get("note"):
        screen.line(clean(data["note"]), "yellow")


def item(screen: Screen, data: Data) -> None:
    """``items show``."""
    entry = data["item"]
    own: Data = entry.get("stage_data") or {}
    screen.line(clean(entry["title"]), "bold")
    screen.fields(
        [
            ("id", entry["id"]),
            ("stage", stage(entry)),
            *[_stage_field(name, content) for name, content in own.items() if name not in ("reason", "commits_ahead")],
            ("holder", holder(entry["claim"]) if entry.get("claim") else ""),
            ("held", _held(entry) if entry.get("hold") is not None else ""),
            ("attempts", entry.get("attempts")),
            ("lost in a row", entry.get("interruptions") or ""),
            ("priority", entry.get("priority")),
            ("labels", ", ".join(entry.get("labels") or [])),
            ("depends on", ", ".join(entry.get("depends_on") or [])),
            ("created", f"{entry['created_at']} ({age(entry.get('age_s'))} ago)"),
            ("outcome", _outcome(entry["outcome"]) if entry.get("outcome") else ""),
        ]
    )
    to_solve = (entry.get("outcome") or {}).get("resolve")
    if entry.get("hold") is not None and isinstance(to_solve, str):
        screen.line()
        screen.line("to solve it, in a clone of the program:", "bold")
        screen.block(to_solve)
    if entry.get("body"):
        screen.line()
        screen.block(entry["body"])
    if data.get("runs"):
        screen.line()
        run_table(screen, data["runs"], at_least=FILTERED_ID_CHARS, with_item=False)
        drifts(screen, data)
    if data.get("steps"):
        screen.line()
        step_table(screen, data["steps"])
    footer(screen, data)


def _held(entry: Data) -> str:
    """Why, and the ways out: finished work goes on as it is on its branch then, or all is done anew."""
    finished = "feature_branch" in (entry.get("stage_data") or {})
    resolve = f"to merge its branch: fabrik-node items resolve {entry['id']}; to do the work anew: " if finished else ""
    return f"{entry['hold'].get('reason', '')} ({resolve}fabrik-node items requeue {entry['id']}{' --anew' if finished else ''})"


def _outcome(said: Data) -> str:
    """How the last run ended, in one line; what an outcome of another version says, as it is."""
    if not isinstance(said.get("result"), str) or not isinstance(said.get("reason"), str):
        return value(said)
    left = said.get("finished")
    work = f"; finished, to be tested and merged: commit {left[:FILTERED_ID_CHARS]} on branch {said.get('finished_branch')}" if isinstance(left, str) else ""
    return f"{said['result']}: {said['reason']}" + (f" (run {said['run']})" if said.get("run") else "") + work


def _stage_field(name: str, content: object) -> tuple[str, object]:
    if not name.endswith("_ms") or not isinstance(content, int):
        return name.replace("_", " "), content
    from fabrik_node.clock import iso

    return name.removesuffix("_ms").replace("_", " "), iso(content)


def history(screen: Screen, data: Data) -> None:
    """``items history``."""
    changes: Sequence[Data] = data["changes"]
    rows = [
        (
            change["at"],
            change["node"],
            change["field"],
            value(change["value"]),
            "" if not change.get("claim_id") else change["claim_id"][:FILTERED_ID_CHARS],
            "current" if change["won"] else "",
            change["digest"][:12],
        )
        for change in changes
    ]
    screen.table(("AT", "NODE", "FIELD", "VALUE", "CLAIM", "NOW", "OP"), rows, flexible="VALUE", empty="no changes")
    footer(screen, data)


def tombstone(screen: Screen, data: Data) -> None:
    """An item after its deletion."""
    screen.line(clean(f"{data['id']}  deleted at {data['at']}"))


def tombstones(screen: Screen, data: Data) -> None:
    """``tombstones list``: whole ids, because nothing else finds them again."""
    rows = [(entry["id"], entry["at"], entry["by"], entry.get("reason") or "") for entry in data["tombstones"]]
    screen.table(("ID", "DELETED", "BY", "REASON"), rows, flexible="REASON", empty="no tombstones")
    cut_short(screen, data, rows)
    footer(screen, data)
