"""Opening a home: its key, its mesh and its store. What is half made is finished or refused, never guessed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from fabrik_node._core import Genesis, Replica, SigningKey, genesis_encode, mesh_id, next_key
from fabrik_node.app.home_mark import differs, home_mark, older_than
from fabrik_node.clock import Clock
from fabrik_node.config import NAME_BYTES_MAX
from fabrik_node.domain.schema import Kind, NodeField
from fabrik_node.errors import BadGenesis, BrokenStore, Conflict, ForeignStore, InvalidOp, NotInitialised, Precondition, UsageError
from fabrik_node.ids import show_key
from fabrik_node.node.identity import commitment_of, create_key, load_key, write_seed
from fabrik_node.paths import HomePaths, private_folder
from fabrik_node.store.sqlite import SqliteStore

__all__ = ["COPIED", "NODE_KEY", "Mesh", "first_epoch", "load_genesis", "load_mesh", "make_home", "note_home", "open_store"]

_INIT_HINT = "fabrik-node init, or fabrik-node join TOKEN"
NODE_KEY = "node_key"
"""Where the store keeps whose it is: the public key."""
HOME_MARK = "home_mark"
"""Where the store keeps from which place it was served last (:mod:`fabrik_node.app.home_mark`)."""
Settle: TypeAlias = Callable[[HomePaths, SqliteStore, Clock, "Mesh"], Awaitable["Mesh"]]
COPIED = "this home is a copy"
"""How the doubt about the log of a home begins that is not where it was."""
_NEW_STORE = "the database of this node was lost, and an empty one made for its key"


@dataclass(frozen=True, slots=True)
class Mesh:
    """Who we are and which mesh we are in."""

    key: SigningKey
    genesis: bytes
    next_commitment: bytes = b""
    """To the key that will follow ``key``, when its file is here; empty when it is kept elsewhere, or there is none."""

    @property
    def record(self) -> Genesis:
        """The decoded genesis record."""
        return Genesis.decode(self.genesis)


def load_mesh(paths: HomePaths) -> Mesh:
    """The key and the genesis record of a home. Raises :class:`NotInitialised`, and :class:`BrokenStore` when only one of key and database is there."""
    if paths.store.exists() and not paths.identity_key.exists():
        raise BrokenStore(
            f"{paths.home} has a database, but its key {paths.identity_key} is gone: nothing was changed",
            "put the key back from your backup; without it this is a new node: fabrik-node --home DIR join TOKEN",
        )
    genesis = load_genesis(paths)
    return Mesh(load_key(paths.identity_key), genesis, commitment_of(paths.next_key))


def load_genesis(paths: HomePaths) -> bytes:
    """The genesis record alone; no key is touched. Raises :class:`NotInitialised`, :class:`BadGenesis`."""
    try:
        genesis = _genesis_file(paths).read_bytes()
    except FileNotFoundError:
        raise NotInitialised(f"no node in {paths.home}", _INIT_HINT) from None
    try:
        Genesis.decode(genesis)
    except InvalidOp as error:
        raise BadGenesis(f"{_genesis_file(paths)} is damaged: {error}", "restore it from another node of the mesh: it is the same everywhere") from error
    return genesis


async def make_home(paths: HomePaths, clock: Clock, *, name: str, mesh_name: str = "", genesis: bytes = b"", recovery: Path | None = None) -> Mesh:
    """Make a node: of a mesh of its own (``mesh_name``, its recovery key put into the file ``recovery``), or of the mesh of ``genesis``.

    With its key it gets the next one: who steals the first can not rotate without the second.

    The genesis file is put in place last, so a home that a crash left half made is finished by the next call.
    Raises :class:`Conflict` when there is a node already.
    """
    final = _genesis_file(paths)
    if final.exists() or (paths.store.exists() and not paths.identity_key.exists()):
        known = load_mesh(paths)
        raise Conflict(f"{paths.home} is already node {show_key(known.key.public)[:8]} of mesh {known.record.name!r}", "fabrik-node status")
    for what, text in (("node", name), ("mesh", mesh_name)):
        if len(text.encode()) > NAME_BYTES_MAX:
            raise UsageError(f"the {what}'s name is longer than {NAME_BYTES_MAX} bytes", f"--{'name' if what == 'node' else 'mesh'} NAME")
    paths.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    private_folder(paths.identity)
    key, commitment = create_key(paths.identity_key), next_key(create_key(paths.next_key).public)
    started = paths.identity / "genesis.new"
    chosen = genesis or (started.read_bytes() if started.exists() else b"")
    if not chosen:
        recoverer = None if recovery is None else _recovery_key(paths, recovery)
        chosen = genesis_encode(key.public, mesh_name, secrets.token_bytes(16), clock.wall_ms(), recoverer, commitment)
    if paths.store.exists() and started.exists() and started.read_bytes() != chosen:
        raise ForeignStore(f"{paths.home} was being made for another mesh", f"remove {paths.home} if nothing in it is needed, then try again")
    _write_durably(started, chosen)
    private_folder(paths.store.parent)
    async with await SqliteStore.open(paths.store, clock, mesh_id=mesh_id(chosen), create_missing=True) as store:
        await _first_ops(store, clock, key, chosen, name)
        await store.set_meta(NODE_KEY, key.public)
        await store.set_meta(HOME_MARK, home_mark(paths.store).encode())
    started.rename(final)
    _sync_folder(paths.identity)
    return Mesh(key, chosen, commitment)


def _recovery_key(paths: HomePaths, file: Path) -> bytes:
    """The public part of a fresh recovery key in ``file``. In the home it is one that a crash left, or a new one; elsewhere nothing may be there."""
    if file == paths.recovery_key:
        return create_key(file).public
    seed = secrets.token_bytes(32)
    write_seed(file, seed)
    return SigningKey.from_seed(seed).public


async def open_store(paths: HomePaths, clock: Clock, mesh: Mesh, settle: Settle, *, witnessed: int, new_store: bool) -> tuple[SqliteStore, Mesh, str]:
    """The store of a home, who it is now, and why the node's own log is doubtful by what the home shows; empty when it is not.

    ``settle`` finishes a rotation (:func:`fabrik_node.app.rotation.settle`). ``witnessed``: the last event that the exported files hold. ``new_store``: the database is gone, and an empty one is wanted. Raises :class:`BrokenStore`, :class:`ForeignStore`, :class:`Precondition`: nothing was changed.
    """
    there = paths.store.exists()
    if not there and not new_store:
        raise BrokenStore(
            f"there is no database {paths.store}, though the key of this home was used before",
            "put it back from a backup; or begin with an empty one that learns everything from its peers: fabrik-node serve --new-store --peer URL",
        )
    store = await SqliteStore.open(paths.store, clock, mesh_id=mesh.record.mesh_id, create_missing=new_store)
    try:
        mesh = await settle(paths, store, clock, mesh)
        await _check_owner(paths, store, mesh)
        if there and new_store and await store.last_op_ms():  # an empty one is of a start that was cut off
            raise Precondition(f"{paths.store} is there: --new-store is for a home whose database is gone", "fabrik-node serve")
        return store, mesh, await _doubt(paths, store, witnessed=witnessed, new_store=new_store)
    except BaseException:
        await store.close()
        raise


async def _check_owner(paths: HomePaths, store: SqliteStore, mesh: Mesh) -> None:
    """The database is of this key, as far as it says."""
    owner = await store.get_meta(NODE_KEY)
    if owner is not None and owner != mesh.key.public:
        raise ForeignStore(
            f"{paths.store} is the database of node {show_key(owner)[:8]}, and the key of this home is of node {show_key(mesh.key.public)[:8]}: nothing was changed",
            f"put back the key that belongs to it: {paths.identity_key}",
        )


async def _doubt(paths: HomePaths, store: SqliteStore, *, witnessed: int, new_store: bool) -> str:
    """Compare the home's mark and what lies beside the database. The new mark is noted by :func:`note_home`, when the doubt is durable."""
    if new_store:
        return _NEW_STORE
    before = await store.get_meta(HOME_MARK)
    moved = "" if before is None else differs(before.decode("utf-8", "replace"), home_mark(paths.store))
    if moved:
        return f"{COPIED}: {moved}"
    return older_than(witnessed, (await store.events_upto())[0])


async def note_home(paths: HomePaths, store: SqliteStore, mesh: Mesh) -> None:
    """Write down whose database this is and from where it is served. Call it when the doubt that a difference raised is durable."""
    mark = home_mark(paths.store).encode()
    if await store.get_meta(NODE_KEY) is None:
        await store.set_meta(NODE_KEY, mesh.key.public)
    if await store.get_meta(HOME_MARK) != mark:
        await store.set_meta(HOME_MARK, mark)


def first_epoch() -> int:
    """Of a new log: count 1 and 32 random bits, so that two clones of one key do not collide."""
    return 1 << 32 | secrets.randbits(32)


async def _first_ops(store: SqliteStore, clock: Clock, key: SigningKey, genesis: bytes, name: str) -> None:
    replica = Replica(genesis)
    async for batch in store.load():
        replica.load([row.data for row in batch])
    if replica.ops:
        return
    draft = replica.draft(key, first_epoch())
    chained = draft.genesis(clock.wall_ms()) if replica.admin == key.public else []
    chained += draft.append([(Kind.NODE, key.public, NodeField.NAME, name, None)], clock.wall_ms())
    await store.append(chained)


def _genesis_file(paths: HomePaths) -> Path:
    return paths.identity / "genesis.cbor"


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
