"""One run: one claim of one item on its way from Backlog to Done, and an honest end wherever it stops.

The steps are in :meth:`AgentRun._work`, in order; each either goes on or gives a :class:`Verdict`. Whatever the verdict, ``_close``
keeps the work, gives the claim back and writes the row, in that order, so that nobody can take the item before the work is safe.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from fabrik_node import __version__
from fabrik_node.agent.command import CommandRunner
from fabrik_node.agent.ending import cancelled_by, clear_up, forbidden, give_back, keep_work, told
from fabrik_node.agent.environment import CommandContext
from fabrik_node.agent.folder import RunFolder, one_line
from fabrik_node.agent.results import RESULT_RULES, Result, Verdict, conflict, not_allowed
from fabrik_node.agent.setup import AgentSetup
from fabrik_node.agent.stop import Stop, Stopped, StopSwitch
from fabrik_node.agent.supervisor import LeaseKeeper
from fabrik_node.agent.walk import held_item, walk_to_coding, walk_to_done, walk_to_merge
from fabrik_node.domain.claims import Claim
from fabrik_node.domain.runs import FINAL_STATES, ProcessId, RunRow, RunState
from fabrik_node.domain.stages import Coding, Done, Merge, Qa
from fabrik_node.errors import AuthError, ClaimLost, Conflict, GitFailed, IllegalMove, Internal, MergeConflict, NoCommits, NotFound, Precondition, Unreachable
from fabrik_node.ids import new_id, show_id
from fabrik_node.ports import ItemView, Workspace

__all__ = ["AgentRun", "Phase", "RunReport"]


class Phase(StrEnum):
    """What a run is doing; the ``phase`` of its row."""

    PREPARING = "preparing"
    CODING = "coding"
    QA = "qa"
    MERGING = "merging"
    CLOSING = "closing"


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
        self.setup = setup
        self.item = item
        self.claim = claim
        self.switch = StopSwitch()
        self._since = since
        self._began = setup.clock.now()
        self._workspace: Workspace | None = None
        self._folder: RunFolder | None = None
        self._attempts = 0
        self._command_began = self._began
        self._hurried = False
        started_ms = setup.clock.wall_ms()
        self.row = RunRow(
            run_id=new_id(started_ms),
            item=item,
            claim_id=claim.claim_id,
            node=claim.node,
            agent=claim.agent,
            state=RunState.STARTING,
            phase=Phase.PREPARING,
            started_ms=started_ms,
            engine=f"fabrik-node {__version__}",
        )
        self.keeper = LeaseKeeper(
            renew=lambda progress_n: setup.pipeline.renew(item, claim, self.row.run_id, progress_n),
            mark=self._mark,
            timing=setup.timing,
            clock=setup.clock,
            switch=self.switch,
            since=since,
            name=show_id(self.row.run_id),
        )

    async def execute(self) -> RunReport:
        """Work until there is a verdict, then close. Raises only what the node must stop for (a failed store) and bugs.

        Cancelling the task ends the run without waiting for git; the claim is given back all the same.
        """
        pipeline = self.setup.pipeline
        unsubscribe = pipeline.on_claim_lost(self.claim.claim_id, self._on_claim_lost)
        self.keeper.start()
        try:
            verdict = await self._verdict()
            lasted_s = self.setup.clock.now() - self._command_began
            verdict = await self._close(verdict)
        finally:
            unsubscribe()
            await self.keeper.stop()
            pipeline.stop_renewing(self.claim.claim_id)
        return RunReport(self.item, self.row.run_id, verdict, lasted_s)

    async def cancel(self, reason: str) -> None:
        """End it on an operator's word. The row says so before the command hears of it: should the node die now, its next start knows."""
        if self.switch.stop is None and self.row.state not in FINAL_STATES:
            cancelled = Verdict(Result.CANCELLED, reason)
            await told(self._note(reason=cancelled.line), cancelled)
            self.switch.throw(Stop(Result.CANCELLED, reason, hold=cancelled.line))

    def _on_claim_lost(self, reason: str) -> None:
        said = cancelled_by(self.setup.pipeline.item(self.item), self.claim)
        self.switch.throw(Stop(Result.CANCELLED, said, hold=f"{Result.CANCELLED}: {said}") if said else Stop(Result.SUPERSEDED, reason))

    def _mark(self) -> tuple[str, tuple[int, int]]:
        """Progress is output, or another phase."""
        return (self.row.phase, (0, 0) if self._folder is None else self._folder.mark())

    async def _verdict(self) -> Verdict:
        """Every expected way to fail, as a verdict. A thrown switch says more than the error that it caused."""
        try:
            verdict = await self._work()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            self._hurried = True
            self.switch.throw(Stop(Result.CANCELLED, f"the node did not wait for the end of phase {self.row.phase}"))
            verdict = Verdict(Result.CANCELLED, "cancelled")
        except Stopped as stopped:
            verdict = Verdict(stopped.stop.result, stopped.stop.reason)
        except ClaimLost as error:
            verdict = Verdict(Result.SUPERSEDED, str(error))
        except NoCommits as error:
            verdict = Verdict(Result.AGENT_FAILED, str(error))
        except MergeConflict as error:
            verdict = conflict(f"merge conflict: {error}", show_id(self.item))
        except (NotFound, IllegalMove) as error:
            verdict = Verdict(Result.CANCELLED, f"somebody else changed the item: {error}")
        except (GitFailed, Unreachable, Precondition, Conflict, OSError) as error:
            verdict = Verdict(Result.INFRA_LOST, str(error))
        except AuthError as error:
            verdict = not_allowed(error)
        stop = self.switch.stop
        if stop is None or verdict.merge_commit:
            return verdict
        return Verdict(stop.result, stop.reason, verdict.exit_code, stop.hold or verdict.hold)

    async def _work(self) -> Verdict:
        pipeline, config = self.setup.pipeline, self.setup.config
        view = held_item(pipeline, self.item, self.claim)
        self._attempts = view.attempts
        self._folder = RunFolder(self.setup.paths, self.row.run_id)
        self._folder.write_prompt(view)
        await self._note(log=str(self._folder.log))
        self.switch.check()

        merged = await self.setup.workspaces.merged_commit(show_id(self.item))
        if merged is not None:
            await walk_to_done(pipeline, self.item, self.claim, self._done(merged))
            return Verdict(Result.OK, f"was merged already as {merged.hex()}", merge_commit=merged)
        finished = view.stage.feature_branch if isinstance(view.stage, Merge) else ""
        if not finished:
            await walk_to_coding(pipeline, self.item, self.claim)
        self.switch.check()
        workspace = self._workspace = await self.setup.workspaces.create(show_id(self.item), show_id(self.claim.claim_id), finished)
        self.row = replace(self.row, branch=workspace.branch, worktree=str(workspace.path))

        verdict = await self._take_up(finished, workspace) if finished else await self._code(view, workspace)
        if verdict.result is not Result.OK:
            return verdict
        if config.qa:
            verdict = await self._command(Phase.QA, config.qa, Qa.name, view, workspace)
            if verdict.result is not Result.OK:
                return verdict
            await self._note(phase=Phase.MERGING, process=None)
        return await self._merge(view, workspace)

    async def _code(self, view: ItemView, workspace: Workspace) -> Verdict:
        config = self.setup.config
        verdict = await self._command(Phase.CODING, config.command, Coding.name, view, workspace)
        if verdict.result is not Result.OK:
            return verdict
        await self._note(phase=Phase.QA if config.qa else Phase.MERGING, process=None)
        if await workspace.commits_ahead() < 1:
            return Verdict(
                Result.AGENT_FAILED, f"zero commits ahead: the command ended with exit code 0 but committed nothing on {workspace.branch}", verdict.exit_code
            )
        await self.setup.pipeline.move(self.item, Qa(), self.claim)
        return verdict

    async def _take_up(self, finished: str, workspace: Workspace) -> Verdict:
        """An earlier claim did the work, or a person mended it: what remains is to test and to merge. The item stays in Merge until then."""
        if await workspace.commits_ahead() < 1:
            nothing = f"nothing to merge: the remote has no branch {finished}, or it has no commits ahead of {self.setup.git.base}"
            return conflict(nothing, show_id(self.item))
        if self._folder is not None:
            self._folder.say(f"goes on with the finished work on branch {finished}: tests and merge")
        await self._note(phase=Phase.QA if self.setup.config.qa else Phase.MERGING, state=RunState.RUNNING)
        return Verdict(Result.OK, "")

    async def _command(self, phase: Phase, command: list[str] | str, stage: str, view: ItemView, workspace: Workspace) -> Verdict:
        if self._folder is None:
            raise Internal("a command needs the folder of its run")
        self.switch.check()
        self._command_began = self.setup.clock.now()
        self._keep_for_stage()
        context = CommandContext(view, self.claim, self.row.run_id, workspace.branch, stage, self._attempts + 1, self._folder.prompt)
        runner = CommandRunner(self.setup, self._folder, self.switch, self.keeper)

        async def started(process: ProcessId | None) -> None:
            await self._note(phase=phase, process=process, state=RunState.RUNNING)

        return await runner.run(phase, command, workspace.path, context, started, of_branch=phase is Phase.QA)

    async def _merge(self, view: ItemView, workspace: Workspace) -> Verdict:
        pipeline = self.setup.pipeline
        self.switch.check()
        ahead = await workspace.commits_ahead()
        if ahead < 1:
            return Verdict(Result.AGENT_FAILED, f"zero commits ahead: the tests left nothing to merge on {workspace.branch}")
        await workspace.push()
        await walk_to_merge(pipeline, self.item, self.claim, Merge(workspace.branch, ahead))
        self._keep_for_stage()
        message = f"{one_line(view.title)}\n\nBy {one_line(self.claim.agent)} in run {show_id(self.row.run_id)}.\n"
        outcome = await workspace.merge(self.claim.oid, message, self._may_merge)
        match outcome.kind:
            case "merged" | "already_merged":
                return await self._merged(outcome.merge_commit, outcome.kind.replace("_", " "))
            case "superseded":
                return Verdict(Result.SUPERSEDED, outcome.detail or "the remote refused the merge: another claim holds the item")
            case "conflicts":
                return conflict(f"merge conflict: {outcome.detail}", show_id(self.item), outcome.resolve)
            case _:
                raise Internal(f"a merge ended as {outcome.kind!r}")

    def _may_merge(self) -> None:
        """Raises when the lease, an operator or another claim says that this run must not go on."""
        self.keeper.check()
        self.switch.check()
        held_item(self.setup.pipeline, self.item, self.claim)

    async def _merged(self, commit: bytes, how: str) -> Verdict:
        """From here on the work is on the base branch, whatever else happens: the verdict says so."""
        if not commit:
            raise Internal(f"a merge ended as {how!r} without a commit")
        try:
            await self.setup.pipeline.move(self.item, self._done(commit), self.claim)
        except (ClaimLost, NotFound, IllegalMove) as error:
            return Verdict(Result.SUPERSEDED, f"{how} as {commit.hex()}, but could not say so: {error}", merge_commit=commit)
        except AuthError as error:
            return forbidden(Verdict(Result.OK, f"{how} as {commit.hex()}", merge_commit=commit), error)
        return Verdict(Result.OK, f"{how} as {commit.hex()}", 0, merge_commit=commit)

    def _keep_for_stage(self) -> None:
        self.keeper.enter(self.claim.ttl_s(held_item(self.setup.pipeline, self.item, self.claim).stage))

    def _done(self, commit: bytes) -> Done:
        return Done(self.setup.clock.wall_ms(), commit)

    async def _close(self, verdict: Verdict) -> Verdict:
        """Keep the work, give the claim back, clear up, write the row down; the verdict with what went wrong on the way."""
        self.row = replace(self.row, phase=Phase.CLOSING)
        workspace = self._workspace
        if verdict.result is not Result.OK and workspace is not None:
            verdict = await keep_work(workspace, self.claim, verdict, hurried=self._hurried)
        facts = {
            "run": self.row.run_id,
            "agent": self.claim.agent,
            "branch": self.row.branch,
            "merge_commit": verdict.merge_commit,
            "exit_code": verdict.exit_code,
            "duration_ms": self._duration_ms(),
            "resolve": verdict.resolve,
        }
        verdict = await give_back(self.setup, self.item, self.claim, verdict, self._attempts, facts)
        if workspace is not None:
            verdict = await clear_up(self.setup, workspace, verdict)
        if self._folder is not None:
            try:
                self._folder.say(verdict.line)
            except OSError as error:
                verdict = verdict.noting(f"its log is incomplete: {error}")
        state, ended_ms = RESULT_RULES[verdict.result].state, self.row.started_ms + self._duration_ms()
        return await told(self._note(state=state, process=None, ended_ms=ended_ms, exit_code=verdict.exit_code, reason=verdict.line), verdict)

    def _duration_ms(self) -> int:
        """Time that really passed: added to the start, it gives an end that a corrected wall clock does not falsify."""
        return max(0, round((self.setup.clock.now() - self._began) * 1000))

    async def _note(self, **changes: Any) -> None:
        self.row = replace(self.row, **changes)
        await self.setup.pipeline.put_run(self.row)
