"""``claims``: who holds what."""

from __future__ import annotations

import click

from fabrik_node.cli import render_claims
from fabrik_node.cli.grammar import DRY_RUN, command, group
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
@click.option(
    "--all", "all_", is_flag=True, help="Every claim that the item ever had, the losers' too, and those without effect with the reason. Reads the whole log."
)
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
@DRY_RUN
@click.pass_obj
def release(session: Session, item: str, reason: str | None, dry_run: bool) -> None:
    """End the claim on an item. Its holder stops, and can not merge any more."""
    session.change("claims.release", render_claims.released, dry_run=dry_run, item=item, reason=reason)


@command("expire", parent=claims)
@click.argument("item")
@click.option("--yes", is_flag=True, help="Do it. Without this, whose work it would stop is said, and nothing is changed.")
@click.option("--claim", metavar="ID", help="Only if this claim still wins: the one that was shown.")
@click.option("--reason", metavar="TEXT", help="Why; its holder is told.")
@click.pass_obj
def expire(session: Session, item: str, *, yes: bool, claim: str | None, reason: str | None) -> None:
    """Take a claim for lost now, without waiting for its lease.

    Its holder is stopped and fenced, and others may take the item; finished work that waits to be merged stays so.
    """
    session.show(session.write("claims.expire", item=item, yes=yes or None, claim=claim, reason=reason), render_claims.released)


@command("keep", parent=claims)
@click.argument("item")
@click.argument("claim")
@click.option("--new-item", is_flag=True, help="When the other work is merged already: a new item that merges this one on top.")
@DRY_RUN
@click.pass_obj
def keep(session: Session, item: str, claim: str, *, new_item: bool, dry_run: bool) -> None:
    """Use the work of a claim that was not kept.

    Its branch is tested and merged in place of the other one.
    """
    session.change("claims.keep", render_claims.kept, dry_run=dry_run, item=item, claim=claim, new_item=new_item or None)
