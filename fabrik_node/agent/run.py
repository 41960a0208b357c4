"""One run: one claim of one item on its way from Backlog to Done, and an honest end wherever it stops.

The steps are those of :class:`Work`. Whatever the verdict, ``_close``
keeps the work, gives the claim back and writes the row, in that order, so that nobody can take the item before the work is safe.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace

from fabrik_node.agent.ending import cancelled_by, clear_up, give_back, keep_work, told
from fabrik_node.agent.results import RESULT_RULES, Result, Verdict, conflict, not_allowed
from fabrik_node.agent.setup import AgentSetup
from fabrik_node.agent.stop import Stop, Stopped, StopSwitch
from fabrik_node.agent.supervisor import LeaseKeeper
from fabrik_node.agent.underway import Phase, RunUnderWay
from fabrik_node.agent.work import Work
from fabrik_node.domain.claims import Claim
from fabrik_node.domain.finished import finished_facts
from fabrik_node.domain.runs import FINAL_STATES, RunRow, RunState
from fabrik_node.errors import AuthError, ClaimLost, Conflict, GitFailed, IllegalMove, MergeConflict, NoCommits, NotFound, Precondition, StoreFull, Unreachable
from fabrik_node.ids import show_id

__all__ = ["AgentRun", "RunReport"]


@dataclass(frozen=True, slots=True)
class RunReport:
    """What the claim loop needs to know of a finished run."""

    item: bytes
    run_id: bytes
    verdict: Verdict
    lasted_s: float
    """From the start of its last command (or its own, when there was none) to the verdict."""


class AgentRun:
    """Made for a claim that was just granted; :meth:`execute` once. ``since``: when the claim was asked for, on the setup's clock."""

    def __init__(self, setup: AgentSetup, item: bytes, claim: Claim, since: float) -> None:
        self._run = RunUnderWay(setup, item, claim, since)
        self._hurried = False

    @property
    def item(self) -> bytes:
        """Its item."""
        return self._run.item

    @property
    def row(self) -> RunRow:
        """Its row as it is now."""
        return self._run.row

    @property
    def switch(self) -> StopSwitch:
        """What ends it."""
        return self._run.switch

    @property
    def keeper(self) -> LeaseKeeper:
        """What renews its lease."""
        return self._run.keeper

    @property
    def under_way(self) -> RunUnderWay:
        """What its steps need of it."""
        return self._run

    def hold(self, reason: str) -> None:
        """End it and hold its item with this reason: a person has to decide. No attempt is used up."""
        self._run.switch.throw(Stop(Result.CANCELLED, reason, hold=reason))

    async def execute(self) -> RunReport:
        """Work until there is a verdict, then close. Raises only what the node must stop for (a failed store) and bugs.

        Cancelling the task ends the run without waiting for git; the claim is given back all the same.
        """
        run = self._run
        pipeline = run.setup.pipeline
        unsubscribe = pipeline.on_claim_lost(run.claim.claim_id, self._on_claim_lost)
        run.keeper.start()
        try:
            verdict = await self._verdict()
            lasted_s = run.setup.clock.now() - run.command_began
            verdict = await self._closed(verdict)
        finally:
            unsubscribe()
            await run.keeper.stop()
            pipeline.stop_renewing(run.claim.claim_id)
        return RunReport(run.item, run.row.run_id, verdict, lasted_s)

    async def cancel(self, reason: str) -> None:
        """End it on an operator's word. The row says so before the command hears of it: should the node die now, its next start knows."""
        run = self._run
        if run.switch.stop is None and run.row.state not in FINAL_STATES:
            cancelled = Verdict(Result.CANCELLED, reason)
            await told(run.note_at_once(reason=cancelled.line), cancelled)
            run.switch.throw(Stop(Result.CANCELLED, reason, hold=cancelled.line))

    async def waits(self, question: bytes, *, on: bool) -> None:
        """Its command begins to wait for the answer to a question, or does so no more. The row says it, so every node shows it; the lease is renewed all the same."""
        run = self._run
        (run.waiting.enter if on else run.waiting.leave)(question)
        state, asks = RunState.WAITING if run.waiting.is_on else RunState.RUNNING, run.waiting.question
        is_at_work = run.row.state in (RunState.RUNNING, RunState.WAITING) and not run.row.reason
        if is_at_work and (run.row.state, run.row.asks) != (state, asks):
            with suppress(AuthError):  # a node that lost its role is told so at the run's next step, and the row is kept here
                await run.note(state=state, asks=asks)

    def unanswered(self, reason: str) -> None:
        """A question had its time, and its command has no answer: the item is held when the command ends."""
        self._run.waiting.unanswered = reason

    def _on_claim_lost(self, reason: str) -> None:
        run = self._run
        said = cancelled_by(run.setup.pipeline.item(run.item), run.claim)
        run.switch.throw(Stop(Result.CANCELLED, said, hold=f"{Result.CANCELLED}: {said}") if said else Stop(Result.SUPERSEDED, reason))

    async def _verdict(self) -> Verdict:
        """Every expected way to fail, as a verdict. A thrown switch says more than the error that it caused."""
        run = self._run
        try:
            verdict = await Work(run).do()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            self._hurried = True
            run.switch.throw(Stop(Result.CANCELLED, f"the node did not wait for the end of phase {run.row.phase}"))
            verdict = Verdict(Result.CANCELLED, "cancelled")
        except Stopped as stopped:
            verdict = Verdict(stopped.stop.result, stopped.stop.reason)
        except ClaimLost as error:
            verdict = Verdict(Result.SUPERSEDED, str(error))
        except NoCommits as error:
            verdict = Verdict(Result.AGENT_FAILED, str(error))
        except MergeConflict as error:
            verdict = conflict(f"merge conflict: {error}", show_id(run.item))
        except (NotFound, IllegalMove) as error:
            verdict = Verdict(Result.CANCELLED, f"somebody else changed the item: {error}")
        except (GitFailed, Unreachable, Precondition, Conflict, OSError) as error:
            verdict = Verdict(Result.INFRA_LOST, str(error))
        except AuthError as error:
            verdict = not_allowed(error)
        stop = run.switch.stop
        if stop is None or verdict.merge_commit:
            return verdict
        return Verdict(stop.result, stop.reason, verdict.exit_code, stop.hold or verdict.hold)

    async def _closed(self, verdict: Verdict) -> Verdict:
        run = self._run
        run.patience.closing = True
        try:
            return await self._close(verdict)
        except StoreFull as full:  # and the node stops: the claim ends with its lease, and the next start closes the run
            return verdict.noting(f"its end could not be written down: {full}")

    async def _close(self, verdict: Verdict) -> Verdict:
        """Keep the work, give the claim back, clear up, write the row down; the verdict with what went wrong on the way."""
        run = self._run
        run.row = replace(run.row, phase=Phase.CLOSING)
        workspace, kept = run.workspace, True
        if verdict.result is not Result.OK and workspace is not None:
            verdict, kept = await keep_work(workspace, run.claim, verdict, hurried=self._hurried)
        facts = {
            "run": run.row.run_id,
            "agent": run.claim.agent,
            "branch": run.row.branch,
            "merge_commit": verdict.merge_commit,
            "exit_code": verdict.exit_code,
            "duration_ms": run.duration_ms(),
            "resolve": verdict.resolve,
        }
        if verdict.result is not Result.OK and not RESULT_RULES[verdict.result].charges:
            facts |= finished_facts(run.finished)
        verdict = await give_back(run.setup, run.item, run.claim, verdict, run.attempts, facts)
        if workspace is not None and kept:
            verdict = await clear_up(run.setup, workspace, verdict)
        if run.folder is not None:
            try:
                run.folder.say(verdict.line)
            except OSError as error:
                verdict = verdict.noting(f"its log is incomplete: {error}")
        state, ended_ms = RESULT_RULES[verdict.result].state, run.row.started_ms + run.duration_ms()
        return await told(run.note(state=state, process=None, ended_ms=ended_ms, exit_code=verdict.exit_code, reason=verdict.line), verdict)
