"""``doctor``: is everything there that this node needs?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from fabrik_node.cli.client import Client
from fabrik_node.cli.grammar import command
from fabrik_node.cli.hooks import NodeAnswer
from fabrik_node.cli.session import Session
from fabrik_node.cli.table import Screen, clean
from fabrik_node.errors import FabrikError

__all__ = ["doctor"]

_STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


@command("doctor")
@click.option("--remote", metavar="URL", default="", help="Try this git remote instead of that of config.toml.")
@click.option("--no-remote", is_flag=True, help="Do not try the git remote.")
@click.pass_obj
def doctor(session: Session, remote: str, no_remote: bool) -> int:
    """Look at all that this node needs, and say what to do.

    Home, permissions, disk, clock, identity, settings, git, its local repositories and its remote, peers, control groups; with or without a running node. Nothing that
    stays is changed: on the git remote two refs under refs/fabrik/probe/ are made and deleted. Ends with 1 when something has failed.
    """
    data = session.hooks.doctor(session.home, _ask(session), remote=None if no_remote else remote)
    session.show(data, _draw)
    return 1 if data["fail"] else 0


def _ask(session: Session) -> NodeAnswer:
    """What the running node says of itself. A refusal is an answer: who refuses is there."""
    try:
        client = Client.connect(session.paths)
    except FabrikError as error:
        return NodeAnswer(error=str(error), hint=error.hint)
    if client is None:
        return NodeAnswer()
    with client:
        try:
            return NodeAnswer(client.call("status", {}))
        except FabrikError as error:
            return NodeAnswer(refused=client.refused, error=str(error), hint=error.hint)


def _draw(screen: Screen, data: Mapping[str, Any]) -> None:
    width = max((len(check["check"]) for check in data["checks"]), default=0)
    for check in data["checks"]:
        screen.line(f"{screen.paint(check['state'].ljust(4), _STYLES[check['state']])}  {check['check'].ljust(width)}  {clean(check['said'])}")
        if check["next"]:
            screen.line(clean(f"{' ' * (width + 8)}to do: {check['next']}"))
    screen.line(f"{data['ok']} ok, {data['warn']} to look at, {data['fail']} failed", "bold")
