"""Reading every stored segment again: what is damaged is named, whatever way it is damaged."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from node_rig import NodeRig, Rigs, sync

from fabrik_node._core import genesis_encode
from fabrik_node.ports import StoredSegment
from fabrik_node.service.checking import Checking, check_unserved


@pytest.fixture
async def rigs() -> AsyncIterator[Rigs]:
    made = Rigs()
    yield made
    await made.close()


async def two(rigs: Rigs) -> NodeRig:
    """A node that holds a log of its own and a peer's, with one fork-free history each."""
    rig, other = await rigs.open(), await rigs.open(1)
    for number in range(3):
        await rig.add(f"own {number}")
        await sync(rig, other)
        await other.add(f"foreign {number}")
        await sync(rig, other)
    return rig


async def rows(rig: NodeRig) -> list[StoredSegment]:
    return [row async for batch in rig.node.store.load() for row in batch]


def spoil(rig: NodeRig, change: Callable[[list[StoredSegment]], list[StoredSegment]]) -> None:
    """The store gives other rows from now on."""
    load = rig.node.store.load

    async def spoiled(batch_bytes: int = 4_194_304) -> AsyncIterator[list[StoredSegment]]:
        yield change([row async for batch in load(batch_bytes) for row in batch])

    rig.node.store.load = spoiled  # type: ignore[method-assign]


@pytest.mark.promise("I11")
async def test_a_sound_store_is_read_whole(rigs: Rigs) -> None:
    rig = await two(rigs)
    stored = await rows(rig)
    found = await rig.call("ops.check")
    assert (found["sound"], found["damaged"], found["aside"], found["next"]) == (True, [], [], "")
    assert (found["rows"], found["ops"], found["bytes"]) == (len(stored), rig.node.replica.ops, sum(len(row.data) for row in stored))


def flip(at: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "a bit of the author": flip(5),
    "a bit of prev": flip(60),
    "a bit of an op": flip(110),
    "a bit of the signature": flip(-1),
    "cut": lambda data: data[:-7],
    "longer": lambda data: data + b"\0",
    "empty": lambda _: b"",
}


@pytest.mark.promise("I11")
@pytest.mark.parametrize("name", DAMAGE)
@pytest.mark.parametrize("served", [True, False])
async def test_a_damaged_row_is_named_and_the_others_are_not(rigs: Rigs, name: str, served: bool) -> None:
    rig = await two(rigs)
    stored = await rows(rig)
    own = [row for row in stored if row.author == rig.node.public]
    victim = own[-1]
    spoil(rig, lambda all_rows: [replace(row, data=DAMAGE[name](row.data)) if row.pos == victim.pos else row for row in all_rows])
    found = await rig.call("ops.check") if served else await unserved(rig)
    assert found["sound"] is False
    (damaged,) = found["damaged"]
    assert (damaged["row"], damaged["author"], damaged["first_seq"], damaged["last_seq"]) == (
        victim.pos,
        victim.author.hex(),
        victim.first_seq,
        victim.last_seq,
    )
    assert damaged["why"]
    assert damaged["name"] == "node0"
    assert ("fabrik-node serve" in found["next"]) == (not served or rig.reader.checking.only_tells)


async def unserved(rig: NodeRig) -> dict[str, Any]:
    replica, seen = await check_unserved(rig.genesis, rig.node.store)
    checking = Checking(replica, rig.node.store, lambda data: dict(data), rig.reader.name_of)
    return await checking.report(seen)


@pytest.mark.promise("I11")
async def test_a_sound_segment_at_the_wrong_place_is_damage(rigs: Rigs) -> None:
    """Signed by its author, whole, and not what was merged here."""
    rig = await two(rigs)
    stored = await rows(rig)
    own = [row for row in stored if row.author == rig.node.public]
    spoil(rig, lambda all_rows: [replace(row, data=own[0].data) if row.pos == own[-1].pos else row for row in all_rows])
    for found in (await rig.call("ops.check"), await unserved(rig)):
        assert [(row["row"], row["why"].startswith("it holds ops 1 to 1 of")) for row in found["damaged"]] == [(own[-1].pos, True)]


@pytest.mark.promise("I11")
async def test_what_follows_a_damaged_row_is_told_apart_when_nobody_serves(rigs: Rigs) -> None:
    rig = await two(rigs)
    own = [row for row in await rows(rig) if row.author == rig.node.public]
    spoil(rig, lambda all_rows: [replace(row, data=b"junk") if row.pos == own[-2].pos else row for row in all_rows])
    found = (await unserved(rig))["damaged"]
    assert [(row["row"], "before it is missing" in row["why"]) for row in found] == [(own[-2].pos, False), (own[-1].pos, True)]


async def test_another_meshs_rows_are_all_damage(rigs: Rigs) -> None:
    rig = await two(rigs)
    replica, seen = await check_unserved(genesis_encode(rig.node.public, "other", bytes(16), 1), rig.node.store)
    assert replica.ops == 0
    assert len(seen.findings) == seen.rows > 0


async def test_only_damaged_rows_are_handed_on_to_be_set_aside(rigs: Rigs) -> None:
    rig = await two(rigs)
    own = [row for row in await rows(rig) if row.author == rig.node.public]
    handed: list[tuple[bytes, int, int, list[int]]] = []

    async def set_aside(author: bytes, epoch: int, branch: int, bad: Sequence[StoredSegment]) -> None:
        handed.append((author, epoch, branch, [row.pos for row in bad]))

    spoil(rig, lambda all_rows: [replace(row, data=b"junk") if row.pos == own[-1].pos else row for row in all_rows])
    checking = Checking(rig.node.replica, rig.node.store, rig.reader.stamp, rig.reader.name_of, set_aside)
    found = await checking.ops_check({})
    assert handed == [(own[-1].author, own[-1].epoch, 0, [own[-1].pos])]
    assert "store.repaired" in found["next"]


async def test_rows_that_are_not_merged_yet_are_not_judged(rigs: Rigs) -> None:
    rig = await two(rigs)
    last = (await rows(rig))[-1]
    late = replace(last, pos=last.pos + 1, first_seq=last.last_seq + 1, last_seq=last.last_seq + 1)
    spoil(rig, lambda all_rows: [*all_rows, late])
    found = await rig.call("ops.check")
    assert (found["sound"], found["rows"]) == (True, len(await rows(rig)) - 1)


@pytest.mark.promise("I11")
async def test_a_row_that_moved_while_it_was_looked_for_is_read_all_the_same(rigs: Rigs) -> None:
    """Packing gives a row a place that was passed already."""
    rig = await two(rigs)
    stored = await rows(rig)
    moved = [row for row in stored if row.author == rig.node.public][-2]
    spoil(rig, lambda all_rows: [row for row in all_rows if row.pos != moved.pos])
    sound = await rig.call("ops.check")
    assert (sound["sound"], sound["rows"], sound["ops"]) == (True, len(stored), rig.node.replica.ops)
    await rig.node.store.damage(moved.pos, b"junk")  # type: ignore[attr-defined]  # of the double
    assert [row["row"] for row in (await rig.call("ops.check"))["damaged"]] == [moved.pos]
