"""The claim loop: find work, claim it, run it, again; up to ``slots`` runs at once.

It wakes when the node says that there may be work, and looks again by itself now and then, because a lease that runs out is no event.
Other agents look at the same list: the node says which items fall to this one, and when it is its turn; who is refused takes the next.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from types import MappingProxyType

from fabrik_node.agent.backoff import Backoff
from fabrik_node.agent.child import SHIM_MARGIN_S
from fabrik_node.agent.claiming import Claiming
from fabrik_node.agent.ending import KEEP_WORK_S, give_back_unused
from fabrik_node.agent.folder import one_line
from fabrik_node.agent.lessons import Lessons
from fabrik_node.agent.results import Result
from fabrik_node.agent.run import AgentRun
from fabrik_node.agent.setup import AgentSetup
from fabrik_node.agent.states import AgentState
from fabrik_node.agent.stop import Stop
from fabrik_node.domain.claims import Claim
from fabrik_node.errors import BadConfig
from fabrik_node.ids import show_id

__all__ = ["ClaimLoop"]

_log = logging.getLogger("fabrik_node.agent")
_DUE_S = 0.001
"""It is an agent's turn when no more than this is left of its wait."""
_STOP_MARGIN_S = 10.0
"""For the writes at the end of a stopped run."""
_HURRY_S = 2 * SHIM_MARGIN_S + _STOP_MARGIN_S
"""For a run whose task had to be cancelled: killing what is left, and the writes."""


