"""Runs as people see them. A run that has not ended is never shown without the age of the news."""

from __future__ import annotations

from collections.abc import Sequence

from fabrik_node.cli.render_page import FILTERED_ID_CHARS, Data, cut_short, footer, value
from fabrik_node.cli.render_steps import step_table
from fabrik_node.cli.table import Screen, age, clean, short_ids
from fabrik_node.domain.runs import FINAL_STATES, RunState

__all__ = ["Runs", "cancelled", "cleaned", "drained", "drifts", "run", "run_state", "run_table", "watched"]


_FINAL = frozenset(state.value for state in FINAL_STATES)


class Runs:
    """``runs list``. ``filtered``: see :class:`Board`."""

    def __init__(self, *, filtered: bool) -> None:
        self._at_least = FILTERED_ID_CHARS if filtered else 8

    def __call__(self, screen: Screen, data: Data) -> None:
        """Draw it."""
        run_table(screen, data["runs"], at_least=self._at_least, with_item=True)
        for entry in data["runs"]:
            if entry["state"] == RunState.WAITING.value:
                screen.line(clean(f"{entry['run_id'][:FILTERED_ID_CHARS]} {entry.get('evidence')}"), "yellow")
        cut_short(screen, data, data["runs"])
        footer(screen, data)


def run_table(screen: Screen, entries: Sequence[Data], *, at_least: int, with_item: bool) -> None:
    """One line per run: with its item, or (below an item) with the reason of its end."""
    ids = short_ids([entry["run_id"] for entry in entries], at_least=at_least)
    items = short_ids([entry["item"] for entry in entries], at_least=FILTERED_ID_CHARS)
    header = ("RUN", "STATE", "NODE", "PHASE", "STARTED", *(("ITEM", "TITLE") if with_item else ("REASON",)))
    rows = [
        (
            ids[entry["run_id"]],
            run_state(entry),
            f"{entry['node_name']}/{entry['agent']}",
            entry["phase"],
            entry["started_at"],
            *((items[entry["item"]], entry.get("title") or "") if with_item else (entry.get("reason") or "",)),
        )
        for entry in entries
    ]
    screen.table(header, rows, flexible=header[-1], empty="no runs")


def run_state(entry: Data) -> str:
    """A run that has ended: its state. Any other: the state, since when if that is known, how old the news of it are, and whether they are stale."""
    if entry.get("recorded_state", entry["state"]) in _FINAL:
        return str(entry["state"])
    known, since = entry.get("age_s"), entry.get("unreachable_since")
    news = "age not known" if known is None else "seen now" if entry.get("own") else f"heard {age(known)} ago"
    owner: Data = entry.get("owner") or {}
    is_silent = owner.get("asked") and not owner.get("answered")
    state = f"{entry['state']} since {since}" if since else entry["state"]
    return ", ".join(
        str(part) for part in (state, news, entry.get("degraded"), "did not answer" if is_silent else "", "stale" if entry.get("stale") else "") if part
    )


def _expected(entry: Data) -> str:
    within = entry.get("next_s")
    return f"{entry.get('next') or ''}{f' (within {age(within)})' if within is not None else ''}"


def run(screen: Screen, data: Data) -> None:
    """``runs show``."""
    entry = data["run"]
    owner: Data = data.get("owner") or {}
    screen.fields(
        [
            ("run", entry["run_id"]),
            ("item", f"{entry['item']}  {entry.get('title') or ''}"),
            ("state", run_state(entry)),
            ("evidence", entry.get("evidence")),
            ("owner", owner.get("why") or ("answered now" if owner.get("answered") else "")),
            ("since", entry.get("since") if entry["recorded_state"] not in _FINAL else None),
            ("next", _expected(entry)),
            ("recorded", entry["recorded_state"] if entry["recorded_state"] != entry["state"] else ""),
            ("node", f"{entry['node_name']}/{entry['agent']}" + (" (this node)" if entry.get("own") else "")),
            ("claim", entry["claim_id"]),
            ("phase", entry["phase"]),
            ("kept in", entry.get("contained")),
            ("started", entry["started_at"]),
            ("ended", entry.get("ended_at")),
            ("exit code", entry.get("exit_code")),
            ("reason", entry.get("reason")),
            ("branch", entry.get("branch")),
            ("worktree", entry.get("worktree")),
            ("log", entry.get("log")),
            ("engine", entry.get("engine")),
            *_worked_from(data),
        ]
    )
    drifts(screen, data)
    for each in data.get("differs") or []:
        here, there = (value(each[side]) if each[side] not in (None, "") else "nothing" for side in ("here", "owner"))
        screen.line(clean(f"differs: {each['field']}: known here: {here}; its own node says, and that counts: {there}"), "yellow")
    if data.get("steps"):
        screen.line()
        step_table(screen, data["steps"])
    footer(screen, data)


