"""Keys that knock at a node: a bounded queue that writes nothing, and an operator's yes or no."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from node_rig import NodeRig, Rigs, sync

from fabrik_node._core import SigningKey, next_key
from fabrik_node.domain.schema import Role
from fabrik_node.errors import AuthError, Conflict, NotFound, UsageError
from fabrik_node.node.knocks import AGE_S, COUNT_MAX, PER_ADDRESS_MAX

HERE = "10.0.0.7"


@pytest.fixture
async def rigs() -> AsyncIterator[Rigs]:
    made = Rigs()
    yield made
    await made.close()


def key(number: int) -> bytes:
    return SigningKey.from_seed(number.to_bytes(32, "big")).public


def knock(rig: NodeRig, public: bytes, address: str = HERE, name: str = "ada") -> str:
    return rig.node.knock(public, name, b"", address).code


@pytest.mark.promise("F5")
async def test_who_knocks_waits_until_an_operator_lets_it_in(rigs: Rigs) -> None:
    rig, stranger = await rigs.open(), rigs.keys[7]
    commitment = next_key(b"n" * 32)
    before = rig.facts()
    answer = rig.node.knock(stranger.public, "ada", commitment, HERE)
    assert (answer.code, answer.genesis) == ("approval_pending", b"")
    assert f"fabrik-node nodes approve {stranger.public.hex()[:16]}" in answer.hint
    rigs.clock.advance(30)
    assert knock(rig, stranger.public) == "approval_pending"
    (waiting,) = (await rig.call("nodes.pending"))["pending"]
    assert (waiting["node"], waiting["name"], waiting["address"], waiting["waits_s"], waiting["last_s"]) == (stranger.public.hex(), "ada", HERE, 30, 0)
    assert (await rig.call("nodes.list"))["pending"] == [waiting]
    assert any("1 node waits to be let in" in line for line in (await rig.call("status"))["warnings"])
    assert rig.facts() == before, "a knock writes nothing"
    answered = await rig.call("nodes.approve", key=waiting["fingerprint"], role="peer")
    assert (answered["node"], answered["role"], answered["state"]) == (stranger.public.hex(), "peer", "approved")
    assert rig.node.replica.member(stranger.public).role == Role.PEER
    assert rig.node.knock(stranger.public, "ada", b"", HERE).genesis == rigs.genesis
    assert (await rig.call("nodes.pending"))["pending"] == []
    assert [(join.token_id, join.key) for join in await rig.node.store.joins()] == [(b"", stranger.public)]
    guest = await rigs.open(7)
    await sync(rig, guest)
    await guest.add("as a peer")
    told = await rig.events_until("node.joined")
    assert (told[0].data["key"], told[0].data["role"], told[0].data["invitation"]) == (stranger.public.hex(), "peer", None)


@pytest.mark.promise("E28")
async def test_who_was_approved_as_an_agent_is_held_to_that(rigs: Rigs) -> None:
    rig, stranger = await rigs.open(), rigs.keys[7]
    knock(rig, stranger.public)
    await rig.call("nodes.approve", key=stranger.public.hex())
    guest = await rigs.open(7)
    await sync(rig, guest)
    with pytest.raises(AuthError, match="takes the role peer"):
        await guest.add("not an agent's business")


async def test_who_was_rejected_is_told_so_and_may_come_with_a_token(rigs: Rigs) -> None:
    rig = await rigs.open()
    knock(rig, key(1))
    answer = await rig.call("nodes.reject", key=key(1).hex()[:8])
    assert (answer["node"], answer["state"]) == (key(1).hex(), "rejected")
    assert knock(rig, key(1)) == "knock_rejected"
    assert (await rig.call("nodes.pending"))["pending"] == []
    for op in ("nodes.approve", "nodes.reject"):
        for unknown in (key(1).hex(), "", "abcd", "zz", "all"):
            with pytest.raises(NotFound, match="waits for approval here"):
                await rig.call(op, key=unknown)


@pytest.mark.promise("I18")
async def test_the_queue_is_bounded_in_count_by_address_and_by_age(rigs: Rigs) -> None:
    rig = await rigs.open()
    for number in range(PER_ADDRESS_MAX):
        assert knock(rig, key(100 + number), f"2001:db8::{number:x}") == "approval_pending"
    assert knock(rig, key(99), "2001:db8::ffff:1") == "knocks_full", "one network of 64 bits is one stranger"
    assert knock(rig, key(100), "2001:db8::ffff:1") == "approval_pending", "who waits keeps its place"
    for number in range(COUNT_MAX - PER_ADDRESS_MAX):
        assert knock(rig, key(1_000 + number), f"10.0.{number}.1") == "approval_pending"
    assert knock(rig, key(98), "10.1.1.1") == "knocks_full"
    assert (rig.node.knocks.taken, rig.node.knocks.full, len(rig.node.knocks.waiting())) == (COUNT_MAX, 2, COUNT_MAX)
    assert len(await rig.events_until("node.knocked", 20)) == 20
    rigs.clock.advance(AGE_S - 1)
    assert knock(rig, key(100), "2001:db8::1") == "approval_pending"
    rigs.clock.advance(1)
    assert [each.key for each in rig.node.knocks.waiting()] == [key(100)]
    assert rig.node.knocks.aged == COUNT_MAX - 1
    await rig.stop()
    assert len(await rig.events("node.knocked")) == 20, "events are kept for ever, so a flood is told in part"


async def test_only_at_an_admin_and_never_again_for_a_revoked_key(rigs: Rigs) -> None:
    admin, other = await rigs.open(), await rigs.open(1)
    await sync(admin, other)
    assert knock(other, key(5)) == "not_admin"
    assert knock(admin, other.node.public) == "welcome"
    await admin.call("nodes.revoke", key=other.node.public.hex())
    assert knock(admin, other.node.public) == "knock_rejected"
    knock(admin, key(6))
    with pytest.raises(UsageError, match="one of reader, agent, peer"):
        await admin.call("nodes.approve", key=key(6).hex(), role="admin")
    knock(admin, bytes.fromhex(key(6).hex()[:8]) + bytes(28))
    with pytest.raises(Conflict, match="ambiguous"):
        await admin.call("nodes.approve", key=key(6).hex()[:8])
