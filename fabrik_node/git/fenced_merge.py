"""The fenced merge: the base branch and the claim ref move in one atomic push, or not at all.

This is the only place where a claim is more than advice. Whoever holds a superseded claim is refused by the remote itself.
Why it is done so: docs/decisions/0004-fenced-merge.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from fabrik_node.errors import GitFailed, MergeConflict, NoCommits
from fabrik_node.git.claim_record import ClaimRecord, ClaimRefState
from fabrik_node.git.claim_ref import ClaimRef, merged_link, push_failed
from fabrik_node.git.jitter import Pause
from fabrik_node.git.merge_message import find_imitation, find_merge_and_claim, merge_message
from fabrik_node.git.merge_tree import Conflicts, merge_tree
from fabrik_node.git.names import check_id
from fabrik_node.git.push import PushAnswer, RefUpdate, push
from fabrik_node.git.repository import Repository

__all__ = ["AlreadyMerged", "ClaimSuperseded", "FencedMerge", "MergeRequest", "Merged", "fenced_merge", "go_on"]

_log = logging.getLogger("fabrik_node.git")

TRIES_MAX = 20
"""How often the base may move under us; each try costs one merge and three round trips."""

_IDLE_TRIES_MAX = 5
"""How often a push may fail while neither ref has moved: a busy lock passes, a refusing hook does not."""


@dataclass(frozen=True, slots=True)
class MergeRequest:
    """What to merge. ``claim_oid`` is the newest link of the claim chain as the holder knows it, empty without an arbiter (then only the base is fenced)."""

    item: str
    claim_id: str
    claim_oid: str
    work_oid: str
    message: str


@dataclass(frozen=True, slots=True)
class Merged:
    """It is on the base branch. ``claim_oid`` is the claim's last link, empty without an arbiter."""

    merge_commit: str
    claim_oid: str


@dataclass(frozen=True, slots=True)
class AlreadyMerged:
    """The item is on the base branch. Nothing was changed. ``by``: the claim whose work was merged, when this holder's was not; empty when it was."""

    merge_commit: str
    by: str = ""


@dataclass(frozen=True, slots=True)
class ClaimSuperseded:
    """Another claim holds the item now (None: the claim ref is gone). Nothing was changed."""

    current: ClaimRecord | None


FencedMerge = Merged | AlreadyMerged | ClaimSuperseded | Conflicts


def go_on() -> None:
    """The check of a merge that nothing ends."""


async def fenced_merge(
    repository: Repository, claims: ClaimRef, request: MergeRequest, pause: Pause, *, tries: int = TRIES_MAX, check: Callable[[], None] = go_on
) -> FencedMerge:
    """Merge ``work_oid`` into the base of ``repository``, under the claim. At most one merge per item ever lands, whoever calls this how often.

    When only the base has moved it is merged again, at most ``tries`` times. Safe to repeat after any error: a merge whose answer was
    lost is found again. Raises :class:`NoCommits` when the work has no commit that the base has not, :class:`MergeConflict` when one of
    its commits imitates a merge of ours, or the claim says merged and the base does not, :class:`Unreachable`, and :class:`GitFailed` when the remote refuses for a reason of its own or the base never stands still. ``check`` is called while nothing
    is under way, before each look and each try; what it raises ends the merge.
    """
    check_id(request.claim_id, "a claim")
    return await _Merging(repository, claims, request, pause, check).run(tries)


