"""Presence that nobody forges, and an event stream that a crash leaves whole."""

from __future__ import annotations

from typing import Any

import pytest
from fabrik_twin.author import Author
from fabrik_twin.op import Key
from node_rig import FakeArbiter, NodeRig, Rigs, sync

from fabrik_node._core import SigningKey, genesis_encode, mesh_id
from fabrik_node.domain.schema import ItemField, Kind, MemberField, Role
from fabrik_node.domain.token import JoinToken
from fabrik_node.errors import AuthError, StoreFailed
from fabrik_node.ids import new_id, parse_id
from fabrik_node.node.early import AUTHORS_MAX


async def test_own_counters_rise_over_restarts(rigs: Rigs) -> None:
    rig, other = await rigs.open(), await rigs.open(1)
    rig.node.presence.publish({"n": 1})
    first = rig.node.presence.heard()[rig.node.public]
    assert other.node.ephemeral_in(first.message) is not None
    await rig.stop()
    await rig.node.store.close()
    again = await rigs.open()
    again.node.presence.publish({"n": 2})
    second = again.node.presence.heard()[again.node.public]
    assert second.counter > first.counter
    assert other.node.ephemeral_in(second.message) == (again.node.public, second.counter)


async def test_what_is_forged_foreign_unknown_or_old_is_ignored_and_counted(memory_rigs: Rigs) -> None:
    rig = await memory_rigs.open()
    heard: list[tuple[bytes, int, bytes]] = []
    rig.node.on_ephemeral(lambda *each: heard.append(each))
    key = memory_rigs.keys[1]
    mesh = rig.node.mesh_id
    good = key.ephemeral(mesh, 5, {"name": "x"})
    assert rig.node.ephemeral_in(good) == (key.public, 5)
    heard.clear()
    elsewhere = mesh_id(genesis_encode(key.public, "other", bytes(16), 1))
    refused = [
        good[:-1] + bytes([good[-1] ^ 1]),
        good.replace(key.public, memory_rigs.keys[2].public),
        key.ephemeral(elsewhere, 6, {}),
        b"",
        b"\xff" * 100,
    ]
    for message in refused:
        assert rig.node.ephemeral_in(message) is None
    assert rig.node.presence.refused == len(refused)
    own = rig.node.key.ephemeral(mesh, 2**60, {"name": "an echo of ourselves"})
    for message in (good, key.ephemeral(mesh, 4, {}), own):
        assert rig.node.ephemeral_in(message) is None
    assert rig.node.presence.stale == 3
    assert heard == []
    assert rig.node.presence.heard()[key.public].counter == 5


async def test_a_message_that_overtook_its_authors_member_record_counts_when_that_is_there(memory_rigs: Rigs) -> None:
    rig = await memory_rigs.open()
    heard: list[tuple[bytes, int]] = []
    rig.node.on_ephemeral(lambda author, counter, _: heard.append((author, counter)))
    mesh, clock = rig.node.mesh_id, memory_rigs.clock
    new, other = memory_rigs.keys[-1], SigningKey.from_seed(b"\x66" * 32)
    for counter in (7, 6, 8):
        assert rig.node.ephemeral_in(new.ephemeral(mesh, counter, {"name": "early"})) is None
    assert rig.node.ephemeral_in(other.ephemeral(mesh, 1, {})) is None
    assert heard == []
    came = clock.now()
    clock.advance(3.0)
    await rig.node.write("admit", lambda: [(Kind.MEMBER, new.public, MemberField.RECORD, {1: int(Role.AGENT)}, None)])
    taken = rig.node.presence.heard()[new.public]
    assert heard == [(new.public, 8)], "the newest, once, and nobody who is still a stranger"
    assert (taken.counter, taken.at, taken.changed) == (8, came, True), "aged from when it came; an older one came before it"
    assert rig.node.ephemeral_in(new.ephemeral(mesh, 8, {})) is None, "no news"
    await rig.node.write("admit", lambda: [(Kind.MEMBER, other.public, MemberField.RECORD, {1: int(Role.AGENT)}, None)])
    assert not rig.node.presence.heard()[other.public].changed, "one message alone shows no life"


async def test_messages_of_made_up_authors_wait_in_a_bounded_room(memory_rigs: Rigs) -> None:
    rig = await memory_rigs.open()
    mesh = rig.node.mesh_id
    keys = [SigningKey.from_seed(number.to_bytes(32, "big")) for number in range(1, AUTHORS_MAX + 11)]
    for key in keys:
        rig.node.ephemeral_in(key.ephemeral(mesh, 1, {}))
    early = rig.node.presence.early
    assert (early.kept, early.dropped) == (AUTHORS_MAX + 10, 10)
    await rig.node.write("admit", lambda: [(Kind.MEMBER, key.public, MemberField.RECORD, {1: int(Role.AGENT)}, None) for key in keys])
    assert rig.node.presence.heard().keys() - {rig.node.public} == {key.public for key in keys[10:]}, "the oldest gave way"


