"""Looks of an agent at items: each reads what changed and nothing else, and says what a look at everything would say."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest
from node_rig import FakeArbiter, NodeRig, Rigs

from fabrik_node.domain.claims import Claim
from fabrik_node.domain.groups import Holding, Taken, full_limit
from fabrik_node.domain.schema import ItemField, Kind
from fabrik_node.ids import parse_id, show_id


@pytest.fixture
async def rig() -> AsyncIterator[NodeRig]:
    rigs = Rigs()
    yield await rigs.open(arbiter=FakeArbiter())
    await rigs.close()


def looked(rig: NodeRig) -> tuple[list[str], int]:
    """What a look finds, and how many items it read."""
    items = rig.pipeline.items
    before = items.read
    return [view.title for view in rig.pipeline.candidates([])], items.read - before


@pytest.mark.promise("I20")
async def test_a_look_reads_what_changed_and_nothing_else(rig: NodeRig) -> None:
    rig.limits["group:db"] = 1
    items = [parse_id(await rig.add(f"item {number}", labels=["group:db"] if number < 2 else [])) or b"" for number in range(20)]
    assert looked(rig) == ([f"item {number}" for number in range(20)], 20)
    assert looked(rig)[1] == 0
    before = rig.pipeline.items.read
    claim = await rig.pipeline.claim(items[0], "agent")
    assert isinstance(claim, Claim)
    found, _ = looked(rig)
    assert (found[0], len(found)) == ("item 2", 18), "the group is full"
    assert rig.pipeline.items.read - before <= 2
    assert [rig.pipeline.is_candidate(item, []) for item in items[:3]] == [False, False, True]
    await rig.pipeline.finish(items[0], claim, "done", {}, charge_attempt=False)
    assert looked(rig) == ([f"item {number}" for number in range(20)], 1)


async def test_what_is_read_in_parts_is_what_is_read_at_once(rig: NodeRig) -> None:
    items = [await rig.add(f"item {number}") for number in range(600)]
    await rig.pipeline.prepare()
    assert looked(rig) == ([f"item {number}" for number in range(600)], 0), "all is read already"
    await rig.call("tombstone", id=items[7])
    await rig.node.write(b"hold", lambda: [(Kind.ITEM, parse_id(items[8]) or b"", ItemField.HOLD, {"reason": "not yet"}, None)])
    await rig.call("items.edit", id=items[9], labels=["gpu"])
    await rig.call("items.edit", id=items[10], depends_on=[items[9]])
    await rig.call("items.edit", id=items[599], priority=5)
    found, read = looked(rig)
    assert found == ["item 599", *(f"item {number}" for number in range(599) if number not in {7, 8, 9, 10})]
    assert read == 5
    for each in items[5:12]:
        item = parse_id(each) or b""
        assert rig.pipeline.is_candidate(item, []) == (item in [view.id for view in rig.pipeline.candidates([])]), show_id(item)


def test_limits_that_are_counted_once_say_the_same_as_a_look_at_each_holding() -> None:
    rng = random.Random(20261121)
    labels = ["a", "b", "c?", "c", "group:d", "other", "a?"]
    for turn in range(300):
        limits = {label: rng.randint(0, 3) for label in rng.sample(["a", "b", "c", "group:d"], rng.randint(0, 4))}
        holdings = [
            Holding(bytes([rng.randrange(8)]), bytes([number]), rng.sample(labels, rng.randint(0, 4)), f"node{number}") for number in range(rng.randint(0, 8))
        ]
        taken = Taken(limits, holdings)
        for item in range(8):
            wanted = rng.sample(labels, rng.randint(0, 3))
            assert taken.is_full(bytes([item]), wanted) == (full_limit(bytes([item]), wanted, limits, holdings) is not None), f"turn {turn}"
