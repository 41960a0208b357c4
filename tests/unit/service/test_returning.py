"""``items requeue`` of an archived item: back to the stage that it left."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from node_rig import NodeRig, Rigs

from fabrik_node.domain.schema import ItemField, Kind
from fabrik_node.domain.stages import REASON_NAMES, Backlog, Coding, Merge, Qa, Stage
from fabrik_node.errors import IllegalMove, Precondition
from fabrik_node.ids import parse_id


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
    with pytest.raises(Precondition, match="is not held"):
        await rig.service.call("items.requeue", {"id": item})
    assert rig.facts() == before
