"""Steps as people see them."""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote

from fabrik_node.cli.render_page import FILTERED_ID_CHARS, Data, footer
from fabrik_node.cli.table import Screen, clean

__all__ = ["said", "step_table", "steps"]


def step_table(screen: Screen, found: Sequence[Data]) -> None:
    """One line each."""
    rows = [
        (
            each["name"],
            each["state"] + (", side effects" if each.get("side_effects") else ""),
            str(each["attempt"]),
            each["run"][:FILTERED_ID_CHARS],
            (each.get("commit") or "")[:12],
            each["at"],
        )
        for each in found
    ]
    screen.table(("STEP", "STATE", "ATTEMPT", "RUN", "COMMIT", "AT"), rows, flexible="STEP", empty="no steps")


def steps(screen: Screen, data: Data) -> None:
    """``steps list``."""
    step_table(screen, data["steps"])
    for each in data["steps"]:
        if each["state"] == "unended" and each.get("side_effects"):
            name = f"{data['item']} {quote(each['name'])}"
            screen.line(clean(f"{each['name']} was begun and has no end: {each.get('command') or 'its command is not known'}"), "yellow")
            screen.line(clean(f"  it has happened: fabrik-node steps done {name}; it has not: fabrik-node steps again {name}"), "yellow")
    footer(screen, data)


def said(screen: Screen, data: Data) -> None:
    """After ``steps done`` and ``steps again``."""
    each = data["step"]
    word = "is done" if each["state"] == "done" else "may run again"
    screen.line(clean(f"step {each['name']} of item {data['item']} {word}"))
    if data.get("next"):
        screen.line(clean(f"the item is held; to go on: {data['next']}"), "yellow")
