"""``why``: one screen about an item or a run."""

from __future__ import annotations

import click

from fabrik_node.cli import render_why
from fabrik_node.cli.grammar import command
from fabrik_node.cli.session import Session

__all__ = ["why"]


@command("why")
@click.argument("id")
@click.pass_obj
def why(session: Session, id: str) -> None:
    """Why an item or a run is as it is, and what to type next.

    Who works on an item, or why nobody does: held, claimed, waiting for others, labels that no agent has, agents that are busy, silent or prevented.
    """
    session.show(session.read("why", id=id), render_why.why)
