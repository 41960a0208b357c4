"""Claims as an agent makes them: with an arbiter and without, alone and against others, and what time does to them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from node_rig import BOUND_S, TIMING, FakeArbiter, NodeRig, Rigs, eventually, sync

from fabrik_node._core import fence_beats
from fabrik_node.agent.walk import walk_to_merge, walk_to_qa
from fabrik_node.domain.claims import Claim, ClaimState
from fabrik_node.domain.runs import RunRow, RunState
from fabrik_node.domain.schema import ItemField, Kind, MemberField, Role
from fabrik_node.domain.stages import Archived, ArchiveReason, Backlog, Coding, Done, Merge, Qa, Stage
from fabrik_node.errors import ClaimLost, Conflict, IllegalMove, Precondition, Unreachable
from fabrik_node.ids import new_id, parse_id, show_id
from fabrik_node.node.pipeline import claim_write, stage_write
from fabrik_node.ports import ArbiterTaken, ClaimRefused, PeerStatus

TAKEOVER_S = TIMING.takeover_after_s(TIMING.ttl_s)


async def added(rig: NodeRig, title: str = "an item", **args: Any) -> bytes:
    item = parse_id(await rig.add(title, **args))
    assert item is not None
    return item


async def claimed(rig: NodeRig, item: bytes, agent: str = "agent") -> Claim:
    claim = await asyncio.wait_for(rig.pipeline.claim(item, agent), BOUND_S)
    assert isinstance(claim, Claim), claim
    return claim


def titles(rig: NodeRig, *labels: str) -> list[str]:
    return [view.title for view in rig.pipeline.candidates(labels)]


# ---- candidates -----------------------------------------------------------------------------------


async def test_candidates_come_by_priority_and_age(memory_rigs: Rigs) -> None:
    rig = await memory_rigs.open()
    for name, priority in (("a", 0), ("b", 5), ("c", 0), ("d", -1)):
        memory_rigs.clock.advance(1)
        await added(rig, name, priority=priority)
    assert titles(rig) == ["b", "a", "c", "d"]


async def test_candidates_need_all_labels_no_hold_and_finished_dependencies(memory_rigs: Rigs) -> None:
    rig = await memory_rigs.open()
    first = await added(rig, "first")
    gone = await added(rig, "gone")
    await added(rig, "labelled", labels=["gpu", "linux"])
    await added(rig, "depends", depends_on=[show_id(first)])
    await added(rig, "depends on what is deleted", depends_on=[show_id(gone)])
    await rig.call("tombstone", id=show_id(gone))
    assert titles(rig) == ["first"]
    assert titles(rig, "gpu") == ["first"]
    assert set(titles(rig, "gpu", "linux", "more")) == {"first", "labelled"}
    await rig.call("items.move", id=show_id(first), to="Archived", reason="Abandoned")
    assert titles(rig) == [], "what was given up is not done"
    second = await added(rig, "second")
    await added(rig, "depends too", depends_on=[show_id(second)])
    claim = await claimed(rig, second)
    assert titles(rig) == []
    for stage in (Coding(), Qa(), Merge("b", 1), Done(1, bytes(20))):
        await rig.pipeline.move(second, stage, claim)
    assert titles(rig) == ["depends too"]


async def test_a_failed_item_rests_longer_each_time_and_a_held_one_until_it_is_requeued(memory_rigs: Rigs) -> None:
    rig = await memory_rigs.open()
    item = await added(rig)
    for pause_s in (30, 60, 120):
        claim = await claimed(rig, item)
        await rig.pipeline.finish(item, claim, "failed", {"result": "failed"}, charge_attempt=True)
        assert titles(rig) == []
        memory_rigs.clock.advance(pause_s - 1)
        assert titles(rig) == []
        memory_rigs.clock.advance(2)
        assert titles(rig) == ["an item"]
    claim = await claimed(rig, item)
    await rig.pipeline.finish(item, claim, "failed", {"result": "failed"}, charge_attempt=True, hold="gave up")
    memory_rigs.clock.advance(100_000)
    assert titles(rig) == []
    shown = (await rig.call("items.show", id=show_id(item)))["item"]
    assert (shown["attempts"], shown["hold"]["reason"]) == (4, "gave up")
    await rig.call("items.requeue", id=show_id(item))
    assert titles(rig) == ["an item"]
    assert (await rig.call("items.show", id=show_id(item)))["item"]["attempts"] == 0


# ---- without an arbiter ----------------------------------------------------------------------------


async def test_a_claim_settles_and_is_confirmed(memory_rigs: Rigs) -> None:
    rig = await memory_rigs.open()
    item = await added(rig)
    claim = await claimed(rig, item)
    assert (claim.state, claim.epoch, claim.receipt) == (ClaimState.CONFIRMED, 1, 0)
    assert rig.pipeline.is_winning(item, claim.claim_id)
    assert titles(rig) == []
    assert isinstance(await rig.pipeline.claim(item, "other"), ClaimRefused)
    await rig.pipeline.finish(item, claim, "done with it", {"result": "ok"}, charge_attempt=False)
    assert not rig.pipeline.is_winning(item, claim.claim_id)
    again = await claimed(rig, item)
    assert (again.epoch, again.follows) == (2, claim.claim_id)
    kinds = [event.type for event in await rig.events_until("claim.confirmed", 2)]
    assert kinds == ["claim.confirmed"] * 2


async def test_a_better_claim_that_arrives_while_ours_settles_ends_ours(rigs: Rigs) -> None:
    slow = replace(TIMING, settle_s=BOUND_S)
    async with rigs.pair(timing=slow) as (one, two):
        item = await added(one)
        await sync(one, two)
        tries = {rig: asyncio.create_task(rig.pipeline.claim(item, "agent")) for rig in (one, two)}
        await eventually(lambda: all(rig.node.board.claim(item) is not None for rig in (one, two)))
        await sync(one, two)
        winner = one.node.board.claim(item)
        assert winner is not None
        assert winner == two.node.board.claim(item)
        loser = two if winner.node == one.node.public else one
        assert isinstance(await asyncio.wait_for(tries[loser], BOUND_S / 2), ClaimRefused)
        tries[one if loser is two else two].cancel()


@pytest.mark.promise("F11")
async def test_two_that_claim_apart_agree_and_the_loser_is_stopped_and_fenced(rigs: Rigs) -> None:
    async with rigs.pair() as (one, two):
        item = await added(one)
        await sync(one, two)
        claims = {rig: await claimed(rig, item) for rig in (one, two)}  # apart: both settle
        told: dict[NodeRig, list[str]] = {one: [], two: []}
        for rig, claim in claims.items():
            rig.pipeline.on_claim_lost(claim.claim_id, told[rig].append)
            await rig.pipeline.move(item, Coding(), claim)
        await two.pipeline.move(item, Qa(), claims[two])
        await sync(one, two)
        winners = [rig for rig, claim in claims.items() if rig.pipeline.is_winning(item, claim.claim_id)]
        assert len(winners) == 1, "exactly one continues"
        winner = winners[0]
        loser = two if winner is one else one
        assert told[winner] == []
        assert len(told[loser]) == 1
        assert told[loser][0].startswith(f"superseded by node{0 if winner is one else 1} (agent)")
        stage = Coding() if winner is one else Qa()
        assert one.node.board.stage(item) == two.node.board.stage(item) == stage, "the stage is the winner's, whoever wrote last"
        before = one.facts()[:2]
        with pytest.raises(ClaimLost, match=f"lost to node{0 if winner is one else 1}"):
            await loser.pipeline.move(item, Qa(), claims[loser])
        with pytest.raises(ClaimLost):
            await loser.pipeline.finish(item, claims[loser], "x", {}, charge_attempt=True)
        await sync(one, two)
        assert one.facts()[:2] == two.facts()[:2] == before


async def test_a_claim_that_is_given_up_while_it_settles_is_renewed_no_more(memory_rigs: Rigs) -> None:
    rig = await memory_rigs.open(timing=replace(TIMING, settle_s=BOUND_S))
    item = await added(rig)
    claiming = asyncio.create_task(rig.pipeline.claim(item, "agent"))
    await eventually(lambda: rig.node.presence._own != {})
    claiming.cancel()
    await asyncio.gather(claiming, return_exceptions=True)
    assert rig.node.presence._own == {}
    assert rig.pipeline._lost == {}
    rig.watch(TAKEOVER_S + TIMING.beat_s)
    assert titles(rig) == ["an item"], "and is free after its time"


async def test_many_nodes_that_race_have_one_winner(rigs: Rigs) -> None:
    nodes = [await rigs.open(number) for number in range(4)]
    items = [await added(nodes[0], f"item {number}") for number in range(6)]
    await sync(*nodes)
    claims = {(rig, item): await claimed(rig, item) for rig in nodes for item in items}
    await sync(*nodes)
    for item in items:
        assert sum(rig.pipeline.is_winning(item, claims[rig, item].claim_id) for rig in nodes) == 1
        assert len({rig.node.board.claim(item) for rig in nodes}) == 1
    assert len({rig.facts()[:2] for rig in nodes}) == 1


async def test_a_claim_without_receipt_does_not_follow_a_granted_one(memory_rigs: Rigs) -> None:
    arbiter = FakeArbiter()
    rig = await memory_rigs.open(arbiter=arbiter)
    item = await added(rig)
    claim = await claimed(rig, item)
    await rig.pipeline.finish(item, claim, "x", {}, charge_attempt=False)
    await rig.stop()
    plain = await memory_rigs.open()
    refused = await plain.pipeline.claim(item, "agent")
    assert isinstance(refused, ClaimRefused)
    assert "[git] remote" in refused.reason


# ---- with an arbiter -------------------------------------------------------------------------------


async def test_the_arbiter_grants_to_one_of_two(rigs: Rigs) -> None:
    arbiter = FakeArbiter()
    async with rigs.pair(arbiter=arbiter) as (one, two):
        item = await added(one)
        await sync(one, two)
        claim = await claimed(one, item)
        assert (claim.state, claim.receipt, len(claim.oid)) == (ClaimState.CONFIRMED, 1, 20)
        refused = await two.pipeline.claim(item, "agent")
        assert isinstance(refused, ClaimRefused)
        assert "nothing is known here yet" in refused.reason
        assert set(two.node.lease_watch.strays) == {item}
        await sync(one, two)
        two.watch(1)
        assert two.node.lease_watch.strays == {}, "its op came"
        assert isinstance(await two.pipeline.claim(item, "agent"), ClaimRefused)
        await one.pipeline.finish(item, claim, "x", {}, charge_attempt=False)
        await sync(one, two)
        second = await claimed(two, item)
        assert (second.receipt, second.epoch, second.follows) == (2, 2, claim.claim_id)


async def test_a_race_at_the_arbiter_is_lost_cleanly(memory_rigs: Rigs) -> None:
    arbiter = FakeArbiter()
    rig = await memory_rigs.open(arbiter=arbiter)
    item = await added(rig)

    def faster(_: object) -> None:
        arbiter.held[show_id(item)] = ArbiterTaken(1, b"z" * 20, "somebody", "f" * 64, "held", 90_000)

    arbiter.before_cas = faster
    before = rig.facts()
    refused = await rig.pipeline.claim(item, "agent")
    assert isinstance(refused, ClaimRefused)
    assert "granted it to ffffffff" in refused.reason
    assert rig.facts() == before, "no claim was written"


async def test_a_grant_whose_op_never_came_is_respected_for_a_lease(memory_rigs: Rigs) -> None:
    arbiter = FakeArbiter()
    rig = await memory_rigs.open(arbiter=arbiter)
    item = await added(rig)
    arbiter.held[show_id(item)] = ArbiterTaken(4, b"z" * 20, "stray", "f" * 64, "held", 90_000)
    assert isinstance(await rig.pipeline.claim(item, "agent"), ClaimRefused)
    rig.watch(TAKEOVER_S - 1)
    assert isinstance(await rig.pipeline.claim(item, "agent"), ClaimRefused)
    rig.watch(TIMING.beat_s + 2)
    assert (await claimed(rig, item)).receipt == 5
    assert rig.node.lease_watch.strays == {}


async def test_a_grant_whose_op_never_came_is_respected_for_its_longest_ttl(memory_rigs: Rigs) -> None:
    """Who has not its op does not know in which stage its holder is, and what that told everybody else holds here, too."""
    arbiter, longer = FakeArbiter(), replace(TIMING, stage_ttl_s={"Coding": 3 * TIMING.ttl_s, "Qa": TIMING.ttl_s / 2})
    one, two = await memory_rigs.open(0, arbiter=arbiter, timing=longer), await memory_rigs.open(1, arbiter=arbiter)
    item = await added(one)
    await sync(one, two)
    await claimed(one, item)
    assert isinstance(await two.pipeline.claim(item, "agent"), ClaimRefused)
    two.watch(TAKEOVER_S + TIMING.beat_s + 2)
    assert isinstance(await two.pipeline.claim(item, "agent"), ClaimRefused)
    two.watch(2 * TIMING.ttl_s)
    assert (await claimed(two, item)).receipt == 2


@pytest.mark.parametrize("end", ["archived", "deleted"])
async def test_a_grant_whose_op_never_came_is_forgotten_with_its_item(memory_rigs: Rigs, end: str) -> None:
    arbiter = FakeArbiter()
    rig = await memory_rigs.open(arbiter=arbiter)
    item = await added(rig)
    arbiter.held[show_id(item)] = ArbiterTaken(4, b"z" * 20, "stray", "f" * 64, "held", 90_000)
    assert isinstance(await rig.pipeline.claim(item, "agent"), ClaimRefused)
    assert set(rig.node.lease_watch.strays) == {item}
    if end == "archived":
        await rig.call("items.move", id=show_id(item), to="Archived", reason="Abandoned")
    else:
        await rig.call("tombstone", id=show_id(item))
    rig.watch(TAKEOVER_S + TIMING.beat_s + 2)
    assert rig.node.lease_watch.strays == {}


async def test_a_merged_item_is_claimed_only_to_be_closed(memory_rigs: Rigs) -> None:
    arbiter = FakeArbiter()
    rig = await memory_rigs.open(arbiter=arbiter)
    item = await added(rig)
    arbiter.held[show_id(item)] = ArbiterTaken(1, b"z" * 20, "gone", "f" * 64, "merged", 90_000, merged=b"m" * 20)
    claim = await claimed(rig, item)
    assert claim.receipt == 2
    assert arbiter.held[show_id(item)].oid == b"z" * 20, "nothing was asked of the arbiter"


async def test_without_the_arbiter_nothing_is_claimed(memory_rigs: Rigs) -> None:
    arbiter = FakeArbiter()
    rig = await memory_rigs.open(arbiter=arbiter)
    item = await added(rig)
    arbiter.gone = Unreachable("the remote is away")
    before = rig.facts()
    with pytest.raises(Unreachable):
        await rig.pipeline.claim(item, "agent")
    assert rig.facts() == before


# ---- working and time ------------------------------------------------------------------------------


async def test_moves_are_checked_and_fenced(memory_rigs: Rigs) -> None:
    rig = await memory_rigs.open()
    item = await added(rig)
    claim = await claimed(rig, item)
    with pytest.raises(IllegalMove):
        await rig.pipeline.move(item, Qa(), claim)
    await rig.pipeline.move(item, Coding(), claim)
    moved = await rig.call("items.move", id=show_id(item), to="Backlog")
    assert moved["superseded"]["claim_id"] == show_id(claim.claim_id)
    with pytest.raises(ClaimLost):
        await rig.pipeline.move(item, Coding(), claim)
    await rig.call("tombstone", id=show_id(item))
    with pytest.raises(ClaimLost):
        await rig.pipeline.move(item, Coding(), claim)


@pytest.mark.parametrize("reason", ArchiveReason)
async def test_a_holder_takes_nothing_out_of_the_archive(memory_rigs: Rigs, reason: ArchiveReason) -> None:
    """Who archived it had not heard of the claim, so that was not ended: a run that finds this does not undo it."""
    rig = await memory_rigs.open()
    item = await added(rig)
    claim = await claimed(rig, item)
    await rig.node.write(item, lambda: [stage_write(item, Archived(1, reason), claim.fence)])
    for stage in (Backlog(), Coding(), Qa(), Merge("one", 1)):
        with pytest.raises(IllegalMove):
            await rig.pipeline.move(item, stage, claim)
    assert rig.node.board.stage(item) == Archived(1, reason)


async def test_an_item_in_merge_gets_the_branch_of_its_next_claim_in_one_op(rigs: Rigs) -> None:
    rig, other = await rigs.open(0), await rigs.open(1)
    item = await added(rig)
    first = await claimed(rig, item)
    await rig.pipeline.move(item, Coding(), first)
    with pytest.raises(IllegalMove, match="an item in Coding has no branch"):
        await rig.pipeline.change_branch(item, Merge("one", 1), first)
    await rig.pipeline.move(item, Qa(), first)
    await rig.pipeline.move(item, Merge("one", 1), first)
    await rig.pipeline.finish(item, first, "infra_lost: the remote is away", {}, charge_attempt=False)
    second = await claimed(rig, item)
    with pytest.raises(ClaimLost):
        await rig.pipeline.change_branch(item, Merge("late", 1), first)
    ops = rig.node.replica.ops
    await rig.pipeline.change_branch(item, Merge("two", 2), second)
    assert rig.node.replica.ops == ops + 1
    await sync(rig, other)
    assert [each.node.board.stage(item) for each in (rig, other)] == [Merge("two", 2)] * 2
    assert [each.node.replica.voided for each in (rig, other)] == [0, 0]


async def test_the_holder_of_a_deleted_item_is_told(memory_rigs: Rigs) -> None:
    rig = await memory_rigs.open()
    item = await added(rig)
    claim = await claimed(rig, item)
    told: list[str] = []
    unsubscribe = rig.pipeline.on_claim_lost(claim.claim_id, told.append)
    await rig.call("tombstone", id=show_id(item))
    assert told == ["its item was deleted"]
    unsubscribe()
    unsubscribe()
    assert rig.pipeline._lost == {}


@pytest.mark.promise("F12", "C1")
async def test_a_claim_is_taken_after_its_lease_and_not_before_and_never_while_it_is_renewed(rigs: Rigs) -> None:
    async with rigs.pair() as (holder, other):
        item = await added(holder)
        claim = await claimed(holder, item)
        await sync(holder, other)
        beats: list[float] = []
        for _ in range(30):  # far longer than any lease
            rigs.clock.advance(TIMING.beat_s)
            holder.pipeline.renew(item, claim, b"r" * 16, 1)
            holder.node.presence.publish({})
            message = holder.node.presence.heard()[holder.node.public].message
            assert other.node.ephemeral_in(message) is not None
            shown = (await other.call("claims.show", item=show_id(item)))["claim"]
            assert (shown["lease"], shown["lease_age_s"]) == ("fresh", 0.0)
            beats.append(shown["lease_age_s"])
            assert titles(other) == []
        other.watch(TIMING.ttl_s + 1)
        assert (await other.call("claims.show", item=show_id(item)))["claim"]["lease"] == "unreachable"
        assert isinstance(await other.pipeline.claim(item, "agent"), ClaimRefused), "not before its time"
        other.watch(TAKEOVER_S - TIMING.ttl_s - 2)
        assert titles(other) == []
        other.watch(TIMING.beat_s + 2)
        assert titles(other) == ["an item"]
        second = await claimed(other, item)
        assert (second.epoch, second.follows) == (2, claim.claim_id)
        lost: list[str] = []
        holder.pipeline.on_claim_lost(claim.claim_id, lost.append)
        await sync(holder, other)
        assert lost == ["superseded by node1 (agent)"]
        with pytest.raises(ClaimLost):
            await holder.pipeline.move(item, Coding(), claim)


@pytest.mark.promise("F12")
async def test_the_holders_ttl_of_the_items_stage_counts_on_every_node(rigs: Rigs) -> None:
    holder = await rigs.open(0, timing=replace(TIMING, stage_ttl_s={"Qa": 200.0}))
    other = await rigs.open(1)
    await sync(holder, other)
    item = await added(holder)
    claim = await claimed(holder, item)
    await holder.pipeline.move(item, Coding(), claim)
    await holder.pipeline.move(item, Qa(), claim)
    await sync(holder, other)
    other.watch(TAKEOVER_S + TIMING.beat_s)
    assert titles(other) == []
    assert (await other.call("claims.show", item=show_id(item)))["claim"]["lease"] == "fresh"
    other.watch(200.0 - TIMING.ttl_s)
    assert titles(other) == ["an item"]


@pytest.mark.promise("F12")
async def test_an_observer_that_wakes_up_listens_before_it_takes_a_claim_over(rigs: Rigs) -> None:
    async with rigs.pair() as (holder, other):
        item = await added(holder)
        claim = await claimed(holder, item)
        await sync(holder, other)
        other.watch(TIMING.beat_s)
        rigs.clock.advance(36_000)
        assert titles(other) == [], "it slept for ten hours"
        assert isinstance(await other.pipeline.claim(item, "agent"), ClaimRefused)
        assert [event.data["claim_id"] for event in await other.events_until("claim.suspected")] == [show_id(claim.claim_id)]
        holder.pipeline.renew(item, claim, b"", 1)
        holder.node.presence.publish({})
        assert other.node.ephemeral_in(holder.node.presence.heard()[holder.node.public].message) is not None
        other.watch(TIMING.lock_delay_s + 2 * TIMING.beat_s)
        assert titles(other) == [], "its holder was there all the time"
        other.dials = True
        other.watch(TAKEOVER_S + TIMING.beat_s)
        assert titles(other) == [], "nobody is connected: nobody could be heard"
        other.dials = False
        other.watch(TAKEOVER_S + TIMING.beat_s)
        assert titles(other) == ["an item"]


def heard_from(other: NodeRig, rig: NodeRig, **agent: Any) -> None:
    """Two messages: the second shows that its node lives."""
    for _ in range(2):
        other.node.presence.publish({"beat_ms": 10_000, "agent": agent})
        assert rig.node.ephemeral_in(other.node.presence.heard()[other.node.public].message) is not None


def turns_at(rig: NodeRig, item: bytes, labels: Sequence[str] = ()) -> float:
    """Seconds until it is the turn of this node's agent, if that item were the only one."""
    view = rig.pipeline.item(item)
    assert view is not None
    [(_, wait_s)] = rig.pipeline.choose([view], labels, 1)
    return wait_s


