"""``items requeue`` of an archived item: back to the stage that it left."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from node_rig import TIMING, NodeRig, Rigs, sync

from fabrik_node._core import Replica, Touch
from fabrik_node.domain.claims import Claim
from fabrik_node.domain.schema import NOWHERE, ItemField, Kind, MemberField, Role
from fabrik_node.domain.stages import REASON_NAMES, Backlog, Coding, Merge, Qa, Stage, encode_stage
from fabrik_node.errors import IllegalMove, Precondition
from fabrik_node.ids import parse_id, show_id


@pytest.fixture
async def rigs() -> AsyncIterator[Rigs]:
    made = Rigs()
    yield made
    await made.close()


def stage_of(rig: NodeRig, item: str) -> Stage:
    return rig.node.board.stage(parse_id(item) or b"")


@pytest.mark.promise("E4")
@pytest.mark.parametrize(
    ("way", "back"), [([], Backlog), (["Coding"], Coding), (["Coding", "Qa"], Qa), (["Coding", "Qa", "Coding"], Coding), (["Coding", "Qa", "Merge"], Merge)]
)
@pytest.mark.parametrize("reason", ["ReviewHeld", "Blocked", "MergeFailed"])
async def test_it_returns_to_the_stage_that_it_left(rigs: Rigs, way: list[str], back: type[Stage], reason: str) -> None:
    rig = await rigs.open()
    item = await rig.add("under review")
    for stage in way:
        more = {"branch": "feature", "commits_ahead": 1} if stage == "Merge" else {}
        await rig.service.call("items.move", {"id": item, "to": stage, **more})
    for _ in range(2):
        await rig.service.call("items.move", {"id": item, "to": "Archived", "reason": reason})
        answer = await rig.service.call("items.requeue", {"id": item})
        assert isinstance(stage_of(rig, item), back)
        assert answer["item"]["stage"] == back.name
        assert answer["note"].startswith(f"goes on in {back.name}")


@pytest.mark.promise("E4")
async def test_finished_work_comes_back_as_it_was_or_is_left_on_its_branch_on_demand(rigs: Rigs) -> None:
    rig = await rigs.open()
    item = await rig.add("under review")
    for stage, more in (("Coding", {}), ("Qa", {}), ("Merge", {"branch": "feature", "commits_ahead": 2}), ("Archived", {"reason": "MergeFailed"})):
        await rig.service.call("items.move", {"id": item, "to": stage, **more})
    await rig.service.call("items.requeue", {"id": item})
    assert stage_of(rig, item) == Merge("feature", 2)
    await rig.service.call("items.move", {"id": item, "to": "Archived", "reason": "ReviewHeld"})
    answer = await rig.service.call("items.requeue", {"id": item, "anew": True})
    assert stage_of(rig, item) == Backlog()
    assert answer["note"].startswith("begins anew in Backlog: the next run starts at the base")


@pytest.mark.promise("J6")
@pytest.mark.parametrize("reason", list(REASON_NAMES.values()))
@pytest.mark.parametrize("held", [False, True])
async def test_what_why_says_of_the_archive_is_accepted_as_it_stands(rigs: Rigs, reason: str, held: bool) -> None:
    rig = await rigs.open()
    item = await rig.add("put away")
    for stage in ("Coding", "Qa"):
        await rig.service.call("items.move", {"id": item, "to": stage})
    if held:
        hold = {"reason": "look at it", "since_ms": 1}
        await rig.node.write("item", lambda: [(Kind.ITEM, parse_id(item) or b"", ItemField.HOLD, hold, None)])
    await rig.service.call("items.move", {"id": item, "to": "Archived", "reason": reason})
    (cause,) = (await rig.service.call("why", {"id": item}))["causes"]
    assert cause["code"] == "archived"
    if not cause["next"]:
        for way in ("Backlog", "Coding", "Qa"):
            with pytest.raises(IllegalMove):
                await rig.service.call("items.move", {"id": item, "to": way})
        return
    program, group, command, named = cause["next"].split()
    assert (program, named) == ("fabrik-node", item)
    await rig.service.call(f"{group}.{command}", {"id": named})
    assert isinstance(stage_of(rig, item), Qa), "it goes on where it stood"
    assert (await rig.service.call("why", {"id": item}))["state"] == "no_agent"


async def test_what_is_finished_or_given_up_does_not_return(rigs: Rigs) -> None:
    rig = await rigs.open()
    item = await rig.add("given up")
    await rig.service.call("items.move", {"id": item, "to": "Archived", "reason": "Abandoned"})
    before = rig.facts()
    with pytest.raises(Precondition, match="is in Archived, and nobody holds it"):
        await rig.service.call("items.requeue", {"id": item})
    assert rig.facts() == before


@pytest.mark.promise("E4")
@pytest.mark.parametrize("role", [Role.READER, Role.NONE])
async def test_an_op_without_effect_is_not_the_stage_that_it_left(rigs: Rigs, role: Role) -> None:
    """By one who turns out to have been a reader only, or to be out, with nothing of it kept."""
    rig = await rigs.open()
    item = parse_id(await rig.add("under review")) or b""
    await rig.call("items.move", id=show_id(item), to="Coding")
    other = rigs.keys[7]

    async def said_to_be(role: Role, more: dict[int, Any]) -> None:
        await rig.node.write(other.public, lambda: [(Kind.MEMBER, other.public, MemberField.RECORD, {1: int(role), **more}, None)])

    await said_to_be(Role.AGENT, {})
    elsewhere = Replica(rigs.genesis)
    elsewhere.load([row.data async for batch in rig.node.store.load() for row in batch])
    forged = elsewhere.draft(other, 1).append([(Kind.ITEM, item, ItemField.STAGE, encode_stage(Merge("fabrik/forged", 1)), None)], 1)
    await rig.node.ingest([each.data for each in forged], other.public)
    assert rig.node.board.stage(item) == Merge("fabrik/forged", 1)
    await rig.call("items.move", id=show_id(item), to="Archived", reason="Blocked")
    await said_to_be(role, {3: NOWHERE})
    assert other.public in {touch.author for touch in await rig.reader.touches(item)}, "it is in the log"
    answer = await rig.call("items.requeue", id=show_id(item))
    assert (rig.node.board.stage(item), answer["note"][:17]) == (Coding(), "goes on in Coding")


@pytest.mark.promise("E4")
async def test_it_returns_to_the_stage_of_the_claim_that_won(rigs: Rigs) -> None:
    """Of two rivals with one epoch: the one whose claim won, though the other one wrote later."""
    async with rigs.pair(arbiter=None) as (one, other):
        for _ in range(8):  # by chance the winner is one or the other
            item = parse_id(await one.add()) or b""
            await sync(one, other)
            for rig, branch in ((one, "fabrik/one"), (other, "fabrik/other")):
                claim = await rig.pipeline.claim(item, "agent")
                assert isinstance(claim, Claim)
                for stage in (Coding(), Qa(), Merge(branch, 1)):
                    await rig.pipeline.move(item, stage, claim)
                if rig is other:
                    await rig.pipeline.change_branch(item, Merge(branch, 2), claim)
            await sync(one, other)
            left = one.node.board.stage(item)
            await one.call("items.move", id=show_id(item), to="Archived", reason="Blocked")
            await one.call("items.requeue", id=show_id(item))
            assert one.node.board.stage(item) == left


@pytest.mark.promise("E4", "I15")
@pytest.mark.parametrize("moves", [False, True])
async def test_it_does_not_return_to_the_late_move_of_a_superseded_holder(rigs: Rigs, moves: bool) -> None:
    async with rigs.pair() as (old, new):
        item = parse_id(await old.add()) or b""
        claim = await old.pipeline.claim(item, "agent")
        assert isinstance(claim, Claim)
        await old.pipeline.move(item, Coding(), claim)
        await sync(old, new)
        new.watch(TIMING.takeover_after_s(TIMING.ttl_s) + TIMING.beat_s)
        after = await new.pipeline.claim(item, "agent")
        assert isinstance(after, Claim)
        if moves:
            await new.pipeline.move(item, Qa(), after)
        await old.pipeline.move(item, Qa(), claim)
        await old.pipeline.move(item, Merge("old", 1), claim)
        await sync(old, new)
        await old.call("items.move", id=show_id(item), to="Archived", reason="Blocked")
        answer = await old.call("items.requeue", id=show_id(item))
        assert old.node.board.stage(item) == (Qa() if moves else Coding())
        assert answer["item"]["stage"] == ("Qa" if moves else "Coding")


@pytest.mark.promise("E4")
async def test_it_returns_to_where_a_person_had_sent_it_in_the_moment_of_a_claim_that_came_to_nothing(rigs: Rigs) -> None:
    async with rigs.pair() as (one, two):
        item = await one.add("found wanting")
        whole = parse_id(item) or b""
        for stage, more in (("Coding", {}), ("Qa", {}), ("Merge", {"branch": "bad", "commits_ahead": 1})):
            await one.call("items.move", id=item, to=stage, **more)
        await sync(one, two)
        claim = await two.pipeline.claim(whole, "agent")
        assert isinstance(claim, Claim)
        await one.call("items.requeue", id=item, anew=True)
        await two.pipeline.finish(whole, claim, "cancelled", {}, charge_attempt=False)
        await sync(one, two)
        assert (stage_of(one, item), stage_of(two, item)) == (Backlog(), Backlog())
        await two.call("items.move", id=item, to="Archived", reason="Blocked")
        await two.call("items.requeue", id=item)
        assert stage_of(two, item) == Backlog(), "and not to the branch that was rejected"


@pytest.mark.promise("E4")
async def test_without_the_op_that_archived_it_it_goes_on_in_backlog_and_that_is_said(rigs: Rigs, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = await rigs.open()
    item = await rig.add("under review")
    await rig.call("items.move", id=item, to="Coding")
    await rig.call("items.move", id=item, to="Archived", reason="Blocked")

    async def none(_item: bytes, _read: object) -> list[Touch]:
        return []

    monkeypatch.setattr(rig.reader, "touches", none)  # as when its row was set aside as damaged
    answer = await rig.call("items.requeue", id=item)
    assert stage_of(rig, item) == Backlog()
    assert answer["note"].startswith("the stage that it left can not be told from what is stored here (fabrik-node ops check), so it goes on in Backlog")
