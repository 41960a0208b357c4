"""Invitations for one node and for several: who came in by which, how they end, and that their secrets end with them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from node_rig import NodeRig, Rigs, sync

from fabrik_node._core import SigningKey
from fabrik_node.domain.token import JoinToken
from fabrik_node.errors import AuthError, NotFound, Precondition, UsageError


@pytest.fixture
async def rigs() -> AsyncIterator[Rigs]:
    made = Rigs()
    yield made
    await made.close()


async def admin(rigs: Rigs) -> NodeRig:
    rig = await rigs.open()
    rig.listen_url = "ws://127.0.0.1:9/crdt-sync"
    return rig


def key(number: int) -> bytes:
    return SigningKey.from_seed(bytes([0xC0 + number]) * 32).public


async def token(rig: NodeRig, **args: Any) -> JoinToken:
    return JoinToken.decode((await rig.call("invite", **args))["token"])


async def join(rig: NodeRig, token: JoinToken, number: int) -> None:
    await rig.node.redeem(token.token_id, key(number), lambda secret: secret == token.secret)


@pytest.mark.promise("F6")
async def test_a_reusable_invitation_lets_several_in_until_it_expires(rigs: Rigs) -> None:
    rig = await admin(rigs)
    made = await token(rig, reusable=True, role="peer", ttl_s=60)
    for number in range(3):
        await join(rig, made, number)
    (shown,) = (await rig.call("invitations.list"))["invitations"]
    assert (shown["id"], shown["role"], shown["uses"], shown["uses_max"], shown["state"]) == (made.token_id.hex(), "peer", 3, 0, "open")
    assert {each["node"] for each in shown["joined"]} == {key(number).hex() for number in range(3)}, "each join is recorded with its invitation"
    assert {event.data["invitation"] for event in await rig.events_until("node.joined", 3)} == {made.token_id.hex()}
    assert made.secret.hex() not in str(shown)
    rigs.clock.advance(60)
    with pytest.raises(AuthError, match="the invitation has expired"):
        await join(rig, made, 3)
    assert (await rig.call("invitations.list"))["invitations"] == []
    assert (await rig.call("invitations.list", all=True))["invitations"][0]["state"] == "expired"


@pytest.mark.promise("F6")
async def test_an_invitation_for_two_lets_no_third_in(rigs: Rigs) -> None:
    rig = await admin(rigs)
    made = await token(rig, max_uses=2)
    for number in range(2):
        await join(rig, made, number)
    with pytest.raises(AuthError, match="it was used"):
        await join(rig, made, 2)
    assert not rig.node.is_admitted(key(2))
    for bad in (0, -1, 10_001, 1.5, "x", True):
        with pytest.raises(UsageError, match="1 to 10000 nodes"):
            await rig.call("invite", max_uses=bad)


@pytest.mark.promise("F6", "I22")
async def test_who_is_in_stays_when_the_invitation_is_withdrawn(rigs: Rigs) -> None:
    rig = await admin(rigs)
    made = await token(rig, reusable=True)
    await join(rig, made, 0)
    answer = await rig.call("invitations.withdraw", id=made.token_id.hex()[:8])
    assert (answer["id"], answer["state"]) == (made.token_id.hex(), "withdrawn")
    with pytest.raises(AuthError, match="the invitation was withdrawn"):
        await join(rig, made, 1)
    assert rig.node.is_admitted(key(0))
    kept = await rig.node.store.invite(made.token_id)
    assert kept is not None
    assert kept.secret == b""
    with pytest.raises(Precondition, match="is over: withdrawn"):
        await rig.call("invitations.withdraw", id=made.token_id.hex())
    for unknown in ("", "abcdabcd", "z", None):
        with pytest.raises(NotFound):
            await rig.call("invitations.withdraw", id=unknown)


@pytest.mark.promise("I22")
async def test_the_secrets_of_late_invitations_are_erased_by_the_node(rigs: Rigs) -> None:
    rig = await admin(rigs)
    short, long = await token(rig, ttl_s=10), await token(rig, ttl_s=100)
    await rig.node.invitations.tidy()
    rigs.clock.advance(10)
    await rig.node.invitations.tidy()
    found = {invite.token_id: invite for invite in await rig.node.store.invites()}
    assert (found[short.token_id].secret, found[short.token_id].ended) == (b"", "expired")
    assert found[long.token_id].secret not in (b"", long.secret)
    with pytest.raises(AuthError, match="has expired"):
        await join(rig, short, 0)
    rig.node.boot_id = "another boot"
    again = type(rig.node.invitations)(rig.node)
    await again.tidy()
    found = {invite.token_id: invite for invite in await rig.node.store.invites()}
    assert (found[long.token_id].secret, found[long.token_id].ended) == (b"", "expired"), "an invitation ends with the boot"


@pytest.mark.promise("F6")
async def test_another_admin_invites_and_approves_too(rigs: Rigs) -> None:
    first, second = await admin(rigs), await rigs.open(1)
    await sync(first, second)
    second.listen_url = first.listen_url
    with pytest.raises(AuthError, match="only an admin can invite"):
        await second.call("invite")
    await first.call("nodes.role", key=second.node.public.hex(), role="admin")
    await sync(first, second)
    await join(second, await token(second, role="peer"), 0)
    assert second.node.knock(key(1), "ada", b"", "10.0.0.7").code == "approval_pending"
    await second.call("nodes.approve", key=key(1).hex())
    await sync(first, second)
    assert [first.node.is_admitted(key(number)) for number in range(3)] == [True, True, False]