async def test_agents_have_an_order_at_each_item_and_wait_for_each_other(rigs: Rigs) -> None:
    nodes = [await rigs.open(number) for number in range(4)]
    items = [await added(nodes[0], f"item {number}") for number in range(12)]
    await sync(*nodes)
    for rig in nodes:
        for other in nodes:
            if other is not rig:
                heard_from(other, rig, labels=["fast"] if other is nodes[3] else [], slots=1, busy=0)
    step_s = TIMING.settle_s / 4
    orders = [[turns_at(rig, item, ["fast"] if rig is nodes[3] else []) for rig in nodes] for item in items]
    assert all(sorted(order) == pytest.approx([0, step_s, 2 * step_s, 3 * step_s]) for order in orders), "one goes first, the same for all"
    assert len({order.index(0.0) for order in orders}) > 1, "another one at another item"
    chosen = [rig.pipeline.choose(rig.pipeline.candidates([]), [], 1) for rig in nodes[:3]]
    assert len({item for [(item, _)] in chosen}) == 3, "where there is enough, each takes another one"
    assert {item for [(item, _)] in chosen} <= set(items[:4]), "of the best"
    assert all(wait_s == 0.0 for [(_, wait_s)] in chosen), "and nobody waits"
    await nodes[0].call("items.edit", id=show_id(items[0]), labels=["fast?"])
    await sync(*nodes)
    assert turns_at(nodes[3], items[0], ["fast"]) == 0.0, "a preferred label goes first"
    assert all(titles(rig)[-1 if rig is not nodes[3] else 0] == "item 0" for rig in nodes[:3]), "and the others take it last"
    heard_from(nodes[3], nodes[0], labels=["fast"], slots=1, busy=1)
    assert max(turns_at(nodes[0], item) for item in items) < 3 * step_s, "nobody waits for who is busy"


