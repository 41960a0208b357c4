"""What comes too early waits; what is damaged is set aside, never relayed, and put back."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from node_rig import BOUND_S, NodeRig, Rigs, eventually, pull_branch, sync

from fabrik_node.errors import StoreFailed, StoreFull
from fabrik_node.ports import StoredSegment


@pytest.fixture
async def rigs() -> AsyncIterator[Rigs]:
    made = Rigs()
    yield made
    await made.close()


async def rows_of(rig: NodeRig, author: bytes) -> list[StoredSegment]:
    """The stored rows of an author, in order of arrival."""
    return [row async for batch in rig.node.store.load() for row in batch if row.author == author]


async def sync_rows(target: NodeRig, source: NodeRig) -> None:
    """Everything, one stored row at a time: rows stay as short as they were."""
    async for batch in source.node.store.load():
        for row in batch:
            await target.node.ingest([row.data], source.node.public)


async def flip(rig: NodeRig, row: StoredSegment) -> None:
    """One bit of a stored row, under the running node."""
    data = bytearray(row.data)
    data[len(data) // 2] ^= 1
    await rig.node.store.damage(row.pos, bytes(data))  # type: ignore[attr-defined]  # of the double


@pytest.mark.promise("E14")
@pytest.mark.parametrize("order", [(2, 1, 0), (1, 2, 0), (2, 0, 1)])
async def test_a_child_waits_for_its_parent(rigs: Rigs, order: tuple[int, ...]) -> None:
    one, two = await rigs.open(0), await rigs.open(1)
    await sync(one, two)
    for number in range(3):
        await one.add(f"item {number}")
    late = [row.data for row in await rows_of(one, one.node.public)][-3:]
    for turn, place in enumerate(order):
        report = await two.node.ingest([late[place]], one.node.public)
        have = set(order[: turn + 1])
        fits = next((number for number in range(3) if number not in have), 3)
        await eventually(lambda fits=fits: len(two.node.board.items()) == fits, "what fits is applied")  # type: ignore[misc]
        waiting = (await two.call("status"))["waiting"]
        assert waiting["segments"] == len(have) - fits
        assert (waiting["bytes"] > 0) == (waiting["segments"] > 0)
        if place > fits:
            assert report.gaps, "what is missing is still asked for"
    assert one.facts()[:2] == two.facts()[:2]
    assert two.node.writer.pending.count == 0


@pytest.mark.promise("I8")
async def test_a_damaged_row_is_never_relayed_and_comes_back_from_a_peer(rigs: Rigs) -> None:
    one, two, three = await rigs.open(0), await rigs.open(1), await rigs.open(2)
    asked: list[tuple[bytes, int, int]] = []
    two.node.on_missing(lambda *what: asked.append(what))
    for number in range(6):
        await one.add(f"item {number}")
    await sync_rows(two, one)
    author, epoch, state = one.node.public, one.node.epoch, two.facts()
    row = (await rows_of(two, author))[3]
    await flip(two, row)
    await pull_branch(three, two, author, epoch, 0, 0)
    head = three.node.replica.head(author, epoch)
    assert head is not None
    assert head.seq == row.first_seq - 1, "nothing of the row, and nothing behind it"
    assert two.facts() == state, "what was merged stays"
    assert asked == [(author, epoch, row.first_seq - 1)]
    told = (await two.events_until("store.damaged"))[0].data
    assert (told["author"], told["rows"]) == (author.hex(), 1)
    (shown,) = (await two.call("status"))["holes"]
    assert (shown["first"], shown["last"]) == (row.first_seq, row.last_seq)
    await pull_branch(two, one, author, epoch, 0, asked[0][2])
    await two.events_until("store.repaired")
    assert (await two.call("status"))["holes"] == []
    assert await two.node.store.damaged() == []
    assert (await two.node.upkeep.check_all())["damaged"] == []
    await pull_branch(three, two, author, epoch, 0, row.first_seq - 1)
    assert len(three.node.board.items()) == 6


@pytest.mark.promise("I8")
async def test_a_check_on_demand_finds_every_damaged_row(rigs: Rigs) -> None:
    one = await rigs.open(0)
    for number in range(6):
        await one.add(f"item {number}")
    whole = await one.node.upkeep.check_all()
    assert (whole["ops"], whole["damaged"]) == (one.node.replica.ops, [])
    rows = await rows_of(one, one.node.public)
    for place in (2, 5):
        await flip(one, rows[place])
    found = await one.node.upkeep.check_all()
    assert sum(entry["rows"] for entry in found["damaged"]) == 2
    assert [(hole.first, hole.last) for hole in one.node.repair.holes] == [(rows[place].first_seq, rows[place].last_seq) for place in (2, 5)]
    assert (await one.node.upkeep.check_all())["damaged"] == [], "told once"


@pytest.mark.promise("I8", "I9")
@pytest.mark.parametrize("own", [True, False])
async def test_damage_that_a_start_meets_leaves_the_rest_and_is_fetched_again(rigs: Rigs, own: bool) -> None:
    one, two = await rigs.open(0), await rigs.open(1)
    await sync(one, two)
    for number in range(4):
        await one.add(f"one {number}")
        await two.add(f"two {number}")
    await sync_rows(two, one)
    await sync_rows(one, two)
    state, author = two.facts()[0], (two if own else one).node.public
    row = (await rows_of(two, author))[-3]
    await two.stop()
    await flip(two, row)
    again = await rigs.open(1)
    assert len(again.node.board.items()) == 5, "the damaged row and what follows it are not there"
    assert again.node.writer.pending.count == 2, "the sound ones wait"
    assert (await again.call("status"))["lost_rows"] == 3
    assert bool(again.node.epochs.doubt) == own
    head = again.node.replica.head(author, row.epoch)
    assert head is not None
    needed = (await one.node.store.read(author, row.epoch, head.seq, 1))[:1]
    await again.node.ingest([needed[0].data], one.node.public)
    await eventually(lambda: again.facts()[0] == state, "one row was enough")
    await again.events_until("store.repaired")
    assert await again.node.store.damaged() == []
    assert again.node.repair.lost == []


@pytest.mark.promise("I7")
async def test_a_full_disk_refuses_writes_and_takes_them_again(rigs: Rigs) -> None:
    one, two = await rigs.open(0), await rigs.open(1)
    await sync(one, two)
    await one.add("from elsewhere")
    await two.events_until("node.changed")
    two.node.upkeep.probe_s = 0.01
    before = two.facts()
    two.node.store.failing = StoreFull("the disk is full", "free space")  # type: ignore[attr-defined]  # of the double
    with pytest.raises(StoreFull):
        await two.add("refused")
    with pytest.raises(StoreFull):
        await two.node.ingest([row.data for row in await rows_of(one, one.node.public)][-1:], one.node.public)
    assert two.facts() == before
    assert two.pipeline.candidates([]) == []
    with pytest.raises(StoreFull):
        two.node.check_writable()
    status = await two.call("status")
    assert status["disk_full"] == "the disk is full"
    assert any("free space" in warning for warning in status["warnings"])
    assert (await two.call("items.list"))["total"] == 0, "reads go on"
    two.node.store.failing = None  # type: ignore[attr-defined]
    told = await two.events_until("store.writable")
    assert told[0].seq > (await two.events("store.full"))[0].seq, "what could not be stored is told after"
    await two.add("taken")
    await sync(one, two)
    assert one.facts()[:2] == two.facts()[:2]
    assert (await two.call("status"))["disk_full"] is None
    two.node.store.failing = StoreFailed("the disk is gone")  # type: ignore[attr-defined]
    with pytest.raises(StoreFailed):
        await two.add("never")
    assert two.running is not None
    with pytest.raises(ExceptionGroup):
        await asyncio.wait_for(two.running, BOUND_S)


@pytest.mark.promise("I8", "I11")
async def test_a_sound_segment_in_a_row_that_is_not_its_own_is_damage_too(rigs: Rigs) -> None:
    one, two = await rigs.open(0), await rigs.open(1)
    for number in range(4):
        await one.add(f"item {number}")
    await sync_rows(two, one)
    rows = await rows_of(two, one.node.public)
    await two.node.store.damage(rows[-2].pos, rows[0].data)  # type: ignore[attr-defined]  # of the double
    (found,) = (await two.call("ops.check"))["damaged"]
    assert (found["row"], found["why"].startswith("it holds ops 1 to 1 of")) == (rows[-2].pos, True)
    assert [(hole.first, hole.last) for hole in two.node.repair.holes] == [(rows[-2].first_seq, rows[-2].last_seq)]
    await pull_branch(two, one, one.node.public, one.node.epoch, 0, rows[-2].first_seq - 1)
    await two.events_until("store.repaired")
    assert (await two.call("ops.check"))["sound"] is True


@pytest.mark.promise("I8")
async def test_packing_hides_no_damage_and_does_not_end_the_node(tmp_path: Path) -> None:
    made = Rigs(tmp_path)
    one = await made.open(0)
    await asyncio.gather(*(one.add(f"item {number}") for number in range(600)))
    await one.events_until("item.added", 600)
    row = (await rows_of(one, one.node.public))[100]
    with closing(sqlite3.connect(tmp_path / "0.db")) as connection:
        data = bytearray(row.data)
        data[len(data) // 2] ^= 1
        connection.execute("UPDATE segments SET data = ? WHERE pos = ?", (bytes(data), row.pos))
        connection.commit()
    one.node.upkeep.idle_s = 0.01
    await one.add("the last one")
    told = (await one.events_until("store.damaged"))[0].data
    assert (told["rows"], told["ops"]) == (1, 1), "the damaged row, and no other"
    assert [(hole.first, hole.last) for hole in one.node.repair.holes] == [(row.first_seq, row.last_seq)]
    async with asyncio.timeout(BOUND_S):  # until the sound rows are packed
        while len(await rows_of(one, one.node.public)) >= 400:
            await asyncio.sleep(0.005)
    assert (await one.node.upkeep.check_all())["damaged"] == []
    await one.add("and it goes on")
    await made.close()
