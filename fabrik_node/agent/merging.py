"""The end of a run's work: its branch onto the base branch, once, and the item to Done."""

from __future__ import annotations

from fabrik_node.agent.ending import forbidden
from fabrik_node.agent.folder import one_line
from fabrik_node.agent.results import Result, Verdict, conflict
from fabrik_node.agent.underway import RunUnderWay
from fabrik_node.agent.walk import held_item, walk_to_merge
from fabrik_node.domain.stages import Merge
from fabrik_node.errors import AuthError, Conflict, IllegalMove, Internal, NotFound
from fabrik_node.ids import show_id
from fabrik_node.ports import ItemView, Workspace

__all__ = ["Merging"]

_WORK = "finished work"
"""What waits for the remote."""


class Merging:
    """The merge of what lies in ``workspace``; :meth:`do` once."""

    def __init__(self, run: RunUnderWay, workspace: Workspace) -> None:
        self._run = run
        self._workspace = workspace

    async def do(self, view: ItemView) -> Verdict:
        """Push, say so, merge, say so. Raises what the ports raise, and Stopped."""
        run = self._run
        pipeline = run.setup.pipeline
        workspace = self._workspace
        run.switch.check()
        ahead = await workspace.commits_ahead()
        if ahead < 1:
            return Verdict(Result.AGENT_FAILED, f"zero commits ahead: the tests left nothing to merge on {workspace.branch}")
        await run.reach(workspace.push, _WORK)
        await walk_to_merge(pipeline, run.item, run.claim, Merge(workspace.branch, ahead))
        run.keep_for_stage()
        message = f"{one_line(view.title)}\n\nBy {one_line(run.claim.agent)} in run {show_id(run.row.run_id)}.\n"
        outcome = await run.reach(lambda: workspace.merge(run.claim.oid, message, self._may_merge), _WORK)
        match outcome.kind:
            case "merged" | "already_merged":
                return await self._merged(outcome.merge_commit, outcome.kind.replace("_", " "))
            case "superseded":
                refused = outcome.detail or "the remote refused the merge: another claim holds the item"
                return Verdict(Result.SUPERSEDED, refused, merge_commit=outcome.merge_commit)
            case "conflicts":
                return conflict(f"merge conflict: {outcome.detail}", show_id(run.item), outcome.resolve)
            case _:
                raise Internal(f"a merge ended as {outcome.kind!r}")

    def _may_merge(self) -> None:
        """Raises when the lease, an operator or another claim says that this run must not go on, or this node may not say how it ends."""
        run = self._run
        run.keeper.check()
        run.switch.check()
        held_item(run.setup.pipeline, run.item, run.claim)
        run.setup.pipeline.check_may_end(run.item, run.claim)

    async def _merged(self, commit: bytes, how: str) -> Verdict:
        """From here on the work is on the base branch, whatever else happens: the verdict says so."""
        run = self._run
        if not commit:
            raise Internal(f"a merge ended as {how!r} without a commit")
        try:
            await run.setup.pipeline.move(run.item, run.done(commit), run.claim)
        except (Conflict, NotFound, IllegalMove) as error:  # ClaimLost is a Conflict
            return Verdict(Result.SUPERSEDED, f"{how} as {commit.hex()}, but could not say so: {error}", merge_commit=commit)
        except AuthError as error:
            return forbidden(Verdict(Result.OK, f"{how} as {commit.hex()}", merge_commit=commit), error)
        return Verdict(Result.OK, f"{how} as {commit.hex()}", 0, merge_commit=commit)
