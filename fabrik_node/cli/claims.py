"""``claims``: who holds what."""

from __future__ import annotations

import click

from fabrik_node.cli import render_claims
from fabrik_node.cli.grammar import command, group
from fabrik_node.cli.session import Session

__all__ = ["claims"]


@group("claims")
def claims() -> None:
    """Claims: who works on which item."""


@command("list", parent=claims)
@click.option("--all", "all_", is_flag=True, help="Released claims too.")
@click.pass_obj
def list_(session: Session, all_: bool) -> None:
    """Items that somebody holds."""
    session.show(session.read("claims.list", all=all_ or None), render_claims.claims)


@command("show", parent=claims)
@click.argument("item")
@click.option("--all", "all_", is_flag=True, help="Every claim that the item ever had, the losers' too. Reads the whole log.")
@click.pass_obj
def show(session: Session, item: str, all_: bool) -> None:
    """The claim on one item, with its lease, and what was done twice."""
    session.show(session.read("claims.show", item=item, all=all_ or None), render_claims.claim)


@command("conflicts", parent=claims)
@click.option("--item", metavar="ID", help="Only of this item.")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), help="At most so many.")
@click.pass_obj
def conflicts(session: Session, item: str | None, limit: int | None) -> None:
    """Work that was done twice: who was kept, and what was not used."""
    session.show(session.read("claims.conflicts", item=item, limit=limit), render_claims.conflicts)


@command("release", parent=claims)
@click.argument("item")
@click.option("--reason", metavar="TEXT", help="Why; its holder is told.")
@click.pass_obj
def release(session: Session, item: str, reason: str | None) -> None:
    """End the claim on an item. Its holder stops, and can not merge any more."""
    session.show(session.write("claims.release", item=item, reason=reason), render_claims.released)
