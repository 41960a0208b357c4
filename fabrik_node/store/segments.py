"""What is done to stored segments, each function inside one transaction of :class:`~fabrik_node.store.sqlite.SqliteStore`.

Rows are added at the end of a branch, set aside when they are not what was stored, put back, and joined into fewer. Nothing else changes them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from fabrik_node._core import coalesce, cut, pack, segment_span
from fabrik_node.errors import StoreFailed
from fabrik_node.ports import RowCheck, StoredSegment
from fabrik_node.store.queries import queries

if TYPE_CHECKING:
    from fabrik_node._core import Chained

__all__ = ["append_segments", "pack_step", "refill", "set_aside"]

PACKED_BYTES_MAX = 262_144
"""The largest segment that the format has a place for."""
PACK_BYTES_MIN = 65_536
PACK_ROWS_MIN = 256
"""A group of neighbours is joined when it has so many bytes or rows: each row is joined once, so nothing is written more than twice."""
PACK_ROW_BYTES = 32_768
"""A larger row is left as it is."""
PACK_NEWEST_ROWS = 64
"""The newest rows of a branch are what peers ask for: they are left as they came."""


class _Row(NamedTuple):
    """A stored row as the queries give it."""

    pos: int
    first: int
    last: int
    stored_ms: int
    data: bytes
    sigs: bytes | None


def append_segments(connection: sqlite3.Connection, chained: Sequence[Chained], wall_ms: int) -> int:
    """See :meth:`fabrik_node.ports.OpStore.append`."""
    ends: dict[tuple[bytes, int, int], tuple[int, set[int]]] = {}
    rows: list[tuple[int, int, int, int, bytes]] = []
    for segment in chained:
        name = (segment.author, segment.epoch, segment.branch)
        found = ends.get(name)
        branch, wanted = _end(connection, segment) if found is None else found
        if segment.first_seq not in wanted:
            raise StoreFailed(
                f"a segment of log {segment.author.hex()[:12]} starts at op {segment.first_seq}, but the store goes on at op {min(wanted)}: nothing was stored",
                "is another process writing to this home? fabrik-node status",
            )
        ends[name] = (branch, {segment.last_seq + 1})
        rows.append((branch, segment.first_seq, segment.last_seq, wall_ms, segment.data))
    connection.executemany(queries()["add_segment"], rows)
    return int(connection.execute("SELECT last_insert_rowid()").fetchone()[0])


def _end(connection: sqlite3.Connection, segment: Chained) -> tuple[int, set[int]]:
    """The branch of a segment, made when it is new, and where its next op belongs: behind its last row, or behind the rows that were set aside there."""
    sql = queries()
    name = {"author": segment.author, "epoch": segment.epoch, "number": segment.branch}
    found = connection.execute(sql["branch_id"], name).fetchone()
    if segment.base is None and segment.branch and found is None:
        raise StoreFailed(f"branch {segment.branch} of log {segment.author.hex()[:12]} is not in the store: nothing was stored", "fabrik-node status")
    if segment.base is not None:
        return _open_branch(connection, segment, found), {segment.base[1] + 1}
    if found is None:
        branch, base = int(connection.execute(sql["add_branch"], {**name, "base_branch": None, "base_seq": 0}).fetchone()[0]), 0
    else:
        branch, base = found
    head = connection.execute(sql["branch_head"], {"branch": branch}).fetchone()
    stored = base if head is None else int(head[0])
    aside = connection.execute(sql["damaged_end"], name).fetchone()[0]
    return branch, {stored + 1} if aside is None or aside < stored else {stored + 1, aside + 1}


def _open_branch(connection: sqlite3.Connection, segment: Chained, found: tuple[int, int] | None) -> int:
    sql = queries()
    log = {"author": segment.author, "epoch": segment.epoch}
    base_branch, base_seq = segment.base or (0, 0)
    if found is not None:  # all its rows were set aside when the node started: its number is free
        if connection.execute(sql["branch_head"], {"branch": found[0]}).fetchone() is not None:
            raise StoreFailed(
                f"branch {segment.branch} of log {segment.author.hex()[:12]} is there already: nothing was stored",
                "is another process writing to this home? fabrik-node status",
            )
        connection.execute(sql["move_branch"], {"id": found[0], "base_branch": base_branch, "base_seq": base_seq})
        return found[0]
    if connection.execute(sql["branch_count"], log).fetchone()[0] != segment.branch:
        raise StoreFailed(
            f"branch {segment.branch} of log {segment.author.hex()[:12]} is not the next one: nothing was stored",
            "is another process writing to this home? fabrik-node status",
        )
    new = {**log, "number": segment.branch, "base_branch": base_branch, "base_seq": base_seq}
    return int(connection.execute(sql["add_branch"], new).fetchone()[0])


def set_aside(connection: sqlite3.Connection, rows: Sequence[tuple[int, str]], wall_ms: int) -> None:
    """See :meth:`fabrik_node.ports.OpStore.set_aside`. A row that is gone already is left out."""
    for pos, why in rows:
        connection.execute(queries()["set_aside"], {"pos": pos, "why": why, "at_ms": wall_ms})
        connection.execute(queries()["remove_row"], {"pos": pos})


def refill(connection: sqlite3.Connection, name: tuple[bytes, int, int], segments: Sequence[bytes], wall_ms: int) -> None:
    """See :meth:`fabrik_node.ports.OpStore.refill`."""
    sql = queries()
    log = {"author": name[0], "epoch": name[1], "number": name[2]}
    found = connection.execute(sql["branch_id"], log).fetchone()
    if found is None:
        raise StoreFailed(f"branch {name[2]} of log {name[0].hex()[:12]} is not in the store: nothing was put back")
    branch, base = found
    first, last = _span(name, segments)
    before = connection.execute(sql["row_of"], {"branch": branch, "seq": first - 1}).fetchone()
    start = base if before is None else before[2]
    within = [_Row(*row) for row in connection.execute(sql["rows_within"], {"branch": branch, "first": first, "last": last})]
    old: list[tuple[int, int, int]] = list(connection.execute(sql["damaged_within"], {**log, "first": first, "last": last}))
    for row in within:
        if row.first < first:
            continue  # it ends before the hole, or reaches into what was fetched, which is cut below
        connection.execute(sql["remove_row"], {"pos": row.pos})
        if row.last > last:
            _put(connection, branch, row.pos, row._replace(first=last + 1, data=cut(row.data, last + 1)))
        else:
            old.append((row.first, row.last, row.pos))
    pieces: list[bytes] = []
    for data in segments:
        piece_first, piece_last = segment_span(data)[2:]
        if piece_last > start:
            if piece_first > start + 1:
                raise StoreFailed(f"ops {start + 1} to {piece_first - 1} of log {name[0].hex()[:12]} are still missing: nothing was put back")
            pieces.append(data if piece_first == start + 1 else cut(data, start + 1))
            start = piece_last
    for data in coalesce(pieces, PACKED_BYTES_MAX):
        piece_first, piece_last = segment_span(data)[2:]
        _put(connection, branch, _take_place(old, piece_first), _Row(0, piece_first, piece_last, wall_ms, data, None))
    after = connection.execute(sql["next_row"], {"branch": branch, "seq": start}).fetchone()
    end = connection.execute(sql["damaged_end"], log).fetchone()[0]
    if (after is not None and after[0] != start + 1) or (after is None and end is not None and end > start):
        raise StoreFailed(f"ops behind {start} of log {name[0].hex()[:12]} are still missing: nothing was put back")
    connection.execute(sql["close_damaged"], {**log, "first": first, "last": start})


def _take_place(old: list[tuple[int, int, int]], seq: int) -> int:
    """The place of the old row that held op ``seq``: then no op comes later than it did, and what chains onto it still comes after it."""
    for entry in old:
        if entry[0] <= seq <= entry[1]:
            old.remove(entry)
            return entry[2]
    raise StoreFailed(f"what was fetched begins anew at op {seq}, within a row that was one: nothing was put back")


def _span(name: tuple[bytes, int, int], segments: Sequence[bytes]) -> tuple[int, int]:
    first = last = 0
    for data in segments:
        author, epoch, begin, end = segment_span(data)
        if (author, epoch) != name[:2] or (last and begin > last + 1):
            raise StoreFailed("segments of one log, without gaps, are needed to put them back: nothing was changed")
        first, last = first or begin, max(last, end)
    if not last:
        raise StoreFailed("there is nothing to put back")
    return first, last


def _put(connection: sqlite3.Connection, branch: int, pos: int | None, row: _Row) -> None:
    connection.execute(
        queries()["put_row"],
        {"pos": pos, "branch": branch, "first_seq": row.first, "last_seq": row.last, "stored_ms": row.stored_ms, "data": row.data, "sigs": row.sigs},
    )


def pack_step(connection: sqlite3.Connection, rows_max: int, keep_author: bytes, check: RowCheck | None = None) -> int:
    """See :meth:`fabrik_node.ports.OpStore.pack`."""
    sql = queries()
    upto_pos = int(connection.execute(sql["counter"], {"name": "events_upto_pos"}).fetchone()[0])
    for branch, author, epoch, number, packed_seq in connection.execute(sql["packable"]).fetchall():
        newest = connection.execute(sql["newest_rows"], {"branch": branch, "rows": PACK_NEWEST_ROWS - 1}).fetchone()
        if newest is None or newest[0] <= packed_seq + 1:
            continue
        group, skipped = _group(connection, branch, packed_seq, newest[0], upto_pos, max(rows_max, PACK_ROWS_MIN))
        if group and check is not None and any(check([StoredSegment(row.pos, author, epoch, row.first, row.last, row.data, number) for row in group])):
            continue  # joining would hide which of them is damaged
        if group:
            _join(connection, branch, group, keep=author == keep_author)
            connection.execute(sql["packed_to"], {"id": branch, "seq": group[-1].last})
            return len(group) - 1
        if skipped > packed_seq:
            connection.execute(sql["packed_to"], {"id": branch, "seq": skipped})
    return 0


def _group(connection: sqlite3.Connection, branch: int, after: int, end: int, upto_pos: int, rows_max: int) -> tuple[list[_Row], int]:
    """Neighbours that are worth joining, and behind which seq the next look begins when there are none."""
    group: list[_Row] = []
    size, skipped = 0, after
    for found in connection.execute(queries()["to_pack"], {"branch": branch, "after": after, "rows": rows_max}):
        row = _Row(*found)
        stays = row.first >= end or row.pos > upto_pos
        fits = len(row.data) < PACK_ROW_BYTES and (not group or row.first == group[-1].last + 1) and size + len(row.data) <= PACKED_BYTES_MAX
        if not stays and fits:
            group.append(row)
            size += len(row.data)
            continue
        if len(group) > 1 and (size >= PACK_BYTES_MIN or len(group) >= PACK_ROWS_MIN or not stays):
            return group, skipped
        if stays:
            return [], skipped
        skipped = row.last if len(row.data) >= PACK_ROW_BYTES else (group[-1].last if group else row.first - 1)
        group, size = ([], 0) if len(row.data) >= PACK_ROW_BYTES else ([row], len(row.data))
    return (group if len(group) >= PACK_ROWS_MIN or size >= PACK_BYTES_MIN else []), skipped


def _join(connection: sqlite3.Connection, branch: int, group: Sequence[_Row], *, keep: bool) -> None:
    """Replace the rows by one that has the place of the first of them."""
    joined = pack([row.data for row in group], PACKED_BYTES_MAX)
    if len(joined) != 1:
        raise StoreFailed(f"{len(group)} rows that should fit one segment gave {len(joined)}: nothing was packed")
    data, dropped = joined[0]
    kept = b"".join(row.sigs or b"" for row in group) + dropped if keep else b""
    for row in group:
        connection.execute(queries()["remove_row"], {"pos": row.pos})
    pos, stored_ms = min(row.pos for row in group), max(row.stored_ms for row in group)
    _put(connection, branch, pos, _Row(pos, group[0].first, group[-1].last, stored_ms, data, kept or None))
