"""Doubt about the own log: it ends in a new epoch before the next write, at every crash point, and no number is used twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from node_rig import NodeRig, Rigs, pull_branch, sync

from fabrik_node._core import HEADS_MAX, Replica, SigningKey, fork_proof_verify
from fabrik_node.domain.schema import ItemField, Kind
from fabrik_node.errors import StoreFailed
from fabrik_node.ids import new_id
from fabrik_node.node.epochs import EPOCH_MAX, next_epoch


@pytest.fixture
async def rigs() -> AsyncIterator[Rigs]:
    made = Rigs()
    yield made
    await made.close()


def title(text: str) -> Any:
    return (Kind.ITEM, new_id(1), ItemField.TITLE, text, None)


async def copied(rig: NodeRig) -> Replica:
    """A replica of what a node's store holds now: what a copy of its home would go on from."""
    replica = Replica(rig.genesis)
    async for batch in rig.node.store.load():
        replica.load([row.data for row in batch])
    return replica


def written(replica: Replica, key: SigningKey, epoch: int, *texts: str) -> list[bytes]:
    """Segments with which a copy goes on, one for each title."""
    draft = replica.draft(key, epoch)
    return [chained.data for text in texts for chained in draft.append([title(text)], 5)]


def own_places(rig: NodeRig) -> list[tuple[int, int, int]]:
    """``(epoch, branch, seq)`` of our heads."""
    return [(head.epoch, head.branch, head.seq) for head in rig.node.epochs.own_heads()]


@pytest.mark.promise("I9", "I6")
async def test_ops_of_our_own_that_we_did_not_hold_open_a_new_epoch(rigs: Rigs) -> None:
    one, two = await rigs.open(0), await rigs.open(1)
    await sync(one, two)
    old = two.node.epoch
    ours = written(await copied(two), two.node.key, old, "lost here")
    report = await one.node.ingest(ours, two.node.public)
    assert report.new_ops == 1
    await sync(one, two)
    assert "its peers hold ops" in two.node.epochs.doubt
    assert await two.node.store.get_meta("doubt") == two.node.epochs.doubt.encode(), "it is durable"
    assert two.node.epoch == old, "nothing was written yet"
    status = await two.call("status")
    assert status["doubt"] == two.node.epochs.doubt
    assert status["learned_ops"] == 1
    lamport = two.node.replica.lamport
    await two.add("after")
    assert two.node.epochs.doubt == ""
    assert two.node.epoch >> 32 == (old >> 32) + 1
    opened = (await two.events_until("node.epoch_opened"))[0].data
    assert (opened["from"], opened["to"]) == (old, two.node.epoch)
    head = two.node.replica.head(two.node.public, two.node.epoch)
    assert head is not None
    assert head.seq == 2, "the opening, then the write, in one batch"
    assert head.clock > lamport
    await two.add("and again")
    assert [epoch for epoch, _, _ in own_places(two)] == [old, two.node.epoch], "one new epoch was enough"
    await sync(one, two)
    assert one.facts()[:2] == two.facts()[:2]
    assert {view.title for view in one.node.board.items()} == {"lost here", "after", "and again"}
    assert await two.events("log.forked") == []


@pytest.mark.promise("I9")
async def test_ops_of_our_key_in_another_epoch_are_a_copy_at_work(rigs: Rigs) -> None:
    one, two = await rigs.open(0), await rigs.open(1)
    await sync(one, two)
    elsewhere = next_epoch(two.node.epoch, 7)
    replica = await copied(two)
    for text in ("first", "second"):
        made = written(replica, two.node.key, elsewhere, text)
        replica.load(made)
        await one.node.ingest(made, two.node.public)
        await sync(one, two)
    assert two.node.epochs.doubt == ""
    assert len(await two.events_until("node.cloned")) == 1, "told once"
    status = await two.call("status")
    assert status["cloned"] == [elsewhere]
    assert any("another node writes with this node's key" in warning for warning in status["warnings"])
    await two.add("goes on")
    assert await two.events("node.epoch_opened") == []


