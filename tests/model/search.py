"""Breadth first through every state of a world, with what must hold in each. A broken rule comes with the shortest way to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fabrik_twin.merge import fence_beats
from model.claims_world import ARCHIVED, MERGE_COMMIT, State, World
from model.core_view import ITEM

from fabrik_node.domain.claiming import RemoteVerdict, is_free, judge_remote
from fabrik_node.domain.claims import Fence, decode_claim
from fabrik_node.domain.leases import LeaseState
from fabrik_node.domain.schema import ItemField, Kind
from fabrik_node.domain.stages import Archived, Done, Stage, decode_stage

__all__ = ["Count", "Counterexample", "search"]


_ENDS = (ARCHIVED, Done(0, MERGE_COMMIT))


@dataclass(frozen=True, slots=True)
class Count:
    """What was looked at. ``converged``: states in which everybody knew everything."""

    states: int
    steps: int
    converged: int
    merged: int


class Counterexample(AssertionError):
    """``rule`` is broken after ``steps``."""

    def __init__(self, rule: str, steps: list[str]) -> None:
        super().__init__("\n".join([rule, "after:", *(f"  {step}" for step in steps)]))
        self.rule = rule
        self.steps = steps


def search(world: World) -> Count:
    """Every state that can be reached. Raises :class:`Counterexample` for the first, by the number of steps, that breaks a rule."""
    first = world.start()
    before: dict[State, tuple[State, str] | None] = {first: None}
    waiting, steps, converged, merged = [first], 0, 0, 0
    while waiting:
        following = []
        for state in waiting:
            for rule in broken_rules(world, state):
                raise Counterexample(rule, _way(before, state))
            converged += state.is_converged
            merged += bool(state.merges)
            for what, then in world.steps(state):
                steps += 1
                if then not in before:
                    before[then] = (state, what)
                    following.append(then)
        waiting = following
    return Count(len(before), steps, converged, merged)


def broken_rules(world: World, state: State) -> Iterator[str]:
    """What does not hold here."""
    if len(state.merges) > 1:
        yield "an item is merged at most once"
    if any(said == "merged" and state.chain[place - 1] != (claim_id, "held") for place, (claim_id, said) in enumerate(state.chain)):
        yield "nobody merges whose claim the remote granted to another since"
    everything = state.everything()
    after = world.core.view(everything)
    stages = {world.stage_of[number] for number in everything if number in world.stage_of}
    written_by = b"" if after.stage_op is None else world.stage_of.get(after.stage_op, b"")
    if after.claim is not None and after.claim.claim_id in stages and written_by != after.claim.claim_id:
        yield "what the winning claim says of the stage stands"
    found = {claim: said for claim, *said in (world.found[number] for number in everything if number in world.found)}
    is_of_people = after.claim is not None and found[after.claim.claim_id][1] and written_by == after.claim.follows
    if after.claim is not None and after.claim.claim_id not in stages:
        if not is_of_people and after.stage not in (found[after.claim.claim_id][0], *_ENDS):
            yield "of the stage is read what the winning claim found, until it moves the item"
        if is_of_people and after.stage_op is not None and after.stage != _moved_to(world, after.stage_op):
            yield "what people say of the stage under a claim that ended stands until the next one moves the item"
    if any(written_by in _followed_by(world, everything, newer) for newer in stages):
        yield "a claim that was followed by another overwrites nothing that the other wrote"
    if after.claim is not None and (after.outcome, after.attempts) != _told_by(world, state, after.claim.claim_id):
        yield "of outcome and attempts is read what the winning claim found or wrote"
    if not isinstance(after.stage, Archived) and _is_archived(world, everything):
        yield "an archived item stays so, unless somebody moved it under a claim above the archivist's"
    if isinstance(after.stage, Done) and not state.merges:
        yield "what is Done was merged"
    stated = {write[3][1] for number in everything for write in world.core.writes[number][1] if write[0] == Kind.CLAIM}
    if world.core.listed(everything) != stated:
        yield "every claim that was ever stated is listed, the losers' too"
    if state.is_converged:
        yield from _when_converged(world, state)


def _moved_to(world: World, number: int) -> Stage:
    return next(decode_stage(value) for kind, _, field, value, _ in world.core.writes[number][1] if (kind, field) == (Kind.ITEM, ItemField.STAGE))


def _is_archived(world: World, ops: frozenset[int]) -> bool:
    moves: list[tuple[Fence | None, Stage]] = []
    for number in ops:
        writes = world.core.writes[number][1]
        if not any(kind == Kind.CLAIM and decode_claim(value).held for kind, _, _, value, _ in writes):  # to state a claim is no move
            moves += [(fence, decode_stage(value)) for kind, _, field, value, fence in writes if (kind, field) == (Kind.ITEM, ItemField.STAGE)]
    return any(isinstance(stage, Archived) and not any(fence_beats(ITEM, other, fence) for other, _ in moves) for fence, stage in moves)


def _when_converged(world: World, state: State) -> Iterator[str]:
    after = world.core.view(state.everything())
    active = [run.claim for run in state.runs if run.claim is not None and run.phase in {"settling", "claimed", "fresh", "coding", "merged"}]
    if len(active) > 1 or any(not after.wins(claim) for claim in active):
        yield "when all know the same, at most one works, and it is the one whom all see"
    if all(run.phase == "idle" for run in state.runs) and not isinstance(after.stage, Done | Archived):
        free = is_free(after.stage, after.claim, LeaseState.LOST)
        verdict = judge_remote(after.claim, world.remote(state), free=free)
        if not free or verdict is RemoteVerdict.HELD or not world.would_win(state):
            yield "an item that nobody works on can be claimed"
        if world.bounds.arbiter and state.merges and verdict is not RemoteVerdict.MERGED:
            yield "who claims a merged item is told that it is merged"


def _told_by(world: World, state: State, claim_id: bytes) -> tuple[Any, int]:
    """Of outcome and attempts, in the last op under a claim that says anything of them."""
    told = [world.told[number] for log in state.logs for number in log if number in world.told and world.told[number][0] == claim_id]
    return told[-1][1:]


def _followed_by(world: World, ops: frozenset[int], claim_id: bytes) -> set[bytes]:
    """The claims that ``claim_id`` follows, all the way back."""
    follows = {write[3][1]: write[3].get(11, b"") for number in ops for write in world.core.writes[number][1] if write[0] == Kind.CLAIM}
    found: set[bytes] = set()
    while (claim_id := follows.get(claim_id, b"")) and claim_id not in found:
        found.add(claim_id)
    return found


def _way(before: dict[State, tuple[State, str] | None], state: State) -> list[str]:
    steps: list[str] = []
    while (came := before[state]) is not None:
        state, what = came
        steps.insert(0, what)
    return steps
