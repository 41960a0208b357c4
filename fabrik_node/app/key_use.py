"""``keys use``: a home that was put back from a backup takes up the key to which it had been rotated meanwhile, or goes back when it had not been."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from fabrik_node._core import Replica, SigningKey, next_key
from fabrik_node.app.opening import NODE_KEY, Mesh, load_mesh
from fabrik_node.app.rotation import keep_former, load_all
from fabrik_node.clock import SystemClock
from fabrik_node.domain.schema import Role
from fabrik_node.errors import Conflict, ForeignStore, Precondition
from fabrik_node.ids import fingerprint, show_key
from fabrik_node.node.epochs import DOUBT_KEY
from fabrik_node.node.identity import load_key, read_seed, replace_key, sync_folder
from fabrik_node.node.member_records import commitments
from fabrik_node.paths import HomePaths
from fabrik_node.service.keys import line_of
from fabrik_node.store.owner import OwnerLock, check_free
from fabrik_node.store.readonly import open_readonly
from fabrik_node.store.reads import StoreReads
from fabrik_node.store.sqlite import SqliteStore

__all__ = ["check_rotated", "newest_of", "use_key"]

_DOUBT = "this home was put back from a backup and took up a key that was used since"


def use_key(home: Path, file: Path, *, dry_run: bool = False) -> dict[str, Any]:
    """Make the key in ``file`` this home's. Raises NotFound, UsageError, Conflict, OwnedElsewhere while a node runs, Precondition for a key that does not follow: nothing was changed then.

    ``dry_run``: the same refusals, from a store that is only read, and nothing is changed.
    """
    return asyncio.run((_try if dry_run else _use)(HomePaths(home), read_seed(file)))


def check_rotated(paths: HomePaths, replica: Replica, key: bytes, name: str) -> None:
    """The key of a home that starts was not rotated away, as far as its store says. Raises Precondition."""
    newest = newest_of(replica, key)
    if newest == key:
        return
    fits = paths.next_key.exists() and load_key(paths.next_key).public == newest
    raise Precondition(
        f"the key of this home ({fingerprint(key)}, {name}) was rotated to {fingerprint(newest)}: nothing that it writes has effect any more",
        f"fabrik-node keys use {paths.next_key if fits else 'FILE, with the newer key; without it this is a new node: fabrik-node --home DIR join TOKEN'}",
    )


def newest_of(replica: Replica, key: bytes) -> bytes:
    """The last of those to which a key was rotated; the key itself if it was not."""
    seen = {key}
    while (after := replica.member(key).successor) is not None and after not in seen:
        seen.add(after)
        key = after
    return key


async def _use(paths: HomePaths, seed: bytes) -> dict[str, Any]:
    mesh, new, clock = load_mesh(paths), SigningKey.from_seed(seed), SystemClock()
    lock = OwnerLock.acquire(paths.home, clock)
    try:
        async with await SqliteStore.open(paths.store, clock, mesh_id=mesh.record.mesh_id) as store:
            old, back = mesh.key.public, await _check(paths, store, mesh, new.public)
            await store.set_meta(DOUBT_KEY, _DOUBT.encode())  # our ops under this key are with the peers
            await store.set_meta(NODE_KEY, new.public)
            if old != new.public:
                if back and not paths.next_key.exists():
                    os.link(paths.identity_key, paths.next_key)  # it is the next key again
                else:
                    keep_former(paths, old)
                replace_key(paths.identity_key, seed)
            if paths.next_key.exists() and load_key(paths.next_key).public == new.public:
                paths.next_key.unlink()
                sync_folder(paths.identity)
            return _answer(old, new.public)
    finally:
        lock.release()


async def _try(paths: HomePaths, seed: bytes) -> dict[str, Any]:
    mesh, new = load_mesh(paths), SigningKey.from_seed(seed)
    check_free(paths.home)
    async with await open_readonly(paths.store, mesh_id=mesh.record.mesh_id) as store:
        await _check(paths, store, mesh, new.public)
    return _answer(mesh.key.public, new.public) | {"dry_run": True}


async def _check(paths: HomePaths, store: StoreReads, mesh: Mesh, new: bytes) -> bool:
    """Raises for a key that does not follow; True when it is the way back."""
    old, replica = mesh.key.public, await load_all(paths, store, mesh)
    owner = await store.get_meta(NODE_KEY) or old
    if owner == new == old:
        raise Conflict(f"{show_key(old)[:16]} is the key of this home already", "fabrik-node serve")
    if owner not in (old, new):
        raise ForeignStore(f"{paths.store} is the database of node {show_key(owner)[:8]}: nothing was changed", "put back the folder of the home as a whole")
    back = _is_way_back(replica, mesh, new)
    if not back:
        _check_follows(replica, mesh, new)
    return back


def _answer(old: bytes, new: bytes) -> dict[str, Any]:
    return {"old": show_key(old), "new": show_key(new), "fingerprint": fingerprint(new)}


def _is_way_back(replica: Replica, mesh: Mesh, new: bytes) -> bool:
    """The home took up its next key, and there had been no rotation: as far as it knows, ``new`` is still the member and never followed by that one."""
    member, old = replica.member(new), mesh.key.public
    never = member.role != Role.NONE and member.successor is None and replica.member(old).role == Role.NONE
    return never and next_key(old) in commitments(replica, mesh.record, new)


def _check_follows(replica: Replica, mesh: Mesh, new: bytes) -> None:
    """An older store may not know of the rotation, so the next key is taken on trust; :func:`_is_way_back` undoes that."""
    old = mesh.key.public
    if new == old or old in line_of(replica, new) or next_key(new) in commitments(replica, mesh.record, old):
        return
    raise Precondition(
        f"the key in that file ({fingerprint(new)}) does not follow the one of this home ({fingerprint(old)}): nothing was changed",
        "take the file from the newest backup of identity/; without it this is a new node: fabrik-node --home DIR join TOKEN",
    )
