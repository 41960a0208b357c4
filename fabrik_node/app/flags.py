"""What the flags of ``serve`` and ``--rendezvous`` mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from fabrik_node.cli.hooks import ServeOptions
from fabrik_node.config import Config
from fabrik_node.domain.token import JoinToken
from fabrik_node.transport.address import check_url

__all__ = ["Entry", "merge_options", "parse_entry"]


@dataclass(frozen=True, slots=True)
class Entry:
    """What ``--rendezvous`` named."""

    url: str = ""
    token: JoinToken | None = None
    key: bytes = b""
    """Of the node at ``url``, when it is known: that one has to answer, and nobody else."""

    @property
    def address(self) -> str:
        """Where to dial; empty without an entry."""
        return check_url(self.token.url) if self.token is not None else self.url


def parse_entry(text: str) -> Entry:
    """A token or the address of a peer; nothing for no text. Raises BadToken, UsageError, PortInUse."""
    if not text:
        return Entry()
    if "://" in text:
        return Entry(url=check_url(text))
    return Entry(token=JoinToken.decode(text))


def merge_options(config: Config, options: ServeOptions) -> Config:
    """Flags over the file."""
    replace = msgspec.structs.replace
    node: dict[str, Any] = {"name": options.name, "listen": options.listen}
    agent: dict[str, Any] = {"command": options.command, "qa": options.qa, "name": options.agent, "slots": options.slots, "labels": options.labels or None}
    git: dict[str, Any] = {"remote": options.remote, "base": options.base}
    return replace(
        config,
        node=replace(config.node, **{key: value for key, value in node.items() if value is not None}),
        agent=replace(config.agent, **{key: value for key, value in agent.items() if value is not None}),
        git=replace(config.git, **{key: value for key, value in git.items() if value is not None}),
    )
