"""Nodes whose wall clocks are wrong by years, stand still or jump: nothing but the times that are shown differs from nodes whose clocks are right."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from node_rig import BOUND_S, TIMING, NodeRig, Rigs, sync
from store_doubles import HandClock

from fabrik_node.domain.claims import Claim
from fabrik_node.domain.stages import Coding
from fabrik_node.ids import parse_id, show_id
from fabrik_node.ports import ClaimRefused

YEAR_MS = 365 * 86_400_000
TRUE_MS = 1_790_000_000_000

Wall = Callable[[int], int]
"""What a clock shows at a true time."""


class SkewedClock(HandClock):
    """The same seconds as another clock, and a wall of its own."""

    def __init__(self, true: HandClock, wall: Wall) -> None:
        super().__init__()
        self._true = true
        self._shows = wall

    def now(self) -> float:
        return self._true.now()

    def wall_ms(self) -> int:
        return self._shows(self._true.wall)


def right(true_ms: int) -> int:
    return true_ms


def year_back(true_ms: int) -> int:
    return true_ms - YEAR_MS


def decade_ahead(true_ms: int) -> int:
    return true_ms + 10 * YEAR_MS


def frozen(_true_ms: int) -> int:
    return TRUE_MS - 5


def jumping(true_ms: int) -> int:
    return true_ms + YEAR_MS * (true_ms // 1000 % 7 - 3)


async def life(rigs: Rigs, walls: tuple[Wall, Wall, Wall]) -> tuple[list[Any], list[NodeRig]]:
    """Years of three nodes: items, edits, claims that are taken over, a delete, a restart. What was decided, without a time in it; and the nodes."""
    true = rigs.clock
    true.wall = TRUE_MS
    decided: list[Any] = []
    nodes = []
    for number, wall in enumerate(walls):
        rigs.clock = SkewedClock(true, wall)
        nodes.append(await rigs.open(number))
    one, two, three = nodes
    await sync(*nodes)
    names: dict[bytes, str] = {}

    async def add(rig: NodeRig, title: str, **more: Any) -> bytes:
        item = parse_id(await rig.add(title, **more))
        assert item is not None
        names[item] = title
        return item

    def offered() -> list[list[str]]:
        return [[view.title for view in rig.pipeline.candidates(())] for rig in nodes]

    for year in range(3):
        items = []
        for rig in (three, one, two):
            items.append(await add(rig, f"{year} of node {nodes.index(rig)}"))
            await sync(*nodes)
            true.advance(60)
        decided.append(("offered", offered()))
        holder, taker = nodes[year % 3], nodes[(year + 1) % 3]
        item = items[0]
        claim = await asyncio.wait_for(holder.pipeline.claim(item, "agent"), BOUND_S)
        assert isinstance(claim, Claim)
        await sync(*nodes)
        decided.append(("held", offered(), isinstance(await taker.pipeline.claim(item, "other"), ClaimRefused)))
        true.wall += YEAR_MS  # an hour of the counting clock would end the lease; a year of the wall's does not
        decided.append(("still held", offered(), isinstance(await taker.pipeline.claim(item, "other"), ClaimRefused)))
        for _ in range(round(TIMING.takeover_after_s(TIMING.ttl_s) / TIMING.beat_s) + 2):
            true.seconds += TIMING.beat_s
            taker.node.lease_watch.look()
        taken = await asyncio.wait_for(taker.pipeline.claim(item, "other"), BOUND_S)
        assert isinstance(taken, Claim)
        await asyncio.wait_for(taker.pipeline.move(item, Coding(), taken), BOUND_S)
        await sync(*nodes)
        decided.append(("taken over", taken.epoch, [rig.pipeline.is_winning(item, taken.claim_id) for rig in nodes]))
        for rig in (one, two, three):  # each has seen the one before, so the last one's title stays
            await rig.call("items.edit", id=show_id(items[1]), title=f"{year} edited by {nodes.index(rig)}")
            await sync(*nodes)
        await two.call("tombstone", id=show_id(items[2]))
        await one.call("items.edit", id=show_id(items[1]), priority=year)
        await sync(*nodes)
        decided.append(("offered", offered()))
    rows = [(view.title, view.priority, type(view.stage).__name__, view.hold) for view in sorted(one.node.board.items(), key=lambda view: view.title)]
    decided.append(
        ("in the end", rows, [(rig.node.replica.ops, rig.node.replica.lamport, rig.node.replica.voided, rig.node.replica.registers) for rig in nodes])
    )
    return decided, nodes


def digests(nodes: list[NodeRig]) -> set[tuple[bytes, bytes]]:
    return {(rig.node.replica.state_digest(), rig.node.replica.frontier_digest()) for rig in nodes}


WALLS = {
    "a year back, ten years ahead, frozen": (year_back, decade_ahead, frozen),
    "frozen, a year back, right": (frozen, year_back, right),
    "jumping by years": (jumping, right, jumping),
}


@pytest.mark.promise("I13")
@pytest.mark.parametrize("walls", WALLS.values(), ids=WALLS)
async def test_years_of_wrong_wall_clocks_decide_nothing(tmp_path: Path, walls: tuple[Wall, Wall, Wall]) -> None:
    found = []
    for name, chosen in (("right", (right, right, right)), ("wrong", walls)):
        folder = tmp_path / name
        folder.mkdir()
        rigs = Rigs(folder)
        try:
            true = rigs.clock
            decided, nodes = await life(rigs, chosen)
            assert len(digests(nodes)) == 1
            before = digests(nodes)
            for number in range(3):  # a restart with yet another wall
                await nodes[number].stop()
                await nodes[number].node.store.close()
                rigs.clock = SkewedClock(true, lambda _: 1)
                again = await rigs.open(number)
                assert {(again.node.replica.state_digest(), again.node.replica.frontier_digest())} == before
                assert not [event for event in await again.events() if event.type.startswith(("node.doubt", "log.", "store."))]
            found.append(decided)
        finally:
            await rigs.close()
    assert found[0] == found[1]
