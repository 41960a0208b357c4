"""The claim loop: many at once, politeness among agents, drain, stop, cancel."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from agent_rig import AgentRig, has_ended
from memory_pipeline import FAILURE_BOUND_S, MemoryPipeline

from fabrik_node.agent.halt import Halt, HaltCode
from fabrik_node.agent.states import AgentState
from fabrik_node.domain.claims import Claim
from fabrik_node.domain.runs import RunState
from fabrik_node.domain.stages import Backlog, Done
from fabrik_node.errors import BadConfig, InvalidOp, StoreFailed
from fabrik_node.ids import show_id
from fabrik_node.ports import ClaimRefused


@pytest.mark.promise("A9")
async def test_twelve_runs_at_once_share_nothing(rig: AgentRig) -> None:
    gate = rig.gate()
    items = [rig.world.add(f"Item {n}") for n in range(12)]
    # Every command waits until all twelve are there, then writes its own id into its worktree and its log.
    go = rig.folder / "go"
    command = f'echo $FABRIK_RUN > {gate.path}; until test -e {go}; do sleep 0.01; done; echo "log of $FABRIK_RUN"; echo "$FABRIK_RUN" > commit-1'
    async with rig.agent(command=command, slots=12) as loop:
        spoken = {await gate.line() for _ in items}
        assert len(loop.runs) == 12
        processes = {row.process.pid for row in rig.pipeline.last_rows() if row.process is not None}
        go.touch()
        await rig.world.until(lambda: len(rig.world.finishes) == 12)
    rows = rig.pipeline.last_rows()
    assert spoken == {show_id(row.run_id) for row in rows}
    assert len(processes) == 12
    for column in ("run_id", "claim_id", "item", "branch", "worktree", "log"):
        assert len({getattr(row, column) for row in rows}) == 12, column
    for row in rows:
        name = show_id(row.run_id)
        assert row.state is RunState.COMPLETED
        assert (Path(row.worktree) / "commit-1").read_text() == f"{name}\n"
        assert sorted(path.name for path in Path(row.worktree).iterdir()) == ["commit-1"]
        assert [line for line in rig.log(row).splitlines() if line.startswith("log of")] == [f"log of {name}"]
        assert sorted(path.name for path in Path(row.log).parent.iterdir()) == ["output.log", "prompt.md"]
    assert sorted(rig.remote.merges) == sorted((show_id(row.item), show_id(row.claim_id)) for row in rows)
    assert all(isinstance(rig.world.items[item].stage, Done) for item in items)


@pytest.mark.promise("I20")
async def test_no_more_runs_than_slots(rig: AgentRig) -> None:
    gate = rig.gate()
    go = rig.folder / "go"
    for n in range(3):
        rig.world.add(f"Item {n}")
    async with rig.agent(command=f"echo $$ > {gate.path}; until test -e {go}; do sleep 0.01; done; touch commit-1", slots=2) as loop:
        await gate.line()
        await gate.line()
        rig.world.touch()
        turns, looks = rig.pipeline.turns, rig.pipeline.looks
        await rig.world.until(lambda: rig.pipeline.turns >= turns + 2)
        assert rig.pipeline.looks == looks, "without a free slot nothing is looked at"
        assert len(loop.runs) == 2
        assert len(rig.pipeline.claims_asked) == 2
        go.touch()
        await rig.world.until(lambda: len(rig.world.finishes) == 3)


async def test_who_is_refused_takes_the_next(rig: AgentRig) -> None:
    first, second = rig.world.add("first"), rig.world.add("second")
    rig.pipeline.refuse = lambda item: ClaimRefused("somebody else was faster") if item == first else None
    await rig.work(second)
    assert rig.pipeline.claims_asked[:2] == [first, second]
    assert rig.world.items[first].stage == Backlog()


async def test_an_item_of_which_nothing_can_be_written_ends_no_agent(rig: AgentRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its claim, and at the end of its run: what a strange member wrote of it leaves no room for the next number."""
    first, second, third = rig.world.add("first"), rig.world.add("second"), rig.world.add("third")
    claim, finish = rig.pipeline.claim, rig.pipeline.finish

    async def claims(item: bytes, agent: str) -> Claim | ClaimRefused:
        if item == first:
            rig.pipeline.claims_asked.append(item)
            raise InvalidOp("cbor: an integer outside -2^63..2^64-1")
        return await claim(item, agent)

    async def finishes(item: bytes, claim: Claim, reason: str, outcome: Mapping[str, Any], *, charge_attempt: bool, hold: str = "") -> None:
        if item == second:
            raise InvalidOp("cbor: an integer outside -2^63..2^64-1")
        await finish(item, claim, reason, outcome, charge_attempt=charge_attempt, hold=hold)

    monkeypatch.setattr(rig.pipeline, "claim", claims)
    monkeypatch.setattr(rig.pipeline, "finish", finishes)
    await rig.work(third, backoff_s=600.0)
    assert rig.pipeline.claims_asked == [first, second, third]
    assert [row.reason.partition("; ")[2] for row in rig.pipeline.last_rows() if row.item == second] == ["cbor: an integer outside -2^63..2^64-1"]


