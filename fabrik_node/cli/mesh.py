"""Making a mesh and entering one: ``init`` and ``join``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from fabrik_node.cli.grammar import command
from fabrik_node.cli.secret_text import secret_text
from fabrik_node.cli.session import Session
from fabrik_node.cli.table import Screen
from fabrik_node.errors import UsageError

__all__ = ["init", "join"]


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
@click.argument("token", metavar="TOKEN|URL")
@click.option("--fingerprint", metavar="FP", help="With a URL: the fingerprint of the node there, as nodes list shows it on that node.")
@click.option("--name", metavar="NAME", default="", help="This node's name. Default: the host's.")
@click.pass_obj
def join(session: Session, token: str, fingerprint: str | None, name: str) -> None:
    """Join a mesh, with an invitation or by asking. Makes a node in this home and fetches the mesh's state once.

    TOKEN may be - for stdin or @FILE: other users of this host can read the arguments of a command.

    With a URL and a fingerprint it asks to be let in and waits until somebody types nodes approve on that node. It may be interrupted and typed again.
    """
    if "://" in token:
        if fingerprint is None:
            raise UsageError("a URL alone does not say whom to trust there", f"fabrik-node join {token} --fingerprint FP, or fabrik-node join TOKEN")
        session.show(session.hooks.knock(session.home, token, fingerprint, name=name, say=session.note), _draw_node)
        return
    if fingerprint is not None:
        raise UsageError("--fingerprint goes with a URL: a token names the key that it trusts", "leave it out")
    session.show(session.hooks.join(session.home, secret_text(token), name=name), _draw_node)


def _draw_node(screen: Screen, data: Mapping[str, Any]) -> None:
    names = ("node", "node_id", "mesh", "mesh_id", "home", "recovery_key", "ops", "note")
    screen.fields([(name.replace("_", " "), data.get(name)) for name in names])
