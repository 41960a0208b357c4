"""What an operator does with claims: take one for lost now, or use the work that was not kept.

Both put a claim of the operator above the one that wins: its holder is fenced from then on, by the merge of registers and, where it has one, by the remote.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, assert_never

from fabrik_node.domain.claims import Claim, Fence
from fabrik_node.domain.runs import FINAL_STATES, RunRow
from fabrik_node.domain.schema import ItemField, Kind
from fabrik_node.domain.stages import REASON_NAMES, RESUMABLE_REASONS, Archived, Backlog, Coding, Done, Merge, Qa, Stage, check_holder_move
from fabrik_node.errors import Conflict, Internal, NotFound, Precondition, UsageError
from fabrik_node.ids import new_id, resolve, show_id
from fabrik_node.node.double_work import newest_by_claim
from fabrik_node.node.holds import HOLD_FIELDS, person_hold_writes
from fabrik_node.node.node import Node
from fabrik_node.node.pipeline import stage_write
from fabrik_node.node.rehearsal import Rehearsed, rehearsing
from fabrik_node.ports import Branches, ItemView
from fabrik_node.service.bounds import REASON_BYTES_MAX, TITLE_BYTES_MAX, check_text
from fabrik_node.service.reading import Reader
from fabrik_node.service.writing import ItemWriter, out_of_work

if TYPE_CHECKING:  # names of the stub, not of the extension
    from fabrik_node._core import Write

__all__ = ["ClaimEnder"]


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The work that is to be used: of which run, and how many commits it has, as far as that can be known."""

    row: RunRow
    branch: str
    ahead: int
    unseen: str
    """Why nobody looked whether the branch is there; empty when it is."""