@pytest.mark.promise("I9", "I10")
async def test_a_fork_of_our_log_is_kept_proven_and_left_behind(rigs: Rigs) -> None:
    one, two = await rigs.open(0), await rigs.open(1)
    await sync(one, two)
    old = two.node.epoch
    other = written(await copied(two), two.node.key, old, "by the copy", "and more")
    await one.node.ingest(other, two.node.public)
    await two.add("by the original")
    await sync(one, two)
    for rig in (one, two):
        told = (await rig.events_until("log.forked"))[0].data
        assert (told["author"], told["own"], told["proven"]) == (two.node.public.hex(), rig is two, True)
        (shown,) = (await rig.call("status"))["forks"]
        assert (shown["branches"], shown["epoch"]) == (2, old)
        (fork,) = await rig.node.store.forks()
        mesh, author, epoch, seq = fork_proof_verify(fork.proof)
        assert (mesh, author, epoch, seq) == (rig.node.mesh_id, two.node.public, old, told["op_seq"])
    assert "two branches" in two.node.epochs.doubt
    assert one.node.epochs.doubt == ""
    await two.add("after the fork")
    await sync(one, two)
    assert one.facts()[:2] == two.facts()[:2]
    wanted = {"by the copy", "and more", "by the original", "after the fork"}
    assert {view.title for view in one.node.board.items()} == {view.title for view in two.node.board.items()} == wanted


@pytest.mark.promise("I5", "I6", "I9")
@pytest.mark.parametrize("meta", ["doubt", "own_epoch", "doubt over"])
async def test_a_crash_around_the_opening_costs_an_epoch_and_no_number(rigs: Rigs, monkeypatch: pytest.MonkeyPatch, meta: str) -> None:
    """Between the note of the doubt and the ops, between the commit and the note of the epoch, and before the doubt is taken back."""
    one, two = await rigs.open(0), await rigs.open(1)
    await sync(one, two)
    await one.node.ingest(written(await copied(two), two.node.key, two.node.epoch, "lost here"), two.node.public)
    real, seen = two.node.store.set_meta, list[str]()

    async def dies(key: str, value: bytes) -> None:
        seen.append("doubt over" if key == "doubt" and not value else key)
        if seen[-1] == meta and meta != "doubt":
            raise StoreFailed("killed")
        await real(key, value)

    monkeypatch.setattr(two.node.store, "set_meta", dies)
    await sync(one, two)
    places = {(head.epoch, head.seq): head.head for head in two.node.epochs.own_heads()}
    try:
        await two.add("after")
        assert meta == "doubt"
    except StoreFailed:
        assert meta in seen
        assert two.running is not None
        await asyncio.wait({two.running})
        assert two.running.exception() is not None, "fail-stop"
    places |= {(head.epoch, head.seq): head.head for head in two.node.epochs.own_heads()}
    monkeypatch.undo()
    again = await rigs.open(1)
    assert bool(again.node.epochs.doubt) == (meta != "doubt")
    await again.add("after the crash")
    taken = [(head.epoch, head.seq) for head in again.node.epochs.own_heads()]
    assert len(set(taken)) == len(taken)
    for head in again.node.epochs.own_heads():
        if (head.epoch, head.seq) in places:
            assert places[head.epoch, head.seq] == head.head, "a number was used twice"
    await sync(one, again)
    assert one.facts()[:2] == again.facts()[:2]
    assert await again.events("log.forked") == []