def _worked_from(data: Data) -> list[tuple[str, object]]:
    """Its inputs, and the run of the same item that came before it."""
    inputs, before = data.get("inputs") or {}, data.get("before")
    found: list[tuple[str, object]] = [("began at", inputs.get("base"))]
    found += [(f"{name} sha256", content) for name, content in inputs.items() if name != "base"]
    return [*found, ("run before it", f"{before['run_id']} ({before['state']}), {before['engine'] or 'engine not known'}" if before else "")]


def drifts(screen: Screen, data: Data) -> None:
    """One line for each input of a run that is something else now."""
    for each in data.get("drift") or []:
        of_run = f" of run {each['run_id'][:FILTERED_ID_CHARS]}" if each.get("run_id") else ""
        screen.line(clean(f"drift{of_run}: {each['text']}"), "yellow")


def watched(screen: Screen, data: Data) -> str:
    """One line of ``runs watch``."""
    entry = data["run"]
    who = f"{entry['node_name']}/{entry['agent']}"
    what = entry.get("reason") or entry.get("evidence") or ""
    parts = [clean(data["as_of"]), clean(entry["run_id"][:FILTERED_ID_CHARS]), screen.paint(clean(run_state(entry)), "bold"), clean(who), clean(entry["phase"])]
    return "  ".join([*parts, clean(entry.get("title") or ""), clean(what)]).rstrip()


def cancelled(screen: Screen, data: Data) -> None:
    """``runs cancel``."""
    entry = data["run"]
    screen.fields([("run", entry["run_id"]), ("state", run_state(entry)), ("reason", entry.get("reason")), ("item", entry["item"]), ("note", data.get("note"))])
    footer(screen, data)


def drained(screen: Screen, data: Data) -> None:
    """``drain``."""
    halt: Data = data.get("halt") or {}
    running: Sequence[str] = data.get("running") or []
    claiming: Sequence[str] = data.get("claiming") or []
    screen.fields(
        [
            ("agent", f"takes nothing new since {halt['since']}" if halt else "takes work"),
            ("why", f"{halt['code']}: {halt['reason']}" if halt else ""),
            ("running", f"{len(running)}: {', '.join(running)}" if running else "nothing"),
            ("claiming", f"{len(claiming)}: {', '.join(claiming)}; given back when granted" if claiming and halt else ""),
            ("to go on", "fabrik-node drain --off" if halt else ""),
        ]
    )
    footer(screen, data)


def cleaned(screen: Screen, data: Data) -> None:
    """``runs clean``."""
    ids = short_ids([entry["run_id"] for entry in data["runs"]], at_least=FILTERED_ID_CHARS)
    rows = [(ids[entry["run_id"]], entry["ended_at"], str(entry["bytes"]), entry.get("problem") or entry["why"]) for entry in data["runs"]]
    screen.table(("RUN", "ENDED", "BYTES", "WHY"), rows, flexible="WHY", empty="nothing is old enough to go")
    screen.line(f"{'removed' if data['removed'] else 'to be removed'}: {data['bytes']} bytes; what stays in {data['folder']}: {data['kept_bytes']} bytes")
    footer(screen, data)
