"""What followers get from memory is what the store would give."""

from __future__ import annotations

from memory_store import MemoryStore
from store_doubles import HandClock

from fabrik_node.node.recent import RECENT_MAX, Recent
from fabrik_node.ports import Event


async def test_every_page_is_that_of_the_store() -> None:
    store = MemoryStore(HandClock())
    await store.append_events([Event("old", 0, {"n": number}) for number in range(10)], 0)
    recent = Recent(store)
    recent.last, _ = await recent.events_upto()
    total = 10
    for size in (1, 0, 7, RECENT_MAX - 3, 40):
        recent.add(await store.append_events([Event("new", 0, {"n": number}) for number in range(size)], 0))
        total += size
        assert recent.last == total
        for after in {0, 5, 9, 10, 11, total - RECENT_MAX, total - RECENT_MAX - 1, total - 500, total - 1, total, total + 1}:
            for limit in (1, 500):
                assert await recent.events(max(0, after), limit) == await store.events(max(0, after), limit), (size, after, limit)


async def test_the_newest_are_not_read_again() -> None:
    store = MemoryStore(HandClock())
    recent = Recent(store)
    recent.add(await store.append_events([Event("new", 0, {}) for _ in range(5)], 0))
    await store.close()
    assert [event.seq for event in await recent.events(2, 500)] == [3, 4, 5]
    assert await recent.events(5, 500) == []
