"""``nodes revoke`` and ``nodes retire``: what stays, what is void, and that every node ends with the same, whoever heard what first."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from node_rig import NodeRig, Rigs, sync

from fabrik_node._core import HEADS_MAX, Replica, next_key
from fabrik_node.domain.schema import ItemField, Kind, MemberField, NodeField, Role
from fabrik_node.errors import AuthError, NotFound, Precondition, UsageError
from fabrik_node.ids import fingerprint


@pytest.fixture
async def rigs() -> AsyncIterator[Rigs]:
    made = Rigs()
    yield made
    await made.close()


async def titles(rig: NodeRig) -> set[str]:
    return {item["title"] for item in (await rig.call("items.list"))["items"]}


@pytest.mark.promise("I14")
async def test_what_was_held_when_a_key_was_revoked_stays_and_the_rest_is_void_everywhere(rigs: Rigs) -> None:
    admin, thief, friend = await rigs.open(), await rigs.open(1), await rigs.open(2)
    await thief.add("trusted")
    await sync(admin, thief)
    await thief.add("after the theft")
    await sync(friend, thief)
    assert await titles(friend) == {"trusted", "after the theft"}
    key = thief.node.public
    answer = await admin.call("nodes.revoke", key=key.hex()[:12])
    assert (answer["node"], answer["revoked"], answer["kept"]) == (key.hex(), True, 1)
    await sync(admin, friend)
    late = await rigs.open(3)
    await sync(admin, friend, late)
    for rig in (admin, friend, late):
        assert await titles(rig) == {"trusted"}
        assert rig.node.replica.state_digest() == admin.node.replica.state_digest()
        assert rig.node.frontier_digest() == admin.node.frontier_digest()
        assert not rig.node.is_admitted(key)
        assert key not in rig.node.admitted()
    await sync(admin, thief)
    with pytest.raises(AuthError):
        await thief.add("told that nothing of it counts")
    again = await admin.call("nodes.revoke", key=key.hex(), keep_nothing=True)
    assert again["kept"] == 0
    assert await titles(admin) == set()


@pytest.mark.promise("I14")
async def test_a_restart_finds_what_was_revoked(rigs: Rigs) -> None:
    admin, thief = await rigs.open(), await rigs.open(1)
    await thief.add("void")
    await sync(admin, thief)
    await admin.call("nodes.revoke", key=thief.node.public.hex(), keep_nothing=True)
    digest = admin.node.replica.state_digest()
    await admin.stop()
    again = await rigs.open()
    assert (again.node.replica.state_digest(), again.node.replica.stale, await titles(again)) == (digest, False, set())


async def test_who_retires_leaves_all_that_it_wrote(rigs: Rigs) -> None:
    admin, other = await rigs.open(), await rigs.open(1)
    await other.add("kept")
    await sync(admin, other)
    answer = await admin.call("nodes.retire", key=other.node.public.hex())
    assert (answer["revoked"], admin.node.is_admitted(other.node.public), await titles(admin)) == (False, False, {"kept"})
    with pytest.raises(Precondition):
        await admin.call("nodes.retire", key=other.node.public.hex())


async def test_only_an_admin_and_only_about_others(rigs: Rigs) -> None:
    admin, other = await rigs.open(), await rigs.open(1)
    await sync(admin, other)
    for op in ("nodes.revoke", "nodes.retire"):
        before = other.facts()
        with pytest.raises(AuthError):
            await other.call(op, key=rigs.keys[2].public.hex())
        with pytest.raises(AuthError):
            await other.call(op, key=admin.node.public.hex())
        assert other.facts() == before
        with pytest.raises(UsageError, match="own key"):
            await admin.call(op, key=admin.node.public.hex())
        for key in ("", "no such node", "zz", 5):
            with pytest.raises(NotFound):
                await admin.call(op, key=key)


def thieves(thief: NodeRig, count: int) -> list[bytes]:
    """So many branches of a member's log, by somebody else who has its key, each with an op of its own."""
    base = Replica(thief.genesis)
    return [
        base.draft(thief.node.key, thief.node.epoch).append([(Kind.ITEM, bytes([number]) * 16, ItemField.TITLE, f"of the thief {number}", None)], 5)[0].data
        for number in range(count)
    ]


