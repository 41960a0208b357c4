from __future__ import annotations

import asyncio
import subprocess

import pytest
from integration.git.forge import NodeFactory, Remote, fresh, no_pause

from fabrik_node.errors import GitFailed, Internal, Unreachable
from fabrik_node.git import ClaimRef, ClaimRefState
from fabrik_node.ports import ArbiterReceipt, ArbiterTaken


async def test_the_receipt_number_is_the_length_of_the_chain(make_node: NodeFactory, remote: Remote) -> None:
    alice, bob = await make_node("alice"), await make_node("bob")
    item, first, second = fresh(), fresh(), fresh()
    assert await alice.claims.read(item) is None
    held = await alice.claim(item, first)
    assert isinstance(held, ArbiterReceipt)
    assert held.number == 1
    released = await alice.claim(item, first, held.oid, "released")
    assert isinstance(released, ArbiterReceipt)
    again = await bob.claim(item, second, released.oid)
    assert isinstance(again, ArbiterReceipt)
    assert [held.number, released.number, again.number] == [1, 2, 3]
    assert remote.git("rev-list", f"refs/fabrik/claims/{item}").split() == [again.oid.hex(), released.oid.hex(), held.oid.hex()]
    record = await alice.claims.read(item)
    assert record is not None
    assert (record.claim_id, record.node, record.state, record.number, record.ttl_ms, record.parent) == (
        second,
        "bob",
        ClaimRefState.HELD,
        3,
        90_000,
        released.oid.hex(),
    )


async def test_a_stale_expectation_is_told_who_holds_the_item(make_node: NodeFactory) -> None:
    alice, bob = await make_node("alice"), await make_node("bob")
    item, first = fresh(), fresh()
    held = await alice.claim(item, first)
    assert isinstance(held, ArbiterReceipt)
    refused = await bob.claim(item, fresh())
    assert isinstance(refused, ArbiterTaken)
    assert (refused.claim_id, refused.node, refused.number, refused.oid, refused.state, refused.merged) == (first, "alice", 1, held.oid, "held", b"")
    assert await bob.claims.current(item) == refused
    strange = await bob.claim(item, fresh(), b"\x11" * 20)
    assert strange == refused


@pytest.mark.promise("J1")
async def test_of_eight_concurrent_claimers_exactly_one_gets_a_receipt(make_node: NodeFactory, remote: Remote) -> None:
    nodes = [await make_node(f"node{number}") for number in range(8)]
    item = fresh()
    answers = await asyncio.gather(*(node.claim(item, fresh()) for node in nodes))
    receipts = [answer for answer in answers if isinstance(answer, ArbiterReceipt)]
    assert len(receipts) == 1
    assert {answer.oid for answer in answers} == {receipts[0].oid}
    assert remote.ref(f"refs/fabrik/claims/{item}") == receipts[0].oid.hex()


async def test_of_concurrent_takeovers_exactly_one_gets_a_receipt(make_node: NodeFactory) -> None:
    nodes = [await make_node(f"node{number}") for number in range(4)]
    item = fresh()
    lost = await nodes[0].claim(item, fresh())
    answers = await asyncio.gather(*(node.claim(item, fresh(), lost.oid) for node in nodes[1:]))
    assert sorted(type(answer).__name__ for answer in answers) == ["ArbiterReceipt", "ArbiterTaken", "ArbiterTaken"]
    assert {answer.number for answer in answers} == {2}


async def test_repeating_a_claim_gives_the_same_receipt(make_node: NodeFactory, remote: Remote) -> None:
    alice = await make_node("alice")
    item, claim_id = fresh(), fresh()
    first = await alice.claim(item, claim_id)
    assert await alice.claim(item, claim_id) == first
    assert remote.git("rev-list", "--count", f"refs/fabrik/claims/{item}") == "1"


async def test_a_remote_that_is_away_is_unreachable_and_not_taken(make_node: NodeFactory, remote: Remote) -> None:
    alice = await make_node("alice")
    item = fresh()
    away = remote.path.rename(remote.path.with_name("away.git"))
    with pytest.raises(Unreachable, match="can not be reached"):
        await alice.claim(item, fresh())
    with pytest.raises(Unreachable):
        await alice.claims.read(item)
    away.rename(remote.path)
    assert isinstance(await alice.claim(item, fresh()), ArbiterReceipt)


async def test_a_hook_that_refuses_is_named_and_is_not_taken(make_node: NodeFactory, remote: Remote) -> None:
    alice = await make_node("alice")
    remote.hook("pre-receive", "exit 1")
    claims = ClaimRef(alice.repository, no_pause)
    with pytest.raises(GitFailed, match=r"refuses the push: refs/fabrik/claims/.*hook declined"):
        await claims.cas(b"", alice.intent(fresh(), fresh()))


async def test_a_ref_that_holds_no_claim_is_an_error_and_not_free(make_node: NodeFactory, remote: Remote) -> None:
    alice = await make_node("alice")
    item, other = fresh(), fresh()
    remote.git("update-ref", f"refs/fabrik/claims/{item}", "main")
    with pytest.raises(GitFailed, match="is not a claim"):
        await alice.claim(item, fresh())
    held = await alice.claim(other, fresh())
    remote.git("update-ref", f"refs/fabrik/claims/{item}", held.oid.hex())
    with pytest.raises(GitFailed, match="not the claim chain of this item"):
        await alice.claims.read(item)


async def test_a_deleted_claim_ref_is_said_and_can_be_claimed_anew(make_node: NodeFactory, remote: Remote) -> None:
    alice = await make_node("alice")
    item, claim_id = fresh(), fresh()
    held = await alice.claim(item, claim_id)
    remote.git("update-ref", "-d", f"refs/fabrik/claims/{item}")
    with pytest.raises(GitFailed, match="was deleted"):
        await alice.claim(item, claim_id, held.oid, "released")
    assert isinstance(await alice.claim(item, fresh()), ArbiterReceipt)


async def test_claim_commits_carry_no_files_and_readable_trailers(make_node: NodeFactory, remote: Remote) -> None:
    alice = await make_node("alice")
    item, claim_id = fresh(), fresh()
    await alice.claim(item, claim_id)
    ref = f"refs/fabrik/claims/{item}"
    assert remote.git("ls-tree", "-r", ref) == ""
    trailers = subprocess.run(
        ["git", "interpret-trailers", "--parse"], input=remote.git("log", "-1", "--format=%B", ref), capture_output=True, text=True, check=True
    ).stdout
    assert trailers.splitlines() == [
        f"Fabrik-Item: {item}",
        f"Fabrik-Claim: {claim_id}",
        "Fabrik-Number: 1",
        "Fabrik-Epoch: 1",
        "Fabrik-Node: alice",
        "Fabrik-Ttl-Ms: 90000",
        "Fabrik-State: held",
    ]


@pytest.mark.promise("J1")
async def test_an_operators_release_ends_the_claim_of_a_holder(make_node: NodeFactory) -> None:
    alice, operator = await make_node("alice"), await make_node("operator")
    item, claim_id = fresh(), fresh()
    held = await alice.claim(item, claim_id)
    freed = await operator.claim(item, fresh(), held.oid, "released")
    assert isinstance(freed, ArbiterReceipt)
    refused = await alice.claim(item, claim_id, held.oid, "released")
    assert isinstance(refused, ArbiterTaken)
    assert (refused.node, refused.state, refused.number) == ("operator", "released", 2)
    assert isinstance(await alice.claim(item, fresh(), freed.oid), ArbiterReceipt)
    with pytest.raises(Internal, match="there is no claim"):
        await alice.claim(fresh(), fresh(), state="released")
