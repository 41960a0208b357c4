from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from memory_store import MemoryStore
from store_doubles import HandClock

from fabrik_node.ports import OpStore
from fabrik_node.store.sqlite import SqliteStore

MESH = bytes(range(32))
Opener = Callable[..., Awaitable[SqliteStore]]


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "store" / "fabrik.db"


@pytest.fixture
async def reopen(db: Path, clock: HandClock) -> AsyncIterator[Opener]:
    """Open the one database of this test (again); whatever is open at the end is closed."""
    opened: list[SqliteStore] = []

    async def opener(**options: object) -> SqliteStore:
        store = await SqliteStore.open(db, clock, mesh_id=MESH, create_missing=True, **options)  # type: ignore[arg-type]
        opened.append(store)
        return store

    yield opener
    for store in opened:
        await store.close()


@pytest.fixture(params=["sqlite", "memory"])
async def store(request: pytest.FixtureRequest, reopen: Opener, clock: HandClock) -> AsyncIterator[OpStore]:
    """The port, filled by both."""
    if request.param == "memory":
        memory = MemoryStore(clock)
        yield memory
        await memory.close()
    else:
        yield await reopen()
