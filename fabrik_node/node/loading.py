"""From the store to a replica: with the snapshot when there is one that can be proven, else by all rows; what is damaged is left out and named.

Nothing here changes the store but :func:`set_aside`, which the node calls with what was found.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from fabrik_node._core import Changes, Replica, Verified
from fabrik_node.errors import FabrikError
from fabrik_node.ports import OpReads, OpStore, Snapshots, StoredSegment

__all__ = ["FOLLOWS", "Loaded", "load", "rebuild", "set_aside"]

FOLLOWS = "follows a damaged row"
"""Why a sound row was set aside: what stands before it is missing. It is put back when that has come from a peer."""


@dataclass(slots=True)
class Loaded:
    """What a load gave. ``changes`` are those of rows whose events were not told yet, up to row ``late_pos`` (0: none)."""

    replica: Replica
    snapshot: str = ""
    """Why the snapshot was not used; ``used``, or empty when there was none."""
    ops_beyond: int = 0
    """Ops that were read from rows: all without a snapshot, else those after it."""
    changes: Changes | None = None
    late_pos: int = 0
    aside: list[tuple[StoredSegment, str]] = field(default_factory=list)
    """Rows that are damaged or follow a damaged one, and why."""
    newly_suspended: Sequence[tuple[bytes, int]] = ()
    """Logs that were found to have too many heads, and that the store does not say so of."""


async def load(genesis: bytes, store: OpReads, snapshots: Snapshots | None, upto_pos: int) -> Loaded:
    """Events of rows up to ``upto_pos`` have been told. Raises :class:`FabrikError` for a store that can not be read."""
    suspended = Replica(genesis, await store.suspended()).suspended()  # what an older version noted of the admin's logs is left out
    why = ""
    if snapshots is not None:
        replica, why = await _from_snapshot(genesis, store, snapshots, suspended)
        if replica is not None:
            loaded = Loaded(replica, "used")
            await _take(loaded, store.load_beyond(replica.heads()), upto_pos)
            if not replica.stale and not loaded.aside:
                return loaded
            why = "what it says would be judged otherwise now" if replica.stale else "rows after it are damaged"
    loaded = Loaded(Replica(genesis, suspended), why)
    await _take(loaded, store.load(), upto_pos)
    if loaded.replica.stale:  # somebody was revoked; or a crash came between a log's last branch and the note that it is suspended
        found = loaded.replica.suspended()
        loaded = Loaded(loaded.replica.anew(), why, newly_suspended=sorted(set(found) - set(suspended)))
        await _take(loaded, store.load(), upto_pos)
    return loaded


async def rebuild(replica: Replica, store: OpReads) -> tuple[Replica, list[StoredSegment]]:
    """A second replica of the same rows, which knows from the start what this one found; and the rows that are damaged, or may be, so that it lacks them."""
    fresh, bad = replica.anew(), list[StoredSegment]()
    async for batch in store.load():
        found = await asyncio.to_thread(fresh.load, [row.data for row in batch], [row.branch for row in batch])
        bad += [batch[place] for place, _ in found.damaged]
    return fresh, bad


async def set_aside(store: OpStore, loaded: Loaded) -> None:
    """Move what a load found out of the way, so that its place can be filled again."""
    if loaded.aside:
        await store.set_aside([(row.pos, why) for row, why in loaded.aside])


async def _from_snapshot(genesis: bytes, store: OpReads, snapshots: Snapshots, suspended: Sequence[tuple[bytes, int]]) -> tuple[Replica | None, str]:
    """The replica of a snapshot of which every head is proven by a stored row; else None and why."""
    data = await asyncio.to_thread(snapshots.read)
    if data is None:
        return None, ""
    try:
        replica = await asyncio.to_thread(Replica.restore, genesis, data)
    except FabrikError as error:
        return None, error.message
    if set(replica.suspended()) != {(author, epoch) for author, epoch in suspended if not replica.is_spared(author)}:
        return None, "other logs are suspended in it"
    heads = replica.heads()
    for head, row in zip(heads, await store.head_rows(heads), strict=True):
        if row is None or row.last_seq < head.seq:
            return None, "it holds more than the store"
        if found := replica.check(head.author, head.epoch, head.branch, [row.data])[0]:
            return None, f"a row at one of its heads is not what it says: {found}"
    return replica, ""


async def _take(loaded: Loaded, batches: AsyncIterator[list[StoredSegment]], upto_pos: int) -> None:
    replica = loaded.replica
    before = replica.ops
    late: list[StoredSegment] = []
    async for batch in batches:
        told = [row for row in batch if row.pos <= upto_pos]
        late += [row for row in batch if row.pos > upto_pos]
        if told:
            result = await asyncio.to_thread(replica.load, [row.data for row in told], [row.branch for row in told])
            loaded.aside += [(told[place], f"damaged: {why}") for place, why in result.damaged]
            loaded.aside += [(told[place], FOLLOWS) for place in result.stranded]
    if late:
        await _take_late(loaded, late)
    loaded.ops_beyond = replica.ops - before


async def _take_late(loaded: Loaded, late: Sequence[StoredSegment]) -> None:
    """Rows whose events a crash cut off: merged like live ones, so that their changes can be told."""
    replica = loaded.replica
    verified: list[Verified] = []
    rows: list[StoredSegment] = []
    for row in late:
        try:
            verified += replica.verify([row.data])
        except FabrikError as error:
            loaded.aside.append((row, f"damaged: {error.message}"))
        else:
            rows.append(row)
    result = replica.chain(verified, admit_all=True)
    gaps = {gap.index for gap in result.gaps}
    loaded.aside += [(rows[index], FOLLOWS) for index in sorted(gaps)]
    fitting = [row for index, row in enumerate(rows) if index not in gaps]
    if [each.branch for each in result.chained] == [row.branch for row in fitting]:
        loaded.changes = replica.merge(result.chained)
    else:  # the start of a branch is damaged: those behind it may not take its number
        found = await asyncio.to_thread(replica.load, [row.data for row in fitting], [row.branch for row in fitting])
        loaded.aside += [(fitting[place], FOLLOWS) for place in found.stranded]
    loaded.late_pos = late[-1].pos
