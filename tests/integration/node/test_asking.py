"""The owner of a run is asked through the mesh, and wins over every copy; whoever can not be asked is said to be so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from line_rig import Line, a_line
from node_rig import eventually, sync

from fabrik_node.domain.claims import Claim
from fabrik_node.domain.runs import RunRow, RunState
from fabrik_node.ids import new_id, parse_id
from fabrik_node.node.inquiries import ASKS_MAX, PATIENCE_S, TELLS_MAX, Page, _Tell


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    async with a_line() as made:
        yield made


@pytest.mark.promise("B2", "B3")
async def test_the_owner_wins_over_the_copy_and_the_difference_is_shown(line: Line) -> None:
    line.owner.at_work.add(line.row.run_id)
    answer = await line.show()
    assert (answer["owner"]["answered"], answer["run"]["state"], answer["differs"]) == (True, "running", [])
    assert answer["run"]["evidence"] == "its own node says: no command runs in phase coding: the node itself is at work"
    await line.owner.node.store.put_run(replace(line.row, phase="qa"))  # what only the owner knows
    line.owner.at_work.clear()
    answer = await line.show()
    run = answer["run"]
    assert (run["state"], run["phase"], run["age_s"], run["stale"]) == ("interrupted", "qa", 0.0, False)
    assert {each["field"]: (each["here"], each["owner"]) for each in answer["differs"]} == {"state": ("running", "interrupted"), "phase": ("coding", "qa")}
    copy = await line.show(ask=False)
    assert (copy["run"]["state"], copy["run"]["phase"], copy["owner"]["asked"]) == ("running", "coding", False)


@pytest.mark.promise("B2")
async def test_a_copy_that_says_that_it_is_over_does_not_overrule_the_owner(line: Line) -> None:
    forged = replace(line.row, state=RunState.COMPLETED, ended_ms=1_700_000_005_000, exit_code=0)
    find = line.asker.reader.find_run

    async def doctored(text: str) -> RunRow:
        row = await find(text)
        return forged if row.run_id == forged.run_id else row

    line.asker.reader.find_run = doctored  # type: ignore[method-assign]
    line.owner.at_work.add(line.row.run_id)
    answer = await line.show()
    assert (answer["run"]["state"], answer["run"]["recorded_state"]) == ("running", "running")
    assert {"field": "recorded_state", "here": "completed", "owner": "running"} in answer["differs"]


async def test_who_can_not_be_asked_is_said_to_be_so(line: Line) -> None:
    line.asker.node.inquiries.patience_s = 0.0
    answer = await line.show()
    assert answer["owner"] == {"asked": True, "answered": False, "why": "its node did not answer within 0 s"}
    assert answer["run"]["state"] == "running", "the copy here"
    line.asker.node.clock.advance(31)  # type: ignore[attr-defined]
    answer = await line.show()
    assert (answer["owner"]["asked"], answer["run"]["state"]) == (False, "unreachable")


async def test_a_node_that_asks_as_much_as_it_may_says_that_it_did_not_ask(line: Line) -> None:
    thinks = asyncio.Event()
    tell = line.owner.node.inquiries.answer

    async def slowly(run_id: bytes) -> Mapping[str, Any]:
        await thinks.wait()
        return await tell(run_id)

    line.owner.node.inquiries.answer = slowly
    asking = [asyncio.create_task(line.show()) for _ in range(ASKS_MAX)]
    await eventually(lambda: len(line.asker.node.inquiries._asks) == ASKS_MAX)
    answer = await line.show()
    assert answer["owner"] == {"asked": False, "answered": False, "why": "not asked: this node has 8 questions to others under way already"}
    assert answer["run"]["state"] == "running", "the copy here"
    assert (await line.asker.call("runs.list", ask=True))["partial"] is True
    thinks.set()
    assert all(each["owner"]["answered"] for each in await asyncio.gather(*asking))


async def test_an_owner_that_lost_the_run_says_so(line: Line) -> None:
    async def none(run_id: bytes) -> RunRow | None:
        return None

    line.owner.node.store.run = none  # type: ignore[method-assign]
    answer = await line.show()
    assert answer["owner"]["why"] == "its node does not know this run"
    assert answer["differs"] == [{"field": "run", "here": "running", "owner": "not known there"}]


async def test_only_the_owner_answers_and_an_answer_is_taken_back_when_nobody_waits(line: Line) -> None:
    asker, owner = line.asker.node, line.owner.node
    thinks, tell = asyncio.Event(), owner.inquiries.answer

    async def slowly(run_id: bytes) -> Mapping[str, Any]:
        await thinks.wait()
        return await tell(run_id)

    owner.inquiries.answer = slowly
    asking = asyncio.create_task(line.show())
    await eventually(lambda: owner.inquiries._tells)
    [number] = asker.inquiries._asks
    line.relay.node.presence.publish({"tells": ["x", [1, 2, 3], [asker.public, number, {"state": "completed"}]]})
    thinks.set()
    assert (await asking)["run"]["state"] != "completed", "the relay is not the owner"
    assert owner.inquiries._tells, "it may still be on its way"
    asker.presence.publish({})
    assert owner.inquiries._tells == {}


async def test_questions_without_end_are_bounded(line: Line) -> None:
    """A member that asks more than it may gets no more, and makes nobody talk faster."""
    owner, asker = line.owner.node, line.asker.node
    beats = 0

    def counted() -> None:
        nonlocal beats
        beats += 1

    owner.inquiries._beat_now = counted
    for number in range(1, 2 * ASKS_MAX):
        asker.presence.publish({"asks": [[owner.public, 1_000 * number + each, line.row.run_id] for each in range(100)]})
        assert len(owner.inquiries._tells) <= ASKS_MAX
    await eventually(lambda: not owner.inquiries._lookups)
    assert beats <= 1, "the hand of the clock did not move"
    for key in range(TELLS_MAX):
        owner.inquiries._tells[bytes([key]) * 32, 1] = _Tell(owner.clock.now(), {"state": "running", "evidence": "x" * 200})
    asker.presence.publish({"asks": [[owner.public, 10**6, line.row.run_id]]})
    assert len(owner.inquiries._tells) <= TELLS_MAX
    assert owner.inquiries.dropped
    room = owner.presence.room({})
    assert len(owner.inquiries.part(room)["tells"]) == ASKS_MAX
    assert len(owner.inquiries.part(600)["tells"]) < ASKS_MAX
    assert owner.inquiries.part(10) == {}


async def test_one_member_with_many_questions_leaves_room_for_the_others(line: Line) -> None:
    """The relay asks eight things and never stops; the asker's one question has its place in each message."""
    owner, asker, relay = line.owner.node, line.asker.node, line.relay.node
    relay.presence.publish({"asks": [[owner.public, number, line.row.run_id] for number in range(ASKS_MAX)]})
    await eventually(lambda: not owner.inquiries._lookups)
    asker.presence.publish({"asks": [[owner.public, 1, line.row.run_id]]})
    await eventually(lambda: not owner.inquiries._lookups)
    tells = owner.inquiries.part(owner.presence.room({}))["tells"]
    assert [key for key, *_ in tells] == [relay.public, asker.public] + [relay.public] * (ASKS_MAX - 2)


