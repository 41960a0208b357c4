"""``claims show --all`` names claims without effect as such, and says why: who looks for what happened finds them, and takes none for a claim that held."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fabrik_twin.author import Author
from fabrik_twin.author import claim as said_claim
from fabrik_twin.op import Key
from node_rig import BOUND_S, NodeRig, Rigs, sync

from fabrik_node._core import HEADS_MAX, Replica, SigningKey, next_key
from fabrik_node.domain.claims import Claim, ClaimState, encode_claim
from fabrik_node.domain.schema import NOWHERE, ClaimField, ItemField, Kind, MemberField, Role
from fabrik_node.ids import parse_id, show_id


@pytest.fixture
async def rigs() -> AsyncIterator[Rigs]:
    made = Rigs()
    yield made
    await made.close()


async def claimed(rig: NodeRig, item: str) -> Claim:
    claim = await asyncio.wait_for(rig.pipeline.claim(parse_id(item) or b"", "agent"), BOUND_S)
    assert isinstance(claim, Claim), claim
    return claim


async def suspend(admin: NodeRig, worker: NodeRig) -> None:
    """By thieves of the worker's key, who made one branch too many."""
    base = Replica(admin.genesis)
    for number in range(HEADS_MAX):
        write = (Kind.ITEM, bytes([number]) * 16, ItemField.ATTEMPTS, number, None)
        (branch,) = base.draft(worker.node.key, worker.node.epoch).append([write], 5)
        await admin.node.ingest([branch.data], worker.node.public)
    assert admin.node.replica.suspended() == [(worker.node.public, worker.node.epoch)]


async def listed(rig: NodeRig, item: str) -> list[tuple[str, str, str | None]]:
    shown = (await rig.call("claims.show", item=item, all=True))["claims"]
    return [(each["claim_id"], each["label"], each["without_effect"]) for each in shown]


@pytest.mark.promise("J2")
@pytest.mark.parametrize(
    ("op", "args", "why"),
    [
        ("nodes.role", {"role": "reader"}, "has the role reader, and a claim takes the role agent"),
        ("nodes.revoke", {}, "was put out, and this is not of what was kept"),
    ],
)
async def test_a_claim_without_the_right_is_named_as_one_without_effect(rigs: Rigs, op: str, args: dict[str, Any], why: str) -> None:
    async with rigs.pair() as (admin, worker):
        item = await admin.add("wanted")
        await sync(admin, worker)
        void = await claimed(worker, item)
        await admin.call(op, key="node1", **args)
        await sync(admin, worker)
        counted = await claimed(admin, item)
        await sync(admin, worker)
        for rig in (admin, worker):
            expected = {(show_id(void.claim_id), "without effect", f"node1 {why}"), (show_id(counted.claim_id), "confirmed", None)}
            assert set(await listed(rig, item)) == expected
            shown = (await rig.call("claims.show", item=item, all=True))["claims"]
            assert [each["lease"] for each in shown if each["without_effect"]] == [None]


async def test_what_was_said_with_the_right_counts_whatever_was_said_after_it(rigs: Rigs) -> None:
    async with rigs.pair() as (admin, worker):
        item = await admin.add("wanted")
        await sync(admin, worker)
        claim = await claimed(worker, item)
        await sync(admin, worker)
        await admin.call("nodes.revoke", key="node1")
        await worker.pipeline.finish(parse_id(item) or b"", claim, "done", {"result": "done"}, charge_attempt=False)
        await sync(admin, worker)
        assert await listed(admin, item) == [(show_id(claim.claim_id), "confirmed", None)]


async def test_an_item_all_of_whose_claims_are_void_shows_them(rigs: Rigs) -> None:
    async with rigs.pair() as (admin, worker):
        item = await admin.add("wanted")
        await sync(admin, worker)
        void = await claimed(worker, item)
        await sync(admin, worker)
        await suspend(admin, worker)
        answer = await admin.call("claims.show", item=item, all=True)
        assert (answer["claim"], answer["item"]["id"], answer["conflicts"]) == (None, item, [])
        why = f"the log of {admin.node.name_of(worker.node.public)} that states it has too many branches and is suspended"
        assert await listed(admin, item) == [(show_id(void.claim_id), "without effect", why)]


