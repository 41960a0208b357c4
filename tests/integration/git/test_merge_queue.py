"""The queue of finishers: a slow one gets its turn, a dead one is passed over, and none of it can merge or lose anything by itself."""

from __future__ import annotations

import random

import pytest
from integration.git.forge import Node, NodeFactory, Remote, fresh, no_pause

from fabrik_node.errors import Precondition
from fabrik_node.git import ClaimSuperseded, Conflicts, FencedMerge, Merged, MergeRequest, Pause, fenced_merge
from fabrik_node.git.queue import line_of
from fabrik_node.ports import ArbiterReceipt

QUEUE = "refs/fabrik/merging/main/"


async def request_of(node: Node, files: dict[str, str] | None = None) -> MergeRequest:
    item, claim_id = fresh(), fresh()
    receipt = await node.claim(item, claim_id)
    assert isinstance(receipt, ArbiterReceipt)
    tree = await node.work(item, claim_id, files or {f"{item}.txt": "new\n"})
    return MergeRequest(item, claim_id, receipt.oid.hex(), await tree.head_oid(), "work")


async def merge(node: Node, request: MergeRequest, pause: Pause = no_pause) -> FencedMerge:
    return await fenced_merge(node.repository, node.claims, request, pause)


def tickets(remote: Remote) -> list[str]:
    return [ref.removeprefix(QUEUE) for ref in remote.refs() if ref.startswith(QUEUE)]


def take_ticket(remote: Remote, number: int = 1) -> str:
    """Of a finisher that we do not hear of again."""
    ref = f"{QUEUE}{number}-{fresh()}"
    remote.git("update-ref", ref, "main")
    return ref


def overtake(remote: Remote, times: int, unless: str) -> None:
    """Somebody quicker merges while a push is under way, so often, and unless the shell condition holds."""
    spare, tip = [], remote.ref("main")
    for number in range(times):
        tip = remote.git("-c", "user.name=q", "-c", "user.email=q@localhost", "commit-tree", f"{tip}^{{tree}}", "-p", tip, "-m", f"quicker {number}")
        spare.append(tip)
    moves = remote.path / "moves"
    moves.write_text("".join(f"{oid}\n" for oid in spare))
    take = f"env -u GIT_QUARANTINE_PATH git update-ref refs/heads/main $(head -1 {moves}) && sed -i 1d {moves}"
    remote.hook("pre-receive", f"grep -q refs/heads/main && [ -s {moves} ] && ! ( {unless} ) && {take}; exit 0")


async def test_a_slow_finisher_is_waited_for_by_all_that_come_after_it(make_node: NodeFactory, remote: Remote) -> None:
    """Whoever is quicker has moved the base at each of its pushes, for ever, as long as it may go first."""
    slow = await make_node("slow")
    request = await request_of(slow)
    overtake(remote, 40, unless=f'[ -n "$(git for-each-ref {QUEUE})" ]')
    assert isinstance(await merge(slow, request), Merged)
    assert len((remote.path / "moves").read_text().split()) == 39, "one try without a ticket"
    assert tickets(remote) == []


async def test_a_newcomer_waits_for_its_turn(make_node: NodeFactory, remote: Remote) -> None:
    bob = await make_node("bob")
    request = await request_of(bob)
    first, before, seen = take_ticket(remote, 7), remote.ref("main"), []

    async def pause(place: int) -> None:
        seen.append((place, tickets(remote)[-1].partition("-")[0], remote.ref("main") == before))
        if len(seen) == 3:
            remote.git("update-ref", "-d", first)

    assert isinstance(await merge(bob, request, pause), Merged)
    assert seen == [(1, "8", True)] * 3
    assert tickets(remote) == []


async def test_one_that_does_not_come_is_passed_over(make_node: NodeFactory, remote: Remote) -> None:
    bob = await make_node("bob")
    bob.claims.queue.turn_s = 0.0
    request = await request_of(bob)
    take_ticket(remote, 1)
    take_ticket(remote, 2)
    waits = iter(range(10))

    async def pause(place: int) -> None:
        assert next(waits, None) is not None, "it waits for ever"

    assert isinstance(await merge(bob, request, pause), Merged)
    assert tickets(remote) == []


async def test_one_whose_claim_is_over_is_not_waited_for(make_node: NodeFactory, remote: Remote) -> None:
    """A finisher that was killed in the queue, and whose item somebody else has claimed since: its ticket would keep everybody for half a minute."""
    alice, bob, carol = [await make_node(name) for name in ("alice", "bob", "carol")]
    dead, request = await request_of(alice), await request_of(carol)
    remote.git("update-ref", f"{QUEUE}1-{dead.claim_id}", dead.claim_oid)
    again = fresh()
    assert isinstance(await bob.claim(dead.item, again, bytes.fromhex(dead.claim_oid)), ArbiterReceipt)

    async def pause(place: int) -> None:
        raise AssertionError("it waits for a claim that is over")

    assert isinstance(await merge(carol, request, pause), Merged)
    assert tickets(remote) == []


