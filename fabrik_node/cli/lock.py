"""``lock``: who owns this home."""

from __future__ import annotations

import click

from fabrik_node.cli import render_page
from fabrik_node.cli.grammar import command, group
from fabrik_node.cli.session import Session

__all__ = ["lock"]


@group("lock")
def lock() -> None:
    """The owner of this home: one process at a time."""


@command("show", parent=lock)
@click.pass_obj
def show(session: Session) -> None:
    """Who owns this home, and whether that process is alive.

    One that a signal or a debugger stopped is alive, and does nothing: then it says how to let it go on.
    """
    session.show(session.hooks.lock_show(session.home), render_page.pairs)


@command("clear", parent=lock)
@click.pass_obj
def clear(session: Session) -> None:
    """Remove the mark of an owner that is gone. Refused while it lives."""
    session.show(session.hooks.lock_clear(session.home), render_page.pairs)
