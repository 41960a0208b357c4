"""What another node shows of a run, in virtual time: its node's words and their age, and never more than that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from node_rig import BOUND_S, TIMING, NodeRig, Rigs, eventually, sync
from store_doubles import HandClock

from fabrik_node.clock import iso
from fabrik_node.domain.claims import Claim
from fabrik_node.domain.leases import LeaseTiming
from fabrik_node.domain.runs import RunRow, RunState
from fabrik_node.ids import new_id, parse_id, show_id
from fabrik_node.service.run_views import AtWork


class Worker:
    """Node 1 with a run, and node 0 that looks at it."""

    def __init__(self, owner: NodeRig, observer: NodeRig, claim: Claim, row: RunRow) -> None:
        self.owner, self.observer, self.claim, self.row = owner, observer, claim, row
        self.beats = 0

    def beat(self, *, progress: bool = True) -> None:
        """One heartbeat of the run, heard by the observer at once."""
        self.beats += 1
        self.owner.pipeline.renew(self.row.item, self.claim, self.row.run_id, self.beats if progress else 0)
        self.say()

    def say(self) -> None:
        """A message of the owner's node with whatever it holds."""
        self.owner.node.presence.publish({"beat_ms": 10_000})
        message = self.owner.node.presence.heard()[self.owner.node.public].message
        assert self.observer.node.ephemeral_in(message) is not None

    async def shown(self) -> dict[str, Any]:
        [run] = (await self.observer.call("runs.list"))["runs"]
        assert (await self.observer.call("runs.show", id=run["run_id"], ask=False))["run"] == run, "one function for both"
        [beside] = (await self.observer.call("items.show", id=run["item"]))["runs"]
        assert beside == run
        assert (await self.observer.call("status"))["runs"] == {run["state"]: 1}
        return dict(run)


@pytest.fixture
async def worker(memory_rigs: Rigs) -> Worker:
    return await at_work(memory_rigs)


async def at_work(rigs: Rigs, timing: LeaseTiming = TIMING) -> Worker:
    """``timing``: the owner's."""
    observer, owner = await rigs.open(0), await rigs.open(1, timing=timing)
    item = parse_id(await observer.add()) or b""
    await sync(observer, owner)
    worker = await begun(owner, observer, item)
    await sync(observer, owner)
    return worker


async def begun(owner: NodeRig, observer: NodeRig, item: bytes) -> Worker:
    """The observer has not heard of it yet."""
    claim = await owner.pipeline.claim(item, "agent")
    assert isinstance(claim, Claim)
    row = RunRow(new_id(1), item, claim.claim_id, owner.node.public, "agent", RunState.RUNNING, "coding", 1_700_000_000_000)
    await owner.pipeline.put_run(row)
    return Worker(owner, observer, claim, row)


@pytest.mark.promise("B5")
async def test_a_run_is_running_only_while_its_node_says_so_and_unreachable_since_it_was_last_heard(memory_rigs: Rigs, worker: Worker) -> None:
    clock = memory_rigs.clock
    run = await worker.shown()
    assert (run["state"], run["age_s"], run["stale"], run["as_of"]) == ("unknown", None, True, None), "nothing was heard of it"
    worker.beat()
    assert (await worker.shown())["state"] == "unknown", "one message may be an old one"
    worker.beat()
    heard = iso(clock.wall_ms())
    run = await worker.shown()
    assert (run["state"], run["age_s"], run["stale"], run["as_of"], run["next_s"]) == ("running", 0.0, False, heard, 30.0)
    clock.advance(30)
    assert (await worker.shown())["state"] == "running", "three beats are not over"
    clock.advance(1)
    run = await worker.shown()
    assert (run["state"], run["unreachable_since"], run["age_s"], run["as_of"]) == ("unreachable", heard, 31.0, heard)
    assert run["recorded_state"] == "running"
    worker.observer.watch(115)
    run = await worker.shown()
    assert (run["state"], run["unreachable_since"], run["stale"]) == ("lost", heard, False)
    worker.beat()
    assert (await worker.shown())["state"] == "running", "it is heard again"


