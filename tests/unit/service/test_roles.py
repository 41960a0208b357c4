"""What an invitation's role lets the joined node write: refused at once and here, with what to type; void everywhere when it is written all the same."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from node_rig import FakeArbiter, NodeRig, Rigs, sync

from fabrik_node._core import Replica
from fabrik_node.domain.schema import NOWHERE, ItemField, Kind, MemberField, NodeField, Role, RunField, TombstoneField, needed_role
from fabrik_node.domain.token import JoinToken
from fabrik_node.errors import AuthError, Precondition, UsageError
from fabrik_node.ids import parse_id

STRANGER = 7
"""The one key of the rigs that no record admits."""


@pytest.fixture
async def rigs() -> AsyncIterator[Rigs]:
    made = Rigs()
    yield made
    await made.close()


async def joined(rigs: Rigs, admin: NodeRig, role: str, arbiter: FakeArbiter | None = None) -> NodeRig:
    """A node that joined with a token of this role."""
    admin.listen_url = "ws://127.0.0.1:9/crdt-sync"
    token = JoinToken.decode((await admin.call("invite", role=role))["token"])
    await admin.node.redeem(token.token_id, rigs.keys[STRANGER].public, lambda secret: secret == token.secret, b"")
    rig = await rigs.open(STRANGER, arbiter=arbiter)
    await sync(admin, rig)
    return rig


@pytest.mark.promise("E28")
async def test_an_invited_agent_works_and_adds_nothing(rigs: Rigs) -> None:
    admin = await rigs.open()
    item = await admin.add("to be done")
    agent = await joined(rigs, admin, "agent")
    before = agent.facts()
    for op, args in (("items.add", {"title": "of an agent"}), ("items.edit", {"id": item, "title": "mine"}), ("tombstone", {"id": item})):
        with pytest.raises(AuthError, match="this node has the role agent, and this write takes the role peer") as refused:
            await agent.call(op, **args)
        assert refused.value.hint.startswith(f"ask an admin of the mesh (node0): fabrik-node nodes role {agent.node.public.hex()[:16]} peer")
        assert refused.value.exit_status == 7
    with pytest.raises(AuthError, match="only an admin"):
        await agent.call("nodes.revoke", key=rigs.keys[1].public.hex())
    assert agent.facts() == before, "nothing of a refused write was written"
    await agent.pipeline.claim(parse_id(item) or b"", "smith")
    await sync(admin, agent)
    assert (await admin.call("claims.list"))["claims"][0]["agent"] == "smith"


@pytest.mark.promise("E28")
async def test_a_reader_can_not_set_or_end_a_claim_not_even_at_the_remote(rigs: Rigs) -> None:
    remote = FakeArbiter()
    admin, worker = await rigs.open(arbiter=remote), await rigs.open(1, arbiter=remote)
    held, free = await admin.add("held"), await admin.add("free")
    await sync(admin, worker)
    await worker.pipeline.claim(parse_id(held) or b"", "smith")
    reader = await joined(rigs, admin, "reader", remote)
    await sync(admin, worker, reader)
    before, granted = reader.facts(), dict(remote.held)
    with pytest.raises(AuthError, match="this node has the role reader, and this write takes the role agent"):
        await reader.call("claims.release", item=held)
    with pytest.raises(AuthError, match="takes the role agent"):
        await reader.pipeline.claim(parse_id(free) or b"", "reader")
    assert (reader.facts(), remote.held) == (before, granted)


@pytest.mark.promise("E28")
async def test_another_role_binds_from_now_on_and_rewrites_nothing(rigs: Rigs) -> None:
    admin = await rigs.open()
    agent = await joined(rigs, admin, "agent")
    answer = await admin.call("nodes.role", key=agent.node.public.hex()[:12], role="peer")
    assert (answer["role"], answer["revoked"]) == ("peer", False)
    await sync(admin, agent)
    await agent.add("as a peer")
    await sync(admin, agent)
    await admin.call("nodes.role", key=agent.node.public.hex(), role="reader")
    await agent.add("written before it heard of that")
    await sync(admin, agent)
    assert {item["title"] for item in (await agent.call("items.list"))["items"]} == {"as a peer"}
    assert admin.node.replica.state_digest() == agent.node.replica.state_digest()
    for role in ("none", "king", 5, None):
        with pytest.raises(UsageError, match="one of reader, agent, peer, admin"):
            await admin.call("nodes.role", key=agent.node.public.hex(), role=role)
    await admin.call("nodes.revoke", key=agent.node.public.hex())
    with pytest.raises(Precondition, match="no member any more"):
        await admin.call("nodes.role", key=agent.node.public.hex(), role="peer")


def test_the_table_of_roles_is_the_cores(rigs: Rigs) -> None:
    """Every role against a write of each kind: what the core refuses is what the table says."""
    admin, key = rigs.keys[0], rigs.keys[1]
    item = bytes(16)
    writes = [
        (Kind.NODE, key.public, NodeField.NAME, "name", None),
        (Kind.RUN, item, RunField.SUMMARY, {"node": key.public}, None),
        (Kind.TOMBSTONE, item, TombstoneField.TOMBSTONE, {}, None),
        (Kind.ITEM, item, ItemField.TITLE, "t", None),
        (Kind.ITEM, item, ItemField.BODY, "t", None),
        (Kind.ITEM, item, ItemField.STAGE, [0], None),
        (Kind.ITEM, item, ItemField.OUTCOME, {}, None),
        (Kind.ITEM, item, ItemField.LABELS, [], None),
        (Kind.ITEM, item, ItemField.PRIORITY, 1, None),
        (Kind.ITEM, item, ItemField.DEPENDS_ON, [], None),
        (Kind.ITEM, item, ItemField.CREATED_MS, 1, None),
        (Kind.ITEM, item, ItemField.HOLD, None, None),
        (Kind.ITEM, item, ItemField.ATTEMPTS, 1, None),
        (Kind.ITEM, item, ItemField.PERSON_HOLD, None, None),
        (Kind.ITEM, item, ItemField.CLAIM_HOLD, None, None),
        (Kind.MEMBER, rigs.keys[2].public, MemberField.RECORD, {1: int(Role.READER)}, None),
    ]
    for role in (Role.READER, Role.AGENT, Role.PEER, Role.ADMIN):
        replica = Replica(rigs.genesis)
        first = replica.draft(admin, 1)
        replica.merge([*first.genesis(1), *first.append([(Kind.MEMBER, key.public, MemberField.RECORD, {1: int(role), 3: NOWHERE}, None)], 1)])
        for write in writes:
            may = role >= needed_role(write[0], write[2])
            try:
                replica.draft(key, 1).append([write], 1)
            except AuthError:
                assert not may, (role, write)
            else:
                assert may, (role, write)
