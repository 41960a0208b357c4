"""What a node writes of itself at its start."""

from __future__ import annotations

import logging

from fabrik_node.domain.schema import Kind, NodeField
from fabrik_node.errors import AuthError
from fabrik_node.node.node import Node

__all__ = ["tell_name"]

_log = logging.getLogger("fabrik_node")


async def tell_name(node: Node, name: str) -> None:
    """The name that the configuration gives this node; empty: none. One that this node may not write stays as it was."""
    known = node.replica.get(Kind.NODE, node.public, NodeField.NAME)
    if not name or (known is not None and known.value == name):
        return
    try:
        await node.write("name", lambda: [(Kind.NODE, node.public, NodeField.NAME, name, None)])
    except AuthError as error:
        _log.warning("the name of this node stays as it was: %s", error)
