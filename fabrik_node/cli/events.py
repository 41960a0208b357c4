"""``events``: the node's stream of what happened."""

from __future__ import annotations

import click

from fabrik_node.cli import render_page
from fabrik_node.cli.grammar import command
from fabrik_node.cli.session import Session

__all__ = ["events"]


@command("events")
@click.option("--after", metavar="N", type=click.IntRange(min=0), default=0, show_default=True, help="Resume behind this sequence number.")
@click.option("--follow", "-f", is_flag=True, help="Wait for more.")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), help="End after so many.")
@click.pass_obj
def events(session: Session, after: int, follow: bool, limit: int | None) -> None:
    """What happened, as this node saw it. Numbered without gaps, oldest first."""
    screen = session.screen()
    for event in session.stream("events", follow=follow, after=after, limit=limit):
        if event.get("end") is True:
            return
        if session.json:
            session.show_line(event)
        else:
            session.show_raw(render_page.event(screen, event) + "\n")
