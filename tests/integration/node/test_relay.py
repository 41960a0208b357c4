"""What is sent is proven as it is sent, and what is damaged is found on the way."""

from __future__ import annotations

import pytest
from node_rig import NodeRig, Rigs, sync

from fabrik_node._core import Replica, segment_span


async def ten(rig: NodeRig) -> int:
    """Ten live ops, a row and a signature each: the number of the first."""
    head = rig.node.heads_of(rig.node.public, rig.node.epoch)[0]
    for number in range(10):
        await rig.add(f"item {number}")
    return head.seq + 1


async def spans(rig: NodeRig, first: int) -> list[tuple[int, int]]:
    """What a peer that has all before ``first`` is sent now; each segment verifies."""
    sent, _ = await rig.node.read(rig.node.public, rig.node.epoch, 0, first - 1, 262_144)
    assert len(Replica(rig.genesis).verify([row.data for row in sent])) == len(sent)
    return [segment_span(row.data)[2:] for row in sent]


async def spoil(rig: NodeRig, seq: int, place: int) -> None:
    """One bit of the row that holds an op; a ``place`` below 0 counts from its end, where the signature is."""
    row = (await rig.node.store.read(rig.node.public, rig.node.epoch, seq - 1, 1))[0]
    data = bytearray(row.data)
    data[place] ^= 1
    await rig.node.store.damage(row.pos, bytes(data))  # type: ignore[attr-defined]  # of the double


async def test_live_ops_go_out_under_one_signature(memory_rigs: Rigs) -> None:
    rig = await memory_rigs.open()
    first = await ten(rig)
    assert await spans(rig, first) == [(first, first + 9)]


@pytest.mark.parametrize("place", [1, 60, -70, -1], ids=["beginning", "middle", "end of the op", "signature"])
async def test_a_damaged_row_is_found_where_its_bytes_would_be_sent(memory_rigs: Rigs, place: int) -> None:
    rig = await memory_rigs.open()
    first = await ten(rig)
    await spoil(rig, first + 9, place)
    assert await spans(rig, first) == [(first, first + 8)]
    assert len(await rig.events_until("store.damaged")) == 1


async def test_a_damaged_signature_that_is_not_sent_hurts_nobody_and_is_found_by_a_check(memory_rigs: Rigs) -> None:
    rig, other = await memory_rigs.open(0), await memory_rigs.open(1)
    await sync(rig, other)
    first = await ten(rig)
    await spoil(rig, first + 4, -1)
    assert await spans(rig, first) == [(first, first + 9)], "the signature of the last one proves them all"
    await sync(rig, other)
    assert other.node.frontier_digest() == rig.node.frontier_digest()
    assert not await rig.events("store.damaged")
    assert (await rig.node.upkeep.check_all())["damaged"]