async def test_a_claim_that_ends_while_its_ticket_is_first_is_not_waited_for_any_longer(make_node: NodeFactory, remote: Remote) -> None:
    alice, bob, carol = [await make_node(name) for name in ("alice", "bob", "carol")]
    slow, request = await request_of(alice), await request_of(carol)
    remote.git("update-ref", f"{QUEUE}1-{slow.claim_id}", slow.claim_oid)
    waits = iter(range(2))

    async def pause(place: int) -> None:
        if next(waits, None) == 1:
            assert isinstance(await bob.claim(slow.item, fresh(), bytes.fromhex(slow.claim_oid)), ArbiterReceipt)

    assert isinstance(await merge(carol, request, pause), Merged)
    assert next(waits, None) is None, "as long as it was good it was waited for"
    assert tickets(remote) == []


async def test_who_lost_its_place_takes_another(make_node: NodeFactory, remote: Remote) -> None:
    bob = await make_node("bob")
    request = await request_of(bob)
    first, mine = take_ticket(remote), []

    async def pause(place: int) -> None:
        [own] = [name for name in tickets(remote) if name.endswith(request.claim_id)]
        mine.append(own.partition("-")[0])
        remote.git("update-ref", "-d", first if len(mine) == 3 else f"{QUEUE}{own}")

    assert isinstance(await merge(bob, request, pause), Merged)
    assert mine == ["2", "3", "4"]
    assert tickets(remote) == []


async def test_a_claim_that_is_taken_away_while_it_waits_is_superseded(make_node: NodeFactory, remote: Remote) -> None:
    alice, bob = await make_node("alice"), await make_node("bob")
    request = await request_of(bob)
    take_ticket(remote)

    async def pause(place: int) -> None:
        assert isinstance(await alice.claim(request.item, fresh(), bytes.fromhex(request.claim_oid)), ArbiterReceipt)

    before = remote.ref("main")
    assert isinstance(await merge(bob, request, pause), ClaimSuperseded)
    assert remote.ref("main") == before
    assert len(tickets(remote)) == 1, "its own ticket is given back"


async def test_a_finisher_that_must_stop_waits_no_longer(make_node: NodeFactory, remote: Remote) -> None:
    bob = await make_node("bob")
    request = await request_of(bob)
    first, looks = take_ticket(remote), iter(range(3))

    def check() -> None:
        if next(looks, None) is None:
            raise Precondition("stopped")

    before = remote.ref("main")
    with pytest.raises(Precondition, match="stopped"):
        await fenced_merge(bob.repository, bob.claims, request, no_pause, check=check)
    assert remote.ref("main") == before
    assert tickets(remote) == [first.removeprefix(QUEUE)], "its own is given back"


async def test_a_conflict_gives_the_place_back(make_node: NodeFactory, remote: Remote) -> None:
    alice, bob = await make_node("alice"), await make_node("bob")
    requests = [await request_of(node, {"shared.txt": f"{node.name}\n"}) for node in (alice, bob)]
    assert isinstance(await merge(alice, requests[0]), Merged)
    first = take_ticket(remote)

    async def pause(place: int) -> None:
        remote.git("update-ref", "-d", first)

    assert isinstance(await merge(bob, requests[1], pause), Conflicts)
    assert tickets(remote) == []


@pytest.mark.parametrize("refused", ["new", "old"])
async def test_a_remote_that_takes_no_tickets_or_keeps_them_merges_all_the_same(make_node: NodeFactory, remote: Remote, refused: str) -> None:
    bob = await make_node("bob")
    requests = [await request_of(bob) for _ in range(2)]
    zeros = "0" * 40
    value = {"new": "$2", "old": "$3"}[refused]
    remote.hook("update", f'case "$1" in {QUEUE}*) [ {value} != {zeros} ];; esac')
    for request in requests:
        overtake(remote, 2, unless="false")
        assert isinstance(await merge(bob, request), Merged)
    assert len(tickets(remote)) == (refused == "old"), "the second merge took no ticket"


async def test_one_refusal_of_a_ticket_is_not_for_ever(make_node: NodeFactory, remote: Remote) -> None:
    bob = await make_node("bob")
    queue, requests = bob.claims.queue, [await request_of(bob) for _ in range(2)]
    remote.hook("update", f'case "$1" in {QUEUE}*) exit 1;; esac')
    overtake(remote, 2, unless="false")
    assert isinstance(await merge(bob, requests[0]), Merged)
    was_closed = queue.closed
    queue.rest_s = 0.0  # time passes
    assert (was_closed, queue.closed) == (True, False)
    remote.hook("update", "exit 0")
    overtake(remote, 40, unless=f'[ -n "$(git for-each-ref {QUEUE})" ]')
    assert isinstance(await merge(bob, requests[1]), Merged)
    assert len((remote.path / "moves").read_text().split()) == 39, "it took a ticket"
    assert tickets(remote) == []


def test_the_order_of_tickets_and_what_is_none() -> None:
    ids = sorted(fresh() for _ in range(2))
    names = [f"10-{ids[0]}", f"9-{ids[1]}", f"9-{ids[0]}", f"09-{ids[0]}", f"0-{ids[0]}", "later/thing", f"1-{ids[0]}x", ids[0]]
    random.Random(5).shuffle(names)
    refs = {f"{QUEUE}{name}": "ab" * 20 for name in names} | {f"refs/fabrik/claims/1-{ids[0]}": "cd" * 20}
    assert [(ticket.number, ticket.claim_id) for ticket in line_of(refs, QUEUE)] == [(9, ids[0]), (9, ids[1]), (10, ids[0])]