@pytest.mark.promise("B5")
@pytest.mark.parametrize(("before_s", "state", "age_s"), [(2.0, "running", 2.0), (TIMING.beat_s + 1, "unknown", None)])
async def test_a_heartbeat_that_overtook_its_claim_counts_from_when_it_came(memory_rigs: Rigs, before_s: float, state: str, age_s: float | None) -> None:
    """One that is older than a beat does not: a newer one is due."""
    observer, owner = await memory_rigs.open(0), await memory_rigs.open(1)
    item = parse_id(await observer.add()) or b""
    await sync(observer, owner)
    worker = await begun(owner, observer, item)
    worker.beat()
    worker.beat()
    memory_rigs.clock.advance(before_s)
    await sync(owner, observer)
    run = await worker.shown()
    assert (run["state"], run["age_s"], run["stale"]) == (state, age_s, age_s is None)


@pytest.mark.promise("B7")
async def test_the_news_of_a_run_are_stale_at_the_threshold(memory_rigs: Rigs, worker: Worker) -> None:
    worker.beat()
    worker.beat()
    for seconds, stale in ((299, False), (1, False), (1, True)):
        memory_rigs.clock.advance(seconds)
        run = await worker.shown()
        [claim] = (await worker.observer.call("claims.list"))["claims"]
        assert (run["stale"], claim["stale"]) == (stale, stale)
        assert run["as_of"] == iso(memory_rigs.clock.wall_ms() - round(run["age_s"] * 1000))
    worker.observer.reader._stale_s = 1_000.0
    assert (await worker.shown())["stale"] is False, "the threshold is a setting"


async def test_a_run_that_its_node_does_not_name_any_more_is_not_running(worker: Worker) -> None:
    worker.beat()
    worker.beat()
    worker.owner.pipeline.stop_renewing(worker.claim.claim_id)
    worker.say()
    assert (await worker.shown())["state"] == "orphaned"
    await worker.owner.pipeline.put_run(replace(worker.row, state=RunState.COMPLETED, ended_ms=1_700_000_001_000, exit_code=0))
    await sync(worker.owner, worker.observer)
    [run] = (await worker.observer.call("runs.list"))["runs"]
    assert (run["state"], run["as_of"], run["since"], run["stale"]) == ("completed", iso(1_700_000_001_000), iso(1_700_000_001_000), False)


async def test_an_observer_that_started_anew_does_not_take_the_claim_for_a_heartbeat(memory_rigs: Rigs, worker: Worker) -> None:
    worker.beat()
    worker.beat()
    await worker.observer.stop()
    worker.observer = await memory_rigs.open(0)
    run = await worker.shown()
    assert (run["state"], run["age_s"]) == ("unknown", None)
    [claim] = (await worker.observer.call("claims.list"))["claims"]
    assert (claim["lease_heard"], claim["stale"]) == (False, True)
    worker.beat()
    worker.beat()
    assert (await worker.shown())["state"] == "running"
    await worker.observer.stop()  # before the store that both had is closed


async def test_a_superseded_run_of_a_node_that_is_away_keeps_the_age_of_its_news(memory_rigs: Rigs, worker: Worker) -> None:
    worker.beat()
    worker.beat()
    worker.observer.watch(150)
    assert isinstance(await worker.observer.pipeline.claim(worker.row.item, "agent"), Claim)
    worker.observer.node.lease_watch.look()
    run = await worker.shown()
    assert (run["state"], run["age_s"], run["stale"]) == ("superseded", 150.0, False)
    assert run["evidence"] == "another claim on the item wins; its node says nothing for 150.0 s"


async def test_no_progress_is_not_a_lost_heartbeat(memory_rigs: Rigs, worker: Worker) -> None:
    worker.beat()
    for _ in range(7):
        memory_rigs.clock.advance(10)
        worker.beat(progress=False)
    run = await worker.shown()
    assert (run["state"], run["age_s"], run["degraded"]) == ("quiet", 0.0, "")


async def test_on_its_own_node_a_run_is_running_only_in_the_hands_of_the_agent(worker: Worker) -> None:
    reader = worker.owner.reader

    async def own() -> dict[str, Any]:
        [run] = (await worker.owner.call("runs.list"))["runs"]
        return dict(run)

    assert (await own())["state"] == "interrupted", "no agent has it in hand"
    reader._at_work = lambda: AtWork({worker.row.run_id})
    run = await own()
    assert (run["state"], run["own"], run["age_s"], run["stale"]) == ("running", True, 0.0, False)
    reader._at_work = lambda: AtWork({worker.row.run_id}, draining=True)
    assert (await own())["state"] == "draining"


# ---- watching --------------------------------------------------------------------------------------