@pytest.mark.promise("I14")
async def test_a_revocation_gives_the_kept_part_of_a_suspended_log_back_on_every_node(rigs: Rigs) -> None:
    admin, stolen, friend = await rigs.open(), await rigs.open(1), await rigs.open(2)
    await stolen.add("of the owner")
    kept = stolen.node.replica.heads()
    await sync(admin, stolen)
    await sync(admin, friend)
    branches = thieves(stolen, HEADS_MAX + 10)
    for rig, some in ((admin, branches[:HEADS_MAX]), (friend, branches[10:])):
        for data in some:
            await rig.node.ingest([data], stolen.node.public)
        assert rig.node.replica.suspended() == [(stolen.node.public, stolen.node.epoch)]
        assert await titles(rig) == set()
    key, epoch = stolen.node.public.hex(), stolen.node.epoch
    with pytest.raises(Precondition, match=f"epoch {epoch} of .* has 65 branches and is suspended") as refused:
        await admin.call("nodes.revoke", key=key)
    assert "--keep first" in refused.value.hint
    for keep, error in (["all"], UsageError), ([f"{epoch}:999"], NotFound), ([f"{epoch}:1:70"], NotFound), (["first", 5], UsageError), ("first", UsageError):
        with pytest.raises(error):
            await admin.call("nodes.revoke", key=key, keep=keep)
    (own,) = [head for head in kept if head.author == stolen.node.public]
    answer = await admin.call("nodes.revoke", key=key, keep=["first", f"{epoch}:{own.seq}", f"{epoch}:1"])
    assert (answer["revoked"], answer["kept"]) == (True, 3)
    assert len(await admin.events_until("log.resumed")) == 1
    late = await rigs.open(3)
    await sync(admin, friend)
    await sync(friend, admin)
    await sync(admin, friend, late)
    for rig in (admin, friend, late):
        assert await titles(rig) == {"of the owner"}
        assert rig.facts()[:2] == admin.facts()[:2]
        assert (rig.node.replica.suspended(), rig.node.replica.stale) == ([], False)
    before = admin.facts()[:2]
    await admin.stop()
    again = await rigs.open()
    assert again.facts()[:2] == before
    assert not await again.node.store.damaged()


@pytest.mark.promise("I14", "F8")
async def test_a_cut_before_a_rotation_is_refused_while_the_new_key_is_a_member(rigs: Rigs) -> None:
    """It would put the new key out, too."""
    admin, old = await rigs.open(), await rigs.open(1)
    new, key = rigs.keys[7], old.node.public
    record = {1: int(Role.PEER), 3: [1, 1, bytes(32)], 5: next_key(new.public)}
    await admin.node.write(("member", key), lambda: [(Kind.MEMBER, key, MemberField.RECORD, record, None)])
    await sync(admin, old)
    drafting = Replica(admin.genesis)
    async for batch in admin.node.store.load():
        drafting.load([row.data for row in batch])
    (turn,) = drafting.draft(rigs.keys[1], old.node.epoch).rotate(new, None, [], 1_700_000_000_000)
    await admin.node.ingest([turn.data], key)
    assert admin.node.is_admitted(new.public)
    place = f"{turn.epoch}:{turn.last_seq}"
    for keep in (["nothing"], [f"{turn.epoch}:{turn.last_seq - 1}"]):
        with pytest.raises(Precondition, match="the new key is out, too") as refused:
            await admin.call("nodes.revoke", key=key.hex(), keep=keep)
        assert f"--keep {place}" in refused.value.hint
    assert (await admin.call("nodes.revoke", key=key.hex(), keep=[place]))["revoked"]
    assert admin.node.is_admitted(new.public), "what is kept holds it"
    assert (await admin.call("nodes.revoke", key=new.public.hex(), keep=["nothing"]))["revoked"]
    assert (await admin.call("nodes.revoke", key=key.hex(), keep=["nothing"]))["revoked"]


async def call_itself(rig: NodeRig, name: str) -> None:
    await rig.node.write("name", lambda: [(Kind.NODE, rig.node.public, NodeField.NAME, name, None)])


@pytest.mark.promise("I14", "F5")
async def test_a_name_never_stands_for_the_digits_of_another_key(rigs: Rigs) -> None:
    """Else a member that calls itself like the first digits of a key gets the role that was meant for that one, and another is revoked in its place."""
    admin, good, liar = await rigs.open(), await rigs.open(1), await rigs.open(2)
    key = good.node.public
    await sync(admin, good, liar)
    for name in (key.hex()[:16], fingerprint(key), key.hex()[:16].upper(), key.hex()[:4]):
        await call_itself(liar, name)
        await sync(admin, good, liar)
        assert admin.node.name_of(liar.node.public) == name
        before = admin.facts()
        for op, more in (("nodes.role", {"role": "admin"}), ("nodes.revoke", {}), ("nodes.retire", {})):
            with pytest.raises(UsageError, match="fits 2 members"):
                await admin.call(op, key=name, **more)
        assert admin.facts() == before
    await call_itself(liar, key.hex())
    await sync(admin, good, liar)
    assert (await admin.call("nodes.role", key=key.hex(), role="admin"))["node"] == key.hex(), "the whole key is never a name"
    assert (await admin.call("nodes.role", key=fingerprint(key), role="peer"))["node"] == key.hex()
    assert admin.node.replica.member(liar.node.public).role == Role.AGENT
