"""Operators' writes: items, stage moves, claims, tombstones. Each is one op: checked on the newest state, durable when it returns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, assert_never

from fabrik_node._core import fence_beats
from fabrik_node.clock import iso
from fabrik_node.domain.claims import Claim, override
from fabrik_node.domain.schema import ItemField, Kind, TombstoneField
from fabrik_node.domain.stages import Archived, Backlog, Coding, Done, Merge, Qa, Stage, check_move, parse_reason, stage_type
from fabrik_node.errors import Conflict, FabrikError, NotFound, Precondition, UsageError
from fabrik_node.ids import new_id, parse_id, show_id, show_key
from fabrik_node.node.holds import person_hold_writes
from fabrik_node.node.inheriting import first_statement
from fabrik_node.node.node import Node
from fabrik_node.node.pipeline import claim_write, stage_write
from fabrik_node.node.rehearsal import rehearsing
from fabrik_node.node.rights import check_allowed
from fabrik_node.ports import Arbiter, ArbiterTaken, ClaimIntent
from fabrik_node.service.bounds import (
    BODY_BYTES_MAX,
    BRANCH_BYTES_MAX,
    COMMITS_MAX,
    DEPENDENCIES_MAX,
    INT64_MAX,
    LABEL_BYTES_MAX,
    LABELS_MAX,
    REASON_BYTES_MAX,
    TITLE_BYTES_MAX,
    check_count,
    check_number,
    check_text,
    item_id,
)
from fabrik_node.service.reading import Reader
from fabrik_node.service.targets import Targets

if TYPE_CHECKING:  # names of the stub, not of the extension
    from fabrik_node._core import Write

__all__ = ["ItemWriter", "out_of_work"]


def out_of_work(stage: Stage) -> Stage | None:
    """No stage says that somebody works on an item whose claim was taken away."""
    match stage:
        case Coding() | Qa() | Merge():
            return Backlog()
        case Backlog() | Done() | Archived():
            return None
        case _:
            assert_never(stage)


class ItemWriter:
    """``arbiter`` None: this node has no remote to tell of a superseded claim."""

    def __init__(self, node: Node, reader: Reader, arbiter: Arbiter | None, *, incarnation: str) -> None:
        self._node = node
        self._reader = reader
        self._arbiter = arbiter
        self._incarnation = incarnation
        self._targets = Targets(reader)

    @property
    def operations(self) -> Mapping[str, Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]]:
        """Writes by name."""
        return {
            "items.add": self.add,
            "items.edit": self.edit,
            "items.move": self.move,
            "claims.release": self.release,
            "tombstone": self.tombstone,
        }

    async def add(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """A new item in Backlog; with ``on`` for the agent of one node alone."""
        args = self._targets.aimed(args, [])
        now = self._node.clock.wall_ms()
        item = new_id(now)
        writes = [*_field_writes(item, args), *self._dependency_writes(item, args)]
        if not any(write[2] == ItemField.TITLE for write in writes):
            raise UsageError("an item needs a title", "fabrik-node items add TITLE")
        writes.append((Kind.ITEM, item, ItemField.CREATED_MS, now, None))
        writes.append(stage_write(item, Backlog(), None))
        await self._node.write(item, lambda: writes)
        return {**self._shown(item), "note": self._targets.note(str(args["on"])) if args.get("on") else ""}

    async def edit(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Change fields that no holder owns."""
        view = self._reader.must_item(item_id(args))
        item, args = view.id, self._targets.aimed(args, view.labels)
        writes = _field_writes(item, args)
        depends = args.get("depends_on") is not None
        if not writes and not depends:
            raise UsageError("nothing to change", "give --title, --body, --label, --priority or --depends-on")

        def build() -> Sequence[Write]:
            self._must_exist(item)
            return [*writes, *self._dependency_writes(item, args)]

        # Dependencies of all items have one key: two edits that each close half a circle must see each other.
        await self._node.write("dependencies" if depends else item, build)
        return self._shown(item)

    async def move(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """An operator's stage move. A claim in its way is superseded first, and the answer says whose work that stops."""
        view = self._reader.must_item(item_id(args))
        check_move(view.stage, stage_type(str(args.get("to", ""))))  # before it is asked what such a stage would need
        stage = _parse_stage(args, self._node.clock.wall_ms())
        check_move(view.stage, stage)
        held = view.claim if view.claim is not None and view.claim.held else None
        ending, note = (None, "") if held is None else await self._override(view.id, held, f"an operator moved the item to {stage.name}")

        def build() -> Sequence[Write]:
            self._must_exist(view.id)
            check_move(self._node.board.stage(view.id), stage)
            now = self._node.board.claim(view.id)
            if now is None or not now.held:
                return [stage_write(view.id, stage, self._node.board.fence_of_people(view.id))]
            if ending is None or now.claim_id != ending.follows:
                raise Conflict(f"item {show_id(view.id)} was claimed by {self._node.name_of(now.node)} in this moment", "look at it, then try again")
            if not fence_beats(view.id, ending.fence, self._node.board.fence_of_people(view.id)):
                said = f"what is said of the stage of item {show_id(view.id)} under a claim that is not known here counts for more"
                raise Conflict(
                    said, f"try again when this node is up to date: fabrik-node status; or fabrik-node claims release {show_id(view.id)}, then this again"
                )
            return first_statement(self._node.board, view.id, ending, stage=stage)[1]

        await self._node.write(view.id, build)
        return {**self._shown(view.id), "superseded": None if held is None else self._claim(view.id, held), "note": note}

    async def release(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """End a claim now, whoever holds it. Its holder stops when it hears of it, and can not overwrite what follows."""
        text = args.get("item")
        view = self._reader.must_item(text if isinstance(text, str) else "")
        held = view.claim
        if held is None or not held.held:
            raise Precondition(f"item {show_id(view.id)} is not claimed", "fabrik-node claims list")
        return await self.end_claim(view.id, held, check_text("the reason", args.get("reason") or "released by an operator", REASON_BYTES_MAX))

    async def end_claim(
        self, item: bytes, held: Claim, reason: str, hold: str = "", following: Callable[[Stage], Stage | None] = out_of_work
    ) -> dict[str, Any]:
        """The same for a claim that is known. In the same op: ``hold`` holds the item for this reason, and the item goes where ``following`` sends it from its
        stage now (None: it stays). Raises Conflict when another claim came first.
        """
        ending, note = await self._override(item, held, reason)

        def build() -> Sequence[Write]:
            now = self._node.board.claim(item)
            if now is None or now.claim_id != held.claim_id or not now.held:
                raise Conflict(f"the claim on item {show_id(item)} changed in this moment", f"fabrik-node claims show {show_id(item)}")
            now_ms = self._node.clock.wall_ms()
            holding = person_hold_writes(item, {"reason": hold, "since_ms": now_ms}) if hold else []
            holding += self._node.requests.withdrawals(item, hold, now_ms) if hold else []
            stage = following(self._node.board.stage(item))
            return [*first_statement(self._node.board, item, ending, stage=stage)[1], *holding]

        await self._node.write(item, build)
        return self._reader.stamp({"claim": self._claim(item, ending), "was": self._claim(item, held), "note": note})

    async def tombstone(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Delete an item for ever, on every replica."""
        text = item_id(args)
        whole = parse_id(text)
        if whole is not None and self._node.replica.tombstoned(whole):
            raise Precondition(f"item {text} is deleted already", "fabrik-node tombstones list")
        item = self._reader.find_item(text)
        said = {"reason": check_text("the reason", args["reason"], REASON_BYTES_MAX)} if args.get("reason") else {}
        await self._node.write(item, lambda: [(Kind.TOMBSTONE, item, TombstoneField.TOMBSTONE, said, None)])
        register = self._node.replica.get(Kind.TOMBSTONE, item, TombstoneField.TOMBSTONE)
        return self._reader.stamp({"id": show_id(item), "at": iso(self._node.clock.wall_ms() if register is None else register.wall_ms)})

    # ---- inside ---------------------------------------------------------------------------------

    async def _override(self, item: bytes, held: Claim, reason: str) -> tuple[Claim, str]:
        """The claim that ends ``held``, granted by the arbiter where this node has one, and what the operator should know."""
        if held.is_last:
            raise Precondition(
                f"a member gave the claim on item {show_id(item)} the last number that there is, so none can end it", f"fabrik-node tombstone {show_id(item)}"
            )
        self._node.check_writable()  # before the remote is told what could not be written down
        holder = f"{self._node.name_of(held.node)} ({held.agent})"
        claim_id = new_id(self._node.clock.wall_ms())
        ending = override(held, claim_id=claim_id, node=self._node.public, incarnation=self._incarnation, reason=reason)
        check_allowed(self._node, [claim_write(item, ending)])
        if (rehearsal := rehearsing()) is not None:
            refuses = "" if held.receipt == 0 else ", and the git remote is asked to refuse its merge from then on"
            if held.receipt != 0 and self._arbiter is None:
                refuses = ", and can still merge until then: this node has no [git] remote"
            rehearsal.effects.append(f"{holder} is stopped when it hears of this{refuses}")
            return ending, ""
        if held.receipt == 0:
            return ending, f"{holder} is stopped when it hears of this"
        still = f"{holder} can still merge until it hears of this"
        if self._arbiter is None:
            return ending, f"this node has no [git] remote: {still}"
        intent = ClaimIntent(show_id(item), show_id(claim_id), ending.epoch, show_key(ending.node), 0, "released")
        try:
            answer = await self._arbiter.cas(held.oid, intent)
        except FabrikError as error:
            return ending, f"{error}: {still}"
        if isinstance(answer, ArbiterTaken):
            if answer.merged:
                raise Conflict(f"item {show_id(item)} was merged by {holder} in this moment", f"fabrik-node items show {show_id(item)}")
            return ending, f"the remote knows a newer claim of {answer.node[:8]}: this ends only the one known here"
        granted = Claim(
            ending.claim_id, ending.epoch, answer.number, ending.state, ending.node, ending.agent, 0, ending.incarnation, reason, answer.oid, ending.follows
        )
        return granted, f"{holder} is stopped when it hears of this, and the remote refuses its merge from now on"

    def _dependency_writes(self, item: bytes, args: Mapping[str, Any]) -> list[Write]:
        needed = args.get("depends_on")
        if needed is None:
            return []
        others = list(dict.fromkeys(self._reader.find_item(str(text)) for text in check_count("dependencies", needed, DEPENDENCIES_MAX)))
        if item in others or any(self._depends(other, item) for other in others):
            raise Precondition(f"item {show_id(item)} would depend on itself", "leave that dependency out")
        return [(Kind.ITEM, item, ItemField.DEPENDS_ON, others, None)]

    def _depends(self, start: bytes, wanted: bytes) -> bool:
        waiting, seen = [start], set[bytes]()
        while waiting:
            item = waiting.pop()
            if item == wanted:
                return True
            if item not in seen:
                seen.add(item)
                view = self._node.board.item(item)
                waiting.extend(view.depends_on if view is not None else ())
        return False

    def _must_exist(self, item: bytes) -> None:
        if self._node.board.item(item) is None:
            raise NotFound(f"item {show_id(item)} was deleted", "fabrik-node tombstones list")

    def _shown(self, item: bytes) -> dict[str, Any]:
        view = self._node.board.item(item)
        if view is None:
            raise NotFound(f"item {show_id(item)} was deleted", "fabrik-node tombstones list")
        return self._reader.stamp({"item": self._reader.views().item(view)})

    def _claim(self, item: bytes, claim: Claim) -> dict[str, Any]:
        return self._reader.views().claim(item, claim, stage=self._node.board.stage(item))


def _field_writes(item: bytes, args: Mapping[str, Any]) -> list[Write]:
    found: dict[ItemField, Any] = {}
    if args.get("title") is not None:
        found[ItemField.TITLE] = check_text("the title", args["title"], TITLE_BYTES_MAX)
        if not found[ItemField.TITLE].strip():
            raise UsageError("an item needs a title", "fabrik-node items add TITLE")
    if args.get("body") is not None:
        found[ItemField.BODY] = check_text("the body", args["body"], BODY_BYTES_MAX)
    if args.get("labels") is not None:
        found[ItemField.LABELS] = [check_text("a label", label, LABEL_BYTES_MAX) for label in check_count("labels", args["labels"], LABELS_MAX)]
    if args.get("priority") is not None:
        found[ItemField.PRIORITY] = check_number("the priority", args["priority"], -INT64_MAX, INT64_MAX)
    return [(Kind.ITEM, item, number, value, None) for number, value in found.items()]


def _parse_stage(args: Mapping[str, Any], now_ms: int) -> Stage:
    """The stage that an operator names. Raises UsageError for what is missing, NoCommits for a merge of nothing."""
    target = stage_type(str(args.get("to", "")))
    if target is Merge:
        branch, ahead = args.get("branch"), args.get("commits_ahead")
        if not isinstance(branch, str) or not branch or not isinstance(ahead, int):
            raise UsageError("a move to Merge needs the branch and how many commits it is ahead", "--branch NAME --commits-ahead N")
        merge = Merge(check_text("the branch", branch, BRANCH_BYTES_MAX), ahead)
        check_number("the number of commits", ahead, 1, COMMITS_MAX)
        return merge
    if target is Done:
        text = args.get("merge_commit")
        try:
            return Done(now_ms, bytes.fromhex(text if isinstance(text, str) else ""))
        except ValueError as error:
            raise UsageError(f"{text!r} is not a git object id", "--merge-commit OID") from error
    if target is Archived:
        reason = args.get("reason")
        if not isinstance(reason, str) or not reason:
            raise UsageError("archiving needs a reason", "--reason Completed|Abandoned|Superseded|Blocked|MergeFailed|ReviewHeld")
        return Archived(now_ms, parse_reason(reason))
    plain: dict[type[Stage], Stage] = {Backlog: Backlog(), Coding: Coding(), Qa: Qa()}
    return plain[target]