async def test_who_asks_tells_it_before_it_has_the_claim(rigs: Rigs) -> None:
    one, two = await rigs.open(0), await rigs.open(1)
    item = await added(one)
    await sync(one, two)
    heard_from(one, two, labels=[], slots=1, busy=0)
    woken: list[bool] = []
    two.pipeline.on_change(lambda: woken.append(True))
    assert two.pipeline.is_candidate(item, [])
    with one.pipeline.intent(item):
        heard_from(one, two, labels=[], slots=1, busy=0, asking=sorted(one.pipeline.turns.asking))
    assert not two.pipeline.is_candidate(item, [])
    assert titles(two) == ["an item"], "it is free all the same"
    assert two.pipeline.choose(two.pipeline.candidates([]), [], 1) == []
    assert woken == []
    heard_from(one, two, labels=[], slots=1, busy=0, asking=sorted(one.pipeline.turns.asking))
    assert two.pipeline.is_candidate(item, [])
    assert woken != [], "whoever waits looks again"


async def test_nobody_gives_way_to_who_may_not_claim(rigs: Rigs) -> None:
    one, two = await rigs.open(0), await rigs.open(1)
    item = await added(one)
    await sync(one, two)
    heard_from(two, one, labels=[], slots=1, busy=0, asking=[item])
    assert not one.pipeline.is_candidate(item, [])
    reader = (Kind.MEMBER, two.node.public, MemberField.RECORD, {1: int(Role.READER)}, None)
    await one.node.write(b"members", lambda: [reader])
    assert one.pipeline.is_candidate(item, [])
    assert turns_at(one, item) == 0.0