class ClaimLoop:
    """Await :meth:`run` once as a task; end it with :meth:`drain` or :meth:`stop`. All methods belong to one event loop.

    Raises :class:`BadConfig` when there is no command to run.
    """

    def __init__(self, setup: AgentSetup, rng: random.Random) -> None:
        if not setup.config.command:
            raise BadConfig("[agent]: command is empty, so this agent could do nothing", "set command in [agent] of config.toml")
        self._setup = setup
        self._rng = rng
        self._backoff = Backoff(setup.config.backoff_s, setup.timing.beat_s, rng)
        self._asking = Claiming(setup, self._backoff)
        self._lessons = Lessons(setup, self._backoff)
        self._wake = asyncio.Event()
        self._accepting = True
        self._stop: Stop | None = None
        self._tasks: dict[bytes, asyncio.Task[None]] = {}
        self._runs: dict[bytes, AgentRun] = {}
        self._failure: BaseException | None = None
        self._over = asyncio.Event()

    @property
    def runs(self) -> Mapping[bytes, AgentRun]:
        """Runs in progress, by run id."""
        return MappingProxyType(self._runs)

    @property
    def claiming(self) -> list[bytes]:
        """Items whose claim was asked for and not answered yet. One that is granted when this agent takes nothing new any more is given back."""
        return sorted(self._asking.items)

    @property
    def problem(self) -> str:
        """Why nothing could be claimed at the last try, one line; empty while nothing is in the way."""
        return self._asking.problem

    @property
    def accepting(self) -> bool:
        """False once it drains or stops, and while it is halted."""
        return self._accepting and self._setup.halts.halt is None

    @property
    def state(self) -> AgentState:
        """See :class:`AgentState`."""
        if self._over.is_set():
            return AgentState.COMPLETED
        if self._runs:
            return AgentState.RUNNING
        if self._tasks:
            return AgentState.PENDING
        if self._setup.halts.halt is not None:
            return AgentState.HALTED
        return AgentState.RATE_LIMITED if self._backoff.is_closed(self._setup.clock.now()) else AgentState.IDLE

    @property
    def wait_s(self) -> float:
        """Seconds for which this agent takes nothing, after a rate limit or failures in a row."""
        return self._backoff.closed_s(self._setup.clock.now())

    async def run(self) -> None:
        """Returns after :meth:`drain` or :meth:`stop`, when the last run is over. Raises what the node must stop for; every run is ended then."""
        unsubscribe = self._setup.pipeline.on_change(self._wake.set)
        unwatch = self._setup.halts.on_change(self._halt_changed)
        try:
            while self._accepting:
                self._wake.clear()
                if await self._is_connected():
                    await self._rest(await self._fill_slots())
        except asyncio.CancelledError:
            await self.stop()
            raise
        finally:
            unsubscribe()
            unwatch()
            self._accepting = False
            try:
                await self._finish_runs()
            finally:
                self._over.set()
        if self._failure is not None:
            raise self._failure

    async def drain(self) -> None:
        """Claim nothing more; returns when the last run is done, however long that takes. Leases are renewed until then."""
        self._accepting = False
        self._wake.set()
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    async def stop(self, reason: str = "the node was stopped") -> None:
        """End every run: its processes are killed, its work is kept on its branch, its claim is given back. Also while draining.

        Ends within ``kill_grace_s`` + 52 s, or 22 s later when git does not answer at all.
        """
        self._stop = self._stop or Stop(Result.CANCELLED, reason)
        self._accepting = False
        self._wake.set()
        for run in list(self._runs.values()):
            run.switch.throw(self._stop)
        if not self._tasks:
            return
        bound_s = self._setup.config.kill_grace_s + 2 * SHIM_MARGIN_S + KEEP_WORK_S + _STOP_MARGIN_S
        _, late = await asyncio.wait(list(self._tasks.values()), timeout=bound_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=_HURRY_S)

    async def cancel(self, run_id: bytes, reason: str) -> bool:
        """End one run on an operator's word and hold its item, so that nobody starts it again; returns when it is over. False: no such run here.

        It is written down first: a node that dies meanwhile does not start it again either. Ends within the time of :meth:`stop`.
        """
        run = self._runs.get(run_id)
        if run is None:
            return False
        await run.cancel(reason)
        if (task := self._tasks.get(run.item)) is not None:
            await asyncio.wait({task})
        return True

    async def _is_connected(self) -> bool:
        """Wait for company, but not longer than we accept work. An isolated holder would only lose its lease."""
        connected = asyncio.ensure_future(self._setup.pipeline.wait_connected())
        try:
            while self._accepting and not connected.done():
                woken = asyncio.ensure_future(self._wake.wait())
                await asyncio.wait({connected, woken}, return_when=asyncio.FIRST_COMPLETED)
                woken.cancel()
                self._wake.clear()
            if connected.done():
                connected.result()
            return self._accepting
        finally:
            connected.cancel()

    async def _fill_slots(self) -> float | None:
        """Start what can be started; seconds until more can be, as far as that is a question of waiting. Without a free slot nothing is looked at."""
        if not self._has_room():
            return None
        setup = self._setup
        await setup.pipeline.prepare()
        now = setup.clock.now()
        found = setup.pipeline.candidates(setup.config.labels)
        self._backoff.keep({view.id for view in found} | set(self._tasks))
        if not self._has_room():
            return None
        views = [view for view in found if view.id not in self._tasks]
        turns = setup.pipeline.choose(self._backoff.ready(views, now), setup.config.labels, setup.config.slots - len(self._tasks))
        for item in [item for item, wait_s in turns if wait_s <= _DUE_S]:
            task = asyncio.create_task(self._claim_and_run(item), name=f"agent-{item.hex()}")
            self._tasks[item] = task
            task.add_done_callback(lambda done, item=item: self._ended(item, done))  # type: ignore[misc]  # inference of the default argument
        waits = [wait_s for _, wait_s in turns if wait_s > _DUE_S] + [self._backoff.next_s(views, now)]
        return min((wait_s for wait_s in waits if wait_s is not None), default=None) if len(self._tasks) < setup.config.slots else None

    def _has_room(self) -> bool:
        return self.accepting and len(self._tasks) < self._setup.config.slots

    async def _rest(self, next_s: float | None) -> None:
        wait_s = self._rng.uniform(0.5, 1.0) * self._setup.timing.beat_s
        try:
            async with asyncio.timeout(wait_s if next_s is None else min(wait_s, next_s)):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _claim_and_run(self, item: bytes) -> None:
        setup = self._setup
        since = setup.clock.now()
        if (claim := await self._come_forward(item)) is None:
            return
        run = AgentRun(setup, item, claim, since)
        name = f"run {show_id(run.row.run_id)} of item {show_id(item)}"
        _log.info("%s begins: %s", name, self._title(item))
        self._runs[run.row.run_id] = run
        try:
            report = await run.execute()
            _log.info("%s is over: %s", name, report.verdict.line)
            await self._lessons.learn(report)
        finally:
            del self._runs[run.row.run_id]

    async def _come_forward(self, item: bytes) -> Claim | None:
        """Say that we ask for it, hear whether another agent that goes first says the same, and ask."""
        pipeline, labels = self._setup.pipeline, self._setup.config.labels
        if not pipeline.is_candidate(item, labels):
            return None
        with pipeline.intent(item) as listen_s:
            await asyncio.sleep(listen_s)
            return await self._claim(item) if self.accepting and pipeline.is_candidate(item, labels) else None

    async def _claim(self, item: bytes) -> Claim | None:
        claim = await self._asking.ask(item)
        if claim is not None and not self.accepting:
            await give_back_unused(self._setup, item, claim, self._stop)
            return None
        return claim

    def _title(self, item: bytes) -> str:
        view = self._setup.pipeline.item(item)
        return "" if view is None else one_line(view.title)

    def _halt_changed(self) -> None:
        if self._setup.halts.halt is None:
            self._lessons.forget()
        self._wake.set()

    def _ended(self, item: bytes, task: asyncio.Task[None]) -> None:
        del self._tasks[item]
        self._setup.pipeline.say_now()
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._failure = self._failure or failure
            self._accepting = False
        self._wake.set()

    async def _finish_runs(self) -> None:
        """Wait for the last run; after a failure of one, end the others first."""
        while self._tasks:
            if self._failure is not None and self._stop is None:
                await self.stop(f"another run of this node failed: {self._failure}")
                continue
            await asyncio.wait(list(self._tasks.values()), return_when=asyncio.FIRST_COMPLETED)