class ClaimEnder:
    """``branches`` None: this node has no remote, so it can not look at branches."""

    def __init__(self, node: Node, reader: Reader, writer: ItemWriter, branches: Branches | None) -> None:
        self._node = node
        self._reader = reader
        self._writer = writer
        self._branches = branches

    @property
    def operations(self) -> Mapping[str, Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]]:
        """Writes by name."""
        return {"claims.expire": self.expire, "claims.keep": self.keep}

    # ---- expire ---------------------------------------------------------------------------------

    async def expire(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Take the winning claim for lost now. Without ``yes`` a :class:`Precondition` says whose work it would stop. ``claim``: only if that one wins (Conflict)."""
        view = self._reader.must_item(_text(args, "item"))
        shown, held = show_id(view.id), view.claim
        if held is None or not held.held:
            raise Precondition(f"item {shown} is not claimed", "fabrik-node claims list")
        name = show_id(held.claim_id)
        if args.get("claim") and not name.startswith(_text(args, "claim").lower()):
            raise Conflict(f"item {shown} is claimed by {name} now, of {self._node.name_of(held.node)}", f"fabrik-node claims show {shown}")
        reason = check_text("the reason", args.get("reason") or "taken for lost by an operator", REASON_BYTES_MAX)
        run = await self._run_of(held)
        stops = self._stops(view, held, run)
        if not args.get("yes"):
            raise Precondition(stops, f"fabrik-node claims expire {shown} --claim {name} --yes")
        said = await self._writer.end_claim(view.id, held, reason, following=_left_behind)
        return {**said, "note": f"{stops}; {said['note']}", "run": None if run is None else run}

    def _stops(self, view: ItemView, held: Claim, run: Mapping[str, Any] | None) -> str:
        who = f"{self._node.name_of(held.node)}/{held.agent}"
        if run is None:
            return f"this takes {view.title!r} from {who}; no run of it is known here"
        evidence = run["evidence"]
        if "heard of" not in evidence:  # most of it says the age
            news = "nothing was heard of it here" if run["age_s"] is None else f"heard {run['age_s']:.0f} s ago"
            evidence = f"{news}: {evidence}"
        return f"this stops run {run['run_id']} of {who} on {view.title!r}, which is {run['state']} ({evidence})"

    async def _run_of(self, held: Claim) -> dict[str, Any] | None:
        rows = [row for row in await self._reader.runs() if row.claim_id == held.claim_id and row.state not in FINAL_STATES]
        return self._reader.run_views().run(rows[0], claim=held) if rows else None

    # ---- keep -----------------------------------------------------------------------------------

    async def keep(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Merge the work of ``claim`` in place of that of the winning claim, or, when that is merged already, on top of it as a ``new_item``."""
        view = self._reader.must_item(_text(args, "item"))
        chosen = await self._chosen(view, _text(args, "claim"))
        if isinstance(view.stage, Archived):
            comes_back = view.stage.reason in RESUMABLE_REASONS
            then = f"fabrik-node items requeue {show_id(view.id)}, then this again" if comes_back else "for its work once more: fabrik-node items add TITLE"
            raise Precondition(f"item {show_id(view.id)} is archived ({REASON_NAMES[view.stage.reason]})", then)
        if isinstance(view.stage, Done):
            return await self._as_new_item(view, view.stage, chosen, wanted=bool(args.get("new_item")))
        if args.get("new_item"):
            raise Precondition(
                f"item {show_id(view.id)} is not merged yet: its own branch can still be replaced",
                f"fabrik-node claims keep {show_id(view.id)} {_text(args, 'claim')}",
            )
        reason = f"an operator chose the work of claim {show_id(chosen.row.claim_id)}"
        note, fence = "", self._node.replica.winning_fence(view.id)
        if rehearsing() is not None:
            await self._rehearse(view, chosen, reason)
        if view.claim is not None and view.claim.held:
            # Held on the way, so that nobody claims it between two moves, and a crash here leaves it to a person.
            said = await self._writer.end_claim(view.id, view.claim, reason, hold=reason, following=_left_behind)
            note, fence = f"{said['note']}; ", self._node.replica.winning_fence(view.id)
        await self._walk(view.id, chosen, fence, reason)
        return self._answer(view.id, chosen, note)

    async def _rehearse(self, view: ItemView, chosen: _Chosen, reason: str) -> NoReturn:
        """In a dry run of :meth:`keep`: its ops as one, with what stands in each register when the last of them is written."""
        merge, fence = Merge(chosen.branch, chosen.ahead), self._node.replica.winning_fence(view.id)
        ending: list[Write] = []
        rehearsal = rehearsing()
        if rehearsal is None:
            raise Internal("this is no dry run")
        rehearsal.effects.append(chosen.unseen or f"{chosen.ahead} commits of {chosen.branch} are tested and merged")
        if view.claim is not None and view.claim.held:
            with suppress(Rehearsed):
                await self._writer.end_claim(view.id, view.claim, reason, hold=reason, following=lambda _: merge)
            ending = [write for write in rehearsal.writes if write[0] != Kind.ITEM or write[2] not in HOLD_FIELDS]
        moving = [] if ending else [stage_write(view.id, merge, fence)]
        lifted: list[Write] = [] if view.hold is None else person_hold_writes(view.id, None)
        attempts: Write = (Kind.ITEM, view.id, ItemField.ATTEMPTS, 0, next((write[4] for write in ending if write[4] is not None), fence))
        await self._node.write(view.id, lambda: [*ending, *moving, *lifted, attempts])
        raise Rehearsed

    async def _chosen(self, view: ItemView, text: str) -> _Chosen:
        shown = show_id(view.id)
        by_claim = {show_id(claim): row for claim, row in newest_by_claim(await self._reader.runs(view.id)).items()}
        row = by_claim[resolve(text, by_claim, f"claim with a run on item {shown}", f"fabrik-node claims show {shown} --all")]
        winner = view.claim
        if winner is not None and winner.claim_id == row.claim_id and (winner.held or isinstance(view.stage, Done)):
            raise Precondition(f"claim {show_id(row.claim_id)} is the one that is kept", f"fabrik-node claims conflicts --item {shown}")
        branch = row.branch or f"fabrik/{shown}/{show_id(row.claim_id)}"
        if self._branches is None:
            return _Chosen(row, branch, 1, "this node has no [git] remote to look whether the branch is there: if it is not, the item is held and says so")
        ahead = await self._branches.ahead_of_base(branch)
        lies = f"look into its worktree on {self._node.name_of(row.node)}: fabrik-node runs show {show_id(row.run_id)}, then git push"
        if ahead is None:
            raise Precondition(f"the remote has no branch {branch}: its work was never pushed", lies)
        if ahead < 1:
            raise Precondition(f"branch {branch} has no commits that the base has not", lies)
        return _Chosen(row, branch, ahead, "")

    async def _walk(self, item: bytes, chosen: _Chosen, fence: Fence | None, reason: str) -> None:
        """Move by move to Merge, while the item stays held; the last one ends the hold and forgets failed attempts."""
        merge = Merge(chosen.branch, chosen.ahead)
        over = False

        def build() -> Sequence[Write]:
            nonlocal over
            view = self._node.board.item(item)
            if view is None:
                raise NotFound(f"item {show_id(item)} was deleted", "fabrik-node tombstones list")
            if self._node.replica.winning_fence(item) != fence or (view.claim is not None and view.claim.held):
                raise Conflict(f"the claim on item {show_id(item)} changed in this moment", f"fabrik-node claims show {show_id(item)}")
            stage, following = view.stage, _towards(view.stage, merge)
            if not isinstance(stage, Merge):
                check_holder_move(stage, following)
            over = following == merge
            writes: list[Write] = [stage_write(item, following, fence)]
            if over:
                return [*writes, *person_hold_writes(item, None), (Kind.ITEM, item, ItemField.ATTEMPTS, 0, fence)]
            if view.hold is None:
                writes += person_hold_writes(item, {"reason": reason, "since_ms": self._node.clock.wall_ms()})
            return writes

        def let_go() -> Sequence[Write]:
            view = self._node.board.item(item)
            ours = view is not None and view.hold is not None and view.hold.get("reason") == reason
            return person_hold_writes(item, None) if ours else []

        try:
            while not over:
                await self._node.write(item, build)
        except Conflict:
            await self._node.write(item, let_go)
            raise

    async def _as_new_item(self, view: ItemView, done: Done, chosen: _Chosen, *, wanted: bool) -> dict[str, Any]:
        shown, claim = show_id(view.id), show_id(chosen.row.claim_id)
        if not wanted:
            raise Precondition(
                f"item {shown} is merged as {done.merge_commit.hex()}: the other work can only come on top of it",
                f"fabrik-node claims keep {shown} {claim} --new-item; to take the merged work out first: git revert -m 1 {done.merge_commit.hex()}, in a clone of the program",
            )
        now = self._node.clock.wall_ms()
        item, reason = new_id(now), f"an operator chose the work of claim {claim} on item {shown}"
        title = f"{view.title} (other work)"
        fields: dict[ItemField, Any] = {
            ItemField.TITLE: title if len(title.encode()) <= TITLE_BYTES_MAX else view.title,
            ItemField.BODY: view.body,
            ItemField.LABELS: list(view.labels),
            ItemField.PRIORITY: view.priority,
            ItemField.CREATED_MS: now,
        }
        writes: list[Write] = [(Kind.ITEM, item, field, value, None) for field, value in fields.items() if value not in ("", [])]
        if (rehearsal := rehearsing()) is not None:  # its ops as one, as in _rehearse
            rehearsal.effects.append(f"{shown} stays merged; {chosen.unseen or f'{chosen.ahead} commits of {chosen.branch} are merged on top of it'}")
            last = [*writes, stage_write(item, Merge(chosen.branch, chosen.ahead), None)]
            await self._node.write(item, lambda: [*last, (Kind.ITEM, item, ItemField.ATTEMPTS, 0, None)])
        writes += person_hold_writes(item, {"reason": reason, "since_ms": now})
        await self._node.write(item, lambda: [*writes, stage_write(item, Backlog(), None)])
        await self._walk(item, chosen, None, reason)
        return self._answer(item, chosen, f"{shown} stays merged; ")

    def _answer(self, item: bytes, chosen: _Chosen, note: str) -> dict[str, Any]:
        view = self._node.board.item(item)
        if view is None:
            raise NotFound(f"item {show_id(item)} was deleted", "fabrik-node tombstones list")
        said = f"{note}{chosen.unseen or f'{chosen.ahead} commits are to be merged'}"
        return self._reader.stamp({"item": self._reader.views().item(view), "branch": chosen.branch, "claim_id": show_id(chosen.row.claim_id), "note": said})


def _left_behind(stage: Stage) -> Stage | None:
    """As a lost lease leaves it: finished work waits to be merged; else nothing says that somebody works on it."""
    return None if isinstance(stage, Merge) else out_of_work(stage)


def _towards(stage: Stage, merge: Merge) -> Stage:
    """The next stage on the way to ``merge``; from Done and Archived that is no legal move."""
    match stage:
        case Backlog():
            return Coding()
        case Coding():
            return Qa()
        case Qa() | Merge() | Done() | Archived():
            return merge
        case _:
            assert_never(stage)


def _text(args: Mapping[str, Any], name: str) -> str:
    found = args.get(name)
    if not isinstance(found, str) or not found:
        raise UsageError(f"{name} is missing", "fabrik-node claims conflicts")
    return found