async def test_two_agents_share_the_work(rig: AgentRig) -> None:
    items = [rig.world.add(f"Item {n}") for n in range(8)]
    other = MemoryPipeline(rig.world, node=b"b" * 32)
    async with rig.agent(), rig.agent(other):
        await rig.world.until(lambda: len(rig.world.finishes) == 8)
    assert len(rig.remote.merges) == 8
    assert {row.item for row in (*rig.pipeline.last_rows(), *other.last_rows())} == set(items)


async def test_a_lost_lease_is_found_without_an_event(rig: AgentRig) -> None:
    item = rig.world.add()
    other = MemoryPipeline(rig.world, node=b"b" * 32)
    claim = await other.claim(item, "gone")
    assert not isinstance(claim, ClaimRefused)
    async with rig.agent():
        turns = rig.pipeline.turns
        await rig.world.until(lambda: rig.pipeline.turns > turns + 1)
        rig.world.lost_leases.add(claim.claim_id)
        await rig.world.until(lambda: isinstance(rig.world.items[item].stage, Done))
    assert rig.world.claim_of(item).epoch == 2


async def test_nothing_is_claimed_before_there_is_company(rig: AgentRig) -> None:
    item = rig.world.add()
    rig.pipeline.connected.clear()
    async with rig.agent() as loop:
        for _ in range(3):
            rig.world.touch()
            await asyncio.sleep(0)
        assert rig.pipeline.claims_asked == []
        assert loop.state is AgentState.IDLE
        rig.pipeline.connected.set()
        await rig.world.until(lambda: isinstance(rig.world.items[item].stage, Done))


async def test_an_agent_that_waits_for_company_can_be_stopped(rig: AgentRig) -> None:
    rig.pipeline.connected.clear()
    async with rig.agent() as loop:
        pass
    assert loop.state is AgentState.COMPLETED


async def test_draining_finishes_what_is_begun_and_takes_nothing_new(rig: AgentRig) -> None:
    first, second = rig.world.add("first"), rig.world.add("second")
    gate = rig.gate()
    go = rig.folder / "go"
    async with rig.agent(command=f"echo $$ > {gate.path}; until test -e {go}; do sleep 0.01; done; touch commit-1") as loop:
        await gate.line()
        draining = asyncio.create_task(loop.drain())
        rig.world.touch()
        renewed = len(rig.pipeline.renewals)
        rig.pipeline.on_renew = rig.world.stir_from_thread
        await rig.world.until(lambda: len(rig.pipeline.renewals) > renewed + 2)
        assert not draining.done()
        assert not loop.accepting
        go.touch()
        await asyncio.wait_for(draining, FAILURE_BOUND_S)
    assert isinstance(rig.world.items[first].stage, Done)
    assert rig.world.items[second].stage == Backlog()
    assert rig.pipeline.claims_asked == [first]


@pytest.mark.promise("F10", "I24")
async def test_stopping_kills_keeps_the_work_and_gives_the_claims_back(rig: AgentRig) -> None:
    items = [rig.world.add(f"Item {n}") for n in range(3)]
    gate = rig.gate()
    command = f'trap "" TERM; echo $$ > {gate.path}; while :; do sleep 1000; done'
    async with rig.agent(command=command, slots=3, kill_grace_s=0.1) as loop:
        processes = [await gate.process() for _ in items]
        await asyncio.wait_for(loop.stop("interrupted by hand"), FAILURE_BOUND_S)
        assert all(has_ended(process) for process in processes)
    for item in items:
        finish = rig.world.finish_of(item)
        assert (finish.reason, finish.charged, finish.hold) == ("cancelled: interrupted by hand", False, "")
        assert not rig.world.claim_of(item).held
        assert rig.world.items[item].stage == Backlog()
    rows = rig.pipeline.last_rows()
    assert {row.state for row in rows} == {RunState.CANCELLED}
    assert sorted(rig.remote.kept) == sorted(row.branch for row in rows)
    assert loop.state is AgentState.COMPLETED


async def test_stopping_while_draining(rig: AgentRig) -> None:
    item = rig.world.add()
    gate = rig.gate()
    async with rig.agent(command=f"echo $$ > {gate.path}; exec sleep 1000") as loop:
        await gate.line()
        draining = asyncio.create_task(loop.drain())
        await asyncio.sleep(0)
        await asyncio.wait_for(loop.stop(), FAILURE_BOUND_S)
        await asyncio.wait_for(draining, FAILURE_BOUND_S)
    assert rig.world.finish_of(item).outcome["result"] == "cancelled"


