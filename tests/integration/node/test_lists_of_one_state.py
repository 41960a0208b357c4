"""``items list`` and ``claims list`` are read in a thread, and others write meanwhile: what is shown was so at one moment, and not before ``as_of``."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from node_rig import BOUND_S, NodeRig, Rigs

from fabrik_node.domain.claims import Claim
from fabrik_node.domain.schema import ItemField, Kind
from fabrik_node.domain.stages import Coding
from fabrik_node.ids import parse_id
from fabrik_node.node.board import Board
from fabrik_node.service.listing import claims_page
from fabrik_node.service.views import Views


@pytest.fixture
async def rigs() -> AsyncIterator[Rigs]:
    made = Rigs()
    yield made
    await made.close()


async def _at_work(rig: NodeRig) -> tuple[bytes, Claim]:
    item = parse_id(await rig.add("one"))
    assert item is not None
    claim = await asyncio.wait_for(rig.pipeline.claim(item, "agent"), BOUND_S)
    assert isinstance(claim, Claim)
    await rig.pipeline.move(item, Coding(), claim)
    return item, claim


def _write_within(monkeypatch: pytest.MonkeyPatch, name: str, write: Callable[[int], Awaitable[Any]]) -> list[int]:
    """From now on each look that is made in a thread meets a write before it calls the board's ``name``; the list grows by one for each."""
    real, loop = getattr(Board, name), asyncio.get_running_loop()
    looks: list[int] = []

    async def done(number: int) -> None:
        await write(number)

    def slow(board: Board, *args: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            looks.append(len(looks))
            asyncio.run_coroutine_threadsafe(done(looks[-1]), loop).result(BOUND_S)
        return real(board, *args)

    monkeypatch.setattr(Board, name, slow)
    return looks


@pytest.mark.parametrize(("op", "name"), [("items.list", "claims"), ("claims.list", "item")])
async def test_no_item_is_shown_as_it_never_was(rigs: Rigs, monkeypatch: pytest.MonkeyPatch, op: str, name: str) -> None:
    """A run ends, in one op, while the list is made: its claim and its outcome are of before or of after."""
    rig = await rigs.open()
    item, claim = await _at_work(rig)

    async def end(number: int) -> None:
        if not number:
            await rig.pipeline.finish(item, claim, "agent_failed: no", {"result": "agent_failed"}, charge_attempt=True)

    looks = _write_within(monkeypatch, name, end)
    said = await asyncio.wait_for(rig.call(op), BOUND_S)
    assert looks
    if op == "items.list":
        (shown,) = said["items"]
        assert (shown["stage"], shown["claim"] is not None, shown["outcome"] is not None) == ("Coding", False, True)
    else:
        assert said["claims"] == []


async def test_a_claim_that_ended_since_the_held_ones_were_noted_is_not_listed(rigs: Rigs) -> None:
    """Which are held is noted some moments after it was merged."""
    rig = await rigs.open()
    item, claim = await _at_work(rig)
    await rig.pipeline.finish(item, claim, "agent_failed: no", {"result": "agent_failed"}, charge_attempt=True)
    views = Views(name_of=lambda _key: "", leases=None, now=0.0, wall_ms=0, stale_s=1.0)
    assert await claims_page(rig.node.board, rig.node.on_changes, views, {}, [(item, claim)]) == {"claims": [], "total": 0}


async def test_a_list_beside_writers_without_end_shows_one_state_after_one_look(rigs: Rigs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each op gives all items one priority, and nobody holds the event loop for a look at all of them."""
    rig = await rigs.open()
    items = [parse_id(await rig.add(f"{number}")) or b"" for number in range(5)]

    async def write(number: int) -> None:
        await rig.node.write("all", lambda: [(Kind.ITEM, item, ItemField.PRIORITY, number, None) for item in items])

    async def write_on() -> None:
        for number in itertools.count(1):
            await write(number)

    await write(0)
    looks = _write_within(monkeypatch, "claims", lambda number: write(-1 - number))
    writer = asyncio.create_task(write_on())
    try:
        for count in range(1, 6):
            said = await asyncio.wait_for(rig.call("items.list"), BOUND_S)
            assert len({shown["priority"] for shown in said["items"]}) == 1
            assert len(looks) == count
    finally:
        writer.cancel()


async def test_a_list_is_dated_before_it_is_read(rigs: Rigs, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = await rigs.open()
    before = (await rig.call("items.list"))["as_of"]

    async def late(_number: int) -> None:
        rigs.clock.advance(100.0)

    looks = _write_within(monkeypatch, "claims", late)
    said = await asyncio.wait_for(rig.call("items.list"), BOUND_S)
    assert said["as_of"] == before
    assert len(looks) == 1
