"""What a node does at its start about runs that an earlier incarnation of it left behind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from fabrik_node.agent.cgroup import Cgroups
from fabrik_node.agent.halt import Halt, HaltCode, HaltSwitch
from fabrik_node.agent.members import end_members, run_tag
from fabrik_node.agent.results import RESULT_RULES, Result, not_allowed
from fabrik_node.agent.underway import Phase
from fabrik_node.agent.walk import left_where_it_is, walk_to_done
from fabrik_node.clock import Clock
from fabrik_node.domain.claims import Claim
from fabrik_node.domain.finished import FinishedWork, finished_facts
from fabrik_node.domain.interruptions import NODE_ENDED
from fabrik_node.domain.runs import FINAL_STATES, ProcessId, RunRow, RunState
from fabrik_node.domain.stages import Done
from fabrik_node.errors import AuthError, Conflict, GitFailed, IllegalMove, InvalidOp, NotFound, Precondition, Unreachable
from fabrik_node.ids import show_id
from fabrik_node.ports import ItemView, Pipeline, Workspaces
from fabrik_node.process import is_alive

__all__ = ["recover_runs"]


async def recover_runs(
    pipeline: Pipeline,
    workspaces: Workspaces | None,
    rows: Iterable[RunRow],
    clock: Clock,
    kill_grace_s: float,
    halts: HaltSwitch | None = None,
    groups: Cgroups | None = None,
) -> list[RunRow]:
    """Close every own run that has no end: call it after the store is loaded and before the claim loop starts.

    For each: its processes are ended (they end themselves within ``kill_grace_s`` when their node dies; this makes sure), its
    row becomes ``interrupted`` with reason and time, and its claim, if it still wins, is given back without charging an attempt.
    One whose outcome is written down already had only its own row left to write, and that says how it ended.
    One that was just being cancelled becomes ``cancelled``, and its item is held: what was stopped on purpose is not begun again.
    An item that the run had merged already, as ``workspaces`` can tell, goes on to Done. Returns the rows as they were written.

    A process is ended only when it is verified to be the run's: pid, start time and boot, or the run's id in its environment.
    Control groups that are left of runs of this home are emptied and removed. What this node lost the role to write stays unwritten, and its agent is halted. Raises StoreFailed.
    """
    closed = []
    for row in rows:
        if row.state in FINAL_STATES:
            continue
        was_alive = row.process is not None and is_alive(row.process) is True
        group = None if groups is None else groups.find(show_id(row.run_id))
        survivors = await end_members(row.process, run_tag(show_id(row.run_id)), kill_grace_s, group)
        ended = None if survivors else _as_it_ended(pipeline.item(row.item), row)
        if ended is None:
            process = _process_line(row.process, was_alive=was_alive, survivors=survivors)
            ended = await _interrupted(pipeline, workspaces, row, f"{NODE_ENDED} {row.phase}; {process}", clock, survivors)
        closed.append(ended)
        try:
            await pipeline.put_run(closed[-1])
        except AuthError as error:  # the row is kept here all the same
            if halts is not None:
                await halts.set(Halt(HaltCode.NOT_ALLOWED, not_allowed(error).reason, clock.wall_ms()))
    for each in () if groups is None else groups.left():
        await each.end()
    return closed


async def _interrupted(pipeline: Pipeline, workspaces: Workspaces | None, row: RunRow, reason: str, clock: Clock, survivors: list[int]) -> RunRow:
    """Give its claim back; the row that says what became of it."""
    cancelled = row.reason if row.reason.startswith(f"{Result.CANCELLED}:") else ""
    given, merged = await _give_back(pipeline, workspaces, row, reason, clock, survivors, cancelled)
    said = f"{cancelled}; {reason}{given}" if cancelled else f"{Result.INFRA_LOST}: {reason}{given}"
    state = RunState.CANCELLED if cancelled and not merged else RunState.INTERRUPTED
    return replace(row, state=state, process=None, ended_ms=max(clock.wall_ms(), row.started_ms), reason=said)


def _as_it_ended(view: ItemView | None, row: RunRow) -> RunRow | None:
    """The row as the run wanted to write it: its outcome and the end of its claim were one op. None when its item says nothing of this run."""
    outcome = None if view is None else view.outcome
    if view is None or outcome is None or outcome.get("run") != row.run_id or _holds(view, row):
        return None
    try:
        result = Result(str(outcome.get("result")))
    except ValueError:  # a class of another version
        return None
    exit_code, duration_ms = outcome.get("exit_code"), outcome.get("duration_ms")
    return replace(
        row,
        state=RESULT_RULES[result].state,
        process=None,
        ended_ms=row.started_ms + (duration_ms if isinstance(duration_ms, int) else 0),
        exit_code=exit_code if isinstance(exit_code, int) else row.exit_code,
        reason=f"{result}: {outcome.get('reason', '')}",
    )


def _holds(view: ItemView, row: RunRow) -> bool:
    return view.claim is not None and view.claim.held and view.claim.claim_id == row.claim_id


def _process_line(process: ProcessId | None, *, was_alive: bool, survivors: list[int]) -> str:
    if survivors:
        return f"processes {', '.join(map(str, survivors))} could not be ended"
    if process is None:
        return "no command was running"
    return f"process {process.pid} was still alive and was ended" if was_alive else f"process {process.pid} was gone"


async def _give_back(
    pipeline: Pipeline, workspaces: Workspaces | None, row: RunRow, reason: str, clock: Clock, survivors: list[int], cancelled: str
) -> tuple[str, bool]:
    """Release the run's claim if it is there to be released; what to add to the reason, and whether its work was merged."""
    view = pipeline.item(row.item)
    claim = None if view is None else view.claim
    if view is None or claim is None or claim.claim_id != row.claim_id:
        return "; its claim does not win any more", False
    if not claim.held:
        return "; its claim was released", False
    outcome: dict[str, Any] = {"result": str(Result.CANCELLED if cancelled else Result.INFRA_LOST), "reason": reason, "run": row.run_id, "agent": row.agent}
    hold = f"processes {', '.join(map(str, survivors))} of a run could not be ended on this host" if survivors else cancelled
    (merged, unknown), left = await _merged(workspaces, row.item), ""
    try:
        if merged is not None:
            await walk_to_done(pipeline, row.item, claim, Done(clock.wall_ms(), merged))
            outcome |= {"result": str(Result.OK), "merge_commit": merged}
            hold = hold if survivors else ""
        else:
            work, left = await _finished(pipeline, workspaces, row, claim, push=not unknown)
            outcome |= {"branch": row.branch} | finished_facts(work)
            if why := await left_where_it_is(pipeline, row.item, claim, stays=bool(hold)):
                left = f"{left}; {why}"
        await pipeline.finish(row.item, claim, f"{outcome['result']}: {reason}", outcome, charge_attempt=False, hold=hold)
    except AuthError as error:
        return f"; its claim could not be given back, and ends with its lease: {not_allowed(error).reason}", merged is not None
    except (NotFound, IllegalMove, Conflict, InvalidOp) as error:  # ClaimLost is a Conflict
        return f"; its claim could not be given back: {error}", merged is not None
    if merged is not None:
        return f"; its work was merged as {merged.hex()}", True
    return f"; its claim was given back{left}{unknown}", False


