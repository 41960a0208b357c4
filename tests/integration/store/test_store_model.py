"""Random histories: SQLite and the in-memory twin say the same of everything, also after restarts."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st
from memory_store import MemoryStore
from store_doubles import HandClock, fake_chained

from fabrik_node.errors import StoreFailed
from fabrik_node.ports import Event, OpStore, StoredSegment
from fabrik_node.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from fabrik_node._core import Chained

MESH = bytes(range(32))
# One batch: (log, epoch, ops in the segment, bytes, shift): shift 0 continues the log, others collide with it or leave a gap.
SEGMENT = st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 30), st.integers(1, 6000), st.sampled_from([0] * 12 + [-1, 1]))
STEP = st.one_of(
    st.lists(SEGMENT, max_size=5).map(lambda batch: ("append", batch)),
    st.tuples(st.integers(0, 4), st.booleans()).map(lambda events: ("events", events)),
    st.just(("restart", None)),
)


async def _all(store: OpStore, batch_bytes: int) -> list[StoredSegment]:
    return [row async for batch in store.load(batch_bytes) for row in batch]


async def _append(store: OpStore, batch: list[Chained]) -> int | str:
    try:
        return await store.append(batch)
    except StoreFailed:
        return "refused"


async def _same(one: OpStore, other: OpStore, query: tuple[int, int, int, int]) -> None:
    log, epoch, after, size = query
    assert await _all(one, 5000) == await _all(other, 1)
    assert await one.read(bytes([log]) * 32, epoch, after, size) == await other.read(bytes([log]) * 32, epoch, after, size)
    assert await one.events(after // 4, size % 7) == await other.events(after // 4, size % 7)
    assert await one.events_upto() == await other.events_upto()
    assert await one.last_op_ms() == await other.last_op_ms()
    real, twin = await one.stats(), await other.stats()
    assert {key: real[key] for key in twin} == twin


@given(st.lists(STEP, max_size=12), st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(0, 60), st.integers(0, 20_000)))
def test_both_stores_say_the_same(steps: list[tuple[str, object]], query: tuple[int, int, int, int]) -> None:
    asyncio.run(_history(steps, query))


async def _history(steps: list[tuple[str, object]], query: tuple[int, int, int, int]) -> None:
    clock = HandClock()
    twin = MemoryStore(clock)
    heads: dict[tuple[int, int], int] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fabrik.db"
        store = await SqliteStore.open(path, clock, mesh_id=MESH, create_missing=True)
        try:
            for step in steps:
                clock.advance(1)
                match step:
                    case ("append", list(batch)):
                        moved = dict(heads)
                        chained = []
                        for log, epoch, ops, size, shift in batch:
                            first = max(1, moved.get((log, epoch), 0) + 1 + shift)
                            chained.append(fake_chained(log, first, first + ops - 1, epoch=epoch, data=bytes([ops]) * size))
                            moved[log, epoch] = first + ops - 1
                        outcome = await _append(store, chained)
                        assert outcome == await _append(twin, chained)
                        if outcome != "refused":
                            heads = moved
                    case ("events", (int(count), bool(catch_up))):
                        _, upto = await twin.events_upto()
                        upto = (await twin.stats())["segments"] if catch_up else upto
                        events = [Event("e", n, {"n": n}) for n in range(count)]
                        assert await store.append_events(events, upto) == await twin.append_events(events, upto)
                    case _:
                        await store.close()
                        store = await SqliteStore.open(path, clock, mesh_id=MESH)
                await _same(store, twin, query)
        finally:
            await store.close()
