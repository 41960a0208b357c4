"""``keys``: which keys this node has had, has and will have."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

import click

from fabrik_node.cli.client import Client
from fabrik_node.cli.grammar import DRY_RUN, command, group
from fabrik_node.cli.session import Session
from fabrik_node.cli.table import Screen
from fabrik_node.errors import FabrikError

__all__ = ["keys"]

_LOOK_S = 0.1
_LOOKS = 300
_DRY_RUN = click.option("--dry-run", is_flag=True, help="Check all of it, print what would be changed in this home, and change nothing.")
_NOTHING = "nothing was changed: this is a dry run"


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
@_DRY_RUN
@click.pass_obj
def next_(session: Session, move: str | None, copy: str | None, dry_run: bool) -> None:
    """Keep the next key on another medium.

    Who steals this machine's key can rotate it only with the next one. FILE must not be there yet; keys rotate --next FILE uses it.
    """
    if (move is None) == (copy is None):
        raise click.UsageError("name one of --move FILE and --copy FILE")
    done = session.hooks.keep_next(session.home, Path(move or copy or "").absolute(), move=move is not None, dry_run=dry_run)
    session.show(done, _draw_next)


@command("rotate", parent=keys)
@click.option("--next", "file", metavar="FILE", help="Where the next key is. Default: in the home.")
@DRY_RUN
@click.pass_obj
def rotate(session: Session, file: str | None, dry_run: bool) -> None:
    """Replace this node's key by its next one.

    The node goes on under the new key, with its name, role and all that it wrote. Nothing that the old key writes from now on has effect anywhere.
    """
    seed = None if file is None else session.hooks.seed_in(Path(file).absolute())
    if dry_run:
        session.change("keys.rotate", _draw_rotated, dry_run=True, next=seed)
        return
    done = session.write("keys.rotate", next=seed)
    back = _await_key(session, str(done["new"]))
    session.show(done, _draw_rotated)
    if not back:
        session.note("the key is rotated, and the node has not come back with it yet: look at what it says on its terminal", "fabrik-node status")
    elif file is not None:
        session.note(f"that file is this node's key now, and {done['next_file']} the next one", "fabrik-node keys next --move FILE")


@command("use", parent=keys)
@click.argument("file")
@_DRY_RUN
@click.pass_obj
def use(session: Session, file: str, dry_run: bool) -> None:
    """Give a home from a backup the newer key of its node.

    For a key that was rotated since the backup; no node may run on the home. FILE: from a newer backup, or identity/next.key of this home.
    """
    session.show(session.hooks.use_key(session.home, Path(file).absolute(), dry_run=dry_run), _draw_used)
    if not dry_run:
        session.note("what this node wrote under that key comes back from its peers", "fabrik-node serve")


def _draw_used(screen: Screen, data: Mapping[str, Any]) -> None:
    if data.get("dry_run"):
        screen.fields([("key now", data["old"][:16]), ("would be", f"{data['new'][:16]}  {data['fingerprint']}")])
        screen.line(_NOTHING, "bold")
        return
    screen.fields([("key", f"{data['new'][:16]}  {data['fingerprint']}"), ("before", data["old"][:16])])


@command("recover", parent=keys)
@click.option("--recovery-key", "file", metavar="FILE", required=True, help="Where the mesh's recovery key is.")
@click.option("--revoke", "lost", metavar="KEY", multiple=True, help="Put this member out for good: the lost admin, by name or key (repeatable).")
@DRY_RUN
@click.pass_obj
def recover(session: Session, file: str, lost: tuple[str, ...], dry_run: bool) -> None:
    """Make this node an admin when the admin's machine is lost.

    Lost or stolen: --revoke puts it out in the same moment. The file is read, signs one op, and is kept nowhere: it can go back to its place.
    """
    seed = session.hooks.seed_in(Path(file).absolute())
    session.change("keys.recover", _draw_recovered, dry_run=dry_run, recovery=seed, revoke=list(lost) or None)


def _draw_recovered(screen: Screen, data: Mapping[str, Any]) -> None:
    put_out = ", ".join(f"{each['name']} ({each['node'][:16]})" for each in data["revoked"])
    screen.fields([("admin", f"this node, {data['fingerprint']}"), ("revoked", put_out)])


def _await_key(session: Session, key: str) -> bool:
    """Whether the node answers under its new key, within half a minute."""
    for _ in range(_LOOKS):
        with suppress(FabrikError):  # it is about to stop, or to start
            client = Client.connect(session.paths)
            if client is not None:
                with client:
                    if client.call("keys.list", {})["keys"][-1]["node"] == key:
                        return True
        Event().wait(_LOOK_S)
    return False


def _draw_rotated(screen: Screen, data: Mapping[str, Any]) -> None:
    screen.fields([("rotated", data["old"][:16]), ("to", f"{data['new'][:16]}  {data['fingerprint']}"), ("next key", data["next_file"])])


def _draw_next(screen: Screen, data: Mapping[str, Any]) -> None:
    done, dry = "moved to" if data["moved"] else "copied to", data.get("dry_run")
    screen.fields([("next key", data["fingerprint"]), (f"would be {done}" if dry else done, data["file"])])
    if dry:
        screen.line(_NOTHING, "bold")


def _draw(screen: Screen, data: Mapping[str, Any]) -> None:
    rows = [(each["fingerprint"], each["state"], each["role"], each["name"], each["node"]) for each in data["keys"]]
    screen.table(("FINGERPRINT", "STATE", "ROLE", "NAME", "KEY"), rows)
    screen.fields([("next key", _next(data)), ("recovery key", _recovery(data))])


def _next(data: Mapping[str, Any]) -> str:
    committed = data["next_commitments"]
    if not committed:
        return "none: the mesh knows of no next key of this node, so it can not rotate"
    if data["next_file"] is None:
        return "kept elsewhere: fabrik-node keys rotate --next FILE"
    if data["next_commitment"] in committed:
        return f"in this home, {data['next_file']}: better on another medium (fabrik-node keys next --move FILE)"
    return f"kept elsewhere: {data['next_file']} is not the one that was committed to"


def _recovery(data: Mapping[str, Any]) -> str:
    if data["recovery_file"] is not None:
        return f"STILL IN THIS HOME, {data['recovery_file']}: move it to another medium"
    return f"{data['recovery'][:16]}, kept elsewhere" if data["recovery"] else "none: this mesh was made without one"
