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
from fabrik_node.errors import Internal, StoreFailed, StoreFull
from fabrik_node.ports import Event, Invite, JoinRow, PeerAddress, RowCheck
from fabrik_node.store.connection import Connection, connect
from fabrik_node.store.failures import translate
from fabrik_node.store.identity import MESH_ID_KEY, create, look
from fabrik_node.store.invites import empty_log, end_invites, put_invite, reseal_invite, use_invite
from fabrik_node.store.migrations import Migration, apply, known_migrations
from fabrik_node.store.queries import queries
from fabrik_node.store.reads import StoreReads
from fabrik_node.store.rows import event_data, run_params, storable
from fabrik_node.store.segments import append_segments, pack_step, refill, set_aside
from fabrik_node.store.transactions import Transactions

if TYPE_CHECKING:
    from fabrik_node._core import Chained

__all__ = ["SqliteStore"]

FORKS_MAX = 64
"""Proofs that are kept of one log: its heads are bounded by the same number."""

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
        self._transactions = Transactions(path, writer, faults)

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
        ``before_commit`` and ``after_commit`` of every write, each time also by the write's name (:data:`~fabrik_node.store.transactions.WRITES`, ``append.before_commit``), at
        ``before_migration_commit`` and ``after_migration_commit``, and at ``before_rename`` of a new database, on the writer's thread; what it raises is
        taken for the failure of that step.

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
        return self._transactions.failure

    @property
    def full(self) -> StoreFull | None:
        """Why nothing can be written just now; None while there is space. See :meth:`try_again`."""
        return self._transactions.full

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def append(self, chained: Sequence[Chained]) -> int:
        """All segments in one transaction; the ``pos`` of the last row (0 for an empty sequence).

        Raises :class:`StoreFailed` when a segment does not continue its branch exactly where the stored one ends: the guard against two writers.
        """
        if not chained:
            return 0
        wall_ms = self._clock.wall_ms()
        return await self._write("append", f"storing {len(chained)} segments", lambda connection: append_segments(connection, chained, wall_ms))

    async def set_aside(self, rows: Sequence[tuple[int, str]]) -> None:
        """Move rows, each ``(pos, why)``, out of their logs; they are kept, with the reason. One that is gone already is left out."""
        wall_ms = self._clock.wall_ms()
        await self._write("set_aside", f"setting {len(rows)} rows aside", lambda connection: set_aside(connection, rows, wall_ms))

    async def forget_damaged(self, places: Sequence[int]) -> None:
        """Rows that were set aside at these ``pos`` are of no use any more."""
        params = [(pos,) for pos in places]
        await self._write("forget_damaged", "forgetting damaged rows", lambda connection: connection.executemany(queries()["forget_damaged"], params))

    async def refill(self, author: bytes, epoch: int, branch: int, segments: Sequence[bytes]) -> None:
        """Put back ops whose row was set aside. Raises :class:`StoreFailed`, changing nothing, when the branch would still have a gap there."""
        wall_ms = self._clock.wall_ms()
        await self._write("refill", "putting a row back", lambda connection: refill(connection, (author, epoch, branch), segments, wall_ms))

    async def pack(self, rows_max: int, keep_author: bytes, check: RowCheck | None = None) -> int:
        """One step of joining small rows; how many rows fewer there are. See :mod:`fabrik_node.store.segments` for what is joined."""
        return await self._write("pack", "packing rows", lambda connection: pack_step(connection, rows_max, keep_author, check))

    async def put_fork(self, author: bytes, epoch: int, seq: int, proof: bytes, wall_ms: int) -> bool:
        """Keep a proof; False when it is known, or when there are :data:`FORKS_MAX` of that log."""

        def work(connection: sqlite3.Connection) -> bool:
            known = connection.execute(queries()["forks_of"], {"author": author, "epoch": epoch}).fetchall()
            if len(known) >= FORKS_MAX or (seq, proof) in known:
                return False
            connection.execute(queries()["put_fork"], {"author": author, "epoch": epoch, "seq": seq, "proof": proof, "at_ms": wall_ms})
            return True

        return await self._write("fork", "storing the proof of a fork", work)

    async def suspend(self, author: bytes, epoch: int) -> None:
        """See :meth:`fabrik_node.ports.OpStore.suspend`."""
        await self._execute("suspend", "suspend", {"author": author, "epoch": epoch})

    async def try_again(self) -> bool:
        """True when writes are taken: at once when none has met a full disk, else when some pages could be written durably just now.

        Raises :class:`StoreFailed` for any other failure, as every write does.
        """
        return await self._transactions.try_again()

    async def append_events(self, events: Sequence[Event], upto_pos: int) -> list[Event]:
        """Number and store events, and note that rows up to ``upto_pos`` have had theirs, in one transaction. The cursor never goes back."""
        rows = [(storable(event.type), event.wall_ms, event_data(event)) for event in events]
        first = await self._write("events", f"storing {len(rows)} events", lambda connection: _append_events(connection, rows, upto_pos))
        return [replace(event, seq=first + index) for index, event in enumerate(events)]

    async def set_meta(self, key: str, value: bytes) -> None:
        """Set or replace a value of the node's own. Raises :class:`Internal` for an attempt to change the mesh."""
        if key == MESH_ID_KEY and await self.get_meta(key) != value:
            raise Internal("a database stays with its mesh")
        await self._execute("meta", "set_meta", {"key": key, "value": value})

    async def next_start(self) -> int:
        """1, 2, 3 ...: how often this home was served, this time included."""
        return await self._write("start", "counting the start", lambda connection: int(connection.execute(queries()["next_start"]).fetchone()[0]))

    async def put_peer(self, peer: PeerAddress) -> None:
        """Insert or replace by URL."""
        await self._execute("peer", "put_peer", {"url": peer.url, "key": peer.key})

    async def put_invite(self, invite: Invite) -> None:
        """Store a new invitation. Raises :class:`StoreFailed` when the id was given before, redeemed or not."""
        await self._write("invite", "storing an invitation", lambda connection: put_invite(connection, invite))

    async def reseal_invite(self, token_id: bytes, secret: bytes) -> None:
        """See :meth:`fabrik_node.ports.OpStore.reseal_invite`."""
        await self._write("invite", "sealing an invitation", lambda connection: reseal_invite(connection, token_id, secret))

    async def use_invite(self, token_id: bytes, key: bytes, wall_ms: int) -> bool:
        """Redeem: True as often as the invitation allows. With the last use its secret is erased."""
        return await self._write("redeem", "redeeming an invitation", lambda connection: use_invite(connection, token_id, key, wall_ms))

    async def end_invites(self, token_ids: Sequence[bytes], why: str) -> int:
        """Close those of them that are open and erase their secrets; how many that were."""
        return await self._write("end_invites", "ending invitations", lambda connection: end_invites(connection, token_ids, why))

    async def note_join(self, join: JoinRow) -> None:
        """Somebody came in without an invitation."""
        await self._execute("join", "add_join", {"token_id": join.token_id, "key": join.key, "at_ms": join.at_ms})

    async def scrub(self) -> bool:
        """Empty the write-ahead log: what was erased in the database may still stand there. False when that is not possible now, for a reader or a full disk."""
        return await self._writer.run(empty_log)

    async def put_run(self, row: RunRow) -> None:
        """Insert or replace by run id."""
        await self._execute("run", "put_run", run_params(row))

    async def close(self) -> None:
        """Finish what is queued, then give the files back; the last one to close folds the write-ahead log into the database."""
        try:
            await super().close()
        finally:
            try:
                await self._writer.close()
            except sqlite3.Error as error:
                raise translate(error, self.path, "closing the store") from error

    async def _execute(self, name: str, query: str, params: dict[str, object]) -> int:
        return await self._write(name, f"writing ({query})", lambda connection: connection.execute(queries()[query], params).rowcount)

    async def _write(self, name: str, doing: str, work: Callable[[sqlite3.Connection], Result]) -> Result:
        return await self._transactions.write(name, doing, work)


def _no_faults(point: str) -> None:
    """Nothing goes wrong at ``point``."""


def _prepare(connection: sqlite3.Connection, steps: Sequence[Migration], wall_ms: int, bytes_max: int, faults: Callable[[str], None]) -> list[Migration]:
    if bytes_max:
        page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {max(1, bytes_max // page_bytes):d}")
    return apply(connection, steps, wall_ms, faults)


def _append_events(connection: sqlite3.Connection, rows: Sequence[tuple[str, int, str]], upto_pos: int) -> int:
    sql = queries()
    newest = connection.execute(sql["last_place"]).fetchone()
    if upto_pos > (0 if newest is None else newest[0]):
        raise StoreFailed(
            f"events can not be done up to row {upto_pos}: the store ends at row {0 if newest is None else newest[0]}", "report this with the node's log"
        )
    last = connection.execute(sql["last_event"]).fetchone()
    first = 1 if last is None else int(last[0]) + 1
    connection.executemany(sql["add_event"], [(first + index, *row) for index, row in enumerate(rows)])
    connection.execute(sql["raise_events_upto"], {"pos": upto_pos})
    return first
