"""The store and the core together: what was chained, stored and read again is the same replica."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from store_doubles import HandClock

from fabrik_node import _core
from fabrik_node.store.readonly import open_readonly
from fabrik_node.store.sqlite import SqliteStore

ITEM = b"i" * 16
TITLE = (1, 1)


async def _replica(store: SqliteStore, genesis: bytes) -> _core.Replica:
    replica = _core.Replica(genesis)
    async for batch in store.load(batch_bytes=700):
        replica.load([row.data for row in batch])
    return replica


@pytest.mark.promise("E11")
async def test_a_restart_gives_the_same_state_and_the_same_clock(tmp_path: Path, clock: HandClock) -> None:
    key = _core.SigningKey.from_seed(b"\x07" * 32)
    genesis = _core.genesis_encode(key.public, "mesh", b"n" * 16, clock.wall_ms())
    mesh_id = _core.mesh_id(genesis)
    opener: Callable[..., Awaitable[SqliteStore]] = SqliteStore.open
    replica = _core.Replica(genesis)
    for restart in range(4):
        async with await opener(tmp_path / "fabrik.db", clock, mesh_id=mesh_id, create_missing=True) as store:
            reloaded = await _replica(store, genesis)
            assert (reloaded.state_digest(), reloaded.frontier_digest(), reloaded.lamport) == (
                replica.state_digest(),
                replica.frontier_digest(),
                replica.lamport,
            )
            replica = reloaded
            draft = replica.draft(key, 1)
            chained = draft.genesis(clock.wall_ms()) if restart == 0 else []
            for n in range(5):
                chained += draft.append([(TITLE[0], ITEM, TITLE[1], f"title {restart}.{n}", None)], clock.wall_ms())
            await store.append(chained)
            replica.merge(chained)
            rows = await store.read(key.public, 1, replica.ops - 1, 1_000_000)
            assert [(row.first_seq, row.last_seq, row.data) for row in rows] == [(chained[-1].first_seq, chained[-1].last_seq, chained[-1].data)]
    register = replica.get(TITLE[0], ITEM, TITLE[1])
    assert register is not None
    assert register.value == "title 3.4"
    async with await open_readonly(tmp_path / "fabrik.db", mesh_id=mesh_id) as other:
        assert (await other.stats())["ops"] == replica.ops == 21
