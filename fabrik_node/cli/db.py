"""``db``: the node's own data, for people who look for a fault."""

from __future__ import annotations

import click

from fabrik_node.cli import render_recovery
from fabrik_node.cli.grammar import command, group
from fabrik_node.cli.session import Session

__all__ = ["db"]


@group("db")
def db() -> None:
    """What this node holds."""


@command("dump", parent=db)
@click.option("--only", metavar="TYPE", multiple=True, help="Only records of this type, such as op, head, register, event. May be repeated.")
@click.pass_obj
def dump(session: Session, only: tuple[str, ...]) -> None:
    """Print all that this node holds, one JSON object per line.

    Ops, heads, registers, members, peers, clock, what waits, tombstones, counters, settings; with the texts of items, without keys, tokens and passwords.
    The last line has "end" and the number of records of each type.
    """
    for record in session.stream("db.dump", follow=False, only=list(only) or None):
        session.show_line(record)


@command("recovery", parent=db)
@click.pass_obj
def recovery(session: Session) -> None:
    """The same as "runs recovery": what was left incomplete."""
    session.show(session.read("runs.recovery"), render_recovery.recovery)