class Watcher:
    """``runs watch`` in a task."""

    def __init__(self, rig: NodeRig, **args: Any) -> None:
        self._lines: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.looks = 0
        self.takes: Callable[[], object] = lambda: None
        """What happens while the reader deals with a line."""
        views = rig.reader.run_views

        def counted() -> Any:
            self.looks += 1
            return views()

        rig.reader.run_views = counted  # type: ignore[method-assign]
        self.task = asyncio.create_task(self._read(rig, args))

    async def _read(self, rig: NodeRig, args: dict[str, Any]) -> None:
        async for line in rig.service.stream("runs.watch", args):
            self._lines.put_nowait(line)
            self.takes()

    async def state(self) -> str:
        line = await asyncio.wait_for(self._lines.get(), BOUND_S)
        assert (line["source"], line["node"]) == ("node", "node0")
        return str(line["run"]["state"])

    def silent(self) -> bool:
        return self._lines.empty()


@pytest.mark.promise("B14", "B15")
async def test_a_watcher_is_told_of_each_change_and_asks_nothing_meanwhile(worker: Worker) -> None:
    listeners = len(worker.observer.node.presence._listeners)
    watcher = Watcher(worker.observer)
    assert await watcher.state() == "unknown"
    worker.beat()
    worker.beat()
    assert await watcher.state() == "running"
    looks = watcher.looks
    for _ in range(100):
        await asyncio.sleep(0.001)
    assert watcher.looks == looks, "nothing happened, and nothing was asked"
    worker.beat()
    await eventually(lambda: watcher.looks > looks)
    assert watcher.silent(), "a heartbeat is no change"
    await worker.owner.pipeline.put_run(replace(worker.row, phase="qa"))
    await sync(worker.owner, worker.observer)
    assert await watcher.state() == "running"
    await worker.owner.pipeline.put_run(replace(worker.row, state=RunState.COMPLETED, ended_ms=1_700_000_001_000, exit_code=0))
    await sync(worker.owner, worker.observer)
    assert await watcher.state() == "completed"
    second = replace(worker.row, run_id=new_id(2), state=RunState.FAILED, ended_ms=1_700_000_001_000)
    await worker.owner.pipeline.put_run(second)
    await sync(worker.owner, worker.observer)
    assert await watcher.state() == "failed", "also of a run of which the first news is its end"
    late = Watcher(worker.observer, item=show_id(worker.row.item), ended=True)
    assert {await late.state(), await late.state()} == {"completed", "failed"}, "who asks so misses no run that ended before the first look"
    for each in (watcher, late):
        each.task.cancel()
        await asyncio.gather(each.task, return_exceptions=True)
    assert len(worker.observer.node.presence._listeners) == listeners, "who leaves leaves nothing behind"