@pytest.mark.promise("F12")
async def test_a_minority_takes_nothing_over_and_says_so(rigs: Rigs) -> None:
    nodes = [await rigs.open(number) for number in range(4)]
    item = await added(nodes[0])
    claim = await claimed(nodes[0], item)
    await sync(*nodes)
    other = nodes[1]
    for rig in (nodes[0], nodes[2], nodes[3]):
        heard_from(rig, other)
    other.watch(TAKEOVER_S + TIMING.beat_s)
    assert titles(other) == []
    assert isinstance(await other.pipeline.claim(item, "agent"), ClaimRefused)
    [cause] = [cause for cause in (await other.call("why", id=show_id(item)))["causes"] if cause["code"] == "held_back"]
    assert "only 1 of 4 nodes are to be seen from here" in cause["text"]
    heard_from(nodes[2], other)
    assert titles(other) == ["an item"], "half of them is enough"
    assert claim.held
    other.watch(3600.0)
    assert titles(other) == ["an item"], "who is silent for an hour is not waited for"


@pytest.mark.promise("F12")
async def test_a_minority_may_be_told_to_take_over(rigs: Rigs) -> None:
    nodes = [await rigs.open(number, timing=replace(TIMING, minority_waits=False)) for number in range(3)]
    item = await added(nodes[0])
    await claimed(nodes[0], item)
    await sync(*nodes)
    other = nodes[1]
    for _ in range(2):  # two messages each: they lived
        for rig in (nodes[0], nodes[2]):
            rig.node.presence.publish({"beat_ms": 10_000})
            assert other.node.ephemeral_in(rig.node.presence.heard()[rig.node.public].message) is not None
    other.watch(TAKEOVER_S + TIMING.beat_s)
    assert (other.node.leases.held_back, titles(other)) == ("", ["an item"])


