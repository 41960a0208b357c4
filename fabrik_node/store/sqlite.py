"""The node's own store: one database file, one writer, one reader. Fills the port :class:`~fabrik_node.ports.OpStore`.

Every write is one transaction on the writer's thread and is on the disk (``synchronous=FULL``) when the call returns. The first write
that fails for another reason than being refused ends all writing (fail-stop): the node above stops, and a new start reads what is there.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from fabrik_node.clock import Clock
from fabrik_node.domain.runs import RunRow
from fabrik_node.errors import Internal, StoreFailed
from fabrik_node.ports import Event, Invite, PeerAddress
from fabrik_node.store.connection import Connection, connect
from fabrik_node.store.failures import leaves_store_sound, translate
from fabrik_node.store.identity import MESH_ID_KEY, create, look
from fabrik_node.store.migrations import Migration, apply, known_migrations
from fabrik_node.store.queries import queries
from fabrik_node.store.reads import StoreReads
from fabrik_node.store.rows import event_data, run_params, storable

if TYPE_CHECKING:
    from fabrik_node._core import Chained

__all__ = ["SqliteStore"]

Result = TypeVar("Result")


class SqliteStore(StoreReads):
    """Made by :meth:`open`. The caller holds the home's :class:`~fabrik_node.store.owner.OwnerLock`. Use from one event loop.

    Cancelling a call that writes does not undo it: the write may still be done, so a caller that keeps state in step must shield it.
    """

    def __init__(self, path: Path, reader: Connection, writer: Connection, schema: int, clock: Clock, faults: Callable[[str], None]) -> None:
        super().__init__(path, reader, schema)
        self.migrated: tuple[Migration, ...] = ()
        """What opening had to bring up to date."""
        self._writer = writer
        self._clock = clock
        self._faults = faults
        self._failure: StoreFailed | None = None

    @classmethod
    async def open(
        cls,
        path: Path,
        clock: Clock,
        *,
        mesh_id: bytes,
        create_missing: bool = False,
        bytes_max: int = 0,
        migrations: Sequence[Migration] | None = None,
        faults: Callable[[str], None] | None = None,
    ) -> SqliteStore:
        """Open the database of this mesh and bring it up to date.

        A missing database is an error unless ``create_missing``: a node whose key was used before must never start with an empty log, as it
        would fork its own. ``bytes_max`` limits the file (0: no limit; beyond it writes fail as on a full disk). ``faults`` is called at
        ``before_commit`` and ``after_commit`` of every write, at ``before_migration_commit`` and ``after_migration_commit``, and at
        ``before_rename`` of a new database, on the writer's thread; what it raises is taken for the failure of that step.

        Raises :class:`BrokenStore`, :class:`ForeignStore` (both: nothing was changed) or :class:`StoreFailed`.
        """
        steps = known_migrations() if migrations is None else tuple(migrations)
        hook = faults or _no_faults
        if create_missing and not await asyncio.to_thread(os.path.exists, path):
            await asyncio.to_thread(create, path, mesh_id, steps, clock.wall_ms(), hook)
        before = await asyncio.to_thread(look, path, mesh_id, steps)
        writer = await connect(path, "rw")
        try:
            wall_ms = clock.wall_ms()
            done = await writer.run(lambda connection: _prepare(connection, steps, wall_ms, bytes_max, hook))
            reader = await connect(path, "ro")
        except (sqlite3.Error, OSError) as error:
            await writer.close()
            raise translate(error, path, f"bringing {path} up to date") from error
        except BaseException:
            await writer.close()
            raise
        store = cls(path, reader, writer, before + len(done), clock, hook)
        store.migrated = tuple(done)
        return store

    @property
    def failure(self) -> StoreFailed | None:
        """The failure that ended all writing, None while the store is sound."""
        return self._failure

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def append(self, chained: Sequence[Chained]) -> int:
        """All segments in one transaction; the ``pos`` of the last row (0 for an empty sequence).

        Raises :class:`StoreFailed` when a segment does not continue its log exactly where the stored one ends: the guard against two writers.
        """
        if not chained:
            return 0
        wall_ms = self._clock.wall_ms()
        return await self._write(f"storing {len(chained)} segments", lambda connection: _append(connection, chained, wall_ms))

    async def append_events(self, events: Sequence[Event], upto_pos: int) -> list[Event]:
        """Number and store events, and note that rows up to ``upto_pos`` have had theirs, in one transaction. The cursor never goes back."""
        rows = [(storable(event.type), event.wall_ms, event_data(event)) for event in events]
        first = await self._write(f"storing {len(rows)} events", lambda connection: _append_events(connection, rows, upto_pos))
        return [replace(event, seq=first + index) for index, event in enumerate(events)]

    async def set_meta(self, key: str, value: bytes) -> None:
        """Set or replace a value of the node's own. Raises :class:`Internal` for an attempt to change the mesh."""
        if key == MESH_ID_KEY and await self.get_meta(key) != value:
            raise Internal("a database stays with its mesh")
        await self._execute("set_meta", {"key": key, "value": value})

    async def next_start(self) -> int:
        """1, 2, 3 ...: how often this home was served, this time included."""
        return await self._write("counting the start", lambda connection: int(connection.execute(queries()["next_start"]).fetchone()[0]))

    async def put_peer(self, peer: PeerAddress) -> None:
        """Insert or replace by URL."""
        await self._execute("put_peer", {"url": peer.url, "key": peer.key})

    async def put_invite(self, invite: Invite) -> None:
        """Store a new invitation. Raises :class:`StoreFailed` when the id was given before, redeemed or not."""
        params = {"token_id": invite.token_id, "secret": invite.secret, "role": invite.role, "expires_at": invite.expires_at, "boot_id": invite.boot_id}
        await self._execute("put_invite", params)

    async def use_invite(self, token_id: bytes) -> bool:
        """Redeem: True exactly once per invitation. Its secret is erased."""
        return await self._execute("use_invite", {"token_id": token_id}) == 1

    async def put_run(self, row: RunRow) -> None:
        """Insert or replace by run id."""
        await self._execute("put_run", run_params(row))

    async def close(self) -> None:
        """Finish what is queued, then give the files back; the last one to close folds the write-ahead log into the database."""
        try:
            await super().close()
        finally:
            try:
                await self._writer.close()
            except sqlite3.Error as error:
                raise translate(error, self.path, "closing the store") from error

    async def _execute(self, name: str, params: dict[str, object]) -> int:
        return await self._write(f"writing ({name})", lambda connection: connection.execute(queries()[name], params).rowcount)

    async def _write(self, doing: str, work: Callable[[sqlite3.Connection], Result]) -> Result:
        return await self._writer.run(lambda connection: self._transaction(connection, doing, work))

    def _transaction(self, connection: sqlite3.Connection, doing: str, work: Callable[[sqlite3.Connection], Result]) -> Result:
        # On the writer's thread, so that writes that wait behind a failed one fail too, and a cancelled caller hides no failure.
        if self._failure is not None:
            raise StoreFailed(f"{doing} was refused: the store failed before: {self._failure.message}", self._failure.hint) from self._failure
        committed = False
        try:
            connection.execute("BEGIN IMMEDIATE")
            result = work(connection)
            self._faults("before_commit")
            connection.execute("COMMIT")
            committed = True
            self._faults("after_commit")
        except (sqlite3.Error, OSError) as error:
            failure = translate(error, self.path, doing)
            undone = self._undo(connection)
            if committed or not undone or not leaves_store_sound(error):
                self._failure = failure
            raise failure from error
        except StoreFailed as refusal:
            if not self._undo(connection):
                self._failure = refusal
            raise
        except (OverflowError, UnicodeError) as error:
            bug = Internal(f"{doing} failed: a value has no place in the database: {error}")
            if not self._undo(connection):
                self._failure = StoreFailed(bug.message, "fabrik-node serve")
            raise bug from error
        except BaseException as error:
            self._undo(connection)
            self._failure = StoreFailed(f"{doing} was interrupted: {error!r}", "fabrik-node serve")
            raise
        return result

    def _undo(self, connection: sqlite3.Connection) -> bool:
        """Roll back; False when even that fails (SQLite then recovers at the next start, and the first error is the one to report)."""
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            return False
        return True


