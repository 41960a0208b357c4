"""The end of a run, step by step: keep its work, give its claim back, clear up. What does not go well is added to the verdict, not hidden."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

from fabrik_node.agent.folder import one_line
from fabrik_node.agent.results import RESULT_RULES, Result, Verdict, not_allowed
from fabrik_node.agent.setup import AgentSetup
from fabrik_node.agent.stop import Stop
from fabrik_node.agent.walk import left_where_it_is
from fabrik_node.domain.claims import Claim
from fabrik_node.domain.finished import finished_facts
from fabrik_node.errors import AuthError, ClaimLost, Conflict, FabrikError, IllegalMove, InvalidOp, NotFound, StoreFull
from fabrik_node.ids import show_id
from fabrik_node.ports import ItemView, Workspace

__all__ = ["KEEP_WORK_S", "cancelled_by", "clear_up", "forbidden", "give_back", "give_back_unused", "keep_work", "told"]

_log = logging.getLogger("fabrik_node.agent")
KEEP_WORK_S = 30.0
"""For committing and pushing the work of a run that did not succeed: the remote may be away, and a stop has to end."""


def cancelled_by(view: ItemView | None, claim: Claim) -> str:
    """Why an operator of another node cancelled the run of ``claim``: that one op ended the claim and held the item. Empty when nobody did."""
    winner = None if view is None else view.claim
    if view is None or winner is None or winner.held or winner.follows != claim.claim_id:
        return ""
    word, _, reason = str((view.hold or {}).get("reason", "")).partition(": ")
    return (reason or "no reason given") if word == Result.CANCELLED else ""


async def keep_work(workspace: Workspace, claim: Claim, verdict: Verdict, *, hurried: bool) -> tuple[Verdict, bool]:
    """Commit and push what there is; false: it is in its worktree alone, as far as is known. ``hurried``: leave it there, because git does not answer."""
    if hurried:
        return verdict.noting(f"its work is in {workspace.path}"), False
    try:
        async with asyncio.timeout(KEEP_WORK_S):
            await workspace.keep_work(f"Unfinished work of {one_line(claim.agent)}\n\n{one_line(verdict.line)}\n")
    except TimeoutError:
        return verdict.noting(f"its work is in {workspace.path}: it could not be pushed within {KEEP_WORK_S:.0f} s"), False
    except (FabrikError, OSError) as error:
        return verdict.noting(f"its work is in {workspace.path}: it could not be pushed: {error}"), False
    return verdict, True


async def give_back(setup: AgentSetup, item: bytes, claim: Claim, verdict: Verdict, attempts: int, facts: dict[str, Any]) -> Verdict:
    """Write the outcome and release the claim; out of the stages that say that somebody works on it, unless it is Done, waits to be merged, or is held.

    A held item stays where its run left it, so that the end of the hold needs to bring it back from nowhere. Finished work that was found wanting leaves Merge for another try.

    ``attempts`` is the number before this run; ``facts`` go into the outcome. A superseded run writes nothing: it would not count. Only when the work of
    another claim is merged, and as far as is known here this claim still wins, it is given back: the next one, which finds the merge, writes Done.
    Nor does a run write whose node lost its role: the claim ends with its lease.
    """
    if verdict.result is Result.SUPERSEDED and not (verdict.merge_commit and setup.pipeline.is_winning(item, claim.claim_id)):
        return verdict
    charges = RESULT_RULES[verdict.result].charges
    hold, attempt, most = verdict.hold, attempts + 1, setup.config.max_attempts
    if charges and not hold and attempt >= most:
        hold = f"{attempt} of {most} attempts failed; the last: {verdict.line}"
    outcome = {"result": str(verdict.result), "reason": verdict.reason} | {name: value for name, value in facts.items() if value not in {None, "", b""}}
    try:
        if verdict.result is not Result.OK and (why := await left_where_it_is(setup.pipeline, item, claim, anew=charges, stays=bool(hold))):
            verdict = verdict.noting(why)
        await setup.pipeline.finish(item, claim, verdict.line, outcome, charge_attempt=charges, hold=hold)
    except ClaimLost as error:
        if verdict.result is Result.CANCELLED and cancelled_by(setup.pipeline.item(item), claim):
            return verdict  # whoever cancelled it has written all that there is to write
        return replace(verdict, result=Result.SUPERSEDED, reason=f"{verdict.line}; then {error}")
    except AuthError as error:
        return forbidden(verdict, error)
    except (NotFound, IllegalMove, Conflict, InvalidOp) as error:  # the last: what is written of the item can not be followed; its claim is left to run out
        return verdict.noting(str(error))
    return verdict


def forbidden(verdict: Verdict, error: AuthError) -> Verdict:
    """``verdict``, which could not be written because this node may not."""
    if verdict.result is Result.NOT_ALLOWED:
        return verdict
    said = not_allowed(error)
    return replace(verdict, result=said.result, reason=f"{said.reason}; before that: {verdict.line}")


async def told(writing: Awaitable[None], verdict: Verdict) -> Verdict:
    """``verdict`` after ``writing`` the row of its run. When this node may not tell the others, the row is kept here all the same."""
    try:
        await writing
    except AuthError as error:
        return forbidden(verdict, error)
    return verdict


async def give_back_unused(setup: AgentSetup, item: bytes, claim: Claim, stop: Stop | None) -> None:
    """A claim that was granted after its agent was told to take nothing new: no run begins with it, and no attempt is charged. Raises StoreFailed."""
    reason = "its agent takes nothing new since the claim was asked for" if stop is None else stop.reason
    outcome = {"result": str(Result.CANCELLED), "reason": reason, "agent": claim.agent} | finished_facts(setup.pipeline.finished(item, claim))
    try:
        await setup.pipeline.finish(item, claim, f"{Result.CANCELLED}: {reason}", outcome, charge_attempt=False)
    except (Conflict, NotFound, AuthError, StoreFull, InvalidOp) as error:  # ClaimLost is a Conflict; what can not be written is left to run out
        _log.info("the claim on item %s is not given back: %s", show_id(item), error)
    finally:
        setup.pipeline.stop_renewing(claim.claim_id)


async def clear_up(setup: AgentSetup, workspace: Workspace, verdict: Verdict) -> Verdict:
    """Remove the worktree, whose work is kept, as ``keep_worktrees`` says. The branch stays in any case."""
    match setup.config.keep_worktrees:
        case "always":
            return verdict
        case "failed" if verdict.result is not Result.OK:
            return verdict
        case "failed" | "never":
            try:
                await workspace.remove()
            except (FabrikError, OSError) as error:
                return verdict.noting(f"its worktree could not be removed: {error}")
            return verdict
