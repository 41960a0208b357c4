"""The second half of a rotation: the home takes over the key that its last op named. Done at the start after it, and at every start until it is whole.

The op is the moment: before it is durable the old key counts, from then on the new one. Each step leaves the home so that the next start finishes the rest.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fabrik_node._core import Replica, SigningKey
from fabrik_node.app.opening import NODE_KEY, Mesh, first_epoch
from fabrik_node.clock import Clock
from fabrik_node.domain.schema import Kind, NodeField
from fabrik_node.errors import BrokenStore, NotInitialised
from fabrik_node.ids import show_key
from fabrik_node.node.board import Board
from fabrik_node.node.epochs import EPOCH_KEY
from fabrik_node.node.identity import commitment_of, load_key, sync_folder
from fabrik_node.node.loading import load
from fabrik_node.paths import HomePaths, private_folder
from fabrik_node.service.keys import line_of
from fabrik_node.store.reads import StoreReads
from fabrik_node.store.snapshot_file import SnapshotFile
from fabrik_node.store.sqlite import SqliteStore

__all__ = ["STEPS", "former_keys", "keep_former", "load_all", "settle"]

STEPS = ("before_former", "before_switch", "before_next", "before_log", "before_epoch", "before_note")
"""The places at which a crash leaves something to finish, in their order."""
_ALL = 2**63 - 1
"""Events are nothing to this reader: it takes every row as told."""


async def settle(paths: HomePaths, store: SqliteStore, clock: Clock, mesh: Mesh, *, reach: Callable[[str], None] = lambda _: None) -> Mesh:
    """Who this home is now, all of it on the disk. ``reach`` hears each of :data:`STEPS`.

    Cheap when no rotation was begun. What does not fit together is left as it is, for :func:`~fabrik_node.app.opening.open_store` to say so.
    """
    owner = await store.get_meta(NODE_KEY)
    if not paths.after_key.exists() and owner in (None, mesh.key.public):
        return mesh
    replica = await load_all(paths, store, mesh)
    old = owner or mesh.key.public
    new = replica.member(old).successor
    if new is None:
        return mesh  # the op was never durable: the old key stays, and the next try uses what was made for this one
    if mesh.key.public == old:
        if not paths.next_key.exists() or load_key(paths.next_key).public != new:
            return mesh
        reach("before_former")
        keep_former(paths, old)
        reach("before_switch")
        _replace(paths.next_key, paths.identity_key)
    elif mesh.key.public != new:
        return mesh
    reach("before_next")
    if paths.after_key.exists():
        _replace(paths.after_key, paths.next_key)
    now = Mesh(load_key(paths.identity_key), mesh.genesis, commitment_of(paths.next_key))
    reach("before_log")
    epoch = await _begin_log(store, clock, replica, now, Board(replica).names().get(new, ""))
    reach("before_epoch")
    await store.set_meta(EPOCH_KEY, epoch.to_bytes(8, "big"))
    reach("before_note")
    await store.set_meta(NODE_KEY, new)
    return now


async def load_all(paths: HomePaths, store: StoreReads, mesh: Mesh) -> Replica:
    """What the store holds, for a look before the node opens it."""
    return (await load(mesh.genesis, store, SnapshotFile(paths.snapshot), _ALL)).replica


def former_keys(paths: HomePaths, replica: Replica, key: bytes) -> list[SigningKey]:
    """The keys that this node had before ``key``, the newest first, as far as their files are here and whole."""
    found = []
    for old in reversed(line_of(replica, key)[:-1]):
        with suppress(NotInitialised, BrokenStore):
            found.append(load_key(_former(paths, old)))
    return found


def _former(paths: HomePaths, key: bytes) -> Path:
    return paths.former_keys / f"{show_key(key)[:16]}.key"


def keep_former(paths: HomePaths, key: bytes) -> None:
    """A second name for the key's file, under which peers that have not heard of the rotation are met."""
    private_folder(paths.former_keys)
    kept = _former(paths, key)
    if not kept.exists():
        os.link(paths.identity_key, kept)
        sync_folder(paths.former_keys)


def _replace(source: Path, target: Path) -> None:
    source.replace(target)
    sync_folder(target.parent)


async def _begin_log(store: SqliteStore, clock: Clock, replica: Replica, now: Mesh, name: str) -> int:
    """The first op of the new key, if it has none yet; its epoch."""
    key = now.key
    begun = [head.epoch for head in replica.heads() if head.author == key.public]
    if begun:
        return max(begun)
    epoch = first_epoch()
    await store.append(replica.draft(key, epoch).append([(Kind.NODE, key.public, NodeField.NAME, name, None)], clock.wall_ms()))
    return epoch