async def test_stopping_while_a_claim_is_on_its_way_gives_it_back(rig: AgentRig) -> None:
    item = rig.world.add()
    asked, answer = asyncio.Event(), asyncio.Event()

    async def delay() -> None:
        asked.set()
        await answer.wait()

    rig.pipeline.claim_delay = delay
    async with rig.agent() as loop:
        await asyncio.wait_for(asked.wait(), FAILURE_BOUND_S)
        assert loop.state is AgentState.PENDING
        stopping = asyncio.create_task(loop.stop())
        await asyncio.sleep(0)
        answer.set()
        await asyncio.wait_for(stopping, FAILURE_BOUND_S)
    assert not rig.world.claim_of(item).held
    assert rig.world.finish_of(item).outcome["result"] == "cancelled"


@pytest.mark.promise("C21")
async def test_a_halt_while_a_claim_is_on_its_way_gives_it_back_and_begins_nothing(rig: AgentRig) -> None:
    item = rig.world.add()
    asked, answer = asyncio.Event(), asyncio.Event()

    async def delay() -> None:
        asked.set()
        await answer.wait()

    rig.pipeline.claim_delay = delay
    setup = rig.setup()
    async with rig.agent(setup=setup) as loop:
        await asyncio.wait_for(asked.wait(), FAILURE_BOUND_S)
        assert loop.claiming == [item]
        await setup.halts.set(Halt(HaltCode.OPERATOR, "by hand", 0))
        answer.set()
        await rig.world.until(lambda: bool(rig.world.finishes) or bool(rig.pipeline.rows))
        assert (loop.claiming, dict(loop.runs), rig.pipeline.rows) == ([], {}, {})
        finish = rig.world.finish_of(item)
        assert (finish.charged, finish.hold, finish.reason) == (False, "", "cancelled: its agent takes nothing new since the claim was asked for")
    assert rig.pipeline.forgotten == [finish.claim_id]
    assert rig.world.stages[item] == [Backlog()]


@pytest.mark.promise("I24")
async def test_stopping_does_not_wait_for_a_git_that_hangs(rig: AgentRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fabrik_node.agent.loop.KEEP_WORK_S", 0.1)
    monkeypatch.setattr("fabrik_node.agent.loop.SHIM_MARGIN_S", 0.1)
    monkeypatch.setattr("fabrik_node.agent.loop._STOP_MARGIN_S", 0.1)
    item = rig.world.add()
    pushing = asyncio.Event()

    async def hang() -> None:
        pushing.set()
        await asyncio.Event().wait()

    rig.workspaces.on_made = lambda made: setattr(made, "hang", hang)
    async with rig.agent(kill_grace_s=0.0) as loop:
        await asyncio.wait_for(pushing.wait(), FAILURE_BOUND_S)
        await asyncio.wait_for(loop.stop(), FAILURE_BOUND_S)
    finish = rig.world.finish_of(item)
    assert finish.outcome["result"] == "cancelled"
    assert "its work is in" in finish.reason
    assert rig.pipeline.last_rows()[0].state is RunState.CANCELLED


async def test_labels_are_asked_for(rig: AgentRig) -> None:
    plain, special = rig.world.add("plain"), rig.world.add("special", labels=["gpu"])
    await rig.work(plain)
    assert rig.world.items[special].stage == Backlog()
    await rig.work(special, labels=["gpu"])


async def test_an_agent_without_a_command_is_refused(rig: AgentRig) -> None:
    with pytest.raises(BadConfig, match="command is empty"):
        rig.loop(command="")


async def test_a_failed_store_ends_every_run_and_is_raised(rig: AgentRig) -> None:
    gate = rig.gate()
    for n in range(2):
        rig.world.add(f"Item {n}")
    put_run = rig.pipeline.put_run

    async def failing(row: object) -> None:
        if len(rig.pipeline.rows) == 2 and rig.folder.joinpath("broken").exists():
            raise StoreFailed("the disk is gone")
        await put_run(row)  # type: ignore[arg-type]

    rig.pipeline.put_run = failing  # type: ignore[method-assign]
    loop = rig.loop(command=f"echo $$ > {gate.path}; until test -e broken; do sleep 0.01; done; touch commit-1", slots=2, kill_grace_s=0.1)
    running = asyncio.create_task(loop.run())
    processes = [await gate.process() for _ in range(2)]
    (rig.folder / "broken").touch()
    (rig.workspaces.made[0].path / "broken").touch()
    with pytest.raises(StoreFailed):
        await asyncio.wait_for(running, FAILURE_BOUND_S)
    assert all(has_ended(process) for process in processes)
