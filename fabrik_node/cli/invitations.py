"""``invite`` and ``invitations``: tokens that let nodes in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from fabrik_node.cli.grammar import DRY_RUN, DURATION, command, group
from fabrik_node.cli.render_page import footer
from fabrik_node.cli.session import Session
from fabrik_node.cli.table import Screen, age, clean

__all__ = ["invitations", "invite"]


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
@click.option("--reusable", is_flag=True, help="Any number of nodes may use it until it expires.")
@click.option("--max-uses", metavar="N", type=click.IntRange(1, 10_000), help="So many nodes may use it until it expires.")
@DRY_RUN
@click.pass_obj
def invite(session: Session, role: str, ttl_s: float, url: str | None, reusable: bool, max_uses: int | None, dry_run: bool) -> None:
    """Print a token that lets new nodes into the mesh.

    One node, unless --reusable or --max-uses says otherwise.

    The token is a secret: hand it over by a file or a pipe where others can see your processes (fabrik-node join @FILE).
    """
    data = session.change("invite", _draw_token, dry_run=dry_run, role=role, ttl_s=ttl_s, url=url, reusable=reusable or None, max_uses=max_uses)
    if dry_run:
        return
    times = {0: "for any number of nodes", 1: "once"}.get(data.get("uses_max", 1), f"for {data.get('uses_max')} nodes")
    session.note(
        f"role {clean(data['role'])}, valid {times} within {age(data['expires_in_s'])}, at {clean(data['url'])}: fabrik-node join TOKEN, or fabrik-node --rendezvous TOKEN"
    )


@group("invitations")
def invitations() -> None:
    """Tokens that this node issued."""


@command("list", parent=invitations)
@click.option("--all", "all_", is_flag=True, help="Those that are over, too: used, expired or withdrawn.")
@click.pass_obj
def list_(session: Session, all_: bool) -> None:
    """Open invitations, and who came in by each. Secrets are not shown."""
    session.show(session.write("invitations.list", all=all_ or None), _draw_list)


@command("withdraw", parent=invitations)
@click.argument("id")
@DRY_RUN
@click.pass_obj
def withdraw(session: Session, id: str, dry_run: bool) -> None:
    """Let nobody else in with an invitation. Who is in stays."""
    session.change("invitations.withdraw", _draw_withdrawn, dry_run=dry_run, id=id)


def _draw_token(screen: Screen, data: Mapping[str, Any]) -> None:
    screen.line(clean(data["token"]))


def _draw_withdrawn(screen: Screen, data: Mapping[str, Any]) -> None:
    screen.fields([(name, data.get(name)) for name in ("id", "role", "state", "uses")])


def _draw_list(screen: Screen, data: Mapping[str, Any]) -> None:
    rows = [
        (
            entry["id"][:12],
            entry["role"],
            entry["state"],
            f"{entry['uses']} of {entry['uses_max'] or 'any'}",
            age(entry.get("expires_in_s")) if entry.get("expires_in_s") is not None else "",
            ", ".join(join["name"] for join in entry["joined"]),
        )
        for entry in data["invitations"]
    ]
    screen.table(("ID", "ROLE", "STATE", "USES", "EXPIRES IN", "JOINED"), rows, empty="no open invitations", flexible="JOINED")
    footer(screen, data)
