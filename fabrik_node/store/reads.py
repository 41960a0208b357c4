"""The reading half of the store, the same for the node itself and for a program that looks in while no node runs."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fabrik_node.domain.runs import RunRow
from fabrik_node.ports import DamagedRow, Event, ForkRow, Invite, JoinRow, PeerAddress, StoredSegment
from fabrik_node.store.connection import Connection
from fabrik_node.store.failures import translate
from fabrik_node.store.queries import queries
from fabrik_node.store.rows import event_from, run_from

if TYPE_CHECKING:
    from fabrik_node._core import Head

__all__ = ["StoreReads"]

Result = TypeVar("Result")

_INT_MAX = 2**63 - 1
_PAGE_ROWS = 256
_ROW_BYTES = 128
"""What a row counts for in a batch besides its data, so that many small rows are bounded too."""


class StoreReads:
    """Every reading method of :class:`~fabrik_node.ports.OpStore`. Reads see what is committed and never wait for a write."""

    def __init__(self, path: Path, reader: Connection, schema: int) -> None:
        self.path = path
        self.schema = schema
        """The number of the last migration."""
        self._reader = reader

    async def load(self, batch_bytes: int = 4_194_304) -> AsyncIterator[list[StoredSegment]]:
        """Everything, in order of ``pos``, in batches of about ``batch_bytes``. Rows that are stored meanwhile come at the end."""
        after = 0
        while True:
            batch = await self._read("reading the log", partial(_batch, after=after, batch_bytes=batch_bytes))
            if not batch:
                return
            yield batch
            after = batch[-1].pos

    async def load_beyond(self, heads: Sequence[Head]) -> AsyncIterator[list[StoredSegment]]:
        """In order of ``pos``, the rows that hold anything beyond these heads; of logs and branches without a head, all."""
        known = {(head.author, head.epoch, head.branch): head.seq for head in heads}
        places = await self._read("looking for new rows", lambda connection: _places_beyond(connection, known))
        for start in range(0, len(places), _PAGE_ROWS):
            page = places[start : start + _PAGE_ROWS]
            rows = await self._read("reading new rows", partial(_rows_at, places=page))
            if rows:
                yield rows

    async def head_rows(self, heads: Sequence[Head]) -> list[StoredSegment | None]:
        """For each head the row that holds its op, None when there is none."""
        return await self._read("reading the heads' rows", lambda connection: [_row_of(connection, head) for head in heads])

    async def read(self, author: bytes, epoch: int, after_seq: int, max_bytes: int, branch: int = 0) -> list[StoredSegment]:
        """A branch's own rows that hold anything beyond ``after_seq``, in order, uncut; at least one row if there is any."""
        if not 0 < epoch <= _INT_MAX or after_seq >= _INT_MAX:
            return []
        return await self._read("reading a log", lambda connection: _log_rows(connection, (author, epoch, branch), max(0, after_seq), max_bytes))

    async def damaged(self) -> list[DamagedRow]:
        """The rows that were set aside, in the order of their places."""
        return [DamagedRow(*row) for row in await self._rows("damaged")]

    async def damaged_data(self, pos: int) -> bytes:
        """The bytes of a row that was set aside; empty when there is none at ``pos``."""
        row = await self._row("damaged_data", {"pos": pos})
        return b"" if row is None else bytes(row[0])

    async def forks(self) -> list[ForkRow]:
        """Every proof of a fork, in the order in which they were met."""
        return [ForkRow(*row) for row in await self._rows("forks")]

    async def suspended(self) -> list[tuple[bytes, int]]:
        """``(author, epoch)`` of the suspended logs, in order."""
        return [(author, epoch) for author, epoch in await self._rows("suspended")]

    async def last_op_ms(self) -> int:
        """Wall time at which the newest row was stored here, 0 when there is none."""
        row = await self._row("last_segment")
        return 0 if row is None else int(row[1])

    async def events(self, after: int, limit: int) -> list[Event]:
        """Events with ``seq > after``, in order, at most ``limit``."""
        if limit <= 0:
            return []
        params = {"after": min(max(after, 0), _INT_MAX), "limit": min(limit, _INT_MAX)}
        return [event_from(row) for row in await self._rows("events", params)]

    async def events_upto(self) -> tuple[int, int]:
        """``(last event seq, pos up to which rows have had their events)``."""

        def work(connection: sqlite3.Connection) -> tuple[int, int]:
            connection.execute("BEGIN")
            try:
                last = connection.execute(queries()["last_event"]).fetchone()
                upto = connection.execute(queries()["counter"], {"name": "events_upto_pos"}).fetchone()
            finally:
                connection.execute("ROLLBACK")
            return (0 if last is None else int(last[0])), int(upto[0])

        return await self._read("reading the events' cursor", work)

    async def get_meta(self, key: str) -> bytes | None:
        """The value of a key of the node's own, None when it was never set."""
        row = await self._row("get_meta", {"key": key})
        return None if row is None else bytes(row[0])

    async def peers(self) -> list[PeerAddress]:
        """The peers that this node dials, by URL."""
        return [PeerAddress(url, key) for url, key in await self._rows("peers")]

    async def invite(self, token_id: bytes) -> Invite | None:
        """An invitation that was issued here, open or not; whether it has expired is for the caller to judge."""
        row = await self._row("invite", {"token_id": token_id})
        return None if row is None else Invite(*row)

    async def invites(self) -> list[Invite]:
        """All that were issued here, the newest first."""
        return sorted((Invite(*row) for row in await self._rows("invites")), key=lambda invite: -invite.created_ms)

    async def joins(self) -> list[JoinRow]:
        """Who came in through this node, in order of time."""
        return sorted((JoinRow(*row) for row in await self._rows("joins")), key=lambda join: (join.at_ms, join.key))

    async def runs(self) -> list[RunRow]:
        """This node's own runs, newest first."""
        rows = await self._rows("runs")
        return await asyncio.to_thread(lambda: [run_from(row) for row in rows])  # there may be very many

    async def runs_of(self, item: bytes) -> list[RunRow]:
        """Those of :meth:`runs` that worked on one item."""
        return [run_from(row) for row in await self._rows("runs_of", {"item": item})]

    async def open_runs(self) -> list[RunRow]:
        """Those of :meth:`runs` that have no end yet."""
        return [run_from(row) for row in await self._rows("open_runs")]

    async def run(self, run_id: bytes) -> RunRow | None:
        """One own run, None when there is none."""
        row = await self._row("run", {"run_id": run_id})
        return None if row is None else run_from(row)

    async def stats(self) -> dict[str, Any]:
        """Counts and sizes for people: logs, ops, rows, events, runs, peers, bytes of the files, versions."""

        def work(connection: sqlite3.Connection) -> dict[str, Any]:
            branches = connection.execute(queries()["branches"]).fetchall()
            rows = connection.execute(queries()["segment_count"]).fetchone()[0]
            last = connection.execute(queries()["last_segment"]).fetchone()
            event = connection.execute(queries()["last_event"]).fetchone()
            runs, peers = connection.execute(queries()["node_counts"]).fetchone()
            pages = connection.execute("PRAGMA page_count").fetchone()[0] * connection.execute("PRAGMA page_size").fetchone()[0]
            return {
                "path": str(self.path),
                "schema": self.schema,
                "sqlite": sqlite3.sqlite_version,
                "bytes": pages,
                "wal_bytes": _file_bytes(self.path.with_name(self.path.name + "-wal")),
                "logs": len({(author, epoch) for _, author, epoch, *_ in branches}),
                "ops": sum(max(0, (head or 0) - base) for *_, base, head in branches),
                "segments": rows,
                "last_op_ms": 0 if last is None else last[1],
                "events": 0 if event is None else event[0],
                "runs": runs,
                "peers": peers,
            }

        return await self._read("counting", work)

    async def integrity_check(self) -> list[str]:
        """What SQLite finds wrong when it reads the whole database, one line each; empty when it is whole. Slow for large files."""

        def work(connection: sqlite3.Connection) -> list[str]:
            found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(20)")]
            found += [f"a row of {row[0]} refers to a row of {row[2]} that is not there" for row in connection.execute("PRAGMA foreign_key_check")]
            return [line for line in found if line != "ok"]

        return await self._read("checking the database", work)

    async def close(self) -> None:
        """Give the files back. Closing twice is allowed; every other call then raises :class:`StoreFailed`."""
        try:
            await self._reader.close()
        except sqlite3.Error as error:
            raise translate(error, self.path, "closing the store") from error

    async def _read(self, doing: str, work: Callable[[sqlite3.Connection], Result]) -> Result:
        try:
            return await self._reader.run(work)
        except sqlite3.Error as error:
            raise translate(error, self.path, doing) from error

    async def _rows(self, name: str, params: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        return await self._read(f"reading ({name})", lambda connection: connection.execute(queries()[name], params or {}).fetchall())

    async def _row(self, name: str, params: dict[str, Any] | None = None) -> tuple[Any, ...] | None:
        rows = await self._rows(name, params)
        return rows[0] if rows else None


def _batch(connection: sqlite3.Connection, after: int, batch_bytes: int) -> list[StoredSegment]:
    batch: list[StoredSegment] = []
    size = 0
    cursor = connection.execute(queries()["load"], {"after": after})
    try:
        for row in cursor:
            batch.append(StoredSegment(*row))
            size += len(row[5]) + _ROW_BYTES
            if size >= batch_bytes:
                break
    finally:
        cursor.close()  # else the read snapshot stays open and holds up the checkpoint
    return batch


def _log_rows(connection: sqlite3.Connection, log: tuple[bytes, int, int], after_seq: int, max_bytes: int) -> list[StoredSegment]:
    author, epoch, number = log
    branch = connection.execute(queries()["branch_id"], {"author": author, "epoch": epoch, "number": number}).fetchone()
    if branch is None:
        return []
    found: list[StoredSegment] = []
    size = 0
    cursor = connection.execute(queries()["read"], {"branch": branch[0], "next": after_seq + 1})
    try:
        for pos, first_seq, last_seq, data in cursor:
            size += len(data)
            if found and size > max_bytes:
                break
            found.append(StoredSegment(pos, author, epoch, first_seq, last_seq, data, number))
    finally:
        cursor.close()
    return found


def _places_beyond(connection: sqlite3.Connection, known: Mapping[tuple[bytes, int, int], int]) -> list[int]:
    sql = queries()
    places: list[int] = []
    for branch, author, epoch, number, _, head in connection.execute(sql["branches"]).fetchall():
        seq = known.get((author, epoch, number), 0)
        if head is not None and head > seq:
            places += [row[0] for row in connection.execute(sql["places_beyond"], {"branch": branch, "next": seq + 1})]
    return sorted(places)


def _rows_at(connection: sqlite3.Connection, places: Sequence[int]) -> list[StoredSegment]:
    found = [connection.execute(queries()["row_at"], {"pos": pos}).fetchone() for pos in places]
    return [StoredSegment(*row) for row in found if row is not None]


def _row_of(connection: sqlite3.Connection, head: Head) -> StoredSegment | None:
    sql = queries()
    branch = connection.execute(sql["branch_id"], {"author": head.author, "epoch": head.epoch, "number": head.branch}).fetchone()
    row = None if branch is None else connection.execute(sql["row_of"], {"branch": branch[0], "seq": head.seq}).fetchone()
    if row is None or row[2] < head.seq:
        return None
    pos, first_seq, last_seq, data = row
    return StoredSegment(pos, head.author, head.epoch, first_seq, last_seq, data, head.branch)


def _file_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
