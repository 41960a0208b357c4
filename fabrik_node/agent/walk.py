"""The ways of a claimed item through the stages that are not the work itself. Every step is a legal move of the one table, or changes the branch of a Merge."""

from __future__ import annotations

from typing import assert_never

from fabrik_node.domain.claims import Claim
from fabrik_node.domain.stages import Archived, Backlog, Coding, Done, Merge, Qa, Stage
from fabrik_node.errors import ClaimLost, Conflict, IllegalMove, NotFound
from fabrik_node.ids import show_id
from fabrik_node.ports import ItemView, Pipeline

__all__ = ["held_item", "left_where_it_is", "walk_back", "walk_to_coding", "walk_to_done", "walk_to_merge", "walk_to_qa"]


def held_item(pipeline: Pipeline, item: bytes, claim: Claim) -> ItemView:
    """The item as it is now, under our claim. Raises NotFound when it was deleted, ClaimLost when another claim wins."""
    view = pipeline.item(item)
    if view is None:
        raise NotFound(f"item {show_id(item)} was deleted", "fabrik-node tombstones list")
    if not pipeline.is_winning(item, claim.claim_id):
        raise ClaimLost(f"another claim on item {show_id(item)} wins", f"fabrik-node claims show {show_id(item)}")
    return view


async def walk_to_coding(pipeline: Pipeline, item: bytes, claim: Claim) -> None:
    """Where the work starts, from wherever the holder before us left it. Raises IllegalMove from Done and Archived."""
    stage = held_item(pipeline, item, claim).stage
    match stage:
        case Coding():
            return
        case Backlog() | Qa() | Merge() | Done() | Archived():
            await pipeline.move(item, Coding(), claim)
        case _:
            assert_never(stage)


async def walk_to_qa(pipeline: Pipeline, item: bytes, claim: Claim) -> None:
    """For work that is finished and waits for its tests: from wherever its holder left it. Raises IllegalMove from Merge, Done and Archived."""
    while True:
        stage = held_item(pipeline, item, claim).stage
        match stage:
            case Qa():
                return
            case Backlog():
                await pipeline.move(item, Coding(), claim)
            case Coding() | Merge() | Done() | Archived():
                await pipeline.move(item, Qa(), claim)
            case _:
                assert_never(stage)


async def walk_back(pipeline: Pipeline, item: bytes, claim: Claim, *, anew: bool = False, stays: bool = False) -> None:
    """To Backlog, so that no stage says that somebody works on it. Done, Archived and Backlog stay; all others, too, when it ``stays`` because it is held: the hold says that nobody does.

    Merge stays, too, unless the work itself was found wanting (``anew``): it is finished and on its branch, and who claims the item next merges that.
    """
    stage = held_item(pipeline, item, claim).stage
    match stage:
        case Merge() if stays or not anew:
            return
        case Coding() | Qa() if stays:
            return
        case Coding() | Qa() | Merge():
            await pipeline.move(item, Backlog(), claim)
        case Backlog() | Done() | Archived():
            return
        case _:
            assert_never(stage)


async def left_where_it_is(pipeline: Pipeline, item: bytes, claim: Claim, *, anew: bool = False, stays: bool = False) -> str:
    """:func:`walk_back`, and why it could not be done, empty when it was: no reason to keep the claim. Raises NotFound, ClaimLost."""
    try:
        await walk_back(pipeline, item, claim, anew=anew, stays=stays)
    except ClaimLost:
        raise
    except (IllegalMove, Conflict) as error:
        return str(error)
    return ""


async def walk_to_merge(pipeline: Pipeline, item: bytes, claim: Claim, merge: Merge) -> None:
    """To ``merge``, which names the branch of this claim: from Qa, or from a Merge that names the branch of an earlier one. Raises IllegalMove from Done and Archived.

    Finished work never leaves Merge on the way: whoever is killed here leaves it to be merged, not to be done again.
    """
    while True:
        stage = held_item(pipeline, item, claim).stage
        following: Stage
        match stage:
            case Backlog():
                following = Coding()
            case Coding():
                following = Qa()
            case Merge() if stage == merge:
                return
            case Merge():
                await pipeline.change_branch(item, merge, claim)
                return
            case Qa() | Done() | Archived():
                following = merge
            case _:
                assert_never(stage)
        await pipeline.move(item, following, claim)


async def walk_to_done(pipeline: Pipeline, item: bytes, claim: Claim, done: Done) -> None:
    """For an item whose work is on the base branch already: to Done without doing or merging anything again.

    A Merge stage on the way names the branch of the claim before ours (it made the merge), and one commit, of which we know.
    """
    while True:
        stage = held_item(pipeline, item, claim).stage
        following: Stage
        match stage:
            case Backlog():
                following = Coding()
            case Coding():
                following = Qa()
            case Qa():
                following = Merge(_merged_branch(item, claim), 1)
            case Merge() | Archived():  # from the archive this raises IllegalMove
                following = done
            case Done():
                return
            case _:
                assert_never(stage)
        await pipeline.move(item, following, claim)


def _merged_branch(item: bytes, claim: Claim) -> str:
    return f"fabrik/{show_id(item)}/{show_id(claim.follows or claim.claim_id)}"
