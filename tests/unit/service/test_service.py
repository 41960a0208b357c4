"""Every operation of the service: what it answers, what it refuses, and that a refusal changes nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from node_rig import BOUND_S, TIMING, FakeArbiter, NodeRig, Rigs, eventually, sync

from fabrik_node.domain.claims import Claim
from fabrik_node.domain.run_state import RunSignals, RunVerdict, judge_run
from fabrik_node.domain.runs import RunRow, RunState
from fabrik_node.domain.token import JoinToken
from fabrik_node.errors import AuthError, Conflict, FabrikError, IllegalMove, NoCommits, NotFound, Precondition, Unreachable, UsageError
from fabrik_node.ids import new_id, parse_id, show_id
from fabrik_node.ports import ArbiterTaken, PeerStatus
from fabrik_node.service import run_views

OID = "ab" * 20


@pytest.fixture
async def rigs() -> AsyncIterator[Rigs]:
    made = Rigs()
    yield made
    await made.close()


async def claim_of(rig: NodeRig, item: str, agent: str = "agent") -> Claim:
    claim = await asyncio.wait_for(rig.pipeline.claim(parse_id(item) or b"", agent), BOUND_S)
    assert isinstance(claim, Claim)
    return claim


async def refused(rig: NodeRig, error: type[FabrikError], op: str, match: str = "", **args: Any) -> FabrikError:
    """The call is refused with a cause and a hint, and changes nothing."""
    before = rig.facts()
    with pytest.raises(error, match=match or None) as raised:
        await rig.call(op, **args)
    assert rig.facts() == before
    assert "\n" not in str(raised.value)
    assert raised.value.hint, raised.value
    return raised.value


# ---- items ----------------------------------------------------------------------------------------


async def test_an_item_is_added_shown_and_edited(rigs: Rigs) -> None:
    rig = await rigs.open()
    first = await rig.add("first")
    answer = await rig.call("items.add", title="second", body="text", labels=["a", "b"], priority=-3, depends_on=[first[:12], first])
    item = answer["item"]
    assert (item["title"], item["body"], item["labels"], item["priority"], item["stage"]) == ("second", "text", ["a", "b"], -3, "Backlog")
    assert item["depends_on"] == [first], "named twice is named once"
    edited = (await rig.call("items.edit", id=item["id"], title="2nd", labels=[], priority=2**63 - 1, depends_on=[]))["item"]
    assert (edited["title"], edited["labels"], edited["priority"], edited["depends_on"], edited["body"]) == ("2nd", [], 2**63 - 1, [], "text")
    assert (await rig.call("items.show", id=item["id"].upper()))["item"]["title"] == "2nd", "ids may be typed in capitals"


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ({}, UsageError),
        ({"title": ""}, UsageError),
        ({"title": "  "}, UsageError),
        ({"title": 5}, UsageError),
        ({"title": "x" * 201}, UsageError),
        ({"title": "x", "labels": "a"}, UsageError),
        ({"title": "x", "labels": [5]}, UsageError),
        ({"title": "x", "labels": ["l" * 65]}, UsageError),
        ({"title": "x", "labels": ["l"] * 33}, UsageError),
        ({"title": "x", "priority": "high"}, UsageError),
        ({"title": "x", "priority": True}, UsageError),
        ({"title": "x", "priority": 2**63}, UsageError),
        ({"title": "x", "priority": 1.5}, UsageError),
        ({"title": "x", "body": "b" * 32_769}, UsageError),
        ({"title": "x", "depends_on": ["zzzz"]}, NotFound),
        ({"title": "x", "depends_on": "zzzz"}, UsageError),
        ({"title": "x", "depends_on": [["zzzz"]]}, NotFound),
    ],
)
async def test_a_malformed_item_is_refused(rigs: Rigs, args: dict[str, Any], error: type[FabrikError]) -> None:
    await refused(await rigs.open(), error, "items.add", **args)


async def test_edits_that_change_nothing_or_what_is_not_there_are_refused(rigs: Rigs) -> None:
    rig = await rigs.open()
    item = await rig.add()
    await refused(rig, UsageError, "items.edit", "nothing to change", id=item)
    await refused(rig, UsageError, "items.edit", "id is missing", title="x")
    await refused(rig, NotFound, "items.edit", id=show_id(new_id(1)), title="x")
    await rig.call("tombstone", id=item)
    await refused(rig, NotFound, "items.edit", "was deleted", id=item, title="x")


async def test_nothing_depends_on_itself_however_long_the_way_or_however_close_in_time(rigs: Rigs) -> None:
    rig = await rigs.open()
    a = await rig.add("a")
    b = await rig.add("b", depends_on=[a])
    c = await rig.add("c", depends_on=[b])
    await refused(rig, Precondition, "items.edit", "depend on itself", id=a, depends_on=[c])
    await refused(rig, Precondition, "items.edit", "depend on itself", id=a, depends_on=[a])
    x, y = await rig.add("x"), await rig.add("y")
    both = await asyncio.gather(rig.call("items.edit", id=x, depends_on=[y]), rig.call("items.edit", id=y, depends_on=[x]), return_exceptions=True)
    assert sorted(type(each).__name__ for each in both) == ["Precondition", "dict"], "two halves of a circle at once"


async def test_ids_are_found_by_prefix_and_ambiguity_is_told(rigs: Rigs) -> None:
    rig = await rigs.open()
    items = [await rig.add(str(number)) for number in range(3)]  # one clock: the first ten characters are equal
    assert (await rig.call("items.show", id=items[1][:16]))["item"]["title"] == "1"
    error = await refused(rig, Conflict, "items.show", "ambiguous", id=items[0][:6])
    assert items[0] in str(error)
    await refused(rig, NotFound, "items.show", "at least 4 characters", id=items[0][:3])
    await refused(rig, NotFound, "items.show", "no item 'zzzzzz'", id="zzzzzz")


@pytest.mark.promise("E3")
async def test_the_list_is_filtered_by_stage_reason_label_and_hold(rigs: Rigs) -> None:
    rig = await rigs.open()
    plain, done, held = await rig.add("plain"), await rig.add("done", labels=["l"]), await rig.add("held")
    await rig.call("items.move", id=done, to="Archived", reason="merge-failed")
    claim = await claim_of(rig, held)
    await rig.pipeline.finish(parse_id(held) or b"", claim, "x", {}, charge_attempt=True, hold="why")

    async def titles(**args: Any) -> list[str]:
        return [item["title"] for item in (await rig.call("items.list", **args))["items"]]

    assert await titles() == ["plain", "done", "held"] or set(await titles()) == {"plain", "done", "held"}
    assert await titles(stage="archived") == ["done"]
    assert await titles(reason="MergeFailed") == ["done"]
    assert await titles(reason="Blocked") == []
    assert await titles(label="l") == ["done"]
    assert await titles(held=True) == ["held"]
    assert set(await titles(held=False)) == {"plain", "done"}
    limited = await rig.call("items.list", limit=1)
    assert (len(limited["items"]), limited["total"]) == (1, 3)
    for args in ({"stage": "x"}, {"reason": "x"}, {"limit": -1}, {"limit": "x"}):
        await refused(rig, UsageError, "items.list", **args)
    assert (await rig.call("items.show", id=plain))["item"]["stage"] == "Backlog"


async def test_every_legal_move_and_no_other(rigs: Rigs) -> None:
    rig = await rigs.open()
    item = await rig.add()
    await refused(rig, IllegalMove, "items.move", "Backlog to Qa", id=item, to="Qa")
    await rig.call("items.move", id=item, to="coding")
    await refused(rig, IllegalMove, "items.move", id=item, to="Coding")
    await rig.call("items.move", id=item, to="Qa")
    await refused(rig, UsageError, "items.move", id=item, to="Merge")
    await refused(rig, UsageError, "items.move", id=item, to="Merge", branch="b", commits_ahead="1")
    await refused(rig, NoCommits, "items.move", "nothing to merge", id=item, to="Merge", branch="b", commits_ahead=0)
    moved = await rig.call("items.move", id=item, to="Merge", branch="b", commits_ahead=2)
    assert moved["item"]["stage_data"] == {"feature_branch": "b", "commits_ahead": 2}
    await refused(rig, UsageError, "items.move", id=item, to="Done", merge_commit="xyz")
    await refused(rig, UsageError, "items.move", id=item, to="Done", merge_commit="abcd")
    done = await rig.call("items.move", id=item, to="Done", merge_commit=OID)
    assert done["item"]["stage_data"]["merge_commit"] == OID
    await refused(rig, UsageError, "items.move", "needs a reason", id=item, to="Archived")
    await refused(rig, UsageError, "items.move", "no archive reason", id=item, to="Archived", reason="Bored")
    await rig.call("items.move", id=item, to="Archived", reason="Completed")
    await refused(rig, IllegalMove, "items.move", "nowhere|Completed", id=item, to="Backlog")
    await refused(rig, UsageError, "items.move", "no stage", id=item, to="Limbo")


async def test_a_deleted_item_stays_deleted(rigs: Rigs) -> None:
    rig = await rigs.open()
    item = await rig.add()
    gone = await rig.call("tombstone", id=item[:20], reason="a mistake")
    assert gone["id"] == item
    await refused(rig, Precondition, "tombstone", "deleted already", id=item)
    await refused(rig, NotFound, "items.show", "never used again", id=item)
    await refused(rig, NotFound, "items.move", id=item, to="Coding")
    listed = (await rig.call("tombstones.list"))["tombstones"]
    assert [(row["id"], row["by"], row["reason"]) for row in listed] == [(item, "node0", "a mistake")]
    changes = (await rig.call("items.history", id=item))["changes"]
    assert changes[-1]["field"] == "tombstone"
    assert changes[0]["node"] == "node0"


@pytest.mark.promise("J4")
async def test_the_history_names_author_op_and_claim_of_each_change(rigs: Rigs) -> None:
    rig, other = await rigs.open(), await rigs.open(1)
    item = await rig.add("old")
    await sync(rig, other)
    claim = await claim_of(other, item)
    await other.call("items.edit", id=item, title="new")
    await sync(rig, other)
    changes = (await rig.call("items.history", id=item))["changes"]
    titles = [(change["value"], change["node"], change["won"]) for change in changes if change["field"] == "title"]
    assert titles == [("old", "node0", False), ("new", "node1", True)]
    claims = [change for change in changes if change["field"] == "claim"]
    assert {change["claim_id"] for change in claims} == {show_id(claim.claim_id)}
    assert all(len(change["digest"]) == 64 and change["author"] and change["seq"] for change in changes)
    assert [change["lamport"] for change in changes] == sorted(change["lamport"] for change in changes)
    await refused(rig, NotFound, "items.history", id="zzzzzz")


# ---- claims ---------------------------------------------------------------------------------------


async def test_a_move_of_a_claimed_item_names_whose_work_it_stops(rigs: Rigs) -> None:
    rig, other = await rigs.open(), await rigs.open(1)
    item = await rig.add()
    await sync(rig, other)
    claim = await claim_of(other, item, "robot")
    await sync(rig, other)
    lost: list[str] = []
    other.pipeline.on_claim_lost(claim.claim_id, lost.append)
    moved = await rig.call("items.move", id=item, to="Archived", reason="Blocked")
    assert (moved["superseded"]["node_name"], moved["superseded"]["agent"]) == ("node1", "robot")
    assert "node1 (robot)" in moved["note"]
    assert moved["item"]["claim"] is None
    await sync(rig, other)
    assert lost == ["superseded by node0 (operator): an operator moved the item to Archived"]
    assert (await other.call("items.show", id=item))["item"]["stage"] == "Archived"
    unclaimed = await rig.add("free")
    assert (await rig.call("items.move", id=unclaimed, to="Coding"))["superseded"] is None


async def test_a_claim_is_released_at_the_arbiter_too(rigs: Rigs) -> None:
    arbiter = FakeArbiter()
    rig = await rigs.open(arbiter=arbiter)
    item = await rig.add()
    claim = await claim_of(rig, item)
    released = await rig.call("claims.release", item=item, reason="stop")
    assert (released["was"]["claim_id"], released["claim"]["state"], released["claim"]["reason"]) == (show_id(claim.claim_id), "released", "stop")
    assert "refuses its merge" in released["note"]
    assert (arbiter.held[item].number, arbiter.held[item].state) == (2, "released")
    await refused(rig, Precondition, "claims.release", "is not claimed", item=item)
    second = await claim_of(rig, item)
    assert second.receipt == 3
    arbiter.gone = Unreachable("the remote is away")
    note = (await rig.call("claims.release", item=item))["note"]
    assert "can still merge until" in note
    assert "the remote is away" in note


async def test_a_release_that_comes_after_the_merge_is_refused(rigs: Rigs) -> None:
    arbiter = FakeArbiter()
    rig = await rigs.open(arbiter=arbiter)
    item = await rig.add()
    await claim_of(rig, item)
    arbiter.held[item] = ArbiterTaken(1, b"m" * 20, "x", "f" * 64, "merged", 0, merged=b"m" * 20)
    await refused(rig, Conflict, "claims.release", "was merged", item=item)


async def test_a_release_without_an_arbiter_says_what_it_can_not_do(rigs: Rigs) -> None:
    arbiter = FakeArbiter()
    agent, plain = await rigs.open(1, arbiter=arbiter), await rigs.open(0)
    item = await plain.add()
    await sync(agent, plain)
    await claim_of(agent, item)
    await sync(agent, plain)
    released = await plain.call("claims.release", item=item)
    assert "no [git] remote" in released["note"]
    await sync(agent, plain)
    assert (await agent.call("items.show", id=item))["item"]["claim"] is None
    for args in ({}, {"item": 5}, {"item": "zzzzz"}):
        await refused(plain, FabrikError, "claims.release", **args)


async def test_claims_are_listed_and_shown_with_their_lease_and_label(rigs: Rigs) -> None:
    rig = await rigs.open(arbiter=FakeArbiter())
    item, free = await rig.add("one"), await rig.add("two")
    claim = await claim_of(rig, item)
    listed = (await rig.call("claims.list"))["claims"]
    assert [(row["item"], row["label"], row["lease"], row["title"], row["ttl_s"]) for row in listed] == [(item, "fenced", "fresh", "one", 90)]
    assert (await rig.call("claims.show", item=item))["claim"]["claim_id"] == show_id(claim.claim_id)
    await refused(rig, NotFound, "claims.show", "never claimed", item=free)
    await rig.call("claims.release", item=item)
    assert (await rig.call("claims.list"))["claims"] == []
    assert len((await rig.call("claims.list", all=True))["claims"]) == 1


@pytest.mark.promise("J2")
async def test_each_claim_has_one_honest_label_wherever_it_is_shown(rigs: Rigs) -> None:
    settled, granted = await rigs.open(timing=replace(TIMING, settle_s=3.0)), await rigs.open(1, arbiter=FakeArbiter())
    await sync(settled, granted)

    async def labels(rig: NodeRig, item: str) -> set[str]:
        """What every answer says that shows the claim."""
        found = {(await rig.call("claims.show", item=item))["claim"]["label"]}
        found |= {row["label"] for row in (await rig.call("claims.show", item=item, all=True))["claims"]}
        found |= {row["label"] for row in (await rig.call("claims.list", all=True))["claims"] if row["item"] == item}
        found |= {shown["label"] for shown in [(await rig.call("items.show", id=item))["item"]["claim"]] if shown}
        return found | {row["claim"]["label"] for row in (await rig.call("items.list"))["items"] if row["id"] == item and row["claim"]}

    item = await settled.add("settles")
    claiming = asyncio.create_task(claim_of(settled, item))
    await eventually(lambda: settled.node.board.claim(parse_id(item) or b"") is not None)
    assert await labels(settled, item) == {"tentative"}
    await claiming
    assert await labels(settled, item) == {"confirmed"}, "nobody else is known to hold it, and nothing refuses another"
    other = await granted.add("granted")
    await claim_of(granted, other)
    await sync(settled, granted)
    for rig in (settled, granted):
        assert await labels(rig, other) == {"fenced"}, "the remote refuses everybody else"
    await granted.call("claims.release", item=other)
    assert (await granted.call("claims.show", item=other))["claim"]["label"] == "released"


async def run_of(rig: NodeRig, item: str, claim: Claim, state: RunState, number: int) -> str:
    row = RunRow(new_id(number), parse_id(item) or b"", claim.claim_id, rig.node.public, "agent", state, "coding", 1_000, branch=f"branch {number}")
    over = state is not RunState.RUNNING
    await rig.pipeline.put_run(replace(row, ended_ms=1_000 + 2_500 * number) if over else row)
    return show_id(row.run_id)


@pytest.mark.promise("J3", "J5")
async def test_work_that_was_done_twice_is_listed_alike_on_all_nodes_with_both_branches(rigs: Rigs) -> None:
    async with rigs.pair() as (one, two):
        item, other = await one.add("twice"), await one.add("once")
        await sync(one, two)
        claims = {rig: await claim_of(rig, item) for rig in (one, two)}
        runs = {rig: await run_of(rig, item, claims[rig], RunState.RUNNING, number) for number, rig in ((1, one), (2, two))}
        after = await claim_of(one, other)
        await run_of(one, other, after, RunState.FAILED, 3)
        assert (await one.call("claims.conflicts"))["conflicts"] == []
        await sync(one, two)
        winner = one if one.pipeline.is_winning(parse_id(item) or b"", claims[one].claim_id) else two
        loser = two if winner is one else one
        for rig in (one, two):
            answer = await rig.call("claims.conflicts")
            [conflict] = answer["conflicts"]
            assert (conflict["item"], conflict["title"], conflict["kind"], conflict["why"], conflict["wasted_s"]) == (
                item,
                "twice",
                "rival",
                "its hash is lower",
                None,
            )
            for side, who in (("winner", winner), ("loser", loser)):
                assert (conflict[side]["claim_id"], conflict[side]["run_id"]) == (show_id(claims[who].claim_id), runs[who])
                assert conflict[side]["branch"] == f"branch {1 if who is one else 2}"
            assert (await rig.call("claims.conflicts", item=other))["conflicts"] == []
            shown = await rig.call("claims.show", item=item, all=True)
            assert shown["conflicts"] == [conflict]
            assert {claim["claim_id"] for claim in shown["claims"]} == {show_id(claim.claim_id) for claim in claims.values()}
        row = next(row for row in await loser.reader.runs() if show_id(row.run_id) == runs[loser])
        await loser.pipeline.put_run(replace(row, state=RunState.SUPERSEDED, ended_ms=row.started_ms + 61_000))
        await sync(one, two)
        for rig in (one, two):
            answer = await rig.call("claims.conflicts", limit=1)
            assert (answer["total"], answer["wasted_s"], answer["conflicts"][0]["loser"]["state"]) == (1, 61.0, "superseded")


@pytest.mark.promise("J3")
async def test_whose_work_was_taken_over_is_listed_too(rigs: Rigs) -> None:
    rig = await rigs.open()
    item = await rig.add("taken")
    first = await claim_of(rig, item)
    await run_of(rig, item, first, RunState.SUPERSEDED, 1)
    await rig.call("claims.release", item=item, reason="by hand")
    [conflict] = (await rig.call("claims.conflicts"))["conflicts"]
    assert (conflict["kind"], conflict["why"], conflict["wasted_s"]) == ("takeover", "its epoch 2 is higher than 1", 2.5)
    assert (conflict["winner"]["run_id"], conflict["winner"]["agent"], conflict["loser"]["branch"]) == (None, "operator", "branch 1")


async def test_only_a_held_item_is_requeued(rigs: Rigs) -> None:
    rig = await rigs.open()
    item = await rig.add()
    await refused(rig, Precondition, "items.requeue", "is not held", id=item)
    await refused(rig, NotFound, "items.requeue", id="zzzzz")


# ---- the mesh, runs, status ------------------------------------------------------------------------


async def test_only_the_admin_invites_and_only_where_it_can_be_reached(rigs: Rigs) -> None:
    rig, other = await rigs.open(), await rigs.open(1)
    await refused(rig, Precondition, "invite", "does not listen", role="agent")
    other.listen_url = rig.listen_url = "ws://127.0.0.1:9/crdt-sync"
    await refused(other, AuthError, "invite", "only an admin can invite", role="agent")
    answer = await rig.call("invite", role="peer", ttl_s=60)
    token = JoinToken.decode(answer["token"])
    assert (token.issuer, token.url, token.role, answer["expires_in_s"], answer["role"]) == (rig.node.public, rig.listen_url, 3, 60, "peer")
    assert JoinToken.decode((await rig.call("invite"))["token"]).token_id != token.token_id
    for args in ({"role": "admin"}, {"role": "none"}, {"role": "x"}, {"ttl_s": 0}, {"ttl_s": -1}, {"ttl_s": 1e9}, {"ttl_s": float("nan")}, {"ttl_s": "1h"}):
        await refused(rig, UsageError, "invite", **args)


@pytest.mark.promise("I25")
async def test_every_answer_says_when_and_from_where(rigs: Rigs) -> None:
    rig = await rigs.open()
    item = await rig.add()
    await claim_of(rig, item)
    row = RunRow(new_id(1), parse_id(item) or b"", new_id(2), rig.node.public, "agent", RunState.COMPLETED, "qa", 1, ended_ms=2)
    await rig.pipeline.put_run(row)
    asked: dict[str, dict[str, Any]] = {
        "status": {},
        "items.list": {},
        "items.show": {"id": item},
        "items.history": {"id": item},
        "ops.proof": {"id": (await rig.call("items.history", id=item))["changes"][0]["digest"]},
        "ops.forks": {},
        "ops.check": {},
        "items.edit": {"id": item, "priority": 1},
        "items.move": {"id": item, "to": "Coding"},
        "claims.list": {},
        "claims.show": {"item": item, "all": True},
        "claims.conflicts": {},
        "tombstones.list": {},
        "nodes.list": {},
        "keys.list": {},
        "runs.list": {"item": item},
        "runs.show": {"id": show_id(row.run_id)},
        "items.add": {"title": "x"},
        "tombstone": {"id": item},
    }
    assert rig.reader.operations.keys() <= asked.keys(), "a new read has to be asked here, too"
    for op, args in asked.items():
        answer = await rig.call(op, **args)
        if op in rig.reader.operations:
            assert (answer["behind_ops"], answer["last_news_s"]) == (None, None), op
        assert answer["source"] == "node", op
        assert answer["node"] == "node0", op
        assert answer["as_of"] == "2023-11-14T22:13:20.000Z", op
        json.dumps(answer, allow_nan=False)


@pytest.mark.promise("I25")
async def test_every_view_says_how_far_it_is_behind(rigs: Rigs) -> None:
    rig, other = await rigs.open(), await rigs.open(1)
    await sync(rig, other)
    peer = PeerStatus("", other.node.public, "", "connected", "in", 0, 0.1, 7, lag_out=3, lag_in=4, lag_s=2.5)
    rig.node.peers = lambda: [peer, replace(peer, key=bytes(32), lag_in=2), replace(peer, state="waiting", lag_in=900)]
    other.node.presence.publish({})
    assert rig.node.ephemeral_in(other.node.presence.heard()[other.node.public].message)
    rigs.clock.advance(7)
    for op in ("items.list", "runs.list", "nodes.list", "claims.list", "status"):
        answer = await rig.call(op)
        assert (answer["peers_connected"], answer["behind_ops"], answer["last_news_s"]) == (2, 4, 7.0), op


async def test_status_counts_what_there_is(rigs: Rigs) -> None:
    rig = await rigs.open()
    for stage in ("Coding", "Archived"):
        item = await rig.add()
        await rig.call("items.move", id=item, to=stage, reason="Abandoned")
    await rig.add()
    await eventually(lambda: rig.node.stream.last > 0)
    status = await rig.call("status")
    assert status["items"] == {"Backlog": 1, "Coding": 1, "Qa": 0, "Merge": 0, "Done": 0, "Archived": 1}
    assert (status["ops"], status["registers"], status["lamport"]) == (rig.node.replica.ops, rig.node.replica.registers, rig.node.replica.lamport)
    assert status["state_digest"] == rig.node.replica.state_digest().hex()
    assert (status["node_id"], status["mesh"], status["warnings"], status["listen"], status["pid"]) == (rig.node.public.hex(), "test", [], None, 4711)


async def test_runs_are_filtered_and_their_logs_are_followed(rigs: Rigs, tmp_path: Path) -> None:
    rig, other = await rigs.open(), await rigs.open(1)
    item = await rig.add()
    log = tmp_path / "log"
    text = "one\nzwei \u00fc\nlast " + "\u20ac"
    log.write_bytes(text.encode()[:-1])
    row = RunRow(new_id(1), parse_id(item) or b"", new_id(2), rig.node.public, "agent", RunState.COMPLETED, "qa", 1, ended_ms=2, log=str(log))
    await rig.pipeline.put_run(row)
    run = show_id(row.run_id)
    for args, count in (({"node": "node0"}, 1), ({"state": "completed"}, 1), ({"state": "running"}, 0), ({"item": item}, 1)):
        assert len((await rig.call("runs.list", **args))["runs"]) == count, args
    await refused(rig, NotFound, "runs.list", node="x")
    await refused(rig, NotFound, "runs.show", id="zzzzz")
    parts = [part async for part in rig.service.stream("runs.logs", {"id": run})]
    assert "".join(part.get("text", "") for part in parts) == "one\nzwei \u00fc\nlast \ufffd", "what was cut off shows as such"
    assert parts[-1] == {"end": True, "state": "completed"}
    await rig.pipeline.put_run(replace(row, state=RunState.RUNNING, ended_ms=0))
    parts = [part async for part in rig.service.stream("runs.logs", {"id": run})]
    log.write_bytes(text.encode() + b"!")
    resumed = [part async for part in rig.service.stream("runs.logs", {"id": run, "offset": parts[-2]["offset"]})]
    assert "".join(part.get("text", "") for part in [*parts, *resumed]) == text + "!", "half a character is left to the next reader"
    rest = [part async for part in rig.service.stream("runs.logs", {"id": run, "offset": 4})]
    assert "".join(part.get("text", "") for part in rest).startswith("zwei")
    with pytest.raises(UsageError):
        _ = [part async for part in rig.service.stream("runs.logs", {"id": run, "offset": -1})]
    await sync(rig, other)
    with pytest.raises(Unreachable, match="lies on node0"):
        _ = [part async for part in other.service.stream("runs.logs", {"id": run})]
    log.unlink()
    with pytest.raises(NotFound):
        _ = [part async for part in rig.service.stream("runs.logs", {"id": run})]


@pytest.mark.promise("I20")
async def test_of_many_runs_only_those_are_judged_that_are_shown(rigs: Rigs, monkeypatch: pytest.MonkeyPatch) -> None:
    rig, other = await rigs.open(), await rigs.open(1)
    items = [await rig.add(f"item {number}") for number in range(8)]
    rows = []
    for number in range(80):
        state = RunState.RUNNING if number % 40 == 0 else RunState.COMPLETED
        rows.append(RunRow(new_id(number), parse_id(items[number % 8]) or b"", new_id(2), rig.node.public, "agent", state, "qa", 1, ended_ms=2))
        await rig.pipeline.put_run(rows[-1])
    await rig.call("tombstone", id=items[7])
    await sync(rig, other)
    shown: list[RunRow] = []
    judged: list[RunRow] = []
    show = run_views.RunViews.run

    def judge(row: RunRow, signals: RunSignals) -> RunVerdict:
        judged.append(row)
        return judge_run(row, signals)

    def counted(views: run_views.RunViews, row: RunRow, **more: Any) -> dict[str, Any]:
        shown.append(row)
        return show(views, row, **more)

    monkeypatch.setattr(run_views, "judge_run", judge)
    monkeypatch.setattr(run_views.RunViews, "run", counted)
    for asked in (rig, other):
        newest = await asked.call("runs.list", limit=10)
        assert [run["run_id"] for run in newest["runs"]] == [show_id(row.run_id) for row in reversed(rows[70:])]
        assert {run["title"] for run in newest["runs"] if run["item"] == items[7]} == {""}, "a deleted item has none"
        assert {run["title"] for run in newest["runs"] if run["item"] == items[6]} == {"item 6"}
        assert (newest["total"], len(shown), len(judged)) == (80, 10, 0), "what is over rests on its row alone"
        shown.clear()
        done = await asked.call("runs.list", limit=3, state="completed")
        assert (done["total"], len(shown), len({row.run_id for row in judged})) == (78, 3, 2), "what is not over has to be judged to be chosen"
        assert (await asked.call("runs.list", item=items[3], limit=1))["total"] == 10
        one = await asked.call("runs.show", id=show_id(rows[3].run_id).upper())
        assert one["run"]["run_id"] == show_id(rows[3].run_id)
        shown.clear()
        judged.clear()


async def test_events_are_asked_for_within_what_there_is(rigs: Rigs) -> None:
    rig = await rigs.open()
    item = await rig.add()
    told = [line async for line in rig.service.stream("events", {})]
    assert [line["item"] for line in told if line["type"] == "item.added"] == [item], "whoever was told of a write finds its event"
    last = rig.node.stream.last
    for args in ({"after": -1}, {"after": "x"}, {"limit": -1}, {"after": last + 1}):
        with pytest.raises(UsageError):
            _ = [line async for line in rig.service.stream("events", args)]
    assert [line["seq"] async for line in rig.service.stream("events", {"after": 0, "limit": 2})] == [1, 2]
    assert [line async for line in rig.service.stream("events", {"after": last})] == []


async def test_unknown_operations_are_refused(rigs: Rigs) -> None:
    rig = await rigs.open()
    await refused(rig, UsageError, "items.explode")
    with pytest.raises(UsageError):
        rig.service.stream("explode", {})


STRANGE: list[Any] = [5, -1, 1.5, True, [], ["x"], {}, {"a": 1}, "", "\x00", "z" * 26, "7" * 26, "o" * 5000, 2**70, [[[]]]]
OPS = {
    "items.add": ["title", "body", "labels", "priority", "depends_on"],
    "items.list": ["stage", "reason", "label", "held", "limit"],
    "items.show": ["id"],
    "items.edit": ["id", "title", "labels", "priority", "depends_on"],
    "items.move": ["id", "to", "branch", "commits_ahead", "merge_commit", "reason"],
    "items.requeue": ["id", "anew"],
    "items.resolve": ["id", "branch"],
    "items.history": ["id"],
    "ops.proof": ["id"],
    "claims.list": ["all", "limit"],
    "claims.show": ["item", "all"],
    "claims.conflicts": ["item", "limit"],
    "claims.release": ["item", "reason"],
    "tombstone": ["id", "reason"],
    "tombstones.list": ["limit"],
    "runs.list": ["item", "node", "state", "limit"],
    "runs.show": ["id"],
    "invite": ["role", "ttl_s", "url", "reusable", "max_uses"],
    "invitations.list": ["all"],
    "invitations.withdraw": ["id"],
    "runs.cancel": ["id", "reason"],
    "drain": ["off", "reason"],
    "runs.clean": ["dry_run"],
    "nodes.approve": ["key", "role"],
    "nodes.reject": ["key"],
    "nodes.role": ["key", "role"],
    "nodes.revoke": ["key", "keep", "keep_nothing"],
    "nodes.retire": ["key"],
}


@pytest.mark.parametrize("op", OPS)
async def test_arguments_of_any_type_are_answered_or_refused(rigs: Rigs, op: str) -> None:
    rig = await rigs.open()
    rig.listen_url = "ws://127.0.0.1:9/crdt-sync"
    for name in OPS[op]:
        for value in STRANGE:
            base = {"title": "x", "id": await rig.add(), "to": "Coding"}
            try:
                answer = await rig.call(op, **{**base, name: value})
            except FabrikError as error:
                assert error.code != "internal", (name, value, error)
            else:
                json.dumps(answer, allow_nan=False)
    assert rig.running is not None
    assert not rig.running.done()
