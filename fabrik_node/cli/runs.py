"""``runs``: what agents did and do, on every node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from fabrik_node.cli import render_recovery, render_runs
from fabrik_node.cli.grammar import DRY_RUN, command, group
from fabrik_node.cli.session import Session

__all__ = ["runs"]


@group("runs")
def runs() -> None:
    """Runs: attempts of agents at items."""


@command("list", parent=runs)
@click.option("--item", metavar="ID", help="Only runs of this item.")
@click.option("--node", metavar="NODE", help="Only runs on this node (name or key).")
@click.option("--state", metavar="STATE", help="Only runs in this state.")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), help="At most so many.")
@click.option("--ask", is_flag=True, help="Ask the nodes of runs that are not over, all at once.")
@click.pass_obj
def list_(session: Session, /, ask: bool, **filters: Any) -> int:
    """Runs of all nodes, newest first. Each with what is known of it, and since when.

    With --ask it ends with 6 when a node did not answer within two seconds: its runs are shown as they are known here.
    """
    data = session.read("runs.list", ask=ask or None, **filters)
    session.show(data, render_runs.Runs(filtered=any(value is not None for value in filters.values())))
    return 6 if data.get("partial") else 0


@command("show", parent=runs)
@click.argument("id")
@click.option("--no-ask", is_flag=True, help="Show what is known here, without asking the run's own node.")
@click.pass_obj
def show(session: Session, id: str, no_ask: bool) -> None:
    """One run with the evidence for its state.

    The run's own node is asked, for two seconds at most; what it says counts, and what is known otherwise here is shown beside it.
    """
    session.show(session.read("runs.show", id=id, ask=False if no_ask else None), render_runs.run)


@command("cancel", parent=runs)
@click.argument("id")
@click.option("--reason", metavar="TEXT", help="Why; it is shown with the run and its item.")
@DRY_RUN
@click.pass_obj
def cancel(session: Session, id: str, reason: str | None, dry_run: bool) -> None:
    """End a run with all of its processes, and hold its item. Of another node: it stops when it hears of it."""
    session.change("runs.cancel", render_runs.cancelled, dry_run=dry_run, id=id, reason=reason)


@command("recovery", parent=runs)
@click.pass_obj
def recovery(session: Session) -> None:
    """Runs that were left incomplete, and what to type next.

    On all nodes: those without an end, and those that ended while their item is neither done nor in hand. Also with no node running.
    """
    session.show(session.read("runs.recovery"), render_recovery.recovery)


@command("clean", parent=runs)
@click.option("--dry-run", is_flag=True, help="Only list what would go.")
@click.pass_obj
def clean(session: Session, dry_run: bool) -> None:
    """Remove the folders of old runs, as [runs] in config.toml says. The node does so by itself every hour."""
    session.show(session.write("runs.clean", dry_run=dry_run or None), render_runs.cleaned)


@command("logs", parent=runs)
@click.argument("id")
@click.option("--follow", "-f", is_flag=True, help="Wait for more until the run ends. Leaving does not stop the run.")
@click.option("--offset", metavar="BYTES", type=click.IntRange(min=0), help="Start so far into the log.")
@click.pass_obj
def logs(session: Session, id: str, follow: bool, offset: int | None) -> None:
    """The output of a run, live or finished.

    Of another node: it is asked for the last 16 KiB, or from --offset on, in small pages; with 6 when it is away.
    """
    show = session.show_raw
    for part in session.stream("runs.logs", follow=follow, id=id, offset=offset):
        if session.json:
            session.show_line(part)
        elif "owner" in part:
            show = session.show_foreign
            session.note(f"output of {part['owner']}, which was asked at {part['as_of']}: from byte {part['begins']} of {part['size']}", _earlier(id, part))
        elif "text" in part:
            show(part["text"])


def _earlier(run: str, part: Mapping[str, Any]) -> str:
    return f"fabrik-node runs logs {run} --offset 0, for all of it" if part["begins"] else ""


@command("watch", parent=runs)
@click.argument("id", required=False)
@click.option("--item", metavar="ID", help="Only runs of this item.")
@click.option("--node", metavar="NODE", help="Only runs on this node (name or key).")
@click.pass_obj
def watch(session: Session, id: str | None, item: str | None, node: str | None) -> None:
    """Runs that are not over, then each change of them.

    Of all nodes, as far as this one knows. With ID until that run is over. Changes are pushed by the node; nothing is asked at intervals.
    """
    screen = session.screen()
    for part in session.stream("runs.watch", follow=True, need="runs watch needs one", id=id, item=item, node=node):
        if session.json:
            session.show_line(part)
        elif "run" in part:
            session.show_raw(render_runs.watched(screen, part) + "\n")