@pytest.mark.promise("F12")
async def test_members_that_are_long_gone_make_no_minority_of_who_starts(rigs: Rigs) -> None:
    nodes = [await rigs.open(number) for number in range(4)]
    item = await added(nodes[0])
    await claimed(nodes[0], item)
    await sync(*nodes)
    other = nodes[1]
    for rig in (nodes[0], nodes[2], nodes[3]):  # as a peer hands their last messages to a node that starts
        rig.node.presence.publish({"beat_ms": 10_000})
        assert other.node.ephemeral_in(rig.node.presence.heard()[rig.node.public].message) is not None
    other.watch(TAKEOVER_S + TIMING.beat_s)
    assert (other.node.leases.held_back, titles(other)) == ("", ["an item"])


@pytest.mark.promise("F12")
async def test_many_claims_lost_at_once_put_the_brake_on_for_a_while(memory_rigs: Rigs) -> None:
    rig = await memory_rigs.open()
    for number in range(3):
        await claimed(rig, await added(rig, f"item {number}"))
    rig.watch(TAKEOVER_S + TIMING.beat_s)
    assert titles(rig) == []
    [told] = await rig.events_until("claim.mass_loss")
    assert (told.data["lost"], told.data["held"]) == (3, 3)
    rig.watch(TAKEOVER_S + TIMING.beat_s)
    assert len(titles(rig)) == 3, "it ends by itself"
    assert len(await rig.events("claim.mass_loss")) == 1


@pytest.mark.promise("F12", "I13")
async def test_wall_clocks_have_no_part_in_a_lease(rigs: Rigs) -> None:
    async with rigs.pair() as (holder, other):
        item = await added(holder)
        claim = await claimed(holder, item)
        await sync(holder, other)
        for wall_ms in (0, 10 * 365 * 86_400_000, 2**52):
            rigs.clock.wall = wall_ms
            assert titles(other) == []
            holder.pipeline.renew(item, claim, b"", 1)
            holder.node.presence.publish({})
            assert other.node.ephemeral_in(holder.node.presence.heard()[holder.node.public].message) is not None
        other.watch(TAKEOVER_S + TIMING.beat_s)
        rigs.clock.wall = 0
        assert titles(other) == ["an item"]


