"""Repairing is no false alarm, costs a bounded memory, and never meets another who moves rows."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from node_rig import NodeRig, Rigs, sync

from fabrik_node._core import Replica, coalesce, cut
from fabrik_node.domain.schema import ItemField, Kind
from fabrik_node.ids import new_id
from fabrik_node.node import repair
from fabrik_node.ports import StoredSegment


async def rows_of(rig: NodeRig, author: bytes) -> list[StoredSegment]:
    """The stored rows of an author, in order of arrival."""
    return [row async for batch in rig.node.store.load() for row in batch if row.author == author]


async def sync_rows(target: NodeRig, source: NodeRig) -> None:
    """Everything, one stored row at a time."""
    async for batch in source.node.store.load():
        for row in batch:
            await target.node.ingest([row.data], source.node.public)


async def flip(rig: NodeRig, row: StoredSegment) -> None:
    """One bit of a stored row, under the running node."""
    data = bytearray(row.data)
    data[len(data) // 2] ^= 1
    await rig.node.store.damage(row.pos, bytes(data))  # type: ignore[attr-defined]  # of the double


async def with_hole(rigs: Rigs, ops: int) -> tuple[NodeRig, NodeRig, StoredSegment]:
    """Two nodes that hold a row of more than ``ops`` ops, which is damaged on the second; the sound row."""
    one, two = await rigs.open(0), await rigs.open(1)
    for number in range(ops):
        await one.add(f"item {number}")
    await two.node.ingest(coalesce([row.data for row in await rows_of(one, one.node.public)], 262_144), one.node.public)
    row = max(await rows_of(two, one.node.public), key=lambda row: row.last_seq - row.first_seq)
    await flip(two, row)
    assert len((await two.node.upkeep.check_all())["damaged"]) == 1
    return one, two, row


def kept(rig: NodeRig) -> int:
    """Bytes that wait for their holes."""
    return sum(len(raw) for hole in rig.node.repair.holes for _, raw in hole.parts.values())


@pytest.mark.promise("I8", "I9")
async def test_own_rows_that_were_damaged_and_come_again_are_no_clone(memory_rigs: Rigs) -> None:
    one, two = await memory_rigs.open(0), await memory_rigs.open(1)
    await sync(one, two)
    for number in range(4):
        await two.add(f"two {number}")
    await sync_rows(one, two)
    old, author, copy = two.node.epoch, two.node.public, Replica(two.genesis)
    async for batch in two.node.store.load():
        copy.load([row.data for row in batch])
    row = (await rows_of(two, author))[-3]
    await two.stop()
    await flip(two, row)
    again = await memory_rigs.open(1)
    await again.add("in a new epoch")
    assert again.node.epoch != old
    await sync_rows(again, one)
    await again.events_until("store.repaired")
    status = await again.call("status")
    assert (status["learned_ops"], status["cloned"]) == (0, [])
    assert await again.events("node.cloned") == []
    assert await again.events("node.own_ops_learned") == []
    assert not any("came back" in warning or "another node" in warning for warning in status["warnings"])
    foreign = copy.draft(again.node.key, old).append([(Kind.ITEM, new_id(1), ItemField.TITLE, "of a copy", None)], 5)
    await again.node.ingest([each.data for each in foreign], one.node.public)
    (told,) = await again.events_until("node.cloned")
    assert told.data["epoch"] == old
    assert any(warning.startswith("1 op of this node came back") for warning in (await again.call("status"))["warnings"])


@pytest.mark.promise("I8")
async def test_only_parts_that_help_to_fill_a_hole_are_kept(memory_rigs: Rigs, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, row = await with_hole(memory_rigs, 12)
    assert row.last_seq - row.first_seq >= 8
    for first in range(row.last_seq, row.first_seq, -1):
        await two.node.ingest([cut(row.data, first)], one.node.public)
        (hole,) = two.node.repair.holes
        assert list(hole.parts) == [first], "a longer tail takes the place of the shorter one"
    await two.node.ingest([cut(row.data, row.last_seq)], one.node.public)
    assert kept(two) == len(cut(row.data, row.first_seq + 1)), "a shorter one adds nothing"
    hole.parts.clear()
    monkeypatch.setattr(repair, "PARTS_BYTES", len(cut(row.data, row.last_seq)))
    await two.node.ingest([cut(row.data, row.first_seq + 1)], one.node.public)
    assert kept(two) <= repair.PARTS_BYTES
    await two.node.ingest([row.data], one.node.public)
    await two.events_until("store.repaired")
    assert (await two.node.upkeep.check_all())["damaged"] == []


@pytest.mark.promise("I8")
async def test_a_hole_is_filled_while_nobody_else_moves_rows(memory_rigs: Rigs, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, row = await with_hole(memory_rigs, 4)
    refill, locked = two.node.store.refill, list[bool]()

    async def watched(author: bytes, epoch: int, branch: int, segments: Sequence[bytes]) -> None:
        locked.append(two.node.repair.rows.locked())
        await refill(author, epoch, branch, segments)

    monkeypatch.setattr(two.node.store, "refill", watched)
    await two.node.ingest([row.data], one.node.public)
    await two.events_until("store.repaired")
    assert locked == [True]
    assert (await two.node.upkeep.check_all())["damaged"] == [], "and the lock is free again"


@pytest.mark.promise("I8")
async def test_of_a_part_only_what_is_in_the_hole_is_kept_and_no_shorter_one_takes_its_place(memory_rigs: Rigs) -> None:
    one, two = await memory_rigs.open(0), await memory_rigs.open(1)
    for number in range(12):
        await one.add(f"item {number}")
    data = [row.data for row in await rows_of(one, one.node.public)]
    for rows in (data[:4], data[4:]):
        await two.node.ingest(coalesce(rows, 262_144), one.node.public)
    row = (await rows_of(two, one.node.public))[-1]
    await flip(two, row)
    await two.node.upkeep.check_all()
    (hole,) = two.node.repair.holes
    (wide,) = coalesce(data[2:8], 262_144)
    for part in (wide, coalesce(data[4:6], 262_144)[0]):
        await two.node.ingest([part], one.node.public)
        assert hole.parts == {row.first_seq: (row.first_seq + 3, cut(wide, row.first_seq))}
    await two.node.ingest(data[8:], one.node.public)
    await two.events_until("store.repaired")
    assert (await two.node.upkeep.check_all())["damaged"] == []
