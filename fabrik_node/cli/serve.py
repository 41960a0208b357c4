"""``serve`` and the flags that it shares with ``--rendezvous``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from fabrik_node.cli.grammar import DURATION, Section, command
from fabrik_node.cli.hooks import ServeOptions
from fabrik_node.cli.session import Session

__all__ = ["AGENT_FLAGS", "serve", "serve_flags", "serve_options"]

_LEVELS = ["debug", "info", "warning", "error"]
_FLAGS: tuple[tuple[list[str], dict[str, Any]], ...] = (
    (["--name"], {"metavar": "NAME", "help": "This node's name. Default: [node] name, else the host's."}),
    (["--listen"], {"metavar": "HOST:PORT", "help": "Where peers reach this node, with TLS; ws://127.0.0.1:PORT is plain. Default: [node] listen."}),
    (["--peer", "peers"], {"metavar": "URL", "multiple": True, "help": "Dial this peer too: wss://HOST:PORT (repeatable)."}),
    (["--command"], {"metavar": "CMD", "help": "What the agent runs on an item; for the shell. Default: [agent] command."}),
    (["--qa"], {"metavar": "CMD", "help": "What tests its work. Default: [agent] qa."}),
    (["--remote"], {"metavar": "URL", "help": "The git remote to merge into. Default: [git] remote."}),
    (["--base"], {"metavar": "BRANCH", "help": "The branch to merge into. Default: [git] base."}),
    (["--agent"], {"metavar": "NAME", "help": "The agent's name. Default: [agent] name."}),
    (["--label", "labels"], {"metavar": "LABEL", "multiple": True, "help": "Take items with this label too (repeatable). Default: [agent] labels."}),
    (["--slots"], {"metavar": "N", "type": click.IntRange(1, 64), "help": "Items at a time. Default: [agent] slots."}),
    (
        ["--drain", "drain_s"],
        {"metavar": "DURATION", "type": DURATION, "default": 30.0, "help": "How long SIGTERM waits for running work. Default: 30s."},
    ),
    (
        ["--new-store"],
        {
            "is_flag": True,
            "help": "The database is gone: begin with an empty one and learn everything from the peers, this node's own ops too. Name one with --peer URL: the addresses were in the database.",
        },
    ),
    (["--log-level"], {"type": click.Choice(_LEVELS), "default": "info", "show_default": True, "help": "How much is said on stderr."}),
    (
        ["--log-format"],
        {"type": click.Choice(["text", "json"]), "default": "text", "show_default": True, "help": "Lines for people, or one JSON object per line."},
    ),
)


def serve_flags(*, section: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: all flags of a serving node, under one heading of the help."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for names, settings in reversed(_FLAGS):
            function = click.option(*names, cls=Section.option(section), **settings)(function)
        return function

    return add


def serve_options(*, rendezvous: str = "", peers: Sequence[str] = (), labels: Sequence[str] = (), **flags: Any) -> ServeOptions:
    """The flags as the composition root takes them."""
    return ServeOptions(rendezvous=rendezvous, peers=list(peers), labels=list(labels), **flags)


@command("serve")
@serve_flags(section="Options")
@click.pass_obj
def serve(session: Session, /, **flags: Any) -> int:
    """Run this home's node until SIGINT or SIGTERM. It stays in the foreground and lets running work end first."""
    return session.hooks.serve(session.home, serve_options(**flags))


AGENT_FLAGS = frozenset(parameter.name for parameter in serve.params)
"""Parameter names that ``serve`` and ``--rendezvous`` share."""
