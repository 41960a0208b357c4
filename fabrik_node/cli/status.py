"""``status`` and ``version``."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from fabrik_node import __version__
from fabrik_node.cli import render_nodes
from fabrik_node.cli.grammar import command
from fabrik_node.cli.render_page import footer
from fabrik_node.cli.session import Session
from fabrik_node.cli.table import Screen
from fabrik_node.errors import NotInitialised

__all__ = ["status", "version", "whoami"]


@command("status")
@click.pass_obj
def status(session: Session) -> None:
    """This node: identity, replica, agent and peers."""
    try:
        data = session.read("status")
    except NotInitialised as nothing:
        from fabrik_node.clock import SystemClock, iso

        session.note(f"no node here yet: {session.home}", session.here(nothing.hint))
        session.show({"as_of": iso(SystemClock().wall_ms()), "source": "none", "node": None, "home": str(session.home), "version": __version__}, _draw_nothing)
        return
    session.show(data, render_nodes.status)


@command("whoami")
@click.pass_obj
def whoami(session: Session) -> None:
    """As whom you speak: a run's command, or this node's operator."""
    session.show(session.read("whoami", folder=_folder()), _draw_whoami)


def _folder() -> str | None:
    try:
        return str(Path.cwd())
    except FileNotFoundError:  # it was removed under us
        return None


@command("version")
@click.pass_obj
def version(session: Session) -> None:
    """The version of this program."""
    session.show({"version": __version__, "python": platform.python_version()}, _draw_version)


def _draw_nothing(screen: Screen, data: Mapping[str, Any]) -> None:
    screen.fields([("node", "none yet"), ("home", data["home"]), ("version", data["version"])])


def _draw_whoami(screen: Screen, data: Mapping[str, Any]) -> None:
    node = ("node", f"{data['node']} ({data['fingerprint']}), {data['role']} of mesh {data['mesh']}")
    if data["caller"] == "run":
        names = ("item", "title", "stage", "run", "claim", "epoch", "attempt", "agent", "branch", "worktree")
        screen.fields([("you are", "the command of a run"), *((name, data[name]) for name in names), node, ("may ask for", ", ".join(data["may"]))])
    else:
        stands = data.get("worktree_of")
        here = f"the worktree of run {stands['run']} ({stands['state']}) of item {stands['item']}" if stands else ""
        screen.fields([("you are", "the operator"), node, ("home", data["home"]), ("this folder", here)])
    footer(screen, data)


def _draw_version(screen: Screen, data: Mapping[str, Any]) -> None:
    screen.line(f"fabrik-node {data['version']} (Python {data['python']})")