@pytest.mark.promise("I5", "I9")
async def test_doubt_is_durable_before_the_ops_that_raise_it(rigs: Rigs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a crash in between would leave a node that goes on behind ops of which its peers may hold more."""
    two = await rigs.open(1)
    one = await rigs.open(0)
    await sync(one, two)
    ours = written(await copied(two), two.node.key, two.node.epoch, "lost here")

    async def dies(_: object) -> int:
        raise StoreFailed("killed")

    with monkeypatch.context() as patched, pytest.raises(StoreFailed):
        patched.setattr(two.node.store, "append", dies)
        await two.node.ingest(ours, one.node.public)
    assert two.running is not None
    await asyncio.wait({two.running})
    assert two.running.exception() is not None
    again = await rigs.open(1)
    assert again.node.epochs.doubt
    await again.add("after")
    assert len({head.epoch for head in again.node.epochs.own_heads()}) == 2


@pytest.mark.promise("I10")
async def test_a_log_with_too_many_branches_loses_its_effect_everywhere_and_its_owner_goes_on(rigs: Rigs) -> None:
    one, two, three = await rigs.open(0), await rigs.open(1), await rigs.open(2)
    await sync(one, two, three)
    old = two.node.epoch
    base = await copied(two)
    branches = [written(base, two.node.key, old, f"branch {number}")[0] for number in range(HEADS_MAX + 1)]
    for data in branches[:-1]:
        await one.node.ingest([data], two.node.public)
    await three.node.ingest(branches[1:], two.node.public)
    assert len(one.node.board.items()) == HEADS_MAX
    assert one.node.replica.suspended() == []
    await one.node.ingest([branches[-1]], two.node.public)
    assert one.node.replica.suspended() == [(two.node.public, old)]
    assert one.node.board.items() == []
    assert len(await one.events_until("log.suspended")) == 1
    (shown,) = (await one.call("status"))["suspended"]
    assert shown["epoch"] == old
    await three.node.ingest([branches[0]], two.node.public)
    assert one.facts()[:2] == three.facts()[:2], "whatever was met first"
    state = one.facts()[:2]
    await one.stop()
    again = await rigs.open(0)
    assert again.facts()[:2] == state
    assert again.node.replica.suspended() == [(two.node.public, old)]
    for data in branches:
        await two.node.ingest([data], one.node.public)
    assert two.node.epochs.doubt
    await two.add("in a new epoch")
    await pull_branch(again, two, two.node.public, two.node.epoch, 0, 0)
    assert [view.title for view in again.node.board.items()] == ["in a new epoch"]


@pytest.mark.promise("I10")
async def test_the_admins_log_has_any_number_of_branches_also_after_a_restart(rigs: Rigs) -> None:
    one, two = await rigs.open(0), await rigs.open(1)
    await sync(one, two)
    old = one.node.epoch
    base = await copied(one)
    for number in range(HEADS_MAX + 6):
        for data in written(base, one.node.key, old, f"branch {number}"):
            await two.node.ingest([data], one.node.public)
    assert two.node.replica.suspended() == []
    assert len(two.node.board.items()) == HEADS_MAX + 6
    (shown,) = (await two.call("status"))["forks"]
    assert (shown["epoch"], shown["branches"]) == (old, HEADS_MAX + 6)
    await two.node.store.suspend(one.node.public, old)  # an older version did, before it stopped
    state = two.facts()[:2]
    await two.stop()
    again = await rigs.open(1)
    assert (again.facts()[:2], again.node.replica.suspended()) == (state, [])
    assert again.node.replica.is_admitted(again.node.public)


@pytest.mark.promise("I6")
def test_epochs_rise_and_end() -> None:
    assert next_epoch(1 << 32 | 5, 9) == 2 << 32 | 9
    assert next_epoch(0, 0) == 1 << 32
    last = next_epoch((2**21 - 2) << 32, 2**32 - 1)
    assert last == EPOCH_MAX
    with pytest.raises(Exception, match="no epochs left"):
        next_epoch(last, 0)


async def test_a_restored_home_is_heard_again_at_once(rigs: Rigs) -> None:
    """Presence counters rise over starts; a home that lost some starts catches up with what its peers heard of it."""
    one, two = await rigs.open(0), await rigs.open(1)
    await sync(one, two)
    ahead = two.node.key.ephemeral(two.node.mesh_id, 9 << 32, {})
    assert one.node.ephemeral_in(ahead) is not None
    two.node.presence.publish({"name": "restored"})
    assert one.node.ephemeral_in(two.node.presence.heard()[two.node.public].message) is None, "older than what it said before"
    assert two.node.ephemeral_in(ahead) is None
    two.node.presence.publish({"name": "restored"})
    assert one.node.ephemeral_in(two.node.presence.heard()[two.node.public].message) is not None
