"""Steps through the door that commands and people use: once, with the same inputs, and never twice in silence."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from node_rig import BOUND_S, FakeArbiter, NodeRig, Rigs, sync

from fabrik_node.domain.claims import Claim
from fabrik_node.domain.runs import RunRow, RunState
from fabrik_node.domain.stages import Coding, Qa
from fabrik_node.domain.steps import Step, StepState
from fabrik_node.errors import ClaimLost, Conflict, FabrikError, NotFound, Precondition, Unreachable, UsageError
from fabrik_node.ids import new_id, parse_id, show_id, show_key
from fabrik_node.node.steps import step_write
from fabrik_node.service.callers import OPERATOR, RunCaller


@pytest.fixture
async def rigs() -> AsyncIterator[Rigs]:
    made = Rigs()
    yield made
    await made.close()


async def at_work(rig: NodeRig, item: str) -> RunCaller:
    """A new claim on the item and a run in Coding."""
    whole = parse_id(item) or b""
    claim = await asyncio.wait_for(rig.pipeline.claim(whole, "agent"), BOUND_S)
    assert isinstance(claim, Claim), claim
    run = new_id(1)
    await rig.pipeline.put_run(RunRow(run, whole, claim.claim_id, rig.node.public, "agent", RunState.RUNNING, "coding", 1_000))
    if not isinstance(rig.node.board.stage(whole), Coding):
        await rig.pipeline.move(whole, Coding(), claim)
    return RunCaller(whole, claim.claim_id, run, "agent")


async def over(rig: NodeRig, caller: RunCaller) -> None:
    """Its claim is given back, as after a crash; its steps stay as they are."""
    claim = rig.node.board.claim(caller.item)
    assert claim is not None
    await rig.pipeline.finish(caller.item, claim, "infra_lost: the node ended", {"result": "infra_lost"}, charge_attempt=False)


async def begin(rig: NodeRig, caller: RunCaller, name: str = "build", **args: Any) -> dict[str, Any]:
    return await rig.service.call("step.begin", {"name": name, "command": ["make"], "inputs": [], "pid": os.getpid(), **args}, caller)


async def end(rig: NodeRig, caller: RunCaller, begun: dict[str, Any], exit_status: int = 0, **args: Any) -> dict[str, Any]:
    said = {"name": begun["step"]["name"], "attempt": begun["step"]["attempt"], "exit_status": exit_status}
    return await rig.service.call("step.end", said | args, caller)


async def listed(rig: NodeRig, caller: RunCaller) -> dict[str, tuple[str, int]]:
    said = await rig.service.call("steps.list", {"id": show_id(caller.item)})
    return {step["name"]: (step["state"], step["attempt"]) for step in said["steps"]}


async def refused(error: type[FabrikError], match: str, call: Any) -> FabrikError:
    with pytest.raises(error, match=match) as raised:
        await call
    assert raised.value.hint
    return raised.value


@pytest.mark.promise("C7")
async def test_what_is_done_is_not_done_again_by_the_next_run(rigs: Rigs) -> None:
    rig = await rigs.open(arbiter=FakeArbiter())
    first = await at_work(rig, await rig.add("twenty steps"))
    for name in ("one", "two"):
        begun = await begin(rig, first, name)
        assert begun["go"]
        await end(rig, first, begun)
    cut_off = await begin(rig, first, "three")
    assert cut_off["go"]
    assert (await begin(rig, first, "one"))["go"] is False
    await over(rig, first)
    second = await at_work(rig, show_id(first.item))
    again = await begin(rig, second, "one")
    assert (again["go"], again["step"]["run"], again["step"]["commit"]) == (False, show_id(first.run_id), (bytes([1]) * 20).hex())
    third = await begin(rig, second, "three")
    assert third["go"]
    await end(rig, second, third)
    assert await listed(rig, second) == {"one": ("done", 1), "two": ("done", 1), "three": ("done", 2)}
    assert rig.run_steps.kept == ["Step one", "Step two", "Step three"]
    newest = rig.service.steps.newest_done(first.item)
    assert newest is not None
    assert newest.commit == bytes([3]) * 20


async def test_done_elsewhere_without_its_files_is_done_here(rigs: Rigs) -> None:
    rig = await rigs.open(arbiter=FakeArbiter())
    run = await at_work(rig, await rig.add("work"))
    await end(rig, run, await begin(rig, run))
    rig.run_steps.commits.clear()
    assert (await begin(rig, run))["step"]["attempt"] == 2


async def test_a_step_that_failed_runs_again(rigs: Rigs) -> None:
    rig = await rigs.open(arbiter=FakeArbiter())
    run = await at_work(rig, await rig.add("work"))
    ended = await end(rig, run, await begin(rig, run), 3)
    assert (ended["step"]["state"], ended["step"]["exit_status"], rig.run_steps.kept) == ("failed", 3, [])
    assert (await begin(rig, run))["step"]["attempt"] == 2


@pytest.mark.promise("C8")
async def test_other_inputs_are_refused_with_both_digests(rigs: Rigs) -> None:
    rig = await rigs.open(arbiter=FakeArbiter())
    run = await at_work(rig, await rig.add("work"))
    item = show_id(run.item)
    await end(rig, run, await begin(rig, run, inputs=["text a", "text b"]))
    assert (await begin(rig, run, inputs=["text b", "text a"]))["go"] is False, "their order says nothing"
    before = rig.service.steps.get(run.item, "build")
    assert before is not None
    changes: list[dict[str, Any]] = [{"inputs": ["text c"]}, {"inputs": ["text a", "text b"], "command": ["make", "all"]}]
    for change in changes:
        error = await refused(Precondition, "was done with other inputs", begin(rig, run, **change))
        assert show_key(before.inputs) in error.message
        assert error.message.count(show_key(before.inputs)) == 1
        assert f"fabrik-node steps again {item} build" in error.hint
        assert "--changed-ok" in error.hint
        assert error.exit_status == 5
    await rig.call("items.edit", id=item, body="another task")
    await refused(Precondition, "was done with other inputs", begin(rig, run, inputs=["text a", "text b"]))
    allowed = await begin(rig, run, inputs=["text c"], changed_ok=True)
    assert (allowed["go"], allowed["step"]["attempt"]) == (True, 2)
    await end(rig, run, allowed)
    await rig.call("steps.again", id=item, name="build")
    assert (await begin(rig, run, inputs=["text d"]))["step"]["attempt"] == 3


@pytest.mark.promise("C9")
async def test_of_many_that_begin_one_step_at_once_one_runs_it(rigs: Rigs) -> None:
    rig = await rigs.open(arbiter=FakeArbiter())
    run = await at_work(rig, await rig.add("work"))
    answers = await asyncio.gather(*(begin(rig, run) for _ in range(20)), return_exceptions=True)
    lost = [answer for answer in answers if isinstance(answer, BaseException)]
    assert [type(answer) for answer in lost] == [Conflict] * 19
    assert all(f"is being run by process {os.getpid()} of run {show_id(run.run_id)}" in str(answer) for answer in lost)
    assert lost[0].exit_status == 4  # type: ignore[attr-defined]


async def test_a_step_whose_process_died_runs_again(rigs: Rigs) -> None:
    rig = await rigs.open(arbiter=FakeArbiter())
    run = await at_work(rig, await rig.add("work"))
    await begin(rig, run)
    await refused(Conflict, "is being run", begin(rig, run))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        await begin(rig, run, "other", pid=child.pid)
        await refused(Conflict, f"is being run by process {child.pid}", begin(rig, run, "other"))
        child.kill()
    assert (await begin(rig, run, "other"))["step"]["attempt"] == 2


@pytest.mark.promise("C11")
async def test_an_effect_that_was_cut_off_is_not_repeated_in_silence(rigs: Rigs) -> None:
    one = await rigs.open(arbiter=FakeArbiter())
    run = await at_work(one, await one.add("deploy it"))
    item = show_id(run.item)
    assert (await begin(one, run, "deploy", side_effects=True))["go"]
    await over(one, run)
    second = await at_work(one, item)
    assert one.service.steps.unclear(run.item) is not None, "an agent looks here before it starts the command"
    error = await refused(Precondition, "step_unclear: step 'deploy' has effects outside its files", begin(one, second, "deploy", side_effects=True))
    assert error.exit_status == 5
    assert f"steps done {item} deploy" in one.run_steps.held[second.run_id]
    await refused(Precondition, "step_unclear", begin(one, second, "deploy"))
    claim = one.node.board.claim(run.item)
    assert claim is not None
    await one.pipeline.finish(run.item, claim, "cancelled", {}, charge_attempt=False, hold=one.run_steps.held[second.run_id])
    why = await one.service.call("why", {"id": item})
    assert why["causes"][0]["next"] == f"fabrik-node steps done {item} deploy, or fabrik-node steps again {item} deploy; then fabrik-node items requeue {item}"
    await refused(Precondition, "first say whether it has happened", one.service.call("items.requeue", {"id": item}))
    two = await rigs.open(1)
    await sync(one, two)
    said = await two.service.call("steps.done", {"id": item, "name": "deploy"})
    assert said["next"] == f"fabrik-node items requeue {item}"
    await two.service.call("items.requeue", {"id": item})
    await sync(two, one)
    third = await at_work(one, item)
    assert (await begin(one, third, "deploy", side_effects=True))["go"] is False
    await two.service.call("steps.again", {"id": item, "name": "deploy"})
    await sync(two, one)
    assert (await begin(one, third, "deploy", side_effects=True))["step"]["attempt"] == 2


@pytest.mark.promise("C11")
@pytest.mark.parametrize(
    ("status", "told_to_end", "state", "without"),
    [
        (0, False, "done", "done"),
        (1, False, "failed", "failed"),
        (143, False, "started", "failed"),
        (137, False, "started", "failed"),
        (255, False, "failed", "failed"),
        (0, True, "started", "done"),
        (1, True, "started", "failed"),
        (143, True, "started", "failed"),
    ],
)
async def test_an_end_by_a_signal_is_no_end_of_an_effect(rigs: Rigs, status: int, told_to_end: bool, state: str, without: str) -> None:
    rig = await rigs.open(arbiter=FakeArbiter())
    run = await at_work(rig, await rig.add("pay it"))
    await end(rig, run, await begin(rig, run), status, told_to_end=told_to_end)
    assert (await listed(rig, run))["build"][0] == without
    assert not rig.run_steps.held
    await end(rig, run, await begin(rig, run, "pay", side_effects=True), status, told_to_end=told_to_end)
    assert (await listed(rig, run))["pay"][0] == state
    if state == "started":
        assert rig.run_steps.held[run.run_id].startswith("step_unclear: step 'pay'")
        await refused(Precondition, "step_unclear", begin(rig, run, "pay", side_effects=True))
    else:
        assert not rig.run_steps.held
        assert (await begin(rig, run, "pay", side_effects=True))["go"] is (state == "failed")
    await over(rig, run)
    assert (rig.service.steps.unclear(run.item) is not None) is (state != "done")


async def test_a_superseded_run_says_nothing_of_steps(rigs: Rigs) -> None:
    rig = await rigs.open(arbiter=FakeArbiter())
    run = await at_work(rig, await rig.add("work"))
    begun = await begin(rig, run)
    await over(rig, run)
    await refused(ClaimLost, "does not hold item", end(rig, run, begun))
    second = await at_work(rig, show_id(run.item))
    await refused(ClaimLost, "does not hold item", begin(rig, run))
    assert (await begin(rig, second))["step"]["attempt"] == 2
    await refused(Conflict, "is not what runs now", end(rig, run, begun))


@pytest.mark.parametrize("side_effects", [False, True], ids=["files", "effects"])
async def test_what_can_not_be_kept_is_not_done_but_an_effect_is(rigs: Rigs, side_effects: bool) -> None:
    rig = await rigs.open(arbiter=FakeArbiter())
    run = await at_work(rig, await rig.add("work"))
    seen: list[dict[str, tuple[str, int]]] = []

    async def away() -> None:
        seen.append(await listed(rig, run))
        raise Unreachable("the remote is away", "wait")

    rig.run_steps.on_keep = away
    begun = await begin(rig, run, side_effects=side_effects)
    await refused(Unreachable, "away", end(rig, run, begun))
    assert seen == [{"build": ("done" if side_effects else "started", 1)}]
    rig.run_steps.on_keep = None
    await over(rig, run)
    second = await at_work(rig, show_id(run.item))
    again = await begin(rig, second, side_effects=side_effects)
    assert (again["go"], again["step"]["attempt"], rig.run_steps.held) == ((False, 1, {}) if side_effects else (True, 2, {}))


async def test_an_effect_is_done_at_once_and_has_its_commit_after(rigs: Rigs) -> None:
    rig = await rigs.open(arbiter=FakeArbiter())
    run = await at_work(rig, await rig.add("work"))
    asked: list[dict[str, Any]] = []

    async def meanwhile() -> None:
        asked.append(await begin(rig, run, "pay", side_effects=True))

    rig.run_steps.on_keep = meanwhile
    ended = await end(rig, run, await begin(rig, run, "pay", side_effects=True))
    assert [(each["go"], each["step"]["commit"]) for each in asked] == [(False, None)]
    assert (ended["step"]["state"], ended["step"]["commit"]) == ("done", (bytes([1]) * 20).hex())


async def test_an_end_that_comes_too_late_leaves_the_next_attempt_alone(rigs: Rigs) -> None:
    rig = await rigs.open(arbiter=FakeArbiter())
    run = await at_work(rig, await rig.add("work"))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        first = await begin(rig, run, pid=child.pid)

        async def next_attempt() -> None:
            child.kill()
            await asyncio.to_thread(child.wait)
            assert (await begin(rig, run))["step"]["attempt"] == 2

        rig.run_steps.on_keep = next_attempt
        await refused(Conflict, "is not what runs now", end(rig, run, first))
    await refused(Conflict, "is being run by process", begin(rig, run))


async def test_rejected_work_is_done_anew_but_not_its_effects(rigs: Rigs) -> None:
    rig = await rigs.open(arbiter=FakeArbiter())
    run = await at_work(rig, await rig.add("work"))
    await end(rig, run, await begin(rig, run, "build"))
    await end(rig, run, await begin(rig, run, "deploy", side_effects=True))
    claim = rig.node.board.claim(run.item)
    assert claim is not None
    await rig.service.steps.reopen(run.item, claim)
    assert rig.service.steps.newest_done(run.item) is None
    assert (await begin(rig, run, "build"))["go"] is True
    assert (await begin(rig, run, "deploy", side_effects=True))["go"] is False


async def test_bad_calls_are_refused(rigs: Rigs) -> None:
    rig = await rigs.open(arbiter=FakeArbiter())
    run = await at_work(rig, await rig.add("work"))
    for name in ("", "two\nlines", "x" * 101, None):
        await refused(UsageError, "name of a step", begin(rig, run, name))  # type: ignore[arg-type]
    await refused(UsageError, "for the command of a run", rig.service.call("step.begin", {"name": "x"}, OPERATOR))
    await refused(UsageError, "must be a list", begin(rig, run, inputs="text"))
    await refused(UsageError, "command holds what is no Unicode text", begin(rig, run, command=["cat", "a\udcff"]))
    for pid in (True, 0, "1", 2**80):
        await refused(UsageError, "pid is a number", begin(rig, run, pid=pid))
    await refused(NotFound, "has no step 'nothing'; it has: none", rig.service.call("steps.done", {"id": show_id(run.item), "name": "nothing"}))
    begun = await begin(rig, run)
    for status in (256, -1, True, None):
        await refused(UsageError, "exit_status is a number from 0 to 255", end(rig, run, begun, status))  # type: ignore[arg-type]
    await refused(UsageError, "attempt is a number", end(rig, run, begun, attempt=True))
    await refused(Conflict, "is at step 'build' now", rig.service.call("steps.again", {"id": show_id(run.item), "name": "build"}))
    claim = rig.node.board.claim(run.item)
    assert claim is not None
    await end(rig, run, begun)
    await rig.pipeline.move(run.item, Qa(), claim)
    await refused(Precondition, "is in Qa", begin(rig, run))


@pytest.mark.promise("C7", "C11")
@pytest.mark.parametrize("seed", range(12))
async def test_cut_off_anywhere_no_done_step_runs_again_and_no_unfinished_one_is_done(rigs: Rigs, seed: int) -> None:
    """Runs are cut off at any point between begin, command, commit, push and the mark: what counts as done was kept, and is never begun again."""
    rng = random.Random(seed)
    rig = await rigs.open(arbiter=FakeArbiter())
    item = await rig.add("work")
    names = [f"step {number}" for number in range(5)]
    effects = {name: rng.random() < 0.3 for name in names}
    ran: dict[str, int] = dict.fromkeys(names, 0)
    done: set[str] = set()
    while len(done) < len(names):
        whole = parse_id(item) or b""
        if (step := rig.service.steps.unclear(whole)) is not None:
            assert effects[step.name]
            happened = rng.random() < 0.5
            await rig.service.call(f"steps.{'done' if happened else 'again'}", {"id": item, "name": step.name})
            done |= {step.name} if happened else set()
            continue
        run = await at_work(rig, item)
        for name in names:
            begun = await begin(rig, run, name, side_effects=effects[name])
            assert begun["go"] is (name not in done), (seed, name)
            if not begun["go"]:
                continue
            if (cut := rng.choice(["begun", "ran", "pushed", "", "", ""])) == "begun":
                break
            ran[name] += 1
            if cut == "ran":
                break
            if cut == "pushed":
                await rig.run_steps.keep(run.run_id, f"Step {name}\n")
                break
            await end(rig, run, begun)
            done.add(name)
        await over(rig, run)
        for step in rig.service.steps.of(whole):
            assert (step.state is StepState.DONE) == (step.name in done), (seed, step)
            assert not step.commit or step.commit in rig.run_steps.commits
    assert {name: state for name, (state, _) in (await listed(rig, run)).items()} == dict.fromkeys(names, "done")


@pytest.mark.promise("C9")
@pytest.mark.parametrize("side_effects", [True, False], ids=["effects", "files"])
@pytest.mark.parametrize("is_lost", [True, False], ids=["files lost before", "first time"])
async def test_who_asks_while_another_ends_it_does_not_run_it_again(rigs: Rigs, monkeypatch: pytest.MonkeyPatch, side_effects: bool, is_lost: bool) -> None:
    rig = await rigs.open(arbiter=FakeArbiter())
    run = await at_work(rig, await rig.add("work"))
    write = rig.node.write
    begun = await begin(rig, run, side_effects=side_effects)
    if is_lost:
        await end(rig, run, begun)
        rig.run_steps.commits.clear()

    async def behind_another(key: object, build: Any) -> Any:
        """The second one has looked at the step as it was, and decides when it was done."""
        monkeypatch.undo()
        first = await begin(rig, run, side_effects=side_effects) if is_lost else begun
        if first["go"]:
            await end(rig, run, first)
        return await write(key, build)

    monkeypatch.setattr(rig.node, "write", behind_another)
    second = await begin(rig, run, side_effects=side_effects)
    assert (second["go"], second["step"]["state"], second["step"]["attempt"]) == (False, "done", 2 if is_lost and not side_effects else 1)
    assert rig.run_steps.held == {}


@pytest.mark.promise("C11")
async def test_an_effect_that_is_done_stays_done_without_its_files(rigs: Rigs) -> None:
    rig = await rigs.open(arbiter=FakeArbiter())
    run = await at_work(rig, await rig.add("work"))
    await end(rig, run, await begin(rig, run, "pay", side_effects=True))
    await over(rig, run)
    rig.run_steps.commits.clear()
    second = await at_work(rig, show_id(run.item))
    for side_effects in (True, False):
        assert (await begin(rig, second, "pay", side_effects=side_effects))["go"] is False
    assert rig.run_steps.held == {}
    await rig.service.call("steps.again", {"id": show_id(run.item), "name": "pay"})
    assert (await begin(rig, second, "pay", side_effects=True))["step"]["attempt"] == 2


async def test_whatever_name_or_number_a_member_writes_the_item_can_be_requeued(rigs: Rigs) -> None:
    arbiter = FakeArbiter()
    one, two = await rigs.open(0, arbiter=arbiter), await rigs.open(1, arbiter=arbiter)
    await sync(one, two)
    item = await one.add("work")
    await sync(one, two)
    run = await at_work(two, item)
    claim = two.node.board.claim(run.item)
    assert claim is not None
    untypable, odd = ("a\nb", "\x00", "\x1b[2J"), (" ", "pay\u202e", "pay")
    for name in untypable + odd:
        step = Step(run.item, name, StepState.STARTED, bytes(32), 2**64 - 1, claim.claim_id, run.run_id, 2**64 - 1, side_effects=True)
        await two.node.write(name, lambda step=step: [step_write(step, claim.fence)])  # type: ignore[misc]
    await two.pipeline.finish(run.item, claim, "held", {}, charge_attempt=False, hold="held")
    await sync(one, two)
    assert set(await listed(one, run)) == set(odd)
    for name in untypable:
        await refused(NotFound, "has no step", one.service.call("steps.done", {"id": item, "name": name}))
    await refused(UsageError, "is a text", one.service.call("steps.done", {"id": item}))
    for name in odd:
        await refused(Precondition, "first say whether it has happened", one.service.call("items.requeue", {"id": item}))
        await one.service.call("steps.again", {"id": item, "name": name})
    await one.service.call("items.requeue", {"id": item})
    second = await at_work(one, item)
    begun = await begin(one, second, "pay")
    assert (begun["go"], begun["step"]["attempt"]) == (True, 2**53 - 1)
    assert (await end(one, second, begun))["step"]["state"] == "done"


async def test_an_item_has_only_so_many_steps(rigs: Rigs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fabrik_node.service.steps.STEPS_MAX", 3)
    rig = await rigs.open(arbiter=FakeArbiter())
    caller = await at_work(rig, await rig.add("one step after the other"))
    for name in "abc":
        await end(rig, caller, await begin(rig, caller, name))
    error = await refused(Precondition, "has 3 steps, and 'd' would be one more", begin(rig, caller, "d"))
    assert error.exit_status == 5
    assert set(await listed(rig, caller)) == {"a", "b", "c"}
    assert (await begin(rig, caller, "b"))["go"] is False, "those that it has go on"
    other = await at_work(rig, await rig.add("another item"))
    assert (await begin(rig, other, "d"))["go"]


@pytest.mark.promise("C7")
async def test_steps_that_end_together_are_written_down_in_the_order_of_their_commits(rigs: Rigs, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = await rigs.open(arbiter=FakeArbiter())
    run = await at_work(rig, await rig.add("work"))
    one, two = await begin(rig, run, "one"), await begin(rig, run, "two")
    waiting = [20, 0]

    async def for_space(_run: bytes, write: Any) -> None:
        for _ in range(waiting.pop(0)):  # the first has to wait for the disk
            await asyncio.sleep(0)
        await write()

    monkeypatch.setattr(rig.run_steps, "for_space", for_space)
    await asyncio.wait_for(asyncio.gather(end(rig, run, one), end(rig, run, two)), BOUND_S)
    assert rig.run_steps.kept == ["Step one", "Step two"]
    newest = rig.service.steps.newest_done(run.item)
    assert newest is not None
    assert (newest.name, newest.commit) == ("two", bytes([2]) * 20), "the commit that has the files of both"


async def test_nothing_is_kept_of_processes_and_runs_that_are_gone(rigs: Rigs) -> None:
    rig = await rigs.open(arbiter=FakeArbiter())
    running = rig.service._caller_operations["step.begin"].__self__._running  # type: ignore[attr-defined]
    run = await at_work(rig, await rig.add("work"))
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    await begin(rig, run, "killed", pid=process.pid)
    await begin(rig, run, "goes on")
    process.communicate(b"\n")
    assert len(running) == 2
    await begin(rig, run, "next")
    assert sorted(name for _, name in running) == ["goes on", "next"]
    await over(rig, run)
    other = await at_work(rig, await rig.add("another"))
    await begin(rig, other, "first")
    assert sorted(name for _, name in running) == ["first"]


async def test_the_steps_of_a_deleted_item_are_shown_nowhere(rigs: Rigs) -> None:
    rig = await rigs.open(arbiter=FakeArbiter())
    run = await at_work(rig, await rig.add("work"))
    await end(rig, run, await begin(rig, run))
    cut_off = await begin(rig, run, "announce", side_effects=True)
    item, shown = show_id(run.item), {"id": show_id(run.run_id)}
    assert len((await rig.service.call("runs.show", shown))["steps"]) == 2
    await rig.call("tombstone", id=item)
    assert (await rig.service.call("runs.show", shown))["steps"] == []
    for op in ("steps.list", "why", "items.show"):
        await refused(NotFound, item[:8], rig.service.call(op, {"id": item}))
    await refused(NotFound, item[:8], rig.service.call("steps.done", {"id": item, "name": "announce"}))
    await refused(FabrikError, ".", end(rig, run, cut_off))
    await refused(FabrikError, ".", begin(rig, run, "another"))