async def test_nobody_renews_the_claim_of_another(rigs: Rigs) -> None:
    holder, observer = await rigs.open(0), await rigs.open(1)
    item = parse_id(await holder.add()) or b""
    claim: Any = await holder.pipeline.claim(item, "agent")
    await sync(holder, observer)
    rigs.clock.advance(50)
    thief = rigs.keys[2].ephemeral(observer.node.mesh_id, 1, {"leases": [[claim.claim_id, item, 99, 99, b""]]})
    assert observer.node.ephemeral_in(thief) is not None, "a valid message of a member"
    assert observer.node.leases.age_s(claim.claim_id, rigs.clock.now()) == 50
    own = holder.node.key.ephemeral(observer.node.mesh_id, 2**40, {"leases": [[claim.claim_id, item, 99, 99, b""], [new_id(1), item, 99, 99, b""]]})
    assert observer.node.ephemeral_in(own) is not None
    assert observer.node.leases.age_s(claim.claim_id, rigs.clock.now()) == 0
    replayed = holder.node.key.ephemeral(observer.node.mesh_id, 2**40 + 1, {"leases": [[claim.claim_id, item, 99, 99, b""]]})
    rigs.clock.advance(50)
    assert observer.node.ephemeral_in(replayed) is not None
    assert observer.node.leases.age_s(claim.claim_id, rigs.clock.now()) == 50, "no news, no renewal"


async def crash(rig: NodeRig) -> None:
    """The process is gone, whatever it was about to store."""
    assert rig.running is not None
    rig.running.cancel()
    await rig.node.store.close()


@pytest.mark.promise("B12")
@pytest.mark.parametrize("ops", [1, 30, 2_500])
async def test_events_that_a_crash_cut_off_are_told_once(rigs: Rigs, ops: int) -> None:
    rig = await rigs.open()
    await rig.add("before")
    await rig.events_until("item.added", 1)
    upto = (await rig.node.store.events_upto())[1]
    author = Author(rigs.genesis, Key(bytes([3]) * 32), epoch=3)
    for number in range(ops):
        author.op((int(Kind.ITEM), new_id(number), int(ItemField.TITLE), f"item {number}", None))
    chained = rig.node.replica.chain(rig.node.replica.verify([author.segment(1, ops)])).chained
    await rig.node.store.append(chained)  # and then the power is gone, before the events
    assert (await rig.node.store.events_upto())[1] == upto
    await crash(rig)
    for _ in range(3):  # each start finds what is there
        rig = await rigs.open()
        await rig.events_until("sync.bulk" if ops > 2_000 else "item.added", 1 if ops > 2_000 else ops + 1)
        await rig.add("after")
        await rig.events_until("item.added", len(await rig.events("item.added")))
        await rig.stop()
        events = await rig.events()
        assert [event.seq for event in events] == list(range(1, len(events) + 1)), "one sequence without holes"
        told = [event for event in events if event.type == "item.added" and str(event.data["title"]).startswith("item ")]
        bulk = [event for event in events if event.type == "sync.bulk"]
        assert (len(told), len(bulk)) == ((0, 1) if ops > 2_000 else (ops, 0))
        assert len(rig.node.board.items()) >= ops + 1
        await rig.node.store.close()


@pytest.mark.promise("C14")
async def test_what_a_node_said_is_stored_when_its_stream_is_settled(rigs: Rigs) -> None:
    """A start waits for this before it says that it is up: a kill right after that loses nothing of what it found."""
    rig = await rigs.open()
    rig.node.tell("start.found", {"kind": "dead owner"})
    await rig.node.stream.settled()
    stored, _ = await rig.node.store.events_upto()
    assert stored == rig.node.stream.last
    assert [event.type for event in await rig.node.store.events(stored - 1, 1)] == ["start.found"]


@pytest.mark.promise("B13")
async def test_a_follower_that_resumes_misses_nothing_while_events_come(memory_rigs: Rigs) -> None:
    rig = await memory_rigs.open()
    seen: list[int] = []
    for turn in range(10):
        await rig.add(str(turn))
        async for line in rig.service.stream("events", {"after": seen[-1] if seen else 0}):
            seen.append(line["seq"])
    await rig.events_until("item.added", 10)
    async for line in rig.service.stream("events", {"after": seen[-1]}):
        seen.append(line["seq"])
    assert seen == list(range(1, len(seen) + 1))
    assert seen[-1] == rig.node.stream.last


async def test_a_store_without_our_own_log_is_refused(rigs: Rigs) -> None:
    rig = await rigs.open()
    await rig.stop()
    await rig.node.store.close()
    rigs.keys[0], rigs.keys[3] = rigs.keys[3], rigs.keys[0]
    with pytest.raises(StoreFailed, match="no op of this node"):
        await rigs.open()


@pytest.mark.promise("F6")
async def test_an_invitation_is_redeemed_once_in_time_and_by_proof(memory_rigs: Rigs) -> None:
    rig = await memory_rigs.open(arbiter=FakeArbiter())
    rig.listen_url = "ws://127.0.0.1:1/crdt-sync"
    new = SigningKey.from_seed(b"\x66" * 32).public

    async def token(ttl_s: float = 60) -> JoinToken:
        return JoinToken.decode((await rig.call("invite", role="agent", ttl_s=ttl_s))["token"])

    first = await token()
    with pytest.raises(AuthError, match="did not issue"):
        await rig.node.redeem(b"x" * 16, new, lambda _: True)
    with pytest.raises(AuthError, match="could not prove"):
        await rig.node.redeem(first.token_id, new, lambda secret: secret != first.secret)
    assert not rig.node.is_admitted(new)
    late = await token(ttl_s=10)
    memory_rigs.clock.advance(10)
    with pytest.raises(AuthError, match="expired"):
        await rig.node.redeem(late.token_id, new, lambda _: True)
    await rig.node.redeem(first.token_id, new, lambda secret: secret == first.secret)
    assert rig.node.is_admitted(new)
    with pytest.raises(AuthError, match="used"):
        await rig.node.redeem(first.token_id, memory_rigs.keys[-1].public, lambda _: True)
    assert not rig.node.is_admitted(memory_rigs.keys[-1].public)
