"""``why`` on one screen: state and causes with what to type, then what is known, then the last changes."""

from __future__ import annotations

from fabrik_node.cli.render_claims import holder
from fabrik_node.cli.render_items import stage
from fabrik_node.cli.render_page import FILTERED_ID_CHARS, Data, footer, value
from fabrik_node.cli.render_runs import run_state, run_table
from fabrik_node.cli.table import Screen, clean

__all__ = ["why"]


def why(screen: Screen, data: Data) -> None:
    """Draw it."""
    for cause in data["causes"]:
        screen.line(clean(cause["text"]), "bold")
        if cause.get("next"):
            screen.line(clean(f"  try: {cause['next']}"))
    screen.line()
    if data["kind"] == "run":
        run: Data = data["run"]
        screen.fields(
            [
                ("run", run["run_id"]),
                ("item", f"{run['item']}  {run.get('title') or ''}"),
                ("state", run_state(run)),
                ("node", f"{run['node_name']}/{run['agent']}"),
                ("phase", run["phase"]),
                ("next", run.get("next")),
            ]
        )
    else:
        item: Data = data["item"]
        screen.fields(
            [
                ("item", f"{item['id']}  {item['title']}"),
                ("stage", stage(item)),
                ("holder", holder(item["claim"]) if item.get("claim") else ""),
                ("attempts", item.get("attempts")),
            ]
        )
        if data.get("runs"):
            screen.line()
            run_table(screen, data["runs"], at_least=FILTERED_ID_CHARS, with_item=False)
    if data.get("changes"):
        screen.line()
        rows = [(change["at"], change["by"], change["field"], value(change["value"])) for change in data["changes"]]
        screen.table(("CHANGED", "BY", "FIELD", "VALUE"), rows, flexible="VALUE")
    footer(screen, data)
