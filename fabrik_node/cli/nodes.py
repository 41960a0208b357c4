"""``nodes``: the members of the mesh."""

from __future__ import annotations

import click

from fabrik_node.cli import render_nodes
from fabrik_node.cli.grammar import command, group
from fabrik_node.cli.session import Session

__all__ = ["nodes"]


@group("nodes")
def nodes() -> None:
    """The members of this mesh."""


@command("list", parent=nodes)
@click.pass_obj
def list_(session: Session) -> None:
    """Every member, with what was last heard of it."""
    session.show(session.read("nodes.list"), render_nodes.nodes)
