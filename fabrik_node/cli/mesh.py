"""Making a mesh and letting others in: ``init``, ``invite``, ``join``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from fabrik_node.cli.grammar import DURATION, command
from fabrik_node.cli.session import Session
from fabrik_node.cli.table import Screen, age, clean

__all__ = ["init", "invite", "join"]


@command("init")
@click.option("--name", metavar="NAME", default="", help="This node's name. Default: the host's.")
@click.option("--mesh", metavar="NAME", default="fabrik", show_default=True, help="The new mesh's name.")
@click.option(
    "--recovery-key", "recovery", metavar="FILE", help="Where to put the mesh's recovery key; nothing may be there. Default: in the home, to be moved."
)
@click.pass_obj
def init(session: Session, name: str, mesh: str, recovery: str | None) -> None:
    """Make a node in this home and a mesh with it as admin.

    The recovery key makes a new admin when this machine is lost or stolen. Keep it on another medium: who has it, has the mesh.
    """
    data = session.hooks.init(session.home, name=name, mesh=mesh, recovery=None if recovery is None else Path(recovery).absolute())
    session.show(data, _draw_node)
    session.note(
        "the recovery key makes a new admin when this machine is lost: keep it on another medium, not here",
        "" if recovery is not None else f"mv {data['recovery_key']} /media/STICK/",
    )


@command("join")
@click.argument("token")
@click.option("--name", metavar="NAME", default="", help="This node's name. Default: the host's.")
@click.pass_obj
def join(session: Session, token: str, name: str) -> None:
    """Join a mesh with an invitation. Makes a node in this home and fetches the mesh's state once."""
    session.show(session.hooks.join(session.home, token, name=name), _draw_node)


@command("invite")
@click.option(
    "--role",
    metavar="ROLE",
    default="agent",
    show_default=True,
    help="What the new node may write. agent: claims, runs and stages; peer: items too, for a node where people work; reader: nothing but its name.",
)
@click.option("--ttl", "ttl_s", metavar="DURATION", type=DURATION, default=3600.0, help="How long the token can be used. Default: 1h.")
@click.option(
    "--url", metavar="URL", help="Where the new node reaches this one: wss://HOST:PORT. Default: where it listens; with 0.0.0.0 the only address of this host."
)
@click.pass_obj
def invite(session: Session, role: str, ttl_s: float, url: str | None) -> None:
    """Print a token that lets one new node into the mesh."""
    data = session.write("invite", role=role, ttl_s=ttl_s, url=url)
    session.show(data, _draw_token)
    session.note(
        f"role {clean(data['role'])}, valid once within {age(data['expires_in_s'])}, at {clean(data['url'])}: fabrik-node join TOKEN, or fabrik-node --rendezvous TOKEN"
    )


def _draw_node(screen: Screen, data: Mapping[str, Any]) -> None:
    names = ("node", "node_id", "mesh", "mesh_id", "home", "recovery_key", "ops", "note")
    screen.fields([(name.replace("_", " "), data.get(name)) for name in names])


def _draw_token(screen: Screen, data: Mapping[str, Any]) -> None:
    screen.line(clean(data["token"]))