def _no_faults(point: str) -> None:
    """Nothing goes wrong at ``point``."""


def _prepare(connection: sqlite3.Connection, steps: Sequence[Migration], wall_ms: int, bytes_max: int, faults: Callable[[str], None]) -> list[Migration]:
    if bytes_max:
        page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {max(1, bytes_max // page_bytes):d}")
    return apply(connection, steps, wall_ms, faults)


def _append(connection: sqlite3.Connection, chained: Sequence[Chained], wall_ms: int) -> int:
    sql = queries()
    logs: dict[tuple[bytes, int], int] = {}
    heads: dict[int, int] = {}
    rows: list[tuple[int, int, int, int, bytes]] = []
    for segment in chained:
        name = (segment.author, segment.epoch)
        log = logs.get(name)
        if log is None:
            log = logs[name] = _log(connection, *name)
            head = connection.execute(sql["log_head"], {"log": log}).fetchone()
            heads[log] = 0 if head is None else head[0]
        if segment.first_seq != heads[log] + 1:
            raise StoreFailed(
                f"a segment of log {segment.author.hex()[:12]} starts at op {segment.first_seq}, but the store holds {heads[log]} ops of it: nothing was stored",
                "is another process writing to this home? fabrik-node status",
            )
        heads[log] = segment.last_seq
        rows.append((log, segment.first_seq, segment.last_seq, wall_ms, segment.data))
    connection.executemany(sql["add_segment"], rows)
    return int(connection.execute("SELECT last_insert_rowid()").fetchone()[0])


def _log(connection: sqlite3.Connection, author: bytes, epoch: int) -> int:
    found = connection.execute(queries()["log_id"], {"author": author, "epoch": epoch}).fetchone()
    if found is None:
        found = connection.execute(queries()["add_log"], {"author": author, "epoch": epoch}).fetchone()
    return int(found[0])


def _append_events(connection: sqlite3.Connection, rows: Sequence[tuple[str, int, str]], upto_pos: int) -> int:
    sql = queries()
    newest = connection.execute(sql["last_segment"]).fetchone()
    if upto_pos > (0 if newest is None else newest[0]):
        raise StoreFailed(
            f"events can not be done up to row {upto_pos}: the store ends at row {0 if newest is None else newest[0]}", "report this with the node's log"
        )
    last = connection.execute(sql["last_event"]).fetchone()
    first = 1 if last is None else int(last[0]) + 1
    connection.executemany(sql["add_event"], [(first + index, *row) for index, row in enumerate(rows)])
    connection.execute(sql["raise_events_upto"], {"pos": upto_pos})
    return first
