"""``[claims] limits`` on real nodes: at picking, among slots, between nodes, and what ``why`` says."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from node_rig import BOUND_S, TIMING, FakeArbiter, NodeRig, Rigs, sync

from fabrik_node.domain.claims import Claim
from fabrik_node.ids import parse_id, show_id
from fabrik_node.ports import ClaimRefused


async def added(rig: NodeRig, title: str, **args: Any) -> bytes:
    item = parse_id(await rig.add(title, **args))
    assert item is not None
    return item


async def asked(rig: NodeRig, item: bytes) -> Claim | ClaimRefused:
    return await asyncio.wait_for(rig.pipeline.claim(item, "agent"), BOUND_S)


def titles(rig: NodeRig) -> list[str]:
    return [view.title for view in rig.pipeline.candidates([])]


async def test_a_full_group_is_left_alone_until_a_claim_of_it_is_over(memory_rigs: Rigs) -> None:
    async with memory_rigs.pair(arbiter=FakeArbiter()) as (one, two):
        for rig in (one, two):
            rig.limits["group:db"] = 1
        first, second = await added(one, "first", labels=["group:db"]), await added(one, "second", labels=["group:db"])
        await added(one, "free")
        await sync(one, two)
        claim = await asked(two, first)
        assert isinstance(claim, Claim), "an agent needs no label for a group"
        await sync(one, two)
        for rig in (one, two):
            assert titles(rig) == ["free"]
            refused = await asked(rig, second)
            assert isinstance(refused, ClaimRefused)
            assert refused.reason == "limit of group:db reached: 1 of 1, held by node1/agent"
            [cause] = (await rig.call("why", id=show_id(second)))["causes"]
            assert (cause["code"], cause["text"], cause["next"]) == ("limit", refused.reason, "fabrik-node claims list")
        await two.pipeline.finish(first, claim, "done", {}, charge_attempt=False)
        await sync(one, two)
        assert titles(one) == ["first", "second", "free"]
        assert isinstance(await asked(one, second), Claim)
        assert titles(one) == ["free"]


async def test_a_claim_whose_lease_is_over_takes_no_place(memory_rigs: Rigs) -> None:
    async with memory_rigs.pair(arbiter=FakeArbiter()) as (one, two):
        one.limits["gpu"] = 1
        first = await added(one, "first", labels=["gpu?"])
        await added(one, "second", labels=["gpu?"])
        await sync(one, two)
        assert isinstance(await asked(two, first), Claim)
        await sync(one, two)
        assert titles(one) == []
        one.watch(TIMING.takeover_after_s(TIMING.ttl_s) + TIMING.beat_s)
        assert titles(one) == ["first", "second"]


async def test_two_slots_of_one_agent_do_not_both_find_the_last_place(memory_rigs: Rigs) -> None:
    rig = await memory_rigs.open(arbiter=FakeArbiter())  # whose receipt ends it: nothing settles too many claims afterwards
    rig.limits["group:db"] = 2
    items = [await added(rig, f"item {number}", labels=["group:db"]) for number in range(4)]
    answers = await asyncio.gather(*(asked(rig, item) for item in items))
    assert [isinstance(answer, Claim) for answer in answers] == [True, True, False, False]
    assert len((await rig.call("claims.list"))["claims"]) == 2


async def test_agents_that_share_the_items_out_keep_the_limit(memory_rigs: Rigs) -> None:
    async with memory_rigs.pair(arbiter=FakeArbiter()) as (one, two):
        for rig in (one, two):
            rig.limits["group:db"] = 1
        items = [await added(one, f"item {number}", labels=["group:db"]) for number in range(3)]
        last = await added(one, "free")
        await sync(one, two)

        def hears(rig: NodeRig, other: NodeRig, **agent: Any) -> None:
            for _ in range(2):  # two messages: it lives
                other.node.presence.publish({"agent": {"labels": [], "slots": 1, "busy": 0, **agent}})
                assert rig.node.ephemeral_in(other.node.presence.heard()[other.node.public].message) is not None

        hears(one, two)
        hears(two, one)
        chosen = [rig.pipeline.choose(rig.pipeline.candidates([]), [], 1) for rig in (one, two)]
        assert sorted(item for [(item, _)] in chosen) == sorted([items[0], last]), "of the group only the best, and each of them one"
        hears(one, two, asking=[items[1]])
        [(item, _)] = one.pipeline.choose(one.pipeline.candidates([]), [], 1)
        assert item == last, "what is asked for takes the place of the group"


async def test_nodes_that_ask_at_once_without_a_remote_settle_it_and_after_a_partition_nobody_is_stopped(memory_rigs: Rigs) -> None:
    slow = replace(TIMING, settle_s=3.0)  # a busy machine has time to write both claims and to exchange them
    async with memory_rigs.pair(timing=slow) as (one, two):
        for rig in (one, two):
            rig.limits["group:db"] = 1
        items = [await added(one, f"item {number}", labels=["group:db"]) for number in range(4)]
        await sync(one, two)
        asking = [asyncio.create_task(asked(rig, item)) for rig, item in ((one, items[0]), (two, items[1]))]
        while not all(rig.node.board.claim(item) for rig, item in ((one, items[0]), (two, items[1]))):
            await asyncio.sleep(0)
        await sync(one, two)
        answers = await asyncio.gather(*asking)
        assert sorted(isinstance(answer, Claim) for answer in answers) == [False, True]
        await sync(one, two)
        [held] = (await one.call("claims.list"))["claims"]
        await one.call("claims.release", item=held["item"])
        for rig in (one, two):
            rig.node.timing = TIMING

        # Cut off from each other, each sees room.
        await sync(one, two)
        claims = [await asked(one, items[2]), await asked(two, items[3])]
        assert all(isinstance(claim, Claim) for claim in claims)
        await sync(one, two)
        assert len((await one.call("claims.list"))["claims"]) == 2, "nobody is stopped"
        assert titles(one) == titles(two) == [], "and nothing new begins"
