"""Who was put out of the mesh, and asks to be let in again: by a token or by an approval."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from node_rig import NodeRig, Rigs, sync

from fabrik_node._core import SigningKey, next_key
from fabrik_node.domain.schema import Kind, MemberField, Role
from fabrik_node.domain.token import JoinToken
from fabrik_node.errors import AuthError, Precondition
from fabrik_node.node import member_records

_NEXT = next_key(SigningKey.from_seed(b"\x61" * 32).public)


@pytest.fixture
async def rigs() -> AsyncIterator[Rigs]:
    made = Rigs()
    yield made
    await made.close()


async def titles(rig: NodeRig) -> set[str]:
    return {item["title"] for item in (await rig.call("items.list"))["items"]}


async def invited(admin: NodeRig, **args: object) -> JoinToken:
    admin.listen_url = "ws://127.0.0.1:9/crdt-sync"
    return JoinToken.decode((await admin.call("invite", **args))["token"])


async def redeem(admin: NodeRig, token: JoinToken, key: bytes, commitment: bytes = b"") -> None:
    await admin.node.redeem(token.token_id, key, lambda secret: secret == token.secret, commitment)


async def come_in(admin: NodeRig, way: str, key: bytes, role: str, commitment: bytes = b"") -> None:
    if way == "approval":
        assert admin.node.knock(key, "its own word", commitment, "1.2.3.4").code == "approval_pending"
        await admin.call("nodes.approve", key=key.hex(), role=role)
    else:
        await redeem(admin, await invited(admin, role=role), key, commitment)


@pytest.mark.promise("I14", "F5")
@pytest.mark.parametrize("commitment", [b"", next_key(b"\x62" * 32)], ids=["no new commitment", "a new commitment"])
@pytest.mark.parametrize("way", ["token", "approval"])
async def test_who_comes_back_with_another_role_keeps_what_it_wrote(rigs: Rigs, way: str, commitment: bytes) -> None:
    admin, other, friend = await rigs.open(), await rigs.open(1), await rigs.open(2)
    key = other.node.public
    record = {1: int(Role.PEER), 2: "ada", 5: _NEXT}
    await admin.node.write(("member", key), lambda: [(Kind.MEMBER, key, MemberField.RECORD, record, None)])
    await sync(admin, other)
    await other.add("kept")
    await sync(admin, other)
    await admin.call("nodes.retire", key=key.hex())
    assert not admin.node.is_admitted(key)
    await come_in(admin, way, key, "reader", commitment)
    assert (admin.node.is_admitted(key), admin.node.replica.member(key).role) == (True, Role.READER)
    await sync(admin, other, friend)
    for rig in (admin, other, friend):
        assert await titles(rig) == {"kept"}
        assert rig.node.replica.state_digest() == admin.node.replica.state_digest()
    now = admin.node.replica.row(Kind.MEMBER, key)[MemberField.RECORD]
    assert (now[2], now[5]) == ("ada", commitment or _NEXT)


async def test_who_comes_back_with_too_much_is_told(rigs: Rigs, monkeypatch: pytest.MonkeyPatch) -> None:
    admin, other = await rigs.open(), await rigs.open(1)
    await other.add("kept")
    await sync(admin, other)
    await admin.call("nodes.retire", key=other.node.public.hex())
    monkeypatch.setattr(member_records, "PLACES_MAX", 0)
    token, before = await invited(admin), admin.facts()
    with pytest.raises(Precondition, match="has 1 heads, and a member record has room for 0"):
        await redeem(admin, token, other.node.public)
    assert admin.facts() == before
    assert [each["uses"] for each in (await admin.call("invitations.list"))["invitations"]] == [0]


@pytest.mark.promise("F5", "I14")
async def test_a_revoked_key_uses_no_invitation_and_writes_nothing(rigs: Rigs) -> None:
    admin, thief = await rigs.open(), await rigs.open(1)
    stranger = rigs.keys[7].public
    admin.node.knock(stranger, "waits", b"", "1.2.3.4")
    await admin.call("nodes.revoke", key=thief.node.public.hex())
    token = await invited(admin, reusable=True)
    before = admin.facts()
    for _ in range(2):
        with pytest.raises(AuthError, match="put out of the mesh for good") as refused:
            await redeem(admin, token, thief.node.public)
        assert "fabrik-node --home DIR join TOKEN" in refused.value.hint
    assert admin.facts() == before
    (line,) = (await admin.call("invitations.list"))["invitations"]
    assert (line["uses"], line["joined"]) == (0, [])
    await admin.node.write(("member", stranger), lambda: [(Kind.MEMBER, stranger, MemberField.RECORD, {1: int(Role.AGENT)}, None)])
    await admin.call("nodes.revoke", key=stranger.hex())
    before = admin.facts()
    with pytest.raises(AuthError, match="put out of the mesh for good"):
        await admin.call("nodes.approve", key=stranger.hex(), role="agent")
    assert admin.facts() == before
    assert await admin.node.store.joins() == []


@pytest.mark.promise("F5")
async def test_a_revocation_that_comes_while_the_use_is_counted_lets_nobody_in(rigs: Rigs, monkeypatch: pytest.MonkeyPatch) -> None:
    admin, stranger = await rigs.open(), rigs.keys[7].public
    token, use = await invited(admin), admin.node.store.use_invite

    async def slow(*args: object) -> bool:
        out = {1: int(Role.NONE), 3: [1, 1, bytes(32)]}
        await admin.node.write(("member", stranger), lambda: [(Kind.MEMBER, stranger, MemberField.RECORD, out, None)])
        return await use(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(admin.node.store, "use_invite", slow)
    with pytest.raises(AuthError, match="put out of the mesh for good"):
        await redeem(admin, token, stranger)
    assert not admin.node.is_admitted(stranger)
    assert await admin.events("node.joined") == []


@pytest.mark.promise("F5")
async def test_a_member_uses_no_invitation(rigs: Rigs) -> None:
    admin, stranger = await rigs.open(), rigs.keys[7].public
    token = await invited(admin, reusable=True)
    for _ in range(3):
        await redeem(admin, token, stranger, _NEXT)
    (line,) = (await admin.call("invitations.list"))["invitations"]
    assert (line["uses"], [each["node"] for each in line["joined"]]) == (1, [stranger.hex()])


async def test_who_was_counted_and_never_written_is_not_shown_as_joined(rigs: Rigs) -> None:
    admin = await rigs.open()
    token = await invited(admin)
    assert await admin.node.store.use_invite(token.token_id, rigs.keys[7].public, 5)
    (line,) = (await admin.call("invitations.list", all=True))["invitations"]
    assert (line["state"], line["joined"]) == ("used", [])


@pytest.mark.promise("F5")
async def test_a_waiting_key_keeps_what_an_operator_saw_of_it(rigs: Rigs) -> None:
    admin, stranger = await rigs.open(), rigs.keys[7].public
    admin.node.knock(stranger, "ada", _NEXT, "1.2.3.4")
    admin.node.knock(stranger, "the admin's own laptop", next_key(b"\x63" * 32), "1.2.3.5")
    (waiting,) = admin.node.knocks.waiting()
    assert (waiting.name, waiting.next_commitment, waiting.address) == ("ada", _NEXT, "1.2.3.5")
