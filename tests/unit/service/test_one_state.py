"""A look at all items beside writers: what it answers was so at one moment, and nobody waits long for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from fabrik_node.domain.schema import Kind
from fabrik_node.service import one_state
from fabrik_node.service.one_state import of_one_state


class Changed:
    """One change of this kind."""

    def __init__(self, kind: int, item: bytes) -> None:
        self.id = item
        self.kinds = {kind}

    def of(self, kind: int) -> list[Changed]:
        return [self] if kind in self.kinds else []


class Writers:
    """A board that is a dictionary, and who writes into it."""

    def __init__(self, **items: int) -> None:
        self.items = {name.encode(): value for name, value in items.items()}
        self.merged = 0
        self.followers: list[Callable[[Any], None]] = []
        self.read: list[bytes] = []

    def state(self) -> int:
        return self.merged

    def watch(self, follower: Callable[[Any], None]) -> Callable[[], None]:
        self.followers.append(follower)
        return lambda: self.followers.remove(follower)

    def merge(self, item: bytes, value: int | None) -> None:
        self.merged += 1
        if value is None:
            del self.items[item]
        else:
            self.items[item] = value

    def tell(self, item: bytes, kind: int = Kind.ITEM) -> None:
        for follower in self.followers:
            follower(Changed(kind, item))

    def one(self, item: bytes) -> int | None:
        assert threading.current_thread() is threading.main_thread()
        self.read.append(item)
        return self.items.get(item)

    async def seen(self, look: Callable[[], dict[bytes, int]]) -> dict[bytes, int]:
        board: Any = self
        return await asyncio.wait_for(of_one_state(board, self.watch, look, self.one), 60)


def in_loop(loop: asyncio.AbstractEventLoop, do: Callable[[], object]) -> None:
    async def done() -> None:
        do()

    asyncio.run_coroutine_threadsafe(done(), loop).result(60)


async def test_what_changes_while_it_is_read_is_read_again_and_nothing_else() -> None:
    writers, loop = Writers(a=1, b=1, c=1, d=1), asyncio.get_running_loop()

    def write() -> None:
        for item, value, kind in ((b"a", 2, Kind.ITEM), (b"b", 2, Kind.CLAIM), (b"c", None, Kind.TOMBSTONE), (b"e", 2, Kind.ITEM)):
            writers.merge(item, value)
            writers.tell(item, kind)
        writers.merged += 1
        writers.tell(b"d", Kind.RUN)  # a run is no part of an item

    def look() -> dict[bytes, int]:
        assert threading.current_thread() is not threading.main_thread()
        found = dict(writers.items)
        in_loop(loop, write)
        return found

    assert await writers.seen(look) == {b"a": 2, b"b": 2, b"d": 1, b"e": 2}
    assert sorted(writers.read) == [b"a", b"b", b"c", b"e"]
    assert writers.followers == []


async def test_nothing_is_read_twice_where_nobody_writes() -> None:
    writers = Writers(a=1)
    assert await writers.seen(lambda: dict(writers.items)) == {b"a": 1}
    assert writers.read == []


async def test_what_is_merged_and_not_told_yet_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large merge goes on in a thread, and its changes are told after it: here when somebody in the event loop has seen that there is one."""
    writers, loop, real = Writers(a=1, b=1), asyncio.get_running_loop(), Writers.state
    told: list[bytes] = []

    def state(board: Writers) -> int:
        if board.merged and not told:
            told.extend((b"a", b"b"))
            for item in told:
                loop.call_soon(board.tell, item)
        return real(board)

    monkeypatch.setattr(Writers, "state", state)

    def look() -> dict[bytes, int]:
        found = {b"a": writers.items[b"a"]}
        writers.merge(b"a", 2)
        writers.merge(b"b", 2)
        return found | {b"b": writers.items[b"b"]}

    assert await writers.seen(look) == {b"a": 2, b"b": 2}


async def test_a_merge_that_is_told_late_is_waited_for_however_often_others_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_state, "_UNTOLD_S", 60)
    monkeypatch.setattr(one_state, "_SLICES_MAX", 5)
    writers, loop, real = Writers(a=1), asyncio.get_running_loop(), Writers.state
    seen: list[int] = []

    def turn(left: int) -> None:
        if left:
            loop.call_soon(turn, left - 1)
        else:
            writers.tell(b"a")

    def state(board: Writers) -> int:
        if board.merged and 1 not in seen:  # from when somebody in the event loop has seen that there is one
            turn(1_000)
        seen.append(board.merged)
        return real(board)

    monkeypatch.setattr(Writers, "state", state)

    def look() -> dict[bytes, int]:
        found = dict(writers.items)
        writers.merge(b"a", 2)
        return found

    assert await writers.seen(look) == {b"a": 2}


async def test_a_merge_that_nobody_is_told_of_holds_it_up_for_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_state, "_UNTOLD_S", 0)
    writers = Writers(a=1)

    def look() -> dict[bytes, int]:
        found = dict(writers.items)
        writers.merge(b"a", 2)
        return found

    assert await writers.seen(look) == {b"a": 1}
    assert writers.followers == []


async def test_others_have_their_turn_between_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_state, "_SLICE", 10)
    names = [f"i{number}" for number in range(35)]
    writers, loop = Writers(**dict.fromkeys(names, 1)), asyncio.get_running_loop()
    turns: list[int] = []

    def turn() -> None:
        turns.append(len(writers.read))
        loop.call_soon(turn)

    def write() -> None:
        for name in names:
            writers.merge(name.encode(), 2)
            writers.tell(name.encode())
        loop.call_soon(turn)

    def look() -> dict[bytes, int]:
        found = dict(writers.items)
        in_loop(loop, write)
        return found

    assert set((await writers.seen(look)).values()) == {2}
    assert {10, 20, 30} <= set(turns)
    assert len(writers.read) == 35


async def test_writers_that_are_faster_than_it_reads_hold_it_up_for_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_state, "_SLICES_MAX", 20)
    writers = Writers(a=1)
    real = writers.one

    def one(item: bytes) -> int | None:
        found = real(item)
        writers.merge(b"a", 1 + writers.items[b"a"])
        writers.tell(b"a")
        return found

    monkeypatch.setattr(writers, "one", one)
    loop = asyncio.get_running_loop()

    def look() -> dict[bytes, int]:
        in_loop(loop, lambda: writers.tell(b"a"))
        return {b"a": 0}

    assert (await writers.seen(look))[b"a"] == 20
    assert len(writers.read) == 20


async def test_who_fails_to_look_is_told_of_no_changes_any_more() -> None:
    writers = Writers()

    def look() -> dict[bytes, int]:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        await writers.seen(look)
    assert writers.followers == []
