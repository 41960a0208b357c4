"""``runs recovery`` as people see it: three lines a run, so that no command is cut."""

from __future__ import annotations

from fabrik_node.cli.render_page import FILTERED_ID_CHARS, Data, footer
from fabrik_node.cli.render_runs import run_state
from fabrik_node.cli.table import Screen, clean, short_ids

__all__ = ["recovery"]


def recovery(screen: Screen, data: Data) -> None:
    """Draw it."""
    ids = short_ids([entry["run_id"] for entry in data["runs"]], at_least=FILTERED_ID_CHARS)
    for entry in data["runs"]:
        state = screen.paint(clean(run_state(entry)), "red" if entry["kind"] == "open" else "yellow")
        phase = f"in phase {entry['phase']}" if entry["kind"] == "open" else ""
        parts = (ids[entry["run_id"]], state, clean(f"{entry['node_name']}/{entry['agent']}"), phase, clean(entry.get("title") or entry["item"]))
        screen.line("  ".join(part for part in parts if part))
        screen.block("; ".join(part for part in (entry["evidence"], entry["why"], f"its branch: {entry['branch']}" if entry.get("branch") else "") if part))
        screen.block(f"next: {entry['do']}")
    if not data["runs"]:
        screen.line("nothing was left incomplete", "dim")
    else:
        screen.line(f"{data['open']} without an end, {data['unfinished']} ended without their item being done", "bold")
    footer(screen, data)
