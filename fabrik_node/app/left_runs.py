"""Runs that came with a copied home: the home that was copied may be at work on them still, and then they are not ours to end.

They are closed here once their claim is over by what everybody can see: it was given back or superseded, or nobody renews it any more.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable

from fabrik_node.app.home_mark import differs, home_mark
from fabrik_node.app.opening import HOME_MARK
from fabrik_node.domain.leases import LeaseState
from fabrik_node.domain.runs import FINAL_STATES, RunRow
from fabrik_node.ids import show_id
from fabrik_node.node.node import Node
from fabrik_node.paths import HomePaths
from fabrik_node.store.reads import StoreReads
from fabrik_node.store.sqlite import SqliteStore

__all__ = ["close_left", "left_in", "note_left", "own_runs"]

_KEY = "left_runs"
_log = logging.getLogger("fabrik_node")


async def note_left(store: SqliteStore, *, copied: bool) -> None:
    """Write down which runs came with the copy, before anything else shows that it is one."""
    if copied:
        rows = [row.run_id.hex() for row in await store.runs() if row.state not in FINAL_STATES]
        await store.set_meta(_KEY, json.dumps(rows).encode())


async def own_runs(store: SqliteStore) -> list[RunRow]:
    """All others, with an end or without."""
    left = await _left(store)
    return [row for row in await store.runs() if row.run_id not in left]


async def close_left(node: Node, store: SqliteStore, recovered: asyncio.Task[None], close: Callable[[list[RunRow]], Awaitable[None]]) -> None:
    """``close`` each of them that has no end, when its claim is over; one after the other, after ``recovered``."""
    await asyncio.wait({recovered})
    left = await _left(store)
    for row in await store.runs():
        if row.run_id in left and row.state not in FINAL_STATES:
            if _is_held(node, row):
                _log.warning("run %s is left to the home that this one was copied from, until its claim is over", show_id(row.run_id))
            while _is_held(node, row):
                await asyncio.sleep(node.timing.beat_s)
            await close([row])


def _is_held(node: Node, row: RunRow) -> bool:
    claim = node.board.claim(row.item)
    if claim is None or not claim.held or claim.claim_id != row.claim_id:
        return False
    lease = node.leases.state(claim.claim_id, claim.ttl_s(node.board.stage(row.item)), node.clock.now())
    return lease is not LeaseState.LOST or bool(node.leases.held_back)


async def left_in(paths: HomePaths, store: StoreReads) -> set[bytes]:
    """Runs in this home that are another home's: those that came with a copy, also one that was never served yet."""
    before = await store.get_meta(HOME_MARK)
    if before is not None and differs(before.decode("utf-8", "replace"), home_mark(paths.store)):
        return {row.run_id for row in await store.runs() if row.state not in FINAL_STATES}
    return await _left(store)


async def _left(store: StoreReads) -> set[bytes]:
    return {bytes.fromhex(run_id) for run_id in json.loads(await store.get_meta(_KEY) or b"[]")}
