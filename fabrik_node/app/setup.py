"""Making a mesh, and looking at who owns a home."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

from fabrik_node.app.opening import make_home
from fabrik_node.clock import SystemClock
from fabrik_node.ids import fingerprint, show_key
from fabrik_node.paths import HomePaths
from fabrik_node.process import boot_id, is_alive, is_stopped
from fabrik_node.store.owner import Owner, clear_owner, read_owner

__all__ = ["default_name", "init", "lock_clear", "lock_show"]


def default_name() -> str:
    """The host's name, cut to what a node's name may be."""
    return socket.gethostname()[:64] or "node"


def init(home: Path, *, name: str, mesh: str, recovery: Path | None = None) -> dict[str, Any]:
    """A new mesh with this node as its admin. Its recovery key is put into the file ``recovery``, without it into the home's identity folder."""
    paths = HomePaths(home)
    file = recovery or paths.recovery_key
    made = asyncio.run(make_home(paths, SystemClock(), name=name or default_name(), mesh_name=mesh or "fabrik", recovery=file))
    return {
        "home": str(home),
        "node": name or default_name(),
        "node_id": show_key(made.key.public),
        "fingerprint": fingerprint(made.key.public),
        "mesh": made.record.name,
        "mesh_id": show_key(made.record.mesh_id),
        "recovery_key": str(file),
    }


def lock_show(home: Path) -> dict[str, Any]:
    """Who owns the home, or owned it and died."""
    owner = read_owner(home)
    if owner is None:
        return {"home": str(home), "owned": False, "alive": None, "owner": None}
    here = owner.process.boot_id == boot_id() or owner.host == socket.gethostname()
    alive = is_alive(owner.process) if here else None
    stopped = {"stopped": True, "to go on": f"kill -CONT {owner.process.pid}"} if alive and is_stopped(owner.process.pid) else {}
    return {"home": str(home), "owned": True, "alive": alive, **stopped, "owner": _owner_json(owner)}


def lock_clear(home: Path) -> dict[str, Any]:
    """Forget an owner that is gone. Raises OwnedElsewhere while it lives."""
    owner = clear_owner(home)
    return {"home": str(home), "cleared": owner is not None, "owner": None if owner is None else _owner_json(owner)}


def _owner_json(owner: Owner) -> dict[str, Any]:
    return {"pid": owner.process.pid, "host": owner.host, "started": owner.started, "socket": owner.socket}
