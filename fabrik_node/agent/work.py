"""The work of a run, in order: to Coding, the command, the tests, the merge. Each step either goes on or gives a :class:`Verdict`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fabrik_node.agent.command import CommandRunner
from fabrik_node.agent.environment import CommandContext
from fabrik_node.agent.folder import RunFolder
from fabrik_node.agent.inputs import run_inputs
from fabrik_node.agent.merging import Merging
from fabrik_node.agent.results import RESULT_RULES, Result, Verdict, conflict, unanswered
from fabrik_node.agent.underway import Phase, RunUnderWay
from fabrik_node.agent.walk import held_item, walk_to_coding, walk_to_done, walk_to_qa
from fabrik_node.domain.finished import FinishedWork
from fabrik_node.domain.runs import ProcessId, RunState
from fabrik_node.domain.stages import Coding, Merge, Qa
from fabrik_node.domain.steps import unclear_line
from fabrik_node.errors import Internal
from fabrik_node.ids import show_id
from fabrik_node.ports import ItemView, Workspace

__all__ = ["Work"]


@dataclass(frozen=True, slots=True)
class _Finished:
    """Where finished work is: the tip of ``branch`` as it is on the remote, or its commit ``at``."""

    branch: str
    at: str = ""


class Work:
    """What ``run`` has to do; :meth:`do` once."""

    def __init__(self, run: RunUnderWay) -> None:
        self._run = run

    async def do(self) -> Verdict:
        """On to Done, or to the first verdict that is none. Raises what the ports raise, and Stopped; the caller makes it a verdict."""
        run = self._run
        pipeline, config = run.setup.pipeline, run.setup.config
        view = held_item(pipeline, run.item, run.claim)
        run.attempts = view.attempts
        run.folder = RunFolder(run.setup.paths, run.row.run_id)
        run.folder.write_prompt(view)
        await run.note(log=str(run.folder.log), inputs=run_inputs(view, config, run.setup.git))
        run.finished = pipeline.finished(run.item, run.claim)
        run.switch.check()

        merged = await run.setup.workspaces.merged_commit(show_id(run.item))
        if merged is not None:
            await walk_to_done(pipeline, run.item, run.claim, run.done(merged))
            return Verdict(Result.OK, f"was merged already as {merged.hex()}", merge_commit=merged)
        if (given_up := await self._given_up()) is not None:
            return given_up
        finished = await self._finished(view)
        if finished is None and (verdict := self._unclear()) is not None:
            return verdict
        if finished is None:
            await walk_to_coding(pipeline, run.item, run.claim)
        elif not isinstance(view.stage, Merge):
            await walk_to_qa(pipeline, run.item, run.claim)
        run.switch.check()
        workspace = run.workspace = await self._worktree(finished)
        inputs = None if run.row.inputs is None else replace(run.row.inputs, base=workspace.start)
        run.row = replace(run.row, branch=workspace.branch, worktree=str(workspace.path), inputs=inputs)

        verdict = await self._code(view, workspace) if finished is None else await self._take_up(finished, workspace)
        if verdict.result is not Result.OK:
            return verdict
        if config.qa:
            verdict = await self._command(Phase.QA, config.qa, Qa.name, view, workspace)
            if verdict.result is not Result.OK:
                if RESULT_RULES[verdict.result].charges and run.setup.steps is not None:
                    await run.setup.steps.reopen(run.item, run.claim)
                return verdict
            await run.note(phase=Phase.MERGING, process=None)
        return await Merging(run, workspace).do(view)

    async def _given_up(self) -> Verdict | None:
        """An item whose runs are lost again and again is held: perhaps it is what brings them down."""
        run, most = self._run, self._run.setup.config.max_interruptions
        lost = await run.setup.pipeline.interruptions(run.item, run.claim)
        if not most or lost.count < most:
            return None
        reason = f"its runs were lost {lost.count} times in a row; the last: {lost.last}"
        return Verdict(Result.INFRA_LOST, reason, hold=reason)

    def _unclear(self) -> Verdict | None:
        """An earlier run was cut off in a step with effects outside its files: nobody goes on before a person has looked."""
        steps = self._run.setup.steps
        step = None if steps is None else steps.unclear(self._run.item)
        return None if step is None else Verdict(Result.CANCELLED, unclear_line(step), hold=unclear_line(step))

    async def _finished(self, view: ItemView) -> _Finished | None:
        """What need not be done again: the branch of an item in Merge, or the commit that an interrupted run left, unless it was made from another text or is out of reach."""
        run = self._run
        if isinstance(view.stage, Merge):
            run.finished = None  # the stage says it
            return _Finished(view.stage.feature_branch)
        work, prompt = run.finished, b"" if run.row.inputs is None else run.row.inputs.prompt
        if work is None:
            return None
        if not work.is_of(prompt):
            why = "the item's text was changed since then"
        elif not await run.setup.workspaces.has_commit(work.branch, work.commit):
            why = "it is not on the remote, and was not made here"
        else:
            return _Finished(work.branch, work.commit.hex())
        run.finished = None
        if run.folder is not None:
            run.folder.say(f"the finished work on branch {work.branch}, commit {work.commit.hex()}, is not used: {why}")
        return None

    async def _worktree(self, finished: _Finished | None) -> Workspace:
        """From the finished work; else from the newest finished step, so that its files and those of the steps before it are there; else from the base."""
        run = self._run
        item, claim = show_id(run.item), show_id(run.claim.claim_id)
        if finished is not None:
            return await run.setup.workspaces.create(item, claim, finished.branch, finished.at)
        step = None if run.setup.steps is None else run.setup.steps.newest_done(run.item)
        if step is None:
            return await run.setup.workspaces.create(item, claim)
        if run.folder is not None:
            run.folder.say(f"goes on behind step {step.name!r} of run {show_id(step.run_id)}, commit {step.commit.hex()}")
        return await run.setup.workspaces.create(item, claim, f"fabrik/{item}/{show_id(step.claim_id)}", step.commit.hex())

    async def _code(self, view: ItemView, workspace: Workspace) -> Verdict:
        run = self._run
        config = run.setup.config
        verdict = await self._command(Phase.CODING, config.command, Coding.name, view, workspace)
        if verdict.result is not Result.OK:
            return verdict
        await run.note(phase=Phase.QA if config.qa else Phase.MERGING, process=None)
        if await workspace.commits_ahead() < 1:
            return Verdict(
                Result.AGENT_FAILED, f"zero commits ahead: the command ended with exit code 0 but committed nothing on {workspace.branch}", verdict.exit_code
            )
        run.finished = FinishedWork(await workspace.tip(), workspace.branch, b"" if run.row.inputs is None else run.row.inputs.prompt)
        await run.setup.pipeline.move(run.item, Qa(), run.claim)
        return verdict

    async def _take_up(self, finished: _Finished, workspace: Workspace) -> Verdict:
        """An earlier claim did the work, or a person mended it: what remains is to test and to merge. An item in Merge stays there until then."""
        run = self._run
        if await workspace.commits_ahead() < 1:
            run.finished = None
            nothing = f"nothing to merge: the remote has no branch {finished.branch}, or it has no commits ahead of {run.setup.git.base}"
            return conflict(nothing, show_id(run.item))
        if run.folder is not None:
            run.folder.say(f"goes on with the finished work on branch {finished.branch}{finished.at and f', commit {finished.at}'}: tests and merge")
        await run.note(phase=Phase.QA if run.setup.config.qa else Phase.MERGING, state=RunState.RUNNING)
        return Verdict(Result.OK, "")

    async def _command(self, phase: Phase, command: list[str] | str, stage: str, view: ItemView, workspace: Workspace) -> Verdict:
        run = self._run
        if run.folder is None:
            raise Internal("a command needs the folder of its run")
        run.switch.check()
        run.command_began = run.setup.clock.now()
        run.keep_for_stage()
        context = CommandContext(view, run.claim, run.row.run_id, workspace.branch, stage, run.attempts + 1, run.folder.prompt)
        runner = CommandRunner(run.setup, run.folder, run.switch, run.keeper, run.waiting)

        async def started(process: ProcessId | None) -> None:
            await run.note(phase=phase, process=process, state=RunState.RUNNING)

        verdict = await runner.run(phase, command, workspace.path, context, started, of_branch=phase is Phase.QA)
        if run.waiting.unanswered:
            return unanswered(run.waiting.unanswered, verdict)
        if verdict.result is Result.OK and (gone := await workspace.missing()):
            return Verdict(Result.AGENT_FAILED, f"{phase} ended with exit code 0 but removed {gone}", verdict.exit_code)
        return verdict