async def test_a_restarted_observer_begins_to_count_anew(rigs: Rigs) -> None:
    async with rigs.pair() as (holder, other):
        item = await added(holder)
        await claimed(holder, item)
        await sync(holder, other)
        other.watch(TAKEOVER_S + TIMING.beat_s)
        assert titles(other) == ["an item"]
        await other.stop()
        await other.node.store.close()
        again = await rigs.open(1)
        assert titles(again) == [], "it has not yet watched for a lease's time"
        again.watch(TAKEOVER_S + TIMING.beat_s)
        assert titles(again) == ["an item"]


async def test_a_renewal_says_whether_there_is_anybody_to_hear_it(memory_rigs: Rigs) -> None:
    rig = await memory_rigs.open()
    item = await added(rig)
    claim = await claimed(rig, item)
    assert await asyncio.to_thread(rig.pipeline.renew, item, claim, b"", 1), "it dials nobody: it need not reach anybody"
    rig.dials = True
    assert not await asyncio.to_thread(rig.pipeline.renew, item, claim, b"", 2)
    rig.node.connected = lambda: 1
    assert await asyncio.to_thread(rig.pipeline.renew, item, claim, b"", 3)


async def test_runs_are_stored_here_and_summed_up_for_others(rigs: Rigs) -> None:
    async with rigs.pair() as (one, two):
        item = await added(one)
        claim = await claimed(one, item)
        row = RunRow(new_id(1), item, claim.claim_id, one.node.public, "agent", RunState.RUNNING, "coding", 1_700_000_000_000)
        await one.pipeline.put_run(row)
        ops = one.node.replica.ops
        await one.pipeline.put_run(replace(row, log="/local/log", worktree="/local/tree"))
        assert one.node.replica.ops == ops, "what only matters here is no op"
        await one.pipeline.put_run(replace(row, state=RunState.COMPLETED, ended_ms=1_700_000_001_000, exit_code=0))
        await sync(one, two)
        run = (await two.call("runs.list"))["runs"][0]
        assert (run["recorded_state"], run["own"], run["exit_code"], run["log"], run["node_name"]) == ("completed", False, 0, "", "node0")


async def test_it_waits_for_company_only_when_it_has_somebody_to_call(memory_rigs: Rigs) -> None:
    rig = await memory_rigs.open()
    await asyncio.wait_for(rig.pipeline.wait_connected(), BOUND_S)
    rig.dials = True
    waiting = asyncio.create_task(rig.pipeline.wait_connected())
    rig.node.tell_peers_moved()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    assert rig.pipeline.is_cut_off()
    rig.node.peers = lambda: [PeerStatus("", b"", "", "syncing", "out", 0, None, None)]
    rig.node.tell_peers_moved()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done(), "what each of the two lacks is on its way"
    assert (rig.pipeline.is_cut_off(), rig.pipeline.waits_for_company()) == (False, True)
    rig.dials = False
    rig.node.tell_peers_moved()
    await asyncio.wait_for(waiting, BOUND_S)
    assert not rig.pipeline.waits_for_company()