async def test_a_claim_of_one_whom_no_admin_let_in_says_so(rigs: Rigs) -> None:
    """Who did was none, as it turned out."""
    async with rigs.pair() as (admin, false):
        await admin.call("nodes.role", key="node1", role="admin")
        await sync(admin, false)
        stranger = rigs.keys[7].public
        assert false.node.knock(stranger, "ada", b"", "10.0.0.7").code == "approval_pending"
        await false.call("nodes.approve", key=stranger.hex())
        guest, item = await rigs.open(7), await admin.add("wanted")
        await sync(admin, false, guest)
        void = await claimed(guest, item)
        await sync(admin, guest)
        assert await listed(admin, item) == [(show_id(void.claim_id), "confirmed", None)]
        await admin.call("nodes.revoke", key="node1", keep_nothing=True)
        assert await listed(admin, item) == [(show_id(void.claim_id), "without effect", f"{admin.node.name_of(stranger)} is no member")]


async def test_who_got_the_right_back_had_none_then(rigs: Rigs) -> None:
    async with rigs.pair() as (admin, worker):
        item = await admin.add("wanted")
        await sync(admin, worker)
        await admin.call("nodes.role", key="node1", role="reader")
        void = await claimed(worker, item)
        await sync(admin, worker)
        await admin.call("nodes.role", key="node1", role="agent")
        assert await listed(admin, item) == [(show_id(void.claim_id), "without effect", "node1 had no right to it then, or its op breaks a rule")]


async def test_a_claim_beside_the_rotation_of_its_key_says_so(rigs: Rigs) -> None:
    admin, old, new = await rigs.open(), rigs.keys[1], SigningKey.from_seed(b"n" * 32)
    item = await admin.add("wanted")
    record = {1: int(Role.AGENT), 3: NOWHERE, 5: next_key(new.public)}
    await admin.node.write("member", lambda: [(Kind.MEMBER, old.public, MemberField.RECORD, record, None)])
    base = Replica(admin.genesis)
    claim = Claim(claim_id=b"c" * 16, epoch=1, receipt=0, state=ClaimState.CONFIRMED, node=old.public, agent="agent", ttl_ms=90_000, incarnation="boot:1:1")
    (turn,) = base.draft(old, 7).rotate(new, None, [], 1_700_000_000_000)
    (beside,) = base.draft(old, 7).append([(Kind.CLAIM, parse_id(item) or b"", ClaimField.CLAIM, encode_claim(claim), None)], 5)
    for data in (turn.data, beside.data):
        await admin.node.ingest([data], old.public)
    ((_, label, why),) = await listed(admin, item)
    assert label == "without effect"
    assert (why or "").endswith("had rotated its key, and this was written with the old one")


async def test_what_is_stored_and_not_merged_yet_is_not_called_void(rigs: Rigs) -> None:
    """A reader may look between the two."""
    async with rigs.pair() as (admin, worker):
        item = await admin.add("wanted")
        await sync(admin, worker)
        counted = await claimed(admin, item)
        await claimed(worker, item)
        replica, author, epoch = admin.node.replica, worker.node.public, worker.node.epoch
        ((branch, after),) = worker.node.replica.cursors(author, epoch, replica.places(author, epoch))
        rows, _ = await worker.node.read(author, epoch, branch, after, 262_144)
        await admin.node.store.append(replica.chain(replica.verify([row.data for row in rows])).chained)
        assert await listed(admin, item) == [(show_id(counted.claim_id), "confirmed", None)]


async def test_a_broken_claim_is_named_and_what_is_no_claim_at_all_breaks_no_list(rigs: Rigs) -> None:
    async with rigs.pair() as (admin, worker):
        item, key = parse_id(await admin.add("wanted")) or b"", Key(bytes([2]) * 32)
        assert key.public == worker.node.public
        author = Author(rigs.genesis, key, epoch=3)
        strange: list[dict[int, Any]] = [{}, {7: "long"}, {1: []}, {1: b"short"}, {2: "one"}, {11: 5}, {9: {}}]
        for number, part in enumerate(strange):
            value = said_claim(key.public, bytes([number + 1]) * 16) | part
            author.op((int(Kind.CLAIM), item, 1, value, None), (int(Kind.ITEM), item, int(ItemField.TITLE), 5, None))  # no title is a number
        await admin.node.ingest([author.cut()], key.public)
        shown = (await admin.call("claims.show", item=show_id(item), all=True))["claims"]
        assert {each["without_effect"] for each in shown} == {"node1 had no right to it then, or its op breaks a rule"}
        assert [each["claim_id"] for each in shown] == [show_id(bytes([1]) * 16)]
