"""``events.ndjson`` and the store tell the same: in order, without gaps, over restarts, rotation, torn lines and deletion."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from memory_store import MemoryStore
from store_doubles import HandClock

from fabrik_node.errors import StoreFailed
from fabrik_node.ports import Event
from fabrik_node.store import event_file
from fabrik_node.store.event_file import EventFile, event_line
from fabrik_node.store.sqlite import SqliteStore

Opener = Callable[..., Awaitable[SqliteStore]]


def lines(paths: Sequence[Path]) -> list[dict[str, Any]]:
    raw = b"".join(path.read_bytes() for path in paths)
    assert raw == b"" or raw.endswith(b"\n")
    return [json.loads(line) for line in raw.split(b"\n")[:-1]]


def numbers(file: EventFile) -> list[int]:
    return [entry["seq"] for entry in lines([*file.older(), *([file.path] if file.path.exists() else [])])]


async def add(store: MemoryStore | SqliteStore, count: int) -> None:
    last, upto = await store.events_upto()
    await store.append_events([Event("tick", 1_700_000_000_123 + n, {"n": n, "text": "ä\n" * (n % 5)}) for n in range(last + 1, last + 1 + count)], upto)


@pytest.fixture
def memory(clock: HandClock) -> MemoryStore:
    return MemoryStore(clock)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.ndjson"


def test_a_line_is_the_event_in_a_fixed_order() -> None:
    event = Event("item.moved", 1_700_000_000_123, {"item": "x", "to": {"a": [1, None, "ä"]}}, seq=7)
    assert event_line(event) == '{"seq":7,"at":"2023-11-14T22:13:20.123Z","type":"item.moved","item":"x","to":{"a":[1,null,"ä"]}}'


@pytest.mark.promise("B12")
async def test_file_and_store_agree_over_restarts_and_rotation(reopen: Opener, path: Path) -> None:
    chance = random.Random(7)
    for _ in range(6):
        store = await reopen()
        file = EventFile(path, rotate_bytes=4000, keep_files=100)
        for _ in range(8):
            await add(store, chance.randint(0, 40))
            await file.catch_up(store)
        last, _ = await store.events_upto()
        assert numbers(file) == list(range(1, last + 1))
        everything = lines([*file.older(), path])
        assert everything == [json.loads(event_line(event)) for event in await store.events(0, 100_000)]
        after = last // 2
        assert [event.seq for event in await store.events(after, 100_000)] == [entry["seq"] for entry in everything if entry["seq"] > after]
        assert all(older.stat().st_size >= 4000 for older in file.older())
        await store.close()
    assert len(file.older()) > 5


@pytest.mark.promise("B12")
async def test_a_follower_reads_one_file_over_restarts_and_rotation(memory: MemoryStore, path: Path) -> None:
    """As ``tail -F`` does: an open file is read to its end, also after it was renamed; then the new one from its start."""
    file = EventFile(path, rotate_bytes=300, keep_files=50)
    got = b""
    tail = None
    for step in range(30):
        if step % 7 == 3:
            file = EventFile(path, rotate_bytes=300, keep_files=50)
        await add(memory, 1)
        await file.catch_up(memory)
        if tail is None:
            tail = path.open("rb")
        got += tail.read()
        if path.stat().st_ino != os.fstat(tail.fileno()).st_ino:
            tail.close()
            tail = path.open("rb")
            got += tail.read()
    assert tail is not None
    tail.close()
    assert [json.loads(line)["seq"] for line in got.splitlines()] == list(range(1, 31))


@pytest.mark.parametrize("torn", [b"", b'{"seq":3', b"x" * 200_000])
async def test_a_torn_last_line_is_cut_off(memory: MemoryStore, path: Path, torn: bytes) -> None:
    await add(memory, 2)
    await EventFile(path, 1_000_000, 2).catch_up(memory)
    with path.open("ab") as raw:
        raw.write(torn)
    await add(memory, 2)
    file = EventFile(path, 1_000_000, 2)
    assert await file.catch_up(memory) == 2
    assert numbers(file) == [1, 2, 3, 4]


async def test_only_a_torn_line_after_a_rotation(memory: MemoryStore, path: Path) -> None:
    await add(memory, 6)
    file = EventFile(path, 100, 10)
    await file.catch_up(memory)
    path.write_bytes(b'{"seq":')
    again = EventFile(path, 100, 10)
    await again.catch_up(memory)
    assert numbers(again) == [1, 2, 3, 4, 5, 6]


async def test_deleted_files_are_written_again(memory: MemoryStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await add(memory, 30)
    file = EventFile(path, 500, 3)
    await file.catch_up(memory)
    assert numbers(file)[-1] == 30
    for old in [*file.older(), path]:
        old.unlink()
    again = EventFile(path, 100_000, 3)
    assert await again.catch_up(memory) == 30
    assert numbers(again) == list(range(1, 31))
    path.unlink()
    monkeypatch.setattr(event_file, "REWRITE_EVENTS_MAX", 12)
    bounded = EventFile(path, 100_000, 3)
    assert await bounded.catch_up(memory) == 12
    assert numbers(bounded) == list(range(19, 31))


async def test_deleted_under_the_node_it_goes_on(memory: MemoryStore, path: Path) -> None:
    file = EventFile(path, 200, 3)
    await add(memory, 5)
    await file.catch_up(memory)
    path.unlink()
    await add(memory, 1)
    await file.catch_up(memory)
    assert lines([path])[-1]["seq"] == 6


@pytest.mark.parametrize("content", [b"not ours\n", b'{"seq":99,"at":"x"}\n', b'{"seq":2,"at":"another history"}\n', b'{"seq":true}\n', b"[1]\n", b"\xff\n"])
async def test_a_file_that_contradicts_the_store_is_put_aside(memory: MemoryStore, path: Path, content: bytes) -> None:
    await add(memory, 3)
    path.write_bytes(content)
    file = EventFile(path, 1_000_000, 3)
    assert await file.catch_up(memory) == 3
    assert numbers(file) == [1, 2, 3]
    assert path.with_name("events.ndjson.stale").read_bytes() == content


async def test_old_files_are_bounded(memory: MemoryStore, path: Path) -> None:
    file = EventFile(path, 200, 2)
    await add(memory, 50)
    await file.catch_up(memory)
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["events.ndjson", "events.ndjson.1", "events.ndjson.2"]
    assert numbers(file) == list(range(numbers(file)[0], 51))
    none = EventFile(path.with_name("other.ndjson"), 200, 0)
    await none.catch_up(memory)
    assert none.older() == []
    assert lines([none.path])[-1]["seq"] == 50


async def test_nothing_new_writes_nothing(memory: MemoryStore, path: Path) -> None:
    file = EventFile(path, 200, 2)
    assert await file.catch_up(memory) == 0
    assert not path.exists()
    await add(memory, 1)
    assert [await file.catch_up(memory), await file.catch_up(memory)] == [1, 0]


async def test_a_failing_export_is_an_error_and_can_be_caught_up(memory: MemoryStore, tmp_path: Path) -> None:
    folder = tmp_path / "away"
    file = EventFile(folder / "events.ndjson", 10_000, 2)
    await add(memory, 2)
    with pytest.raises(StoreFailed, match="can not be written"):
        await file.catch_up(memory)
    folder.mkdir()
    assert await file.catch_up(memory) == 2
    (folder / "events.ndjson").rename(folder / "elsewhere")
    (folder / "events.ndjson").mkdir()
    await add(memory, 1)
    with pytest.raises(StoreFailed, match="can not be written"):
        await file.catch_up(memory)
    (folder / "events.ndjson").rmdir()
    (folder / "elsewhere").rename(folder / "events.ndjson")
    assert await file.catch_up(memory) == 1
    assert numbers(file) == [1, 2, 3]
