"""The ways out of a hold and out of the archive: go on where the work stopped, or begin anew."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from shlex import quote
from typing import TYPE_CHECKING, Any

from fabrik_node._core import effects, fence_beats
from fabrik_node.domain.finished import finished_from, without_finished
from fabrik_node.domain.inheritance import Written, stage_of
from fabrik_node.domain.schema import ItemField, Kind
from fabrik_node.domain.stages import RESUMABLE_REASONS, Archived, Backlog, Coding, Done, Merge, Qa, Stage, check_move, decode_stage, is_working
from fabrik_node.errors import Conflict, InvalidOp, NotFound, Precondition, UsageError
from fabrik_node.ids import show_id
from fabrik_node.node.finished import finished_under
from fabrik_node.node.holds import person_hold_writes
from fabrik_node.node.node import Node
from fabrik_node.node.pipeline import stage_write
from fabrik_node.node.steps import NodeSteps
from fabrik_node.ports import ItemView
from fabrik_node.service.bounds import BRANCH_BYTES_MAX, check_text, item_id
from fabrik_node.service.reading import Reader
from fabrik_node.service.returning import where_it_goes_on

if TYPE_CHECKING:  # names of the stub, not of the extension
    from fabrik_node._core import Touch, Write

__all__ = ["HoldEnder"]


class HoldEnder:
    """Takes items out of their holds, and back out of the archive. Each way forgets the failed attempts, and is one op."""

    def __init__(self, node: Node, reader: Reader, steps: NodeSteps) -> None:
        self._node = node
        self._reader = reader
        self._steps = steps

    @property
    def operations(self) -> Mapping[str, Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]]:
        """Writes by name."""
        return {"items.requeue": self.requeue, "items.resolve": self.resolve}

    async def requeue(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Let agents go on with a held item in the stage in which it is, or with an archived one in the stage that it left: finished work is tested and merged.

        ``anew``: from Backlog and the base instead, also of an item that is not held; what there is stays on its branch. Answers that commands of the item got are asked for again, unless its work is finished.
        """
        view, anew = self._reader.must_item(item_id(args)), args.get("anew") is True
        returns = isinstance(view.stage, Archived) and view.stage.reason in RESUMABLE_REASONS
        begins = anew and isinstance(view.stage, Backlog | Coding | Qa | Merge)  # nobody has to hold it for that
        if view.hold is not None or not (returns or begins):
            view = self._held(args)
            self._check_clear(view)
        if returns:
            return await self._return(view, anew=anew)
        return await self._end(view, lambda now: Backlog() if anew and isinstance(now, Coding | Qa | Merge) else None, anew=anew)

    async def resolve(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Let an agent test and merge the branch of a held item in Merge, as it is on the remote now; ``branch``: another one."""
        view = self._held(args)
        shown = show_id(view.id)
        branch = "" if args.get("branch") is None else check_text("the branch", args["branch"], BRANCH_BYTES_MAX)
        if args.get("branch") is not None and not branch:
            raise UsageError("a branch needs a name", "--branch NAME, or leave it out")

        def chosen(now: Stage) -> Stage | None:
            if not isinstance(now, Merge):
                raise Precondition(f"item {shown} is in {now.name}: it has no finished work to merge", f"fabrik-node items requeue {shown}")
            return Merge(branch, now.commits_ahead) if branch else None

        chosen(view.stage)
        return await self._end(view, chosen)

    def _check_clear(self, view: ItemView) -> None:
        """Returns unless nobody knows what became of a step. Raises Precondition."""
        if (step := self._steps.unclear(view.id)) is not None:
            item, name = show_id(view.id), quote(step.name)
            raise Precondition(
                f"step {name} of item {item} was begun and has no end, and it has effects outside its files: first say whether it has happened",
                f"fabrik-node steps done {item} {name}, or fabrik-node steps again {item} {name}",
            )

    async def _return(self, view: ItemView, *, anew: bool) -> dict[str, Any]:
        """Out of the archive, to the stage that the item left for it. A hold from before ends with it."""
        item, archived = view.id, view.stage
        known = await self._left(item)
        left = known or Backlog()
        back = Backlog() if anew else left

        def following(now: Stage) -> Stage:
            if now != archived:
                raise Conflict(f"item {show_id(item)} was changed meanwhile", f"fabrik-node items show {show_id(item)}")
            check_move(now, back)
            return back

        answer = await self._end(view, following, anew=anew, left=left)
        if known is None and not anew:
            answer["note"] = f"the stage that it left can not be told from what is stored here (fabrik-node ops check), so it {answer['note']}"
        return answer

    async def _left(self, item: bytes) -> Stage | None:
        """The stage that was read before the item was archived; ops without effect have no part in it. None when the op that archived it is not in the store."""
        replica = self._node.replica
        writes = [touch for touch in await self._reader.touches(item, partial(effects, replica)) if (touch.kind, touch.field) == (Kind.ITEM, ItemField.STAGE)]
        now = replica.get(Kind.ITEM, item, ItemField.STAGE)
        archiving = [touch for touch in writes if now is not None and (touch.digest, touch.author, touch.epoch) == (now.digest, now.author, now.epoch)]
        if not archiving:
            return None
        before: Touch | None = None
        for touch in writes:
            if not _is_above(item, archiving[-1], touch) or not _is_left(touch.value):
                continue
            if before is None or _is_above(item, touch, before):
                before = touch
        registers = {} if before is None else {ItemField.STAGE: Written(before.value, before.fence)}
        read = stage_of(item, registers, self._node.board.claim(item))
        if is_working(read):
            return decode_stage(read)
        return Backlog() if before is None else decode_stage(before.value)

    def _held(self, args: Mapping[str, Any]) -> ItemView:
        view = self._reader.must_item(item_id(args))
        if view.hold is None:
            over = isinstance(view.stage, Done | Archived)
            said = f"in {view.stage.name}, and nobody holds it" if over else "not held"
            raise Precondition(
                f"item {show_id(view.id)} is {said}",
                "for its work once more: fabrik-node items add TITLE" if over else f"fabrik-node items show {show_id(view.id)}",
            )
        return view

    async def _end(self, view: ItemView, following: Callable[[Stage], Stage | None], *, anew: bool = False, left: Stage | None = None) -> dict[str, Any]:
        """Write the end of the hold and the stage that ``following`` gives for the present one, if it gives any. ``left``: for the answer, of an item that was archived."""
        item = view.id

        def build() -> Sequence[Write]:
            now = self._node.board.item(item)
            if now is None:
                raise NotFound(f"item {show_id(item)} was deleted", "fabrik-node tombstones list")
            fence, stage = self._node.board.fence_of_people(item), following(now.stage)
            if (stage is not None or anew) and now.claim is not None and now.claim.held:
                raise Conflict(f"{self._node.name_of(now.claim.node)} holds item {show_id(item)}", f"fabrik-node claims release {show_id(item)}")
            writes: list[Write] = [(Kind.ITEM, item, ItemField.ATTEMPTS, 0, fence)]
            if stage is not None:
                writes.append(stage_write(item, stage, fence))
            if now.hold is not None:
                writes += person_hold_writes(item, None)
            if anew or (now.hold is not None and not isinstance(stage or now.stage, Merge)):
                reason = "the item begins anew" if anew else "the hold of its item ended, and its next run asks again"
                writes += self._node.requests.withdrawals(item, reason, self._node.clock.wall_ms(), anew=True)
            if anew:  # what its steps made, and what was finished, stays on the branch that is left
                writes += self._steps.reopening(item, fence)
                if now.outcome is not None and finished_from(now.outcome) is not None:
                    writes.append((Kind.ITEM, item, ItemField.OUTCOME, without_finished(now.outcome), fence))
            return writes

        await self._node.write(item, build)
        shown = self._node.board.item(item)
        if shown is None:
            raise NotFound(f"item {show_id(item)} was deleted", "fabrik-node tombstones list")
        claim_id = b"" if shown.claim is None else shown.claim.claim_id
        finished = finished_under(self._node.replica, item, claim_id)
        run = next((row for row in await self._reader.runs(item) if row.branch), None)
        note = where_it_goes_on(shown, left=left or view.stage, step=self._steps.newest_done(item), finished=None if anew else finished, run=run, anew=anew)
        return self._reader.stamp({"item": self._reader.views().item(shown), "note": note})


def _is_left(value: Any) -> bool:
    """Whether a stage register that was written so was outside the archive, as far as this build can tell."""
    try:
        return not isinstance(decode_stage(value), Archived)
    except InvalidOp:
        return False


def _is_above(item: bytes, one: Touch, other: Touch) -> bool:
    """Whether the merge prefers ``one`` of two writes of one fenced register; the same write is not above itself."""
    if fence_beats(item, one.fence, other.fence):
        return True
    if fence_beats(item, other.fence, one.fence):
        return False
    return (one.lamport, one.digest, one.author, one.epoch) > (other.lamport, other.digest, other.author, other.epoch)