@pytest.mark.promise("B15")
async def test_silence_is_noticed_at_its_moment_and_not_by_asking(memory_rigs: Rigs, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    bounds: list[float | None] = []
    timeout = asyncio.timeout

    def noted(seconds: float | None) -> Any:
        bounds.append(seconds)
        worker.observer.watch(0 if seconds is None else seconds)
        return timeout(None if seconds is None else 0)

    worker.beat()
    worker.beat()
    monkeypatch.setattr("fabrik_node.service.watching.asyncio", SimpleNamespace(timeout=noted, Event=asyncio.Event))  # not for the nodes' own tasks
    watcher = Watcher(worker.observer)
    assert [await watcher.state() for _ in range(3)] == ["running", "unreachable", "lost"]
    assert bounds[:2] == [pytest.approx(30.05), pytest.approx(120.0, abs=0.1)], "TTL, grace, and a lock delay of whole beats"
    watcher.task.cancel()
    await asyncio.gather(watcher.task, return_exceptions=True)


async def test_the_moment_between_a_claim_that_was_given_back_and_the_end_of_its_run_is_not_told(memory_rigs: Rigs, worker: Worker) -> None:
    worker.beat()
    worker.beat()
    watcher = Watcher(worker.observer)
    assert await watcher.state() == "running"
    worker.owner.pipeline.stop_renewing(worker.claim.claim_id)
    worker.say()
    await worker.owner.pipeline.finish(worker.row.item, worker.claim, "done", {}, charge_attempt=False)
    await sync(worker.owner, worker.observer)
    assert (await worker.shown())["state"] == "unknown", "as who asks is told"
    looks = watcher.looks
    worker.observer.node.presence.publish({})
    await eventually(lambda: watcher.looks > looks)
    assert watcher.silent()
    memory_rigs.clock.advance(3)
    worker.observer.node.presence.publish({})
    assert await watcher.state() == "unknown", "its end does not come"
    await worker.owner.pipeline.put_run(replace(worker.row, state=RunState.COMPLETED, ended_ms=1_700_000_001_000, exit_code=0))
    await sync(worker.owner, worker.observer)
    assert await watcher.state() == "completed"
    watcher.task.cancel()
    await asyncio.gather(watcher.task, return_exceptions=True)


def timed(monkeypatch: pytest.MonkeyPatch, clock: HandClock, *, short_s: float) -> list[float | None]:
    """How long each rest of a watcher may be, as it is found. Those up to ``short_s`` are over at once, on the clock too; longer ones when something moves."""
    bounds: list[float | None] = []
    timeout = asyncio.timeout

    def noted(seconds: float | None) -> Any:
        bounds.append(seconds)
        if seconds is None or seconds > short_s:
            return timeout(None)
        clock.advance(seconds)
        return timeout(0)

    monkeypatch.setattr("fabrik_node.service.watching.asyncio", SimpleNamespace(timeout=noted, Event=asyncio.Event))  # not for the nodes' own tasks
    return bounds


async def given_back(worker: Worker) -> None:
    """The claim is over, and the observer knows; the end of its run is not there yet."""
    worker.owner.pipeline.stop_renewing(worker.claim.claim_id)
    worker.say()
    await worker.owner.pipeline.finish(worker.row.item, worker.claim, "done", {}, charge_attempt=False)
    await sync(worker.owner, worker.observer)


async def another_look(watcher: Watcher, looks: int) -> None:
    await eventually(lambda: watcher.looks > looks)


async def over(watcher: Watcher) -> None:
    watcher.task.cancel()
    await asyncio.gather(watcher.task, return_exceptions=True)


async def test_an_end_that_does_not_come_is_told_though_nobody_says_anything(memory_rigs: Rigs, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    worker.beat()
    worker.beat()
    bounds = timed(monkeypatch, memory_rigs.clock, short_s=3)
    watcher = Watcher(worker.observer)
    assert await watcher.state() == "running"
    await given_back(worker)
    assert (await watcher.state()) in ("orphaned", "unknown")
    assert pytest.approx(2.05) in [seconds for seconds in bounds if seconds is not None]
    await over(watcher)


async def test_an_end_that_does_not_come_is_told_to_a_reader_who_takes_his_time(memory_rigs: Rigs, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time for which it is waited for ends between the look that kept it back and the rest."""
    timed(monkeypatch, memory_rigs.clock, short_s=1)
    worker.beat()
    worker.beat()
    watcher = Watcher(worker.observer)
    assert await watcher.state() == "running"
    looks = watcher.looks
    await given_back(worker)
    await eventually(lambda: watcher.looks > looks)
    assert watcher.silent()
    watcher.takes = lambda: memory_rigs.clock.advance(3)
    await worker.owner.pipeline.put_run(replace(worker.row, run_id=new_id(2), state=RunState.FAILED, ended_ms=1_700_000_001_000))
    await sync(worker.owner, worker.observer)
    assert [await watcher.state() for _ in range(2)] == ["failed", "unknown"]
    await over(watcher)


async def test_each_end_that_is_expected_has_its_own_time(memory_rigs: Rigs, worker: Worker) -> None:
    for _ in range(2):
        worker.beat()
    watcher = Watcher(worker.observer)
    assert await watcher.state() == "running"
    for _ in range(2):
        looks = watcher.looks
        worker.owner.pipeline.stop_renewing(worker.claim.claim_id)
        worker.say()
        assert (await worker.shown())["state"] == "orphaned", "as who asks is told"
        await another_look(watcher, looks)
        assert watcher.silent()
        looks = watcher.looks
        for _ in range(3):
            worker.beat()
        assert (await worker.shown())["state"] == "running"
        await another_look(watcher, looks)
        memory_rigs.clock.advance(3)
    assert watcher.silent(), "its node named it again each time"
    await over(watcher)


async def test_who_begins_to_watch_sees_a_run_of_which_the_end_is_due(worker: Worker) -> None:
    worker.beat()
    worker.beat()
    await given_back(worker)
    watcher = Watcher(worker.observer)
    assert await watcher.state() == "unknown"
    looks = watcher.looks
    worker.observer.node.presence.publish({})
    await eventually(lambda: watcher.looks > looks)
    assert watcher.silent(), "once"
    await worker.owner.pipeline.put_run(replace(worker.row, state=RunState.COMPLETED, ended_ms=1_700_000_001_000, exit_code=0))
    await sync(worker.owner, worker.observer)
    assert await watcher.state() == "completed"
    await over(watcher)


async def test_a_date_that_trembles_is_no_change(memory_rigs: Rigs, worker: Worker) -> None:
    worker.beat()
    worker.beat()
    memory_rigs.clock.advance(31)
    watcher = Watcher(worker.observer)
    assert await watcher.state() == "unreachable"
    looks = watcher.looks
    memory_rigs.clock.wall += 1
    worker.observer.node.presence.publish({})
    await eventually(lambda: watcher.looks > looks)
    assert watcher.silent()
    watcher.task.cancel()
    await asyncio.gather(watcher.task, return_exceptions=True)


async def test_the_ttl_of_the_stage_says_when_a_verdict_ends(memory_rigs: Rigs) -> None:
    worker = await at_work(memory_rigs, replace(TIMING, stage_ttl_s={"Backlog": 20.0}))
    worker.observer.watch(0)
    worker.beat()
    worker.beat()
    worker.observer.watch(10)
    worker.say()
    run = await worker.shown()
    assert (run["state"], run["age_s"], run["next_s"]) == ("running", 10.0, 10.0), "not the 30 s for which its node may be silent"


async def test_one_run_is_watched_until_it_is_over(worker: Worker) -> None:
    ended = replace(worker.row, state=RunState.COMPLETED, ended_ms=1_700_000_001_000, exit_code=0)
    watcher = Watcher(worker.observer, id=show_id(worker.row.run_id))
    assert await watcher.state() == "unknown"
    await worker.owner.pipeline.put_run(ended)
    await sync(worker.owner, worker.observer)
    assert await watcher.state() == "completed"
    await asyncio.wait_for(watcher.task, BOUND_S)
    again = Watcher(worker.observer, id=show_id(worker.row.run_id))
    assert await again.state() == "completed"
    await asyncio.wait_for(again.task, BOUND_S)


# ---- without progress --------------------------------------------------------------------------------


@pytest.mark.promise("C5")
async def test_a_run_that_says_again_and_again_that_nothing_moves_is_flagged_with_evidence(memory_rigs: Rigs, worker: Worker) -> None:
    clock = memory_rigs.clock
    worker.beat()
    worker.beat()
    seen: dict[str, dict[str, Any]] = {}
    for _ in range(100):
        clock.advance(10)
        worker.beat(progress=False)
        run = await worker.shown()
        seen.setdefault(run["state"], run)
    assert list(seen) == ["running", "quiet", "stalled"]
    assert seen["stalled"]["evidence"].endswith("no progress for 900 s")
    assert seen["quiet"]["evidence"].endswith("no progress for 60 s")
    worker.beat()
    assert (await worker.shown())["state"] == "running"


@pytest.mark.promise("C5")
@pytest.mark.parametrize("between_s", [29.0, 25.0])
async def test_load_alone_stalls_nothing(memory_rigs: Rigs, worker: Worker, between_s: float) -> None:
    """A busy machine: heartbeats come late, and whatever there was of progress comes with them; then none at all for an hour."""
    clock = memory_rigs.clock
    worker.beat()
    worker.beat()
    states = set()
    for number in range(60):
        clock.advance(between_s)
        states.add((await worker.shown())["state"])
        worker.beat(progress=number % 3 == 0)
        states.add((await worker.shown())["state"])
    assert states <= {"running", "quiet"}
    states = set()
    for _ in range(360):
        clock.advance(10)
        states.add((await worker.shown())["state"])
    assert "stalled" not in states, "silence is no evidence that it does not move"
    assert "unreachable" in states


async def test_the_thresholds_are_those_of_the_configuration(memory_rigs: Rigs, worker: Worker) -> None:
    worker.observer.reader._stills_s = (20.0, 40.0)
    worker.beat()
    worker.beat()
    found = []
    for _ in range(5):
        memory_rigs.clock.advance(10)
        worker.beat(progress=False)
        found.append((await worker.shown())["state"])
    assert found == ["running", "quiet", "quiet", "stalled", "stalled"]


@pytest.mark.promise("C5")
async def test_the_time_until_a_late_heartbeat_is_no_time_without_progress(memory_rigs: Rigs, worker: Worker) -> None:
    worker.observer.reader._stills_s = (5.0, 20.0)
    worker.beat()
    worker.beat()
    for _ in range(5):
        memory_rigs.clock.advance(29)
        assert (await worker.shown())["state"] == "quiet", "each one said that it moved"
        worker.beat()
        assert (await worker.shown())["state"] == "running"