async def test_a_look_at_the_leases_reads_no_stage_of_a_claim_that_has_one_ttl_for_all(memory_rigs: Rigs, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made for each claim, and at each claim."""
    rig = await memory_rigs.open()
    claim = await claimed(rig, await added(rig))
    assert claim.stage_ttls == ()

    def read(*_: object) -> Stage:
        raise AssertionError("the stage was read")

    monkeypatch.setattr(rig.node.board, "stage_under", read)
    monkeypatch.setattr(rig.node.board, "stage", read)
    rig.node.lease_watch.look()


# ---- what a superseded holder can still do ---------------------------------------------------------


@pytest.mark.promise("F13", "I15")
@pytest.mark.parametrize("arbiter", [False, True], ids=["settled", "granted"])
async def test_a_superseded_holder_that_has_not_heard_of_it_overwrites_nothing_and_is_told(memory_rigs: Rigs, arbiter: bool) -> None:
    async with memory_rigs.pair(arbiter=FakeArbiter() if arbiter else None) as (old, new):
        item = await added(old)
        await sync(old, new)
        claim = await claimed(old, item)
        await old.pipeline.move(item, Coding(), claim)
        told: list[str] = []
        old.pipeline.on_claim_lost(claim.claim_id, told.append)
        await sync(old, new)
        new.watch(TAKEOVER_S + TIMING.beat_s)
        after = await claimed(new, item)
        await new.pipeline.move(item, Qa(), after)
        before = (new.node.board.stage(item), new.node.board.claim(item))

        # It slept, and goes on as if nothing had been: what its successor wrote stands, and nobody is held up by it.
        memory_rigs.clock.advance(1000)
        await old.pipeline.move(item, Qa(), claim)
        await old.pipeline.move(item, Merge("old", 1), claim)
        await old.pipeline.finish(item, claim, "failed", {"result": "old"}, charge_attempt=True, hold="3 of 3 attempts failed")
        assert told == []
        await sync(old, new)
        for rig in (old, new):
            view = rig.node.board.item(item)
            assert view is not None
            assert (view.stage, view.claim) == before
            assert (view.hold, view.outcome, view.attempts) == (None, None, 0)
            assert (await rig.call("items.list", held=True))["items"] == []
        assert await new.events("item.outcome") == []
        assert told == ["superseded by node1 (agent)"]
        with pytest.raises(ClaimLost):
            await old.pipeline.move(item, Coding(), claim)
        await new.pipeline.finish(item, after, "failed", {"result": "new"}, charge_attempt=True, hold="a conflict")
        await sync(old, new)
        for rig in (old, new):
            view = rig.node.board.item(item)
            assert view is not None
            assert (view.stage, view.outcome, (view.hold or {}).get("reason"), view.attempts) == (Qa(), {"result": "new"}, "a conflict", 1)


@pytest.mark.promise("I15")
@pytest.mark.parametrize("arbiter", [False, True], ids=["settled", "granted"])
async def test_what_was_said_of_an_item_before_a_takeover_stays_as_it_was(memory_rigs: Rigs, arbiter: bool) -> None:
    """Also how many of its runs were lost."""
    async with memory_rigs.pair(arbiter=FakeArbiter() if arbiter else None) as (old, new):
        item = await added(old)
        first = await claimed(old, item)
        await old.pipeline.finish(item, first, "failed", {"result": "first"}, charge_attempt=True)
        claim = await claimed(old, item)
        await old.pipeline.move(item, Coding(), claim)
        await old.pipeline.put_run(RunRow(new_id(1), item, claim.claim_id, old.node.public, "agent", RunState.RUNNING, "coding", 1_700_000_000_000))
        await sync(old, new)
        new.watch(TAKEOVER_S + TIMING.beat_s)
        after = await claimed(new, item)

        await old.pipeline.move(item, Qa(), claim)
        await old.pipeline.move(item, Merge("old", 1), claim)
        await old.pipeline.finish(item, claim, "failed", {"result": "old"}, charge_attempt=True)
        await sync(old, new)
        for rig in (old, new):
            view = rig.node.board.item(item)
            assert view is not None
            assert (view.stage, view.outcome, view.attempts) == (Coding(), {"result": "first"}, 1)
            assert rig.node.board.stages() == {Coding: 1}
            shown = (await rig.call("items.show", id=show_id(item)))["item"]
            for late in [each for each in (await rig.call("items.history", id=show_id(item)))["changes"] if each["claim_id"] == show_id(claim.claim_id)]:
                assert late["won"] == (late["field"] == "claim_hold"), late
            assert not {"stage", "attempts"} & {each["field"] for each in (await rig.call("why", id=show_id(item)))["changes"]}, "what does not count"
            assert (shown["stage"], shown["outcome"], shown["attempts"], shown["interruptions"]) == ("Coding", {"result": "first"}, 1, 1)
        assert [event.data["result"] for event in await new.events("item.outcome")] == ["first"], "neither what is said again nor what does not count"
        assert await new.events("item.moved") == []
        assert [event.data["to"] for event in await old.events("item.moved")] == ["Coding", "Qa", "Merge", "Coding"], "it had believed itself"
        with pytest.raises(IllegalMove):
            await new.pipeline.move(item, Merge("new", 1), after)
        await new.pipeline.move(item, Qa(), after)
        assert [(event.data["from"], event.data["to"]) for event in await new.events("item.moved")] == [("Coding", "Qa")]
        await new.pipeline.finish(item, after, "failed", {"result": "new"}, charge_attempt=True)
        await sync(old, new)
        for rig in (old, new):
            view = rig.node.board.item(item)
            assert view is not None
            assert (view.outcome, view.attempts) == ({"result": "new"}, 2)


@pytest.mark.parametrize("number", range(4))
async def test_an_item_that_a_person_archives_at_the_moment_of_a_takeover_is_not_begun(memory_rigs: Rigs, number: int) -> None:
    """Whichever of both claims wins."""
    async with memory_rigs.pair() as (old, new):
        for other in range(number):
            await added(old, f"another {other}")
        item = await added(old)
        await sync(old, new)
        claim = await claimed(old, item)
        await old.pipeline.move(item, Coding(), claim)
        await sync(old, new)
        new.watch(TAKEOVER_S + TIMING.beat_s)
        await old.call("items.move", id=show_id(item), to="Archived", reason="Abandoned")
        after = await claimed(new, item)
        await sync(old, new)
        assert isinstance(new.node.board.stage(item), Archived)
        with pytest.raises((IllegalMove, ClaimLost)):
            await new.pipeline.move(item, Coding(), after)


async def test_a_run_whose_moves_count_for_nothing_is_told_so_and_does_not_write_without_end(memory_rigs: Rigs) -> None:
    """Somebody wrote the stage under a fence above every claim."""
    rig = await memory_rigs.open()
    item = await added(rig)
    claim = await claimed(rig, item)
    await rig.pipeline.move(item, Coding(), claim)
    await rig.node.write(item, lambda: [stage_write(item, Backlog(), (2**40, 1, new_id(9)))])
    before = rig.node.replica.ops
    with pytest.raises(Conflict, match="is in Backlog, and not in Coding, where this run moved it"):
        await rig.pipeline.move(item, Coding(), claim)
    for walk in (walk_to_qa, partial(walk_to_merge, merge=Merge("own", 1))):
        with pytest.raises(Conflict, match="is in Backlog, and not in Coding"):
            await asyncio.wait_for(walk(rig.pipeline, item, claim), BOUND_S)
    assert rig.node.replica.ops <= before + 3
    before = rig.node.replica.ops
    with pytest.raises(Conflict, match="not known here counts for more"):
        await rig.call("items.move", id=show_id(item), to="Coding")
    assert rig.node.replica.ops == before, "what would count for nothing is not written"
    await rig.call("claims.release", item=show_id(item))
    await rig.call("items.move", id=show_id(item), to="Coding")
    assert rig.node.board.stage(item) == Coding(), "a person's word counts all the same"


async def test_a_person_moves_a_held_item_though_a_rival_that_is_not_here_ranks_above_its_holder(memory_rigs: Rigs) -> None:
    """The claim that ends the holder's is above both."""
    rig = await memory_rigs.open()
    item = await added(rig)
    claim = await claimed(rig, item)
    rival = next(fence for number in range(50) if fence_beats(item, fence := (claim.receipt, claim.epoch, new_id(number)), claim.fence))
    await rig.node.write(item, lambda: [stage_write(item, Backlog(), rival)])
    await rig.call("items.move", id=show_id(item), to="Coding")
    assert rig.node.board.stage(item) == Coding()


async def test_what_a_person_says_before_the_claim_that_it_is_about_is_here_counts(memory_rigs: Rigs) -> None:
    """A node that has another person's word about an item, and not yet the claim under which that was said: what is said here is not lost to it."""
    async with memory_rigs.pair() as (one, two):
        third = await memory_rigs.open(2)
        item = await added(one)
        await sync(one, two)
        await sync(one, third)
        claim = await claimed(two, item)
        await two.pipeline.finish(item, claim, "failed", {}, charge_attempt=False)
        await sync(one, two)
        await one.call("items.move", id=show_id(item), to="Coding")
        [word] = [row.data async for batch in one.node.store.load() for row in batch][-1:]
        await third.node.ingest([word], one.node.public)
        assert third.node.board.claim(item) is None, "the claim is on its way"
        assert third.node.board.stage(item) == Coding()
        await third.call("items.move", id=show_id(item), to="Archived", reason="Abandoned")
        await sync(one, third)
        await sync(two, third)
        await sync(one, two)
        for rig in (one, two, third):
            assert isinstance(rig.node.board.stage(item), Archived)


async def test_an_item_that_is_archived_while_its_claim_is_asked_for_is_not_claimed(memory_rigs: Rigs, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = await memory_rigs.open()
    item = await added(rig)
    write = rig.node.write

    async def archived_first(*args: Any) -> Any:
        monkeypatch.setattr(rig.node, "write", write)
        await write(item, lambda: [stage_write(item, Archived(1, ArchiveReason.ABANDONED), None)])
        return await write(*args)

    monkeypatch.setattr(rig.node, "write", archived_first)
    assert isinstance(await asyncio.wait_for(rig.pipeline.claim(item, "agent"), BOUND_S), ClaimRefused)
    assert rig.node.board.claim(item) is None


async def test_what_a_strange_member_says_of_epochs_and_attempts_stops_nobody(memory_rigs: Rigs) -> None:
    rig = await memory_rigs.open()
    item = await added(rig)
    claim = await claimed(rig, item)
    await rig.pipeline.finish(item, claim, "failed", {}, charge_attempt=False)
    await rig.node.write(item, lambda: [(Kind.ITEM, item, ItemField.ATTEMPTS, 2**64 - 1, claim.fence)])
    following = await claimed(rig, item)
    await rig.pipeline.finish(item, following, "failed", {}, charge_attempt=True)
    last = replace(following.released("over"), claim_id=new_id(7), epoch=2**64 - 1)
    await rig.node.write(item, lambda: [claim_write(item, last)])
    assert isinstance(await asyncio.wait_for(rig.pipeline.claim(item, "agent"), BOUND_S), ClaimRefused)


@pytest.mark.parametrize(("epoch", "receipt"), [(2**64 - 1, 0), (1, 2**64 - 1)], ids=["epoch", "receipt"])
async def test_an_item_whose_claim_can_not_be_followed_costs_no_try(memory_rigs: Rigs, epoch: int, receipt: int) -> None:
    arbiter = FakeArbiter() if receipt else None
    rig = await memory_rigs.open(arbiter=arbiter)
    item = await added(rig)
    claim = await claimed(rig, item)
    await rig.pipeline.finish(item, claim, "failed", {}, charge_attempt=False)
    await rig.node.write(item, lambda: [claim_write(item, replace(claim.released("over"), claim_id=new_id(7), epoch=epoch, receipt=receipt))])
    before = rig.node.replica.ops
    granted = None if arbiter is None else dict(arbiter.held)
    assert titles(rig) == []
    assert not rig.pipeline.is_candidate(item, [])
    assert isinstance(await asyncio.wait_for(rig.pipeline.claim(item, "agent"), BOUND_S), ClaimRefused)
    assert (rig.node.replica.ops, None if arbiter is None else arbiter.held) == (before, granted), "nobody was asked, and nothing was written"
    why = await rig.call("why", id=show_id(item))
    assert (why["state"], why["causes"][0]["next"]) == ("last_claim", f"fabrik-node tombstone {show_id(item)}")
    held = replace(claim, claim_id=new_id(8), epoch=2**64 - 1, receipt=2**64 - 1)
    await rig.node.write(item, lambda: [claim_write(item, held)])
    with pytest.raises(Precondition, match="none can end it") as refused:
        await rig.call("claims.release", item=show_id(item))
    assert refused.value.hint == f"fabrik-node tombstone {show_id(item)}"


async def test_the_first_claim_of_an_item_costs_a_few_bytes_more_than_a_claim(memory_rigs: Rigs) -> None:
    rig = await memory_rigs.open(arbiter=FakeArbiter())
    item = await added(rig)
    claim = await claimed(rig, item)
    assert claim.found == (0, 0)
    writes = [touch for touch in await rig.reader.touches(item) if touch.fence is not None]
    assert writes == [], "nothing is said again where nothing was said"


async def test_a_giant_outcome_of_a_strange_member_keeps_nobody_from_claiming(memory_rigs: Rigs) -> None:
    rig = await memory_rigs.open()
    item = await added(rig)
    claim = await claimed(rig, item)
    await rig.pipeline.finish(item, claim, "failed", {"result": "x" * 60_000}, charge_attempt=False)
    again = await claimed(rig, item)
    view = rig.node.board.item(item)
    assert view is not None
    assert (view.outcome, rig.pipeline.is_winning(item, again.claim_id)) == (None, True), "it is left behind"


async def test_who_asks_a_slow_remote_gives_those_before_it_the_time_that_it_takes(memory_rigs: Rigs) -> None:
    arbiter = FakeArbiter()
    one, two = await memory_rigs.open(0, arbiter=arbiter), await memory_rigs.open(1, arbiter=arbiter)
    await sync(one, two)
    for _ in range(2):  # two messages each: they live
        for speaker, hearer in ((one, two), (two, one)):
            speaker.node.presence.publish({"accepting": True, "agent": {"labels": [], "slots": 1, "busy": 0}})
            assert hearer.node.ephemeral_in(speaker.node.presence.heard()[speaker.node.public].message) is not None
    arbiter.before_cas = lambda _: memory_rigs.clock.advance(2.0)
    items = [await added(one, f"item {number}") for number in range(8)]
    await sync(one, two)

    def turns() -> set[float]:
        return {turns_at(rig, item) for rig in (one, two) for item in items[2:]}

    assert turns() == {0.0, TIMING.settle_s / 4}
    for rig, item in ((one, items[0]), (two, items[1])):
        await claimed(rig, item)
    assert turns() == {0.0, 3.0}