class _Merging:
    """One call. Remembers what it pushed, so that it can tell its own merge from somebody else's."""

    def __init__(self, repository: Repository, claims: ClaimRef, request: MergeRequest, pause: Pause, check: Callable[[], None]) -> None:
        self._repository = repository
        self._claims = claims
        self._request = request
        self._pause = pause
        self._check = check
        claim_ref = claims.ref(request.item) if request.claim_oid else ""
        self._claim_ref = claim_ref
        self._turn = claims.queue.turn(request.claim_id, claim_ref, request.claim_oid or request.work_oid, pause, check)
        self._pushed: dict[str, str] = {}
        self._searched = ""

    async def run(self, tries: int) -> FencedMerge:
        try:
            return await self._run(tries)
        finally:
            await self._turn.leave()

    async def _run(self, tries: int) -> FencedMerge:
        last_base, idle, answer = "", 0, PushAnswer(False, False, "")
        for attempt in range(1, tries + 1):
            refs = await self._turn.come(again=attempt > 1)
            current = await self._claims.read_advertised(self._request.item, refs.get(self._claim_ref)) if self._claim_ref else None
            # After the claim, so that a base which moved together with it is seen.
            base_oid = await self._repository.fetch()
            settled = await self._settled(current, base_oid)
            if settled is not None:
                return settled
            idle = idle + 1 if base_oid == last_base else 0
            last_base = base_oid
            if current is not None and current.state is ClaimRefState.MERGED:
                # Readers of a remote may see the two refs of one push move one after the other.
                if idle >= _IDLE_TRIES_MAX:
                    raise self._torn(current)
            elif idle >= _IDLE_TRIES_MAX:
                raise push_failed(self._repository, answer)
            else:
                outcome = await self._attempt(current, base_oid)
                if not isinstance(outcome, PushAnswer):
                    return outcome
                answer = outcome
                _log.info("the remote did not take the merge of item %s: %s", self._request.item, answer.reason)
            await self._pause(attempt)
        raise GitFailed(
            f"{self._repository.base} on {self._repository.shown_remote} moved {tries} times while item {self._request.item} was merged", "try again later"
        )

    async def _settled(self, current: ClaimRecord | None, base_oid: str) -> Merged | AlreadyMerged | ClaimSuperseded | None:
        request = self._request
        found = await find_merge_and_claim(self._repository, request.item, base_oid, self._searched)
        if found is not None:
            commit, claim_id = found
            if commit in self._pushed:
                return Merged(commit, self._pushed[commit])
            ours = claim_id == request.claim_id or await self._repository.commits_ahead(request.work_oid, commit) == 0
            return AlreadyMerged(commit, "" if ours else claim_id)
        self._searched = base_oid
        if not request.claim_oid or (current is not None and current.state is ClaimRefState.MERGED):
            return None
        holds = current is not None and (current.oid, current.claim_id, current.state) == (request.claim_oid, request.claim_id, ClaimRefState.HELD)
        return None if holds else ClaimSuperseded(current)

    async def _attempt(self, current: ClaimRecord | None, base_oid: str) -> Merged | Conflicts | PushAnswer:
        repository, request = self._repository, self._request
        if await repository.commits_ahead(request.work_oid, base_oid) == 0:
            raise NoCommits(f"item {request.item} has no commits ahead of {repository.base}: nothing to merge", "commit the work on the claim's branch first")
        imitation = await find_imitation(repository, request.work_oid, base_oid)
        if imitation is not None:
            oid, item = imitation
            told = f"commit {oid} of the work would pass for the merge of item {item}"
            raise MergeConflict(told, f"git show {oid}; write the branch anew without its Fabrik- trailers")
        tree = await merge_tree(repository, base_oid, request.work_oid)
        if isinstance(tree, Conflicts):
            return tree
        message = merge_message(request.item, request.claim_id, request.message)
        merge_commit = await repository.make_commit(tree, [base_oid, request.work_oid], message)
        updates = [RefUpdate(repository.base_ref, merge_commit, base_oid)]
        closing = ""
        if current is not None:
            # The claim ref has to move too: a lease on a ref that stays where it is fences nothing.
            closing = await self._claims.write(merged_link(current, merge_commit))
            updates.append(RefUpdate(self._claims.ref(request.item), closing, current.oid))
        self._check()
        self._pushed[merge_commit] = closing
        answer = await push(repository, updates)
        return Merged(merge_commit, closing) if answer.accepted else answer

    def _torn(self, current: ClaimRecord) -> MergeConflict:
        told = f"{self._claims.ref(current.item)} says that the item was merged as {current.merge}, but {self._repository.base} does not contain it"
        return MergeConflict(told, f"git log {self._repository.base}: was it rewritten, or the item merged into another base?")
