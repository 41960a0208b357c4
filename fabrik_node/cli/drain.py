"""``drain``: let this node take no more work, and let it take work again."""

from __future__ import annotations

import click

from fabrik_node.cli import render_runs
from fabrik_node.cli.grammar import DRY_RUN, command
from fabrik_node.cli.session import Session
from fabrik_node.errors import UsageError

__all__ = ["drain"]


@command("drain")
@click.option("--off", is_flag=True, help="Take work again; also after the crash guard stopped the agent.")
@click.option("--reason", metavar="TEXT", help="Why; status shows it.")
@DRY_RUN
@click.pass_obj
def drain(session: Session, off: bool, reason: str | None, dry_run: bool) -> None:
    """Take no more work on this node, also after a restart. Running work goes on to its end."""
    if off and reason is not None:
        raise UsageError("--off and --reason exclude each other", "fabrik-node drain --off")
    session.change("drain", render_runs.drained, dry_run=dry_run, off=off or None, reason=reason)
