"""What all pages share: the footer, values, flat answers, events. Pure drawing: nothing is decided here, and no stage is known by name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fabrik_node.cli.table import Screen, age, clean

__all__ = ["FILTERED_ID_CHARS", "Data", "cut_short", "event", "footer", "lag", "pairs", "rehearsed", "value"]

Data = Mapping[str, Any]

FILTERED_ID_CHARS = 13
"""Rows that are left out may share a shorter prefix: ten characters of an id are its millisecond, three more tell its neighbours apart."""
_HOLDS = frozenset({"person_hold", "claim_hold"})
_EVENT_DETAILS_OMITTED = frozenset({"seq", "at", "type", "op"})


def footer(screen: Screen, data: Data) -> None:
    """What the page rests on: time, source, peers, how far it is behind. Every list and every single answer ends with it."""
    where = f"node {data.get('node')}" if data.get("source") == "node" else f"the store of {data.get('node')}, which is not running"
    parts = [f"as of {data.get('as_of', 'an unknown time')}", f"from {where}"]
    connected = data.get("peers_connected")
    if connected is not None and data.get("source") == "node":
        parts.append("1 peer connected" if connected == 1 else f"{connected} peers connected")
        if data.get("behind_ops"):
            parts.append(f"{data['behind_ops']} ops behind")
        if connected == 0 and data.get("last_news_s") is not None:
            parts.append(f"last news of another node {age(data['last_news_s'])} ago")
    screen.line(clean(", ".join(parts)), "dim")


def cut_short(screen: Screen, data: Data, shown: Sequence[Any]) -> None:
    """Say so when a limit left rows out."""
    total = data.get("total", len(shown))
    if total > len(shown):
        screen.line(f"{len(shown)} of {total}", "dim")


def value(content: object) -> str:
    """A register's or event's value on one line."""
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, separators=(", ", ": "))


def pairs(screen: Screen, data: Data) -> None:
    """A small answer, one line per name; what is nested one level deep is drawn flat."""
    flat: dict[str, Any] = {}
    for name, content in data.items():
        flat |= {f"{name} {inner}": part for inner, part in content.items()} if isinstance(content, Mapping) else {name: content}
    screen.fields([(name.replace("_", " "), "yes" if part is True else "no" if part is False else part) for name, part in flat.items()])


def rehearsed(screen: Screen, data: Data) -> None:
    """``--dry-run`` of any command."""
    for effect in data["effects"]:
        screen.line(clean(effect), "yellow")
    rows = [(each["kind"], each["id"] or "(new)", each["field"], _now(each["before"]), value(each["after"])) for each in _writes(data["writes"])]
    if rows:
        screen.table(("KIND", "ID", "FIELD", "NOW", "WOULD BE"), rows, flexible="WOULD BE")
    screen.line("nothing was written: this is a dry run" if rows or data["effects"] else "nothing would change, and nothing was written", "bold")
    footer(screen, data)


def _writes(writes: Sequence[Data]) -> list[Data]:
    """One line for a hold: what says it for builds of before stands beside it, and says the same."""
    own = {each["id"]: each for each in writes if each["field"] in _HOLDS}
    shown = []
    for each in writes:
        beside = own.get(each["id"]) if each["field"] == "hold" else None
        if each["field"] in _HOLDS and any(other["field"] == "hold" and other["id"] == each["id"] for other in writes):
            continue
        shown.append(each if beside is None or each["before"] is not None else {**each, "before": beside["before"]})
    return shown


def _now(content: object) -> str:
    return "" if content is None else value(content)


def event(screen: Screen, data: Data) -> str:
    """One line of ``events``."""
    details = "  ".join(f"{name}={value(content)}" for name, content in data.items() if name not in _EVENT_DETAILS_OMITTED and content not in (None, ""))
    return f"{screen.paint(str(data.get('seq')).rjust(6), 'dim')}  {clean(data.get('at'))}  {screen.paint(clean(data.get('type')), 'bold')}  {clean(details)}".rstrip()


def lag(ops: int | None) -> str:
    """How far a peer is behind; empty when that is not known."""
    return "" if ops is None else f"{ops} ops"
