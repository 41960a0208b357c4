"""Questions of runs to people through the service: asked once, answered anywhere, taken by the run that asked and by nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from node_rig import BOUND_S, NodeRig, Rigs, RunDouble, eventually, sync
from store_doubles import HandClock

from fabrik_node.domain.claims import Claim
from fabrik_node.domain.requests import Request
from fabrik_node.domain.runs import RunRow, RunState
from fabrik_node.domain.schema import NOWHERE, Kind, MemberField, RequestField, Role, RunField
from fabrik_node.errors import AuthError, ClaimLost, Conflict, NotFound, Precondition, UsageError
from fabrik_node.ids import new_id, parse_id, show_id
from fabrik_node.node.pipeline import claim_write
from fabrik_node.node.requests import Requests
from fabrik_node.service.asking_people import ASKED_MAX
from fabrik_node.service.callers import RunCaller

YES_NO = ["yes", "no"]


@pytest.fixture
async def rigs() -> AsyncIterator[Rigs]:
    made = Rigs()
    yield made
    await made.close()


async def put_waiting(command: Command, request: str, state: RunState = RunState.WAITING) -> None:
    """As the agent writes it down of its run."""
    row = await command.rig.node.store.run(command.caller.run_id)
    assert row is not None
    await command.rig.pipeline.put_run(replace(row, state=state, asks=parse_id(request) or b""))


class Command:
    """The command of a run on one node, as far as it asks."""

    def __init__(self, rig: NodeRig, caller: RunCaller) -> None:
        self.rig = rig
        self.caller = caller
        self.run = rig.agent.runs[caller.run_id] = RunDouble()

    @classmethod
    async def begin(cls, rig: NodeRig, item: str) -> Command:
        """Claim the item, and be at work on it."""
        claim = await asyncio.wait_for(rig.pipeline.claim(parse_id(item) or b"", "agent"), BOUND_S)
        assert isinstance(claim, Claim)
        row = RunRow(
            new_id(1),
            claim_id=claim.claim_id,
            item=parse_id(item) or b"",
            node=rig.node.public,
            agent="agent",
            state=RunState.RUNNING,
            phase="coding",
            started_ms=1,
        )
        await rig.pipeline.put_run(row)
        return cls(rig, RunCaller(row.item, claim.claim_id, row.run_id, "agent"))

    async def ask(self, text: str = "deploy?", options: list[str] | None = None, **more: Any) -> str:
        """The id of the question."""
        answer = await asyncio.wait_for(
            self.rig.service.call("ask", {"text": text, "options": YES_NO if options is None else options, **more}, self.caller), BOUND_S
        )
        return str(answer["request"]["id"])

    def wait(self, request: str) -> asyncio.Task[str]:
        """Wait for its answer."""

        async def last() -> str:
            said = ""
            async for part in self.rig.service.stream("ask.wait", {"id": request}, self.caller):
                said = part.get("answer", "")
            return said

        return asyncio.create_task(asyncio.wait_for(last(), BOUND_S))

    async def has_waited(self) -> None:
        await eventually(lambda: "waits" in self.run.told, "the command waits")


async def end_claim(command: Command) -> None:
    """As a run that is over gives its claim back."""
    pipeline, caller = command.rig.pipeline, command.caller
    claim = command.rig.node.board.claim(caller.item)
    assert claim is not None
    await pipeline.finish(caller.item, claim, "infra_lost", {"result": "infra_lost"}, charge_attempt=False)


@pytest.mark.promise("D30")
async def test_an_answer_of_another_node_is_what_the_command_gets_with_who_and_when(rigs: Rigs) -> None:
    async with rigs.pair() as (admin, worker):
        item = await admin.add("risky")
        await sync(admin, worker)
        command = await Command.begin(worker, item)
        request = await command.ask()
        waiting = command.wait(request)
        await command.has_waited()
        await sync(admin, worker)
        [listed] = (await admin.call("approvals.list"))["requests"]
        assert (listed["id"], listed["state"], listed["text"], listed["options"], listed["asked_by"]) == (request, "open", "deploy?", YES_NO, "node1")
        assert listed["next"] == f"fabrik-node approvals answer {request} yes or no"
        assert (await admin.call("status"))["questions"] == 1
        answered = await admin.call("approvals.answer", id=request[:12], answer="yes", note="looks fine")
        assert answered["request"]["state"] == "answered"
        assert not waiting.done()
        await sync(admin, worker)
        assert await waiting == "yes"
        assert command.run.told == ["waits", "goes on"]
        await sync(admin, worker)
        for rig in (admin, worker):
            shown = (await rig.call("approvals.show", id=request))["request"]
            assert (shown["state"], shown["answer"]["said"], shown["answer"]["by"], shown["answer"]["note"]) == ("taken", "yes", "node0", "looks fine")
            assert shown["answer"]["at"].startswith("20")
            assert (shown["end"]["said"], shown["end"]["answered_by"], shown["end"]["run_id"]) == ("yes", "node0", show_id(command.caller.run_id))
            assert (await rig.call("status"))["questions"] == 0
            with pytest.raises(Conflict, match=r"too late: .* is taken: node0 answered 'yes' before"):
                await rig.call("approvals.answer", id=request, answer="no")


@pytest.mark.promise("D30")
async def test_of_two_answers_that_did_not_know_each_other_the_run_goes_by_the_first_that_it_meets_and_both_are_shown(rigs: Rigs) -> None:
    async with rigs.pair() as (admin, worker):
        third = await rigs.open(2)
        item = await admin.add("risky")
        await sync(admin, worker, third)
        command = await Command.begin(worker, item)
        request = await command.ask()
        await sync(admin, worker, third)
        await admin.call("approvals.answer", id=request, answer="no")
        for _ in range(3):
            await third.add("its clock goes on")
        await third.call("approvals.answer", id=request, answer="yes", note="later")
        await sync(admin, worker)
        assert await command.wait(request) == "no"
        await sync(admin, worker, third)
        for rig in (admin, worker, third):
            shown = await rig.call("approvals.show", id=request)
            assert (shown["request"]["end"]["said"], shown["request"]["end"]["answered_by"]) == ("no", "node0")
            assert (shown["request"]["answer"]["said"], shown["request"]["too_late"]) == ("yes", True)
            assert [(each["said"], each["by"], each["note"]) for each in shown["answers"]] == [("no", "node0", ""), ("yes", "node2", "later")]
        assert await command.wait(await command.ask()) == "no", "asked again, it is the answer by which the run goes"


@pytest.mark.promise("D31")
async def test_the_next_run_meets_the_open_question_and_an_answer_that_came_while_nobody_waited(rigs: Rigs) -> None:
    async with rigs.pair() as (admin, worker):
        item = await admin.add("risky")
        await sync(admin, worker)
        first = await Command.begin(worker, item)
        request = await first.ask()
        waiting = first.wait(request)
        await first.has_waited()
        waiting.cancel()  # its process was killed
        await asyncio.gather(waiting, return_exceptions=True)
        await end_claim(first)
        again = await Command.begin(worker, item)
        assert again.caller.claim_id != first.caller.claim_id
        assert await again.ask() == request, "it is asked once"
        with pytest.raises(ClaimLost):
            await first.ask()
        await end_claim(again)
        await sync(admin, worker)
        [still] = (await admin.call("approvals.list"))["requests"]
        assert (still["id"], still["state"]) == (request, "open")
        await admin.call("approvals.answer", id=request, answer="no")
        await sync(admin, worker)
        last = await Command.begin(worker, item)
        assert await last.ask("deploy it?") != request, "another text is another question"
        assert await last.ask(options=["no", "yes"]) != request
        assert await last.ask() == request
        assert await last.wait(request) == "no"
        await end_claim(last)
        after = await Command.begin(worker, item)
        assert await after.ask() == request, "an answer that was taken stands for the item"
        assert await after.wait(request) == "no"


@pytest.mark.promise("D31")
async def test_an_answer_for_another_item_is_never_taken(rigs: Rigs) -> None:
    rig = await rigs.open()
    one, other = await Command.begin(rig, await rig.add("one")), await Command.begin(rig, await rig.add("other"))
    request = await one.ask()
    own = await other.ask()
    assert own != request
    waiting = other.wait(own)
    await other.has_waited()
    await rig.call("approvals.answer", id=request, answer="yes")
    with pytest.raises(NotFound, match="has no question"):
        await other.wait(request)
    with pytest.raises(NotFound):
        await other.wait(show_id(new_id(5)))
    assert not waiting.done()
    await rig.call("approvals.answer", id=own, answer="no")
    assert await waiting == "no"
    assert await one.wait(request) == "yes"


@pytest.mark.promise("D30")
async def test_a_timeout_goes_by_the_default_or_holds_the_item(rigs: Rigs) -> None:
    rig = await rigs.open()
    clock = rig.node.clock
    assert isinstance(clock, HandClock)
    command = await Command.begin(rig, await rig.add("risky"))
    request = await command.ask(timeout_ms=10, default="no")
    waiting = command.wait(request)
    await command.has_waited()
    clock.advance(5)
    assert await waiting == "no"
    shown = (await rig.call("approvals.show", id=request))["request"]
    assert (shown["state"], shown["answer"], shown["end"]["kind"], shown["end"]["said"]) == ("timed out", None, "timeout", "no")
    with pytest.raises(Conflict, match="too late: .* the run went by its default 'no'"):
        await rig.call("approvals.answer", id=request, answer="yes")
    bare = await command.ask("and now?", timeout_ms=10)
    waiting = command.wait(bare)
    await eventually(lambda: command.run.told[-1] == "waits")
    clock.advance(5)
    with pytest.raises(Precondition, match="nobody answered within 0.01 s: and now") as refused:
        await waiting
    assert refused.value.exit_status == 5
    assert command.run.told[-2:] == ["nobody answered within 0.01 s: and now?", "goes on"]
    assert await command.ask("and now?", timeout_ms=10) != bare, "what had its time is asked anew"


async def test_an_answer_in_the_last_moment_counts_before_the_default(rigs: Rigs) -> None:
    rig = await rigs.open()
    assert isinstance(rig.node.clock, HandClock)
    command = await Command.begin(rig, await rig.add("risky"))
    request = await command.ask(timeout_ms=3_600_000, default="no")
    waiting = command.wait(request)
    await command.has_waited()
    rig.node.clock.advance(7200)
    await rig.call("approvals.answer", id=request, answer="yes")
    assert await waiting == "yes"


@pytest.mark.promise("D30")
async def test_the_key_of_an_agent_never_answers(rigs: Rigs) -> None:
    async with rigs.pair() as (admin, worker):
        item = await admin.add("risky")
        await sync(admin, worker)
        command = await Command.begin(worker, item)
        request = await command.ask()
        record = {1: int(Role.AGENT), 3: NOWHERE}
        await admin.node.write(b"role", lambda: [(Kind.MEMBER, worker.node.public, MemberField.RECORD, record, None)])
        await worker.call("approvals.answer", id=request, answer="yes")  # it has not heard of its role, or was changed so that it does not care
        await sync(admin, worker)
        for rig in (admin, worker):
            answer = await rig.call("approvals.show", id=request)
            shown = answer["request"]
            assert answer["answers"] == []
            assert (shown["state"], shown["answer"]) == ("open", None), "what an agent answers is void, on every node"
        before = worker.facts()
        with pytest.raises(AuthError, match="this node has the role agent, and this write takes the role peer") as refused:
            await worker.call("approvals.answer", id=request, answer="yes")
        assert refused.value.exit_status == 7
        with pytest.raises(AuthError, match="may not ask for"):
            await worker.service.call("approvals.answer", {"id": request, "answer": "yes"}, command.caller)
        assert worker.facts() == before
        await admin.call("approvals.answer", id=request, answer="no")
        await sync(admin, worker)
        assert await command.wait(request) == "no", "an agent may ask, and go by the answer"


@pytest.mark.parametrize("how", ["cancelled", "deleted", "archived"])
@pytest.mark.promise("D31")
async def test_an_item_that_is_taken_away_withdraws_its_questions(rigs: Rigs, how: str) -> None:
    async with rigs.pair() as (admin, worker):
        item = await admin.add("risky")
        await sync(admin, worker)
        command = await Command.begin(worker, item)
        request = await command.ask()
        waiting = command.wait(request)
        await command.has_waited()
        await sync(admin, worker)
        match how:
            case "cancelled":
                await admin.call("runs.cancel", id=show_id(command.caller.run_id), reason="no more")
            case "deleted":
                await admin.call("tombstone", id=item)
            case _:
                await admin.call("items.move", id=item, to="archived", reason="Superseded")
        assert (await admin.call("approvals.list"))["requests"] == []
        with pytest.raises(Conflict, match="too late: .* is withdrawn"):
            await admin.call("approvals.answer", id=request, answer="yes")
        await sync(admin, worker)
        with pytest.raises(Conflict):  # ClaimLost, or withdrawn
            await waiting
        assert (await worker.call("approvals.show", id=request))["request"]["state"] == "withdrawn"
        assert command.run.told == ["waits", "goes on"]


async def test_a_cancel_of_an_own_run_withdraws_its_question_before_the_run_hears_of_it(rigs: Rigs) -> None:
    rig = await rigs.open()
    command = await Command.begin(rig, await rig.add("risky"))
    request = await command.ask()
    seen: list[str] = []

    async def cancel(run_id: bytes, reason: str) -> bool:
        seen.append((await rig.call("approvals.show", id=request))["request"]["state"])
        return False

    rig.agent.on_cancel = cancel
    await rig.call("runs.cancel", id=show_id(command.caller.run_id), reason="no more")
    assert seen == ["withdrawn"]
    assert (await rig.call("approvals.show", id=request))["request"]["end"]["reason"] == "cancelled: no more"


async def test_an_item_that_begins_anew_is_asked_anew(rigs: Rigs) -> None:
    rig = await rigs.open()
    item = await rig.add("risky")
    command = await Command.begin(rig, item)
    request = await command.ask()
    await rig.call("approvals.answer", id=request, answer="no")
    assert await command.wait(request) == "no"
    claim = rig.node.board.claim(command.caller.item)
    assert claim is not None
    await rig.pipeline.finish(command.caller.item, claim, "agent_failed", {"result": "agent_failed"}, charge_attempt=True, hold="3 of 3 attempts failed")
    await rig.call("items.requeue", id=item)
    shown = (await rig.call("approvals.show", id=request))["request"]
    assert (shown["state"], shown["end"]["said"], shown["end"]["reason"]) == ("withdrawn", "no", "the hold of its item ended, and its next run asks again")
    assert await (await Command.begin(rig, item)).ask() != request


@pytest.mark.promise("D31")
async def test_another_agent_that_writes_over_a_question_answers_nothing(rigs: Rigs) -> None:
    async with rigs.pair() as (admin, worker):
        third = await rigs.open(2)
        item = await admin.add("risky")
        await sync(admin, worker, third)
        command = await Command.begin(worker, item)
        request = await command.ask("deploy?", timeout_ms=3_600_000, default="no")
        await sync(admin, worker, third)
        mine = worker.node.replica.get(Kind.REQUEST, parse_id(request) or b"", RequestField.QUESTION)
        assert mine is not None

        async def overwrite(**changes: Any) -> None:
            value = {**mine.value, **{{"text": 4, "default": 7, "timeout_ms": 6}[name]: value for name, value in changes.items()}}
            await third.node.write(b"over", lambda: [(Kind.REQUEST, parse_id(request) or b"", RequestField.QUESTION, value, None)])
            await sync(admin, worker, third)

        waiting = command.wait(request)
        await command.has_waited()
        await overwrite(text="mend a typo?")
        with pytest.raises(Conflict, match="was changed by node2"):
            await waiting
        await admin.call("approvals.answer", id=request, answer="yes")
        await overwrite()  # the text is what it was
        assert (await worker.call("approvals.show", id=request))["request"]["state"] == "open", "people said yes to another text"
        await overwrite(default="yes", timeout_ms=1)
        again = await command.ask("deploy?", timeout_ms=3_600_000, default="no")
        assert again != request, "it goes by its own default alone"
        assert (await worker.call("approvals.show", id=request))["request"]["state"] == "withdrawn"


@pytest.mark.promise("D31")
async def test_an_end_that_another_agent_writes_is_no_answer(rigs: Rigs) -> None:
    async with rigs.pair() as (admin, worker):
        third = await rigs.open(2)
        items = [await admin.add("risky") for _ in range(3)]
        await sync(admin, worker, third)

        async def forge(request: str, **end: Any) -> None:
            register = (Kind.REQUEST, parse_id(request), RequestField.WITHDRAWN, {"wall_ms": 1, **end}, None)
            await third.node.write(b"end", partial(list, [register]))
            await sync(admin, worker, third)

        command = await Command.begin(worker, items[0])
        request = await command.ask()
        waiting = command.wait(request)
        await command.has_waited()
        await forge(request, kind="taken", said="yes", answered_by=admin.node.public)
        assert (await admin.call("approvals.show", id=request))["request"]["state"] == "open", "nobody can have taken what nobody said"
        await admin.call("approvals.answer", id=request, answer="no")
        await forge(request, kind="taken", said="yes", answered_by=admin.node.public)
        await sync(admin, worker)
        assert await waiting == "no"
        shown = (await worker.call("approvals.show", id=request))["request"]
        assert (shown["end"]["said"], shown["end"]["by"]) == ("no", "node1")

        again = await Command.begin(worker, items[1])
        request = await again.ask()
        await sync(admin, worker, third)
        await admin.call("approvals.answer", id=request, answer="no")
        await sync(admin, worker, third)
        await forge(request, kind="taken", said="yes", answered_by=admin.node.public)
        assert await again.ask() == request
        assert await again.wait(request) == "no", "also of a question that was over when the run met it"

        last = await Command.begin(worker, items[2])
        request = await last.ask(timeout_ms=3_600_000, default="yes")
        waiting = last.wait(request)
        await eventually(lambda: "waits" in last.run.told)
        await sync(admin, worker, third)
        await forge(request, kind="timeout", said="yes")
        with pytest.raises(Conflict, match="was withdrawn by node2"):
            await waiting


async def test_a_twin_of_a_question_ends_with_it(rigs: Rigs) -> None:
    async with rigs.pair() as (admin, worker):
        item = await admin.add("risky")
        one = await Command.begin(admin, item)
        first = await one.ask()
        twin = {1: parse_id(item), 2: one.caller.run_id, 3: one.caller.claim_id, 4: "deploy?", 5: YES_NO, 8: 1}
        await worker.node.write(b"twin", lambda: [(Kind.REQUEST, new_id(1), RequestField.QUESTION, twin, None)])
        await sync(admin, worker)
        assert (await admin.call("status"))["questions"] == 2
        await admin.call("approvals.answer", id=first, answer="yes")
        assert await one.wait(first) == "yes"
        listed = (await admin.call("approvals.list", all=True))["requests"]
        assert sorted(each["state"] for each in listed) == ["taken", "withdrawn"]
        assert (await admin.call("status"))["questions"] == 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"text": " "}, "needs a text"),
        ({"text": "x" * 4097}, "4097 bytes"),
        ({"text": "?", "options": ["yes", "yes"]}, "there twice"),
        ({"text": "?", "options": ["yes", ""]}, "is empty"),
        ({"text": "?", "options": ["yes", "n\no"]}, "more than one line"),
        ({"text": "?", "options": ["o"] * 17}, "17 options are more than 16"),
        ({"text": "?", "options": YES_NO, "default": "no"}, "there is none"),
        ({"text": "?", "options": YES_NO, "default": "maybe", "timeout_ms": 1}, "none of the options"),
        ({"text": "?", "timeout_ms": 0}, "the timeout 0 is not within"),
        ({"text": "?", "timeout_ms": 1, "default": ""}, "none of the options"),
    ],
)
async def test_what_can_not_be_asked_is_refused_in_the_words_of_the_caller(rigs: Rigs, args: dict[str, Any], message: str) -> None:
    rig = await rigs.open()
    command = await Command.begin(rig, await rig.add("risky"))
    before = rig.facts()
    with pytest.raises(UsageError, match=message):
        await rig.service.call("ask", args, command.caller)
    assert rig.facts() == before


@pytest.mark.promise("D30")
async def test_every_node_shows_for_which_question_a_run_waits(rigs: Rigs) -> None:
    async with rigs.pair() as (admin, worker):
        item = await admin.add("risky")
        await sync(admin, worker)
        command = await Command.begin(worker, item)
        worker.at_work.add(command.caller.run_id)
        await command.ask("for later?")
        request = await command.ask()
        await put_waiting(command, request)
        await sync(admin, worker)
        for own, state in ((True, "waiting"), (False, "unknown")):  # the other one heard no heartbeat in this test
            rig = worker if own else admin
            [run] = (await rig.call("runs.list"))["runs"]
            assert run["state"] == state
            causes = (await rig.call("why", id=item))["causes"]
            assert (causes[0]["code"], causes[0]["text"]) == ("asks", "its run asks people: deploy?")
            assert causes[0]["next"] == f"fabrik-node approvals answer {request} yes or no"
        [run] = (await worker.call("runs.list"))["runs"]
        assert run["evidence"].startswith(f"asks: deploy? (fabrik-node approvals answer {request} yes or no); ")
        assert (await worker.call("why", id=show_id(command.caller.run_id)))["causes"][0]["next"] == f"fabrik-node approvals answer {request} yes or no"
        await worker.call("approvals.answer", id=request, answer="yes")
        [run] = (await worker.call("runs.list"))["runs"]
        assert run["evidence"].startswith("it asked people, and its question is not open any more; ")
        other = await Command.begin(worker, await worker.add("not its question"))
        await put_waiting(other, await command.ask("for later?"))
        assert (await worker.call("why", id=show_id(other.caller.item)))["causes"][0]["code"] == "claimed", "a question of another item is not its own"
        for nonsense in (b"", b"x", "text", 7):
            known = worker.node.replica.get(Kind.RUN, other.caller.run_id, RunField.SUMMARY)
            assert known is not None
            told = (Kind.RUN, other.caller.run_id, RunField.SUMMARY, {**known.value, "asks": nonsense}, None)
            await worker.node.write(b"run", partial(list, [told]))
            assert (await worker.call("runs.list"))["total"] == 2
        await put_waiting(command, request, RunState.RUNNING)


async def test_a_claim_that_is_lost_in_the_moment_of_the_answer_takes_it_not(rigs: Rigs) -> None:
    rig = await rigs.open()
    item = await rig.add("risky")
    command = await Command.begin(rig, item)
    request = await command.ask()
    await rig.call("approvals.answer", id=request, answer="yes")
    claim = rig.node.board.claim(command.caller.item)
    assert claim is not None
    released = claim_write(command.caller.item, claim.released("by hand"))
    waiting = rig.service.stream("ask.wait", {"id": request}, command.caller)
    _, ended = await asyncio.gather(rig.node.write(command.caller.item, lambda: [released]), anext(waiting), return_exceptions=True)
    assert isinstance(ended, ClaimLost)
    assert (await rig.call("approvals.show", id=request))["request"]["state"] == "answered"


async def test_what_is_no_answer_and_who_is_no_run_are_refused(rigs: Rigs) -> None:
    rig = await rigs.open()
    command = await Command.begin(rig, await rig.add("risky"))
    request = await command.ask()
    with pytest.raises(UsageError, match="'maybe' is none of the answers: yes, no") as refused:
        await rig.call("approvals.answer", id=request, answer="maybe")
    assert refused.value.hint == f"fabrik-node approvals answer {request} yes or no"
    assert "|" not in refused.value.hint, "pasted into a shell it would answer"
    with pytest.raises(UsageError, match="for the command of a run"):
        await rig.call("ask", text="?")
    with pytest.raises(NotFound, match="no question"):
        await rig.call("approvals.answer", id="zzzzzzzz", answer="yes")
    free = await command.ask("which branch?", options=[])
    await rig.call("approvals.answer", id=free, answer="the blue one")
    assert await command.wait(free) == "the blue one"
    for number in range(15):
        await command.ask(f"number {number}?")
    with pytest.raises(Precondition, match="16 questions of this item wait"):
        await command.ask("one more?")


@pytest.mark.promise("I20")
async def test_a_run_may_ask_so_many_questions_and_the_next_one_as_many_again(rigs: Rigs) -> None:
    rig = await rigs.open()
    item = await rig.add("risky")
    command = await Command.begin(rig, item)
    for number in range(ASKED_MAX):
        request = await command.ask(f"number {number}?", options=[])
        if number:
            await rig.call("approvals.answer", id=request, answer="yes")
            await command.wait(request)
    before = rig.facts()
    with pytest.raises(Precondition, match=f"this run asked {ASKED_MAX} questions already") as refused:
        await command.ask("one more?")
    assert refused.value.exit_status == 5
    assert rig.facts() == before
    assert await command.ask("number 99?", options=[]) == request, "to meet a question asks none"
    await end_claim(command)
    again = await Command.begin(rig, item)
    await again.ask("one more?")
    listed = await rig.call("approvals.list", item=item)
    assert {each["text"] for each in listed["requests"]} == {"number 0?", "one more?"}


async def test_what_is_kept_of_questions_is_what_the_replica_says(rigs: Rigs) -> None:
    """Asked, answered, ended, written over by a member, of an item that was deleted, on a node that heard of it and on one that begins now."""
    async with rigs.pair() as (admin, worker):
        first, second = await admin.add("first"), await admin.add("second")
        await sync(admin, worker)
        one, two = await Command.begin(worker, first), await Command.begin(worker, second)
        kept = [await one.ask(f"number {number}?") for number in range(4)]
        other = await two.ask("of the other?")
        await sync(admin, worker)
        await admin.call("approvals.answer", id=kept[0], answer="yes")
        await sync(admin, worker)
        assert await one.wait(kept[0]) == "yes"
        stolen = worker.node.replica.get(Kind.REQUEST, parse_id(kept[1]) or b"", RequestField.QUESTION)
        assert stolen is not None
        moved = (Kind.REQUEST, parse_id(kept[1]) or b"", RequestField.QUESTION, {**stolen.value, 1: two.caller.item}, None)
        await worker.node.write(b"moved", partial(list, [moved]))
        await sync(admin, worker)
        await admin.call("tombstone", id=second)
        invented = (Kind.REQUEST, parse_id(kept[3]) or b"", RequestField.WITHDRAWN, {"kind": "taken", "said": "yes", "wall_ms": 1}, None)
        await worker.node.write(b"invented", partial(list, [invented]))
        await sync(admin, worker)
        for rig in (admin, worker):
            known, fresh = rig.node.requests, Requests(rig.node.replica)
            for item in (one.caller.item, two.caller.item):
                assert known.of(item) == fresh.of(item)
                assert known.open(item) == fresh.open(item)
                assert known.asked_by(item, one.caller.run_id) == fresh.asked_by(item, one.caller.run_id)
            assert (known.ids(), known.open()) == (fresh.ids(), fresh.open())
            assert {show_id(each.id) for each in known.of(one.caller.item)} == {kept[0], *kept[2:]}
            assert {show_id(each.id) for each in known.of(two.caller.item)} == {kept[1], other}
            assert {show_id(each.id) for each in known.open()} == set(kept[2:]), "also the one whose answer is taken that nobody gave"
            assert known.count_open() == fresh.count_open() == 2


@pytest.mark.promise("I20")
async def test_to_ask_looks_at_the_questions_of_its_own_item_alone(rigs: Rigs, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = await rigs.open()
    command = await Command.begin(rig, await rig.add("asks"))
    crowd = [await Command.begin(rig, await rig.add(f"item {number}")) for number in range(20)]
    for each in crowd:
        await each.ask()
    got: list[bytes] = []
    get = rig.node.requests.get

    def noted(request: bytes) -> Request | None:
        got.append(request)
        return get(request)

    monkeypatch.setattr(rig.node.requests, "get", noted)
    request = parse_id(await command.ask())
    assert set(got) == {request}
