"""What becomes of the work on an item that is let go: said to whoever does it, so that nothing is thrown away in silence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_never

from fabrik_node.domain.finished import FinishedWork
from fabrik_node.domain.runs import RunRow
from fabrik_node.domain.stages import Archived, Backlog, Coding, Done, Merge, Qa, Stage
from fabrik_node.domain.steps import Step
from fabrik_node.ids import show_id
from fabrik_node.ports import ItemView

__all__ = ["where_it_goes_on"]


def where_it_goes_on(view: ItemView, *, left: Stage, step: Step | None, finished: FinishedWork | None, run: RunRow | None, anew: bool) -> str:
    """One line about ``view``, which is free to be worked on again: where its next run begins, and where the work is that it does not use.

    ``left``: the stage in which it was held or from which it was archived; ``step``: the newest finished one; ``finished``: what an interrupted run left; ``run``: the newest one with a branch. Of another version's outcome nothing is said.
    """
    item, branch = show_id(view.id), left.feature_branch if isinstance(left, Merge) else "" if run is None else run.branch
    some = "" if isinstance(left, Merge) else ", if anything,"  # of a run it is not known here whether it came to a commit
    kept = f"; what was committed before{some} stays on branch {branch}" if branch else ""
    match view.stage:
        case Merge():
            ahead = f"{view.stage.commits_ahead} commit{'s' if view.stage.commits_ahead > 1 else ''}"
            return (
                f"goes on in Merge: the finished work on branch {view.stage.feature_branch} ({ahead}) is tested and merged; "
                f"to do it anew: fabrik-node items requeue {item} --anew"
            )
        case Backlog() | Coding() | Qa():
            where = "begins anew in Backlog" if anew else f"goes on in {view.stage.name}"
            if finished is not None:
                work = f"the finished work on branch {finished.branch}, commit {finished.commit.hex()},"
                return f"{where}: {work} is tested and merged; to do it anew: fabrik-node items requeue {item} --anew"
            if step is not None and not anew:
                return f"{where}, behind step {step.name!r}, commit {step.commit.hex()}"
            rejected = "the work was found wanting, so " if _is_rejected(view.outcome) and not anew else ""
            instead = (
                f"; to have that tested and merged instead: fabrik-node claims keep {item} {show_id(run.claim_id)}"
                if run is not None and Qa in (type(left), type(view.stage))
                else ""
            )
            return f"{where}: {rejected}the next run starts at the base{kept}{instead}"
        case Done() | Archived():
            return ""
        case _:
            assert_never(view.stage)


def _is_rejected(outcome: Mapping[str, Any] | None) -> bool:
    """As the last run was judged: by the tests, or by the exit code of the command."""
    return outcome is not None and outcome.get("result") in ("agent_failed", "timeout")
