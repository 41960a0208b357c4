"""``tombstone`` and ``tombstones``: deleting for good."""

from __future__ import annotations

import click

from fabrik_node.cli import render_items
from fabrik_node.cli.grammar import DRY_RUN, command, group
from fabrik_node.cli.session import Session

__all__ = ["tombstone", "tombstones"]


@command("tombstone")
@click.argument("id")
@click.option("--reason", metavar="TEXT", help="Why; kept with the tombstone.")
@DRY_RUN
@click.pass_obj
def tombstone(session: Session, id: str, reason: str | None, dry_run: bool) -> None:
    """Delete an item on every replica, for good. Its id is never used again."""
    session.change("tombstone", render_items.tombstone, dry_run=dry_run, id=id, reason=reason)


@group("tombstones")
def tombstones() -> None:
    """Deleted items."""


@command("list", parent=tombstones)
@click.pass_obj
def list_(session: Session) -> None:
    """What was deleted, by whom and why."""
    session.show(session.read("tombstones.list"), render_items.tombstones)
