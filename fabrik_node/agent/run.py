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
from fabrik_node.agent.environment import CommandContext
from fabrik_node.agent.folder import RunFolder, one_line
from fabrik_node.agent.results import RESULT_RULES, Result, Verdict
from fabrik_node.agent.setup import AgentSetup
from fabrik_node.agent.stop import Stop, Stopped, StopSwitch
from fabrik_node.agent.supervisor import LeaseKeeper
from fabrik_node.agent.walk import held_item, walk_back, walk_to_coding, walk_to_done
from fabrik_node.domain.claims import Claim
from fabrik_node.domain.runs import ProcessId, RunRow, RunState
from fabrik_node.domain.stages import Coding, Done, Merge, Qa
from fabrik_node.errors import ClaimLost, FabrikError, GitFailed, IllegalMove, Internal, MergeConflict, NoCommits, NotFound, Unreachable
from fabrik_node.ids import new_id, show_id
from fabrik_node.ports import ItemView, Workspace

__all__ = ["KEEP_WORK_S", "AgentRun", "Phase", "RunReport"]

KEEP_WORK_S = 30.0
"""For committing and pushing the work of a run that did not succeed: the remote may be away, and a stop has to end."""


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
        self._keeper = LeaseKeeper(
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
        self._keeper.start()
        try:
            verdict = await self._verdict()
            await self._close(verdict)
        finally:
            unsubscribe()
            await self._keeper.stop()
            pipeline.stop_renewing(self.claim.claim_id)
        return RunReport(self.item, self.row.run_id, self._final)

    def _on_claim_lost(self, reason: str) -> None:
        self.switch.throw(Stop(Result.SUPERSEDED, reason))

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
            verdict = _conflict(str(error))
        except (NotFound, IllegalMove) as error:
            verdict = Verdict(Result.CANCELLED, f"somebody else changed the item: {error}")
        except (GitFailed, Unreachable, OSError) as error:
            verdict = Verdict(Result.INFRA_LOST, str(error))
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
        await walk_to_coding(pipeline, self.item, self.claim)
        self.switch.check()
        workspace = self._workspace = await self.setup.workspaces.create(show_id(self.item), show_id(self.claim.claim_id))
        self.row = replace(self.row, branch=workspace.branch, worktree=str(workspace.path))

        verdict = await self._command(Phase.CODING, config.command, Coding.name, view, workspace)
        if verdict.result is not Result.OK:
            return verdict
        await self._note(phase=Phase.QA if config.qa else Phase.MERGING, process=None)
        if await workspace.commits_ahead() < 1:
            return Verdict(
                Result.AGENT_FAILED, f"zero commits ahead: the command ended with exit code 0 but committed nothing on {workspace.branch}", verdict.exit_code
            )

        await pipeline.move(self.item, Qa(), self.claim)
        if config.qa:
            verdict = await self._command(Phase.QA, config.qa, Qa.name, view, workspace)
            if verdict.result is not Result.OK:
                return verdict
            await self._note(phase=Phase.MERGING, process=None)
        return await self._merge(view, workspace)

    async def _command(self, phase: Phase, command: list[str] | str, stage: str, view: ItemView, workspace: Workspace) -> Verdict:
        if self._folder is None:
            raise Internal("a command needs the folder of its run")
        self.switch.check()
        context = CommandContext(view, self.claim, self.row.run_id, workspace.branch, stage, self._attempts + 1, self._folder.prompt)
        runner = CommandRunner(self.setup, self._folder, self.switch, self._keeper)

        async def started(process: ProcessId | None) -> None:
            await self._note(phase=phase, process=process, state=RunState.RUNNING)

        return await runner.run(phase, command, workspace.path, context, started)

    async def _merge(self, view: ItemView, workspace: Workspace) -> Verdict:
        pipeline = self.setup.pipeline
        self.switch.check()
        ahead = await workspace.commits_ahead()
        if ahead < 1:
            return Verdict(Result.AGENT_FAILED, f"zero commits ahead: the tests left nothing to merge on {workspace.branch}")
        await workspace.push()
        await pipeline.move(self.item, Merge(workspace.branch, ahead), self.claim)
        self._keeper.check()
        self.switch.check()
        held_item(pipeline, self.item, self.claim)
        message = f"{one_line(view.title)}\n\nBy {one_line(self.claim.agent)} in run {show_id(self.row.run_id)}.\n"
        outcome = await workspace.merge(self.claim.oid, message)
        match outcome.kind:
            case "merged" | "already_merged":
                return await self._merged(outcome.merge_commit, outcome.kind.replace("_", " "))
            case "superseded":
                return Verdict(Result.SUPERSEDED, outcome.detail or "the remote refused the merge: another claim holds the item")
            case "conflicts":
                return _conflict(outcome.detail)
            case _:
                raise Internal(f"a merge ended as {outcome.kind!r}")

    async def _merged(self, commit: bytes, how: str) -> Verdict:
        """From here on the work is on the base branch, whatever else happens: the verdict says so."""
        if not commit:
            raise Internal(f"a merge ended as {how!r} without a commit")
        try:
            await self.setup.pipeline.move(self.item, self._done(commit), self.claim)
        except (ClaimLost, NotFound, IllegalMove) as error:
            return Verdict(Result.SUPERSEDED, f"{how} as {commit.hex()}, but could not say so: {error}", merge_commit=commit)
        return Verdict(Result.OK, f"{how} as {commit.hex()}", 0, merge_commit=commit)

    def _done(self, commit: bytes) -> Done:
        return Done(self.setup.clock.wall_ms(), commit)

    async def _close(self, verdict: Verdict) -> None:
        """Keep the work, give the claim back, write the row down, clear up."""
        self._final = verdict
        self.row = replace(self.row, phase=Phase.CLOSING)
        if verdict.result is not Result.OK and self._workspace is not None:
            await self._keep_work(self._workspace)
        try:
            await self._give_back()
        except (ClaimLost, NotFound, IllegalMove) as error:
            if isinstance(error, ClaimLost):
                self._final = replace(self._final, result=Result.SUPERSEDED, reason=f"{self._final.line}; then {error}")
            else:
                self._add(str(error))
        if self._workspace is not None and self._clears_up(verdict):
            try:
                await self._workspace.remove()
            except (FabrikError, OSError) as error:
                self._add(f"its worktree could not be removed: {error}")
        await self._write_end()

    async def _keep_work(self, workspace: Workspace) -> None:
        if self._hurried:
            self._add(f"its work is in {workspace.path}")
            return
        try:
            async with asyncio.timeout(KEEP_WORK_S):
                await workspace.keep_work(f"Work in progress of {one_line(self.claim.agent)}: {one_line(self._final.line)}")
        except TimeoutError:
            self._add(f"its work is in {workspace.path}: it could not be pushed within {KEEP_WORK_S:.0f} s")
        except (FabrikError, OSError) as error:
            self._add(f"its work is in {workspace.path}: it could not be pushed: {error}")

    async def _give_back(self) -> None:
        final = self._final
        if final.result is Result.SUPERSEDED:
            return  # no write of ours counts any more
        if final.result is not Result.OK:
            await walk_back(self.setup.pipeline, self.item, self.claim)
        charges = RESULT_RULES[final.result].charges
        hold, attempt = final.hold, self._attempts + 1
        if charges and not hold and attempt >= self.setup.config.max_attempts:
            hold = f"{attempt} of {self.setup.config.max_attempts} attempts failed; the last: {final.line}"
        await self.setup.pipeline.finish(self.item, self.claim, final.line, self._outcome(), charge_attempt=charges, hold=hold)

    def _outcome(self) -> dict[str, Any]:
        final = self._final
        facts: dict[str, Any] = {
            "result": str(final.result),
            "reason": final.reason,
            "run": self.row.run_id,
            "agent": self.claim.agent,
            "duration_ms": self._duration_ms(),
            "branch": self.row.branch,
            "merge_commit": final.merge_commit,
        }
        known = {name: value for name, value in facts.items() if value not in {"", b""}}
        return known if final.exit_code is None else known | {"exit_code": final.exit_code}

    async def _write_end(self) -> None:
        """``ended_ms`` is the start plus the time that really passed, so a corrected wall clock does not change the duration."""
        if self._folder is not None:
            try:
                self._folder.say(self._final.line)
            except OSError as error:
                self._add(f"its log is incomplete: {error}")
        final = self._final
        await self._note(
            state=RESULT_RULES[final.result].state,
            process=None,
            ended_ms=self.row.started_ms + self._duration_ms(),
            exit_code=final.exit_code,
            reason=final.line,
        )

    def _duration_ms(self) -> int:
        return max(0, round((self.setup.clock.now() - self._began) * 1000))

    def _clears_up(self, verdict: Verdict) -> bool:
        match self.setup.config.keep_worktrees:
            case "always":
                return False
            case "failed":
                return verdict.result is Result.OK
            case "never":
                return True

    def _add(self, note: str) -> None:
        self._final = replace(self._final, reason=f"{self._final.reason}; {note}")

    async def _note(self, **changes: Any) -> None:
        self.row = replace(self.row, **changes)
        await self.setup.pipeline.put_run(self.row)


def _conflict(detail: str) -> Verdict:
    return Verdict(Result.CONFLICT, f"merge conflict: {detail}", hold=f"merge conflict: {detail}")
