"""``nodes``: the members of the mesh."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from fabrik_node.cli import render_nodes
from fabrik_node.cli.grammar import DRY_RUN, command, group
from fabrik_node.cli.session import Session
from fabrik_node.cli.table import Screen

__all__ = ["nodes"]


@group("nodes")
def nodes() -> None:
    """The members of this mesh."""


@command("list", parent=nodes)
@click.pass_obj
def list_(session: Session) -> None:
    """Every member, with what was last heard of it."""
    session.show(session.read("nodes.list"), render_nodes.nodes)


@command("pending", parent=nodes)
@click.pass_obj
def pending(session: Session) -> None:
    """Keys that asked this node to be let in and wait."""
    session.show(session.write("nodes.pending"), render_nodes.pending)


@command("approve", parent=nodes)
@click.argument("key")
@click.option("--role", metavar="ROLE", default="agent", show_default=True, help="What the new node may write: reader, agent or peer.")
@DRY_RUN
@click.pass_obj
def approve(session: Session, key: str, role: str, dry_run: bool) -> None:
    """Let a waiting key in. KEY: its first hex digits.

    Compare its fingerprint with what its own command shows: the name is only what it calls itself.
    """
    session.change("nodes.approve", _draw, dry_run=dry_run, key=key, role=role)


@command("reject", parent=nodes)
@click.argument("key")
@DRY_RUN
@click.pass_obj
def reject(session: Session, key: str, dry_run: bool) -> None:
    """Tell a waiting key that it is not wanted. KEY: its first hex digits."""
    session.change("nodes.reject", _draw, dry_run=dry_run, key=key)


@command("role", parent=nodes)
@click.argument("key")
@click.argument("role")
@DRY_RUN
@click.pass_obj
def role_(session: Session, key: str, role: str, dry_run: bool) -> None:
    """Give a member another role: reader, agent, peer or admin.

    It holds for what it writes from now on. An agent claims and works; a peer also adds and edits items; an admin also lets nodes in and puts them out; a reader writes its own name alone.
    """
    session.change("nodes.role", _draw, dry_run=dry_run, key=key, role=role)


@command("revoke", parent=nodes)
@click.argument("key")
@click.option(
    "--keep",
    metavar="WHAT",
    multiple=True,
    help="What stays of what it wrote: held (all that this node holds now; the default), first (of each log only the branch that this node met first), nothing, "
    "or EPOCH:SEQ or EPOCH:SEQ:BRANCH (that op and those before it; may be given several times).",
)
@click.option("--keep-nothing", is_flag=True, help="The same as --keep nothing.")
@DRY_RUN
@click.pass_obj
def revoke(session: Session, key: str, keep: tuple[str, ...], keep_nothing: bool, dry_run: bool) -> None:
    """Put a stolen key out for good, on every node.

    All but what is kept of it has no effect anywhere, whenever it arrives. A log that its thief got suspended, by too many branches, is taken again:
    what is kept of it counts. KEY: its first hex digits, or the node's name.
    """
    session.change("nodes.revoke", _draw, dry_run=dry_run, key=key, keep=list(keep) or None, keep_nothing=keep_nothing or None)


@command("retire", parent=nodes)
@click.argument("key")
@DRY_RUN
@click.pass_obj
def retire(session: Session, key: str, dry_run: bool) -> None:
    """Let a node connect no more; what it wrote stays.

    For machines that are switched off. A key that may be stolen is revoked.
    """
    session.change("nodes.retire", _draw, dry_run=dry_run, key=key)


def _draw(screen: Screen, data: Mapping[str, Any]) -> None:
    screen.fields(
        [(name, data.get(name)) for name in ("node", "fingerprint", "name", "role", "state", "revoked", "kept", "note") if data.get(name) not in (None, "")]
    )
