"""What a node in the foreground says of its peers on its terminal: once for each change, with the cause."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from fabrik_node.node.node import Node
from fabrik_node.ports import PeerStatus

__all__ = ["tell_peers"]

_log = logging.getLogger("fabrik_node")


async def tell_peers(node: Node, statuses: Callable[[], Sequence[PeerStatus]]) -> None:
    """Follow the addresses that this node dials, for ever. Those who call us are in the event stream only."""
    said: dict[str, str] = {}
    while True:
        for peer in statuses():
            if peer.direction == "in":
                continue
            match peer.state:
                case "connected":
                    level, line = logging.INFO, f"connected to {node.name_of(peer.key)} at {peer.url}"
                case "waiting" if peer.detail:
                    level, line = logging.WARNING, f"no connection to {peer.url}: {peer.detail}; trying again"
                case "refused":
                    level, line = logging.WARNING, f"refused at {peer.url}: {peer.detail}"
                case _:
                    continue
            if said.get(peer.url) != line:
                said[peer.url] = line
                fields = {
                    "peer": node.name_of(peer.key) if peer.key else "",
                    "url": peer.url,
                    "state": peer.state,
                    "detail": peer.detail,
                    "attempts": peer.attempts,
                }
                _log.log(level, "%s", line, extra={"fields": fields})
        await node.peers_moved()
