"""``keys``: which keys this node has had, has and will have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from fabrik_node.cli.grammar import command, group
from fabrik_node.cli.session import Session
from fabrik_node.cli.table import Screen

__all__ = ["keys"]


@group("keys")
def keys() -> None:
    """The keys of this node: what it was, is, and will be."""


@command("list", parent=keys)
@click.pass_obj
def list_(session: Session) -> None:
    """This node's keys, and where the next one is."""
    session.show(session.read("keys.list") | session.hooks.key_files(session.home), _draw)


@command("next", parent=keys)
@click.option("--move", "move", metavar="FILE", help="Put the next key there and take it out of this home.")
@click.option("--copy", "copy", metavar="FILE", help="Put a copy of the next key there.")
@click.pass_obj
def next_(session: Session, move: str | None, copy: str | None) -> None:
    """Keep the next key on another medium.

    Who steals this machine's key can rotate it only with the next one. FILE must not be there yet; keys rotate --next FILE uses it.
    """
    if (move is None) == (copy is None):
        raise click.UsageError("name one of --move FILE and --copy FILE")
    done = session.hooks.keep_next(session.home, Path(move or copy or "").absolute(), move=move is not None)
    session.show(done, _draw_next)


def _draw_next(screen: Screen, data: Mapping[str, Any]) -> None:
    screen.fields([("next key", data["fingerprint"]), ("moved to" if data["moved"] else "copied to", data["file"])])


def _draw(screen: Screen, data: Mapping[str, Any]) -> None:
    rows = [(each["fingerprint"], each["state"], each["role"], each["name"], each["node"]) for each in data["keys"]]
    screen.table(("FINGERPRINT", "STATE", "ROLE", "NAME", "KEY"), rows)
    screen.fields([("next key", _next(data)), ("recovery key", _recovery(data))])


def _next(data: Mapping[str, Any]) -> str:
    committed = data["next_commitments"]
    if not committed:
        return "none: the mesh knows of no next key of this node, so it can not rotate"
    if data["next_file"] is None:
        return "kept elsewhere"
    if data["next_commitment"] in committed:
        return f"in this home, {data['next_file']}: better on another medium (fabrik-node keys next --move FILE)"
    return f"kept elsewhere: {data['next_file']} is not the one that was committed to"


def _recovery(data: Mapping[str, Any]) -> str:
    if data["recovery_file"] is not None:
        return f"STILL IN THIS HOME, {data['recovery_file']}: move it to another medium"
    return f"{data['recovery'][:16]}, kept elsewhere" if data["recovery"] else "none: this mesh was made without one"
