"""Making a mesh, and looking at who owns a home."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fabrik_node.app.opening import make_home
from fabrik_node.clock import SystemClock
from fabrik_node.ids import show_key
from fabrik_node.paths import HomePaths
from fabrik_node.service.views import fingerprint

__all__ = ["default_name", "init", "lock_clear", "lock_show"]


def default_name() -> str:
    """The host's name, cut to what a node's name may be."""
    return socket.gethostname()[:64] or "node"


def init(home: Path, *, name: str, mesh: str) -> dict[str, Any]:
    """A new mesh with this node as its admin."""
    paths = HomePaths(home)
    made = asyncio.run(make_home(paths, SystemClock(), name=name or default_name(), mesh_name=mesh or "fabrik"))
    return {
        "home": str(home),
        "node": name or default_name(),
        "node_id": show_key(made.key.public),
        "fingerprint": fingerprint(made.key.public),
        "mesh": made.record.name,
        "mesh_id": show_key(made.record.mesh_id),
    }
