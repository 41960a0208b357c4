"""``claims expire`` and ``claims keep``: an operator's word above a claim."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from node_rig import BOUND_S, FakeArbiter, FakeBranches, NodeRig, Rigs, sync

from fabrik_node.domain.claims import Claim
from fabrik_node.domain.runs import RunRow, RunState
from fabrik_node.domain.stages import Backlog, Coding, Done, Merge, Qa, Stage
from fabrik_node.errors import ClaimLost, Conflict, FabrikError, NotFound, Precondition, Unreachable, UsageError
from fabrik_node.ids import new_id, parse_id, show_id
from fabrik_node.ports import ArbiterTaken


@pytest.fixture
async def rigs() -> AsyncIterator[Rigs]:
    made = Rigs()
    yield made
    await made.close()


async def at_work(rig: NodeRig, item: str, number: int = 1) -> tuple[Claim, RunRow]:
    whole = parse_id(item) or b""
    claim = await asyncio.wait_for(rig.pipeline.claim(whole, "agent"), BOUND_S)
    assert isinstance(claim, Claim), claim
    row = RunRow(new_id(number), whole, claim.claim_id, rig.node.public, "agent", RunState.RUNNING, "coding", 1_000, branch=f"branch{number}")
    await rig.pipeline.put_run(row)
    return claim, row


def stage_of(rig: NodeRig, item: str) -> Stage:
    return rig.node.board.stage(parse_id(item) or b"")


async def refused(rig: NodeRig, error: type[FabrikError], op: str, match: str, **args: object) -> FabrikError:
    before = rig.facts()
    with pytest.raises(error, match=match) as raised:
        await rig.call(op, **args)
    assert rig.facts() == before
    assert raised.value.hint
    return raised.value


# ---- expire ----------------------------------------------------------------------------------------


async def test_whose_work_would_be_stopped_is_said_before_anything_is_changed(rigs: Rigs) -> None:
    rig = await rigs.open(arbiter=FakeArbiter())
    item = await rig.add("slow work")
    await refused(rig, Precondition, "claims.expire", "is not claimed", item=item)
    claim, row = await at_work(rig, item)
    run = show_id(row.run_id)
    error = await refused(rig, Precondition, "claims.expire", f"this stops run {run} of node0/agent on 'slow work', which is interrupted", item=item)
    assert error.hint == f"fabrik-node claims expire {item} --claim {show_id(claim.claim_id)} --yes"
    assert error.exit_status == 5
    error = await refused(rig, Conflict, "claims.expire", "is claimed by", item=item, claim="0000", yes=True)
    assert error.exit_status == 4
    await refused(rig, NotFound, "claims.expire", "no item", item="zzzzz", yes=True)
    await refused(rig, UsageError, "claims.expire", "item is missing", yes=True)


async def test_an_expired_claim_is_fenced_and_its_item_free(rigs: Rigs) -> None:
    async with rigs.pair(arbiter=FakeArbiter()) as (one, two):
        item = await one.add()
        whole = parse_id(item) or b""
        await sync(one, two)
        claim, row = await at_work(two, item)
        await two.pipeline.move(whole, Coding(), claim)
        lost: list[str] = []
        two.pipeline.on_claim_lost(claim.claim_id, lost.append)
        await sync(one, two)
        said = await one.call("claims.expire", item=item, claim=show_id(claim.claim_id)[:8], yes=True, reason="its machine burnt")
        assert said["note"].startswith(f"this stops run {show_id(row.run_id)} of node1/agent")
        assert said["note"].endswith("the remote refuses its merge from now on")
        assert (said["was"]["claim_id"], said["run"]["run_id"]) == (show_id(claim.claim_id), show_id(row.run_id))
        assert [view.id for view in one.pipeline.candidates([])] == [whole], "no lease is waited for"
        await sync(one, two)
        assert lost == ["superseded by node0 (operator): its machine burnt"]
        with pytest.raises(ClaimLost):
            await two.pipeline.move(whole, Qa(), claim)
        assert stage_of(one, item) == stage_of(two, item) == Backlog()
        await sync(one, two)
        next_claim, _ = await at_work(two, item, 2)
        assert next_claim.fence > claim.fence


async def test_finished_work_of_an_expired_claim_waits_to_be_merged(rigs: Rigs) -> None:
    rig = await rigs.open()
    item = await rig.add()
    claim, _ = await at_work(rig, item)
    merge = Merge("branch1", 2)
    for stage in (Coding(), Qa(), merge):
        await rig.pipeline.move(parse_id(item) or b"", stage, claim)
    await rig.call("claims.expire", item=item, yes=True)
    assert stage_of(rig, item) == merge
    assert len(rig.pipeline.candidates([])) == 1


async def test_when_the_remote_is_away_it_is_said_what_the_holder_can_still_do(rigs: Rigs) -> None:
    arbiter = FakeArbiter()
    rig = await rigs.open(arbiter=arbiter)
    item = await rig.add()
    await at_work(rig, item)
    arbiter.gone = Unreachable("the remote is away", "git ls-remote")
    said = await rig.call("claims.expire", item=item, yes=True)
    assert "can still merge until it hears of this" in said["note"]
    arbiter.gone = None
    other = await rig.add()
    await at_work(rig, other, 2)
    arbiter.held[other] = ArbiterTaken(1, b"m" * 20, "x", "f" * 64, "merged", 0, merged=b"m" * 20)
    await refused(rig, Conflict, "claims.expire", "was merged", item=other, yes=True)


# ---- keep ------------------------------------------------------------------------------------------


async def twice(one: NodeRig, two: NodeRig) -> tuple[str, NodeRig, Claim, NodeRig, Claim]:
    """An item on which both worked; its id, then winner and loser with their claims. The branch of node N is ``branchN``."""
    item = await one.add("twice", body="text", labels=["l?"], priority=3)
    await sync(one, two)
    claims = {rig: (await at_work(rig, item, number))[0] for number, rig in ((1, one), (2, two))}
    await sync(one, two)
    winner, loser = (one, two) if one.pipeline.is_winning(parse_id(item) or b"", claims[one].claim_id) else (two, one)
    return item, winner, claims[winner], loser, claims[loser]


@pytest.mark.promise("J3")
async def test_the_losers_work_takes_the_place_of_the_winners(rigs: Rigs) -> None:
    branches = FakeBranches(branch1=3, branch2=3)
    async with rigs.pair(branches=branches) as (one, two):
        item, winner, won, loser, lost = await twice(one, two)
        whole = parse_id(item) or b""
        await winner.pipeline.move(whole, Coding(), won)
        await sync(one, two)
        branch = "branch2" if loser is two else "branch1"
        said = await one.call("claims.keep", item=item, claim=show_id(lost.claim_id))
        assert (said["branch"], said["item"]["stage"], said["item"]["hold"]) == (branch, "Merge", None)
        assert said["note"].endswith("3 commits are to be merged")
        await sync(one, two)
        for rig in (one, two):
            assert stage_of(rig, item) == Merge(branch, 3)
            assert [view.id for view in rig.pipeline.candidates(["l"])] == [whole], "an agent may take it up, test it and merge it"
        with pytest.raises(ClaimLost):
            await winner.pipeline.move(whole, Qa(), won)
        assert not winner.pipeline.is_winning(whole, won.claim_id)
        moves = [event.data["to"] for event in await one.events("item.moved") if event.data["by"] == "node0"][-3:]
        assert moves == ["Coding", "Qa", "Merge"], "legal moves only"


@pytest.mark.promise("J3")
async def test_finished_work_of_the_winner_is_replaced_and_can_be_chosen_again(rigs: Rigs) -> None:
    async with rigs.pair(branches=FakeBranches(branch1=1, branch2=1)) as (one, two):
        item, winner, won, loser, lost = await twice(one, two)
        whole = parse_id(item) or b""
        own = "branch1" if winner is one else "branch2"
        for stage in (Coding(), Qa(), Merge(own, 1)):
            await winner.pipeline.move(whole, stage, won)
        await winner.pipeline.finish(whole, won, "conflict", {}, charge_attempt=True, hold="merge conflict")
        await sync(one, two)
        await one.call("claims.keep", item=item, claim=show_id(lost.claim_id))
        view = one.node.board.item(whole)
        assert view is not None
        assert (view.stage, view.hold, view.attempts) == (Merge("branch2" if own == "branch1" else "branch1", 1), None, 0)
        await one.call("claims.keep", item=item, claim=show_id(won.claim_id))
        assert stage_of(one, item) == Merge(own, 1), "nothing is merged yet, so the choice is still free"
        assert loser.node.board.item(whole) is not None


@pytest.mark.promise("J3")
async def test_after_the_merge_the_other_work_comes_on_top_as_an_item_of_its_own(rigs: Rigs) -> None:
    async with rigs.pair(branches=FakeBranches(branch1=2, branch2=2)) as (one, two):
        item, winner, won, loser, lost = await twice(one, two)
        whole, other = parse_id(item) or b"", show_id(lost.claim_id)
        await refused(one, Precondition, "claims.keep", "is not merged yet", item=item, claim=other, new_item=True)
        for stage in (Coding(), Qa(), Merge("own", 1), Done(1, b"m" * 20)):
            await winner.pipeline.move(whole, stage, won)
        await winner.pipeline.finish(whole, won, "ok", {}, charge_attempt=False)
        await sync(one, two)
        error = await refused(one, Precondition, "claims.keep", "can only come on top of it", item=item, claim=other)
        assert f"git revert -m 1 {b'm'.hex() * 20}" in error.hint
        said = await one.call("claims.keep", item=item, claim=other, new_item=True)
        made = said["item"]
        assert made["id"] != item
        assert (made["title"], made["body"], made["labels"], made["priority"], made["hold"]) == ("twice (other work)", "text", ["l?"], 3, None)
        assert (made["stage"], made["stage_data"]["feature_branch"]) == ("Merge", "branch2" if loser is two else "branch1")
        assert stage_of(one, item) == Done(1, b"m" * 20)
        await refused(one, Precondition, "claims.keep", "is the one that is kept", item=item, claim=show_id(won.claim_id))


async def test_what_can_not_be_kept_is_refused_with_where_the_work_may_be(rigs: Rigs) -> None:
    branches = FakeBranches()
    async with rigs.pair(branches=branches) as (one, two):
        item, _, won, loser, lost = await twice(one, two)
        other = show_id(lost.claim_id)
        name = "node1" if loser is two else "node0"
        error = await refused(one, Precondition, "claims.keep", "the remote has no branch branch", item=item, claim=other)
        assert f"its worktree on {name}" in error.hint
        branches.ahead |= {"branch1": 0, "branch2": 0}
        await refused(one, Precondition, "claims.keep", "has no commits that the base has not", item=item, claim=other)
        await refused(one, Precondition, "claims.keep", "is the one that is kept", item=item, claim=show_id(won.claim_id))
        for unknown in (show_id(new_id(77)), "zz"):
            error = await refused(one, NotFound, "claims.keep", "no claim with a run", item=item, claim=unknown)
            assert error.hint == f"fabrik-node claims show {item} --all", "a command that there is"
        await refused(one, UsageError, "claims.keep", "claim is missing", item=item)
        await one.call("items.move", id=item, to="Archived", reason="Abandoned")
        branches.ahead |= {"branch1": 1, "branch2": 1}
        error = await refused(one, Precondition, "claims.keep", "is archived", item=item, claim=other)
        assert "items add" in error.hint, "what was given up does not come back"


async def test_a_node_without_a_remote_says_that_it_did_not_look(rigs: Rigs) -> None:
    async with rigs.pair() as (one, two):
        item, _, _, loser, lost = await twice(one, two)
        row = next(row for row in await loser.reader.runs() if row.claim_id == lost.claim_id)
        await loser.pipeline.put_run(replace(row, state=RunState.SUPERSEDED, ended_ms=2_000))
        await sync(one, two)
        said = await one.call("claims.keep", item=item, claim=show_id(lost.claim_id))
        assert "no [git] remote" in said["note"]
        assert isinstance(stage_of(one, item), Merge)


async def test_a_claim_that_comes_between_the_moves_ends_them_and_the_item_is_not_taken_from_it(rigs: Rigs, monkeypatch: pytest.MonkeyPatch) -> None:
    async with rigs.pair(branches=FakeBranches(branch1=1, branch2=1)) as (one, two):
        item, _, _, _, lost = await twice(one, two)
        whole = parse_id(item) or b""
        await one.call("claims.expire", item=item, yes=True)
        await sync(one, two)
        claim = await asyncio.wait_for(two.pipeline.claim(whole, "agent"), BOUND_S)
        assert isinstance(claim, Claim)
        write = one.node.write

        async def then_it_hears(*args: object) -> object:
            done = await write(*args)  # type: ignore[arg-type]
            if one.pipeline.is_winning(whole, claim.claim_id):
                return done
            held = one.node.board.item(whole)
            assert held is not None
            assert held.hold is not None, "held on the way"
            assert one.pipeline.candidates(["l"]) == []
            await sync(one, two)
            return done

        monkeypatch.setattr(one.node, "write", then_it_hears)
        with pytest.raises(Conflict, match="changed in this moment"):
            await one.call("claims.keep", item=item, claim=show_id(lost.claim_id))
        assert one.pipeline.is_winning(whole, claim.claim_id)
        await two.pipeline.move(whole, Qa(), claim)
        await sync(one, two)
        for rig in (one, two):
            view = rig.node.board.item(whole)
            assert view is not None
            assert view.hold is None, "nor left held"
