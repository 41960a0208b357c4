"""A node whose own log has two histories: it writes nothing, and it asks nobody for what it could not write down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from node_rig import FakeArbiter, NodeRig, Rigs, sync

from fabrik_node.domain.token import JoinToken
from fabrik_node.errors import Conflict
from fabrik_node.ids import parse_id


@pytest.fixture
async def rigs() -> AsyncIterator[Rigs]:
    made = Rigs()
    yield made
    await made.close()


def halt(rig: NodeRig) -> None:
    """As if a peer had shown another history of our log."""
    rig.node.saw_fork(rig.node.public, rig.node.epoch, 3, b"\x01" * 32)


def raw(item: str) -> bytes:
    found = parse_id(item)
    assert found is not None
    return found


@pytest.mark.promise("I5")
async def test_a_halted_node_claims_nothing_at_the_arbiter(rigs: Rigs) -> None:
    arbiter = FakeArbiter()
    one, two = await rigs.open(0, arbiter=arbiter), await rigs.open(1, arbiter=arbiter)
    item = await one.add("work")
    await sync(one, two)
    halt(two)
    assert two.pipeline.candidates([]) == []
    with pytest.raises(Conflict, match="two histories"):
        await two.pipeline.claim(raw(item), "agent")
    assert arbiter.held == {}
    await one.pipeline.claim(raw(item), "agent")
    await sync(one, two)
    with pytest.raises(Conflict, match="two histories"):
        await two.call("claims.release", item=item)
    assert arbiter.held[item].state == "held"


async def test_a_claim_that_can_not_be_confirmed_is_renewed_no_more(rigs: Rigs) -> None:
    one = await rigs.open(0)
    item = await one.add("work")
    claiming = asyncio.create_task(one.pipeline.claim(raw(item), "agent"))
    while one.node.board.claim(raw(item)) is None:
        await asyncio.sleep(0)
    halt(one)
    with pytest.raises(Conflict, match="two histories"):
        await claiming
    one.node.presence.publish({})
    assert one.node.presence.heard()[one.node.public].payload["leases"] == []


async def test_an_invitation_is_not_used_up_by_a_node_that_can_not_admit(rigs: Rigs) -> None:
    one = await rigs.open(0)
    invited = await one.call("invite", role="agent", url="ws://127.0.0.1:7000/crdt-sync")
    token = JoinToken.decode(invited["token"])
    halt(one)
    with pytest.raises(Conflict, match="two histories"):
        await one.node.redeem(token.token_id, b"\x07" * 32, lambda secret: secret == token.secret)
    assert await one.node.store.invite(token.token_id) is not None