async def test_an_asker_that_died_keeps_no_place(line: Line) -> None:
    owner, asker, relay = line.owner.node, line.asker.node, line.relay.node
    relay.presence.publish({"asks": [[owner.public, 1, line.row.run_id]]})
    await eventually(lambda: owner.inquiries._tells[relay.public, 1].said is not None)
    for key in range(1, TELLS_MAX):  # of nodes that were members
        owner.inquiries._tells[bytes([key]) * 32, 1] = _Tell(owner.clock.now(), {"state": "running"})
    asker.presence.publish({"asks": [[owner.public, 1, line.row.run_id]]})
    assert owner.inquiries.dropped == 1
    owner.clock.advance(2 * PATIENCE_S + 0.1)  # type: ignore[attr-defined]
    assert owner.inquiries.part(owner.presence.room({})) == {}, "nobody waits any more"
    asker.presence.publish({"asks": [[owner.public, 2, line.row.run_id]]})
    assert owner.inquiries.dropped == 1
    assert list(owner.inquiries._tells) == [(asker.public, 2)], "the silent are forgotten"


async def test_questions_that_nobody_takes_back_count_for_a_while_only(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fabrik_node.node.inquiries.TELLS_MAX", 1)
    owner, asker, relay = line.owner.node, line.asker.node, line.relay.node
    standing = {"asks": [[owner.public, 1, line.row.run_id]]}
    relay.presence.publish(standing)
    owner.clock.advance(2 * PATIENCE_S + 0.1)  # type: ignore[attr-defined]
    relay.presence.publish(standing)
    asker.presence.publish({"asks": [[owner.public, 2, line.row.run_id]]})
    assert list(owner.inquiries._tells) == [(relay.public, 1), (asker.public, 2)], "it speaks and asks still: not looked up anew with each message"
    assert owner.inquiries.dropped == 0


@pytest.mark.parametrize("odd", [None, 7, "x", [], {}, [[1, 2]], [[b"k" * 32, "n", b"r"]], [[b"k" * 32, 1]]])
async def test_odd_questions_and_answers_are_left_aside(line: Line, odd: Any) -> None:
    line.relay.node.presence.publish({"asks": odd, "tells": odd})
    line.owner.at_work.add(line.row.run_id)
    assert (await line.show())["owner"]["answered"] is True


@pytest.mark.parametrize(
    "said", [{}, {"state": "rebooting"}, {"state": 5}, {"unknown": True}, {"state": "running", "exit_code": "x", "ended_ms": -1, "phase": 7, "evidence": None}]
)
async def test_an_owner_of_another_version_may_say_anything(line: Line, said: dict[str, Any]) -> None:
    async def answer(_: bytes) -> dict[str, Any]:
        return said

    line.owner.node.inquiries.answer = answer
    shown = await line.show()
    assert shown["owner"]["answered"] is True
    assert shown["run"]["phase"] == "coding"


@pytest.mark.promise("B4")
async def test_a_hung_node_delays_a_list_by_one_patience_and_marks_its_own_runs_alone(line: Line) -> None:
    """Three hosts: the relay has a run of its own and answers, the owner has eight and hangs."""
    item = parse_id(await line.asker.add()) or b""
    await sync(line.asker, line.relay, line.owner)
    claim = await line.relay.pipeline.claim(item, "agent")
    assert isinstance(claim, Claim)
    quick = replace(line.row, run_id=new_id(9), item=item, claim_id=claim.claim_id, node=line.relay.node.public)
    await line.relay.pipeline.put_run(quick)
    for number in range(10, 17):
        await line.owner.pipeline.put_run(replace(line.row, run_id=new_id(number)))
    await sync(line.asker, line.relay, line.owner)
    line.relay.at_work.add(quick.run_id)
    for _ in range(2):
        line.relay.pipeline.renew(item, claim, quick.run_id, 1)
        line.relay.node.presence.publish({})
    asked: list[bytes] = []
    ask = line.asker.node.inquiries.ask

    async def counted(owner: bytes, run_id: bytes, page: Page | None = None) -> Mapping[str, Any] | None:
        asked.append(owner)
        return None if owner == line.owner.node.public else await ask(owner, run_id)

    line.asker.node.inquiries.ask = counted  # type: ignore[method-assign]
    answer = await line.asker.call("runs.list", ask=True)
    shown = {(run["node_name"], run["owner"]["answered"]) for run in answer["runs"]}
    assert shown == {("node1", True), ("node2", False)}
    assert answer["partial"] is True
    assert asked.count(line.owner.node.public) < 8, "one that hangs is not asked again and again"
    quiet = await line.asker.call("runs.list")
    assert ("partial" in quiet, any("owner" in run for run in quiet["runs"])) == (False, False)
