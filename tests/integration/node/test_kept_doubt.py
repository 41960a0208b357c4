"""Doubt outlives what raised it: a crash behind each step, a full disk, and notes that came too late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from memory_store import MemoryStore
from node_rig import NodeRig, Rigs, eventually, sync

from fabrik_node._core import HEADS_MAX, Replica
from fabrik_node.domain.schema import ItemField, Kind
from fabrik_node.errors import StoreFull
from fabrik_node.ids import new_id
from fabrik_node.ports import StoredSegment

FULL = StoreFull("the disk is full", "free space")


@pytest.fixture
async def rigs() -> AsyncIterator[Rigs]:
    made = Rigs()
    yield made
    await made.close()


def title(text: str) -> Any:
    return (Kind.ITEM, new_id(1), ItemField.TITLE, text, None)


def double(rig: NodeRig) -> MemoryStore:
    """The store of a node, to break it."""
    assert isinstance(rig.node.store, MemoryStore)
    return rig.node.store


async def own_rows(rig: NodeRig) -> list[StoredSegment]:
    """The stored rows of our own, in order."""
    return [row async for batch in rig.node.store.load() for row in batch if row.author == rig.node.public]


async def damage(rig: NodeRig, row: StoredSegment) -> None:
    """One bit of a stored row."""
    data = bytearray(row.data)
    data[len(data) // 2] ^= 1
    await double(rig).damage(row.pos, bytes(data))


async def branches(rig: NodeRig, *texts: str) -> list[bytes]:
    """Segments with which copies of this home go on, each from where it stands now."""
    replica = Replica(rig.genesis)
    async for batch in rig.node.store.load():
        replica.load([row.data for row in batch])
    return [replica.draft(rig.node.key, rig.node.epoch).append([title(text)], 5)[0].data for text in texts]


def has_new_epoch(rig: NodeRig, old: int) -> bool:
    """The write after the doubt went to another epoch, and no op of the old one was numbered anew."""
    return rig.node.epoch >> 32 == (old >> 32) + 1 and all(head.branch == 0 for head in rig.node.epochs.own_heads())


@pytest.mark.promise("I5", "I6")
@pytest.mark.parametrize("which", [-1, 0], ids=["the last row", "the only rows"])
async def test_a_crash_between_setting_own_rows_aside_and_the_rest(rigs: Rigs, which: int) -> None:
    one, two = await rigs.open(0), await rigs.open(1)
    await sync(one, two)
    if which == -1:
        await two.add("to be damaged")
        await sync(one, two)
    old = two.node.epoch
    await two.stop()
    await damage(two, (await own_rows(two))[which])
    store, set_aside = double(two), double(two).set_aside

    async def crash(rows: Sequence[tuple[int, str]]) -> None:
        await set_aside(rows)
        raise KeyboardInterrupt("killed here")

    store.set_aside = crash  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        await rigs.open(1)
    store._closed = False  # the next process opens it
    assert await store.get_meta("doubt"), "it was durable before the rows were moved"
    store.set_aside = set_aside  # type: ignore[method-assign]
    again = await rigs.open(1)
    assert again.node.epochs.doubt
    await again.add("after it")
    await sync(one, again)
    assert has_new_epoch(again, old)
    assert await one.events("log.forked") == []
    assert one.facts()[:2] == again.facts()[:2]


@pytest.mark.promise("I5", "I6")
async def test_own_rows_that_were_set_aside_without_a_note_are_doubt(rigs: Rigs) -> None:
    one, two = await rigs.open(0), await rigs.open(1)
    await sync(one, two)
    await two.add("to be damaged")
    await sync(one, two)
    old = two.node.epoch
    await two.stop()
    await two.node.store.set_aside([((await own_rows(two))[-1].pos, "damaged: of an earlier build")])
    again = await rigs.open(1)
    assert "damaged" in again.node.epochs.doubt
    assert await again.node.store.get_meta("doubt") == again.node.epochs.doubt.encode()
    await again.add("after it")
    await sync(one, again)
    assert has_new_epoch(again, old)
    assert await one.events("log.forked") == []
    assert {view.title for view in one.node.board.items()} == {"to be damaged", "after it"}
    await again.stop()
    third = await rigs.open(1)
    assert third.node.epochs.doubt == "", "one new epoch was enough"


@pytest.mark.promise("I6", "I7")
async def test_doubt_that_a_full_disk_could_not_note_is_noted_before_the_next_write(rigs: Rigs) -> None:
    one, two = await rigs.open(0), await rigs.open(1)
    await sync(one, two)
    old = two.node.epoch
    (ours,) = await branches(two, "written by a copy")
    await one.node.ingest([ours], two.node.public)
    store = double(two)
    store.failing = FULL
    with pytest.raises(StoreFull):
        await two.node.ingest([ours], one.node.public)
    assert "its peers hold ops" in two.node.epochs.doubt
    assert not await store.get_meta("doubt")
    store.failing = None
    set_meta = store.set_meta

    async def refuse(key: str, value: bytes) -> None:
        if key == "doubt":
            raise FULL
        await set_meta(key, value)

    store.set_meta = refuse  # type: ignore[method-assign]
    before = two.facts()
    with pytest.raises(StoreFull):
        await two.add("not while the doubt is not durable")
    assert two.facts() == before
    store.set_meta = set_meta  # type: ignore[method-assign]
    noted: list[tuple[str, bytes]] = []
    append = store.append

    async def note(key: str, value: bytes) -> None:
        noted.append((key, value))
        await set_meta(key, value)

    async def look(chained: Any) -> int:
        assert await store.get_meta("doubt"), "durable before the op that opens the epoch"
        return await append(chained)

    store.set_meta, store.append = note, look  # type: ignore[method-assign]
    await two.add("after it")
    store.append = append  # type: ignore[method-assign]
    assert [key for key, _ in noted] == ["doubt", "own_epoch", "doubt"]
    assert noted[0][1]
    assert noted[-1][1] == b""
    await sync(one, two)
    assert has_new_epoch(two, old)
    two.node.stream.resume()
    assert len(await two.events_until("node.doubt")) == 1
    assert {view.title for view in one.node.board.items()} == {"written by a copy", "after it"}


@pytest.mark.promise("I6")
async def test_a_new_doubt_is_not_overwritten_by_the_end_of_an_old_one(rigs: Rigs) -> None:
    one, two = await rigs.open(0), await rigs.open(1, doubt="this home is a copy")
    await sync(one, two)
    store = double(two)
    set_meta = store.set_meta

    async def refuse(key: str, value: bytes) -> None:
        raise FULL

    store.set_meta = refuse  # type: ignore[method-assign]
    await two.add("opens an epoch, whose note finds no space")
    assert two.node.epochs.doubt == ""
    store.set_meta = set_meta  # type: ignore[method-assign]
    (ours,) = await branches(two, "written by a copy of the copy")
    await one.node.ingest([ours], two.node.public)
    await two.node.ingest([ours], one.node.public)
    assert two.node.epochs.doubt
    await two.node.space()
    assert await store.get_meta("doubt") == two.node.epochs.doubt.encode()
    assert await store.get_meta("own_epoch") == two.node.epoch.to_bytes(8, "big")


@pytest.mark.promise("I6")
async def test_the_same_doubt_again_is_durable_while_the_end_of_the_first_is_being_written(rigs: Rigs) -> None:
    two = await rigs.open(1, doubt="this home is a copy")
    store, epochs = double(two), two.node.epochs
    set_meta = store.set_meta
    ending, go_on = asyncio.Event(), asyncio.Event()

    async def refuse(key: str, value: bytes) -> None:
        raise FULL

    async def slow_end(key: str, value: bytes) -> None:
        if (key, value) == ("doubt", b""):
            ending.set()
            await go_on.wait()
        await set_meta(key, value)

    store.set_meta = refuse  # type: ignore[method-assign]
    await two.add("opens an epoch, whose note finds no space")
    store.set_meta = slow_end  # type: ignore[method-assign]
    space = asyncio.create_task(two.node.space())
    await ending.wait()
    doubt = asyncio.create_task(epochs.suspect("this home is a copy"))
    await asyncio.wait({doubt, asyncio.create_task(asyncio.sleep(0))}, return_when=asyncio.FIRST_COMPLETED)
    go_on.set()
    await asyncio.gather(space, doubt)
    assert await store.get_meta("doubt") == b"this home is a copy"


@pytest.mark.promise("I10")
async def test_a_suspension_that_a_crash_left_unnoted_is_noted_by_the_next_start(rigs: Rigs) -> None:
    one, two = await rigs.open(0), await rigs.open(1)
    await sync(one, two)
    for data in await branches(two, *(f"branch {number}" for number in range(HEADS_MAX + 1))):
        await one.node.ingest([data], two.node.public)
    log = (two.node.public, two.node.epoch)
    assert await one.node.store.suspended() == [log]
    state = one.facts()[:2]
    await one.stop()
    store = double(one)
    store._suspended.clear()  # as if killed before the note
    again = await rigs.open(0)
    assert again.facts()[:2] == state
    assert await store.suspended() == [log]
    assert len(await again.events_until("log.suspended", 2)) == 2, "the crash may have come before the event, too"
    await again.stop()
    third = await rigs.open(0)
    assert third.node.loaded.newly_suspended == ()
    assert len(await third.events("log.suspended")) == 2, "told once"


@pytest.mark.promise("I7")
async def test_notes_that_find_no_space_are_written_later_and_the_ops_count(rigs: Rigs) -> None:
    one, two = await rigs.open(0), await rigs.open(1)
    await sync(one, two)
    mine, other = await branches(two, "mine", "the other's")
    await one.node.ingest([mine], two.node.public)
    store = double(one)
    put_fork = store.put_fork

    async def refuse(*_: Any) -> bool:
        raise FULL

    store.put_fork = refuse  # type: ignore[method-assign,assignment]
    report = await one.node.ingest([other], two.node.public)
    assert (report.new_ops, report.forks) == (1, 1)
    assert {view.title for view in one.node.board.items()} == {"mine", "the other's"}
    assert await store.forks() == []
    store.put_fork = put_fork  # type: ignore[method-assign]
    await one.node.space()
    assert len(await store.forks()) == 1


@pytest.mark.promise("E14", "I7")
async def test_a_note_without_space_does_not_keep_waiting_segments_from_their_turn(rigs: Rigs) -> None:
    one, two = await rigs.open(0), await rigs.open(1)
    await sync(one, two)
    await two.add("the lost one")
    await two.add("the one behind it")
    lost, behind = [row.data for row in await own_rows(two)][-2:]
    await one.node.ingest([lost], two.node.public)
    await one.stop()
    theirs = [row async for batch in one.node.store.load() for row in batch if row.author == two.node.public]
    await damage(one, theirs[-1])
    again = await rigs.open(0)
    assert len(again.node.repair.lost) == 1
    await again.node.ingest([behind], two.node.public)
    assert again.node.writer.pending.count == 1
    store = double(again)
    forget = store.forget_damaged

    async def refuse(_: Sequence[int]) -> None:
        raise FULL

    store.forget_damaged = refuse  # type: ignore[method-assign,assignment]
    report = await again.node.ingest([lost], two.node.public)
    assert report.new_ops == 1, "the peer is told what is so"
    await eventually(lambda: again.node.writer.pending.count == 0, "what waited is applied")
    assert len(again.node.repair.lost) == 1
    store.forget_damaged = forget  # type: ignore[method-assign]
    await again.node.space()
    assert again.node.repair.lost == []
    assert await store.damaged() == []


@pytest.mark.promise("I10", "I8")
@pytest.mark.parametrize("known", [True, False], ids=["a hole that is known", "damage that is met just then"])
async def test_a_suspension_waits_for_damaged_rows_and_does_not_end_the_node(rigs: Rigs, known: bool) -> None:
    one, two = await rigs.open(0), await rigs.open(1)
    await one.add("first")
    await one.add("whose row is damaged")
    await sync(one, two)
    theirs = [row async for batch in one.node.store.load() for row in batch if row.author == one.node.public][-1]
    await damage(one, theirs)
    if known:
        assert (await one.node.upkeep.check_all())["damaged"]
    for data in await branches(two, *(f"branch {number}" for number in range(HEADS_MAX + 1))):
        await one.node.ingest([data], two.node.public)
        await two.node.ingest([data], two.node.public)
    assert [(hole.first, hole.last) for hole in one.node.repair.holes] == [(theirs.first_seq, theirs.last_seq)]
    assert any("still has effect" in warning for warning in (await one.call("status"))["warnings"])
    assert len(await one.events_until("log.suspended")) == 1
    await one.add("writes go on")
    await one.node.ingest([theirs.data], two.node.public)
    assert one.node.repair.holes == []
    assert {view.title for view in one.node.board.items()} == {"first", "whose row is damaged", "writes go on"}
    await sync(one, two)
    assert one.facts()[:2] == two.facts()[:2]
    assert one.running is not None
    assert not one.running.done()
