"""``status`` and ``version``."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import click

from fabrik_node import __version__
from fabrik_node.cli import render_nodes
from fabrik_node.cli.grammar import command
from fabrik_node.cli.session import Session
from fabrik_node.cli.table import Screen
from fabrik_node.errors import NotInitialised

__all__ = ["status", "version"]


@command("status")
@click.pass_obj
def status(session: Session) -> None:
    """This node: identity, replica, agent and peers."""
    try:
        data = session.read("status")
    except NotInitialised as nothing:
        from fabrik_node.clock import SystemClock, iso

        session.note(f"no node here yet: {session.home}", nothing.hint)
        session.show({"as_of": iso(SystemClock().wall_ms()), "source": "none", "node": None, "home": str(session.home), "version": __version__}, _draw_nothing)
        return
    session.show(data, render_nodes.status)


@command("version")
@click.pass_obj
def version(session: Session) -> None:
    """The version of this program."""
    session.show({"version": __version__, "python": platform.python_version()}, _draw_version)


def _draw_nothing(screen: Screen, data: Mapping[str, Any]) -> None:
    screen.fields([("node", "none yet"), ("home", data["home"]), ("version", data["version"])])


def _draw_version(screen: Screen, data: Mapping[str, Any]) -> None:
    screen.line(f"fabrik-node {data['version']} (Python {data['python']})")