async def _finished(pipeline: Pipeline, workspaces: Workspaces | None, row: RunRow, claim: Claim, *, push: bool) -> tuple[FinishedWork | None, str]:
    """What need not be done again, and what to add to the reason: what the command of the run finished before it was interrupted, or what the claim before it left.

    ``push``: the remote answered, so it is pushed for whoever goes on with it elsewhere.
    """
    before = pipeline.finished(row.item, claim)
    if workspaces is None or row.phase not in (Phase.QA, Phase.MERGING):
        return before, ""
    item, claim_id, commit, unpushed = show_id(row.item), show_id(row.claim_id), None, ""
    try:
        commit = await workspaces.left_behind(item, claim_id)
        if commit is not None and push:
            await workspaces.push_left(item, claim_id)
    except (GitFailed, Unreachable, Precondition, Conflict) as error:
        unpushed = f", which could not be pushed: {error}"
    if commit is None:
        return before, unpushed and f"; what lies in its repository is not known: {unpushed.rpartition('pushed: ')[2]}"
    return FinishedWork(commit, row.branch, _prompt_of(row)), f"; its command had finished: the next run tests and merges commit {commit.hex()}{unpushed}"


def _prompt_of(row: RunRow) -> bytes:
    """The digest of the text that it worked from, as long as its folder is there."""
    try:
        return sha256(Path(row.log).with_name("prompt.md").read_bytes()).digest() if row.log else b""
    except OSError:
        return b""


async def _merged(workspaces: Workspaces | None, item: bytes) -> tuple[bytes | None, str]:
    if workspaces is None:
        return None, ""
    try:
        return await workspaces.merged_commit(show_id(item)), ""
    except (GitFailed, Unreachable, Precondition) as error:
        return None, f" (whether it was merged is not known: {error})"  # whoever claims it next looks again
