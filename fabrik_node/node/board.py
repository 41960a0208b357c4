"""Items, claims and names as the replica has them now: the read side of the registers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from fabrik_node._core import Register, Replica, fence_beats
from fabrik_node.domain.claims import Claim, Fence, decode_claim
from fabrik_node.domain.inheritance import Written, attempts_of, outcome_of, stage_of
from fabrik_node.domain.schema import ClaimField, ItemField, Kind, MemberField, NodeField, Role
from fabrik_node.domain.stages import Archived, ArchiveReason, Backlog, Done, Stage, decode_stage, is_working
from fabrik_node.node.holds import hold_in
from fabrik_node.ports import ItemView

__all__ = ["Board", "is_finished"]

_READ_BY_CLAIM = (ItemField.STAGE, ItemField.OUTCOME, ItemField.ATTEMPTS)
"""Whose they are: whoever works on the item. What of them is read depends on the winning claim."""


class Board:
    """A typed view of a replica. Holds nothing: each call reads the replica."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    def item(self, item: bytes) -> ItemView | None:
        """The item, or None when it was never added here or is deleted."""
        row = self._replica.row(Kind.ITEM, item)
        return None if ItemField.TITLE not in row else self._view(item, row, self.claim(item))

    def items(self) -> list[ItemView]:
        """All items in order of their ids: the order in which they were added, as far as the wall clocks of their nodes agree. For display.

        Several calls of the core: who does not write meanwhile, or finds :meth:`state` as it was before, has them all of one state.
        """
        rows = self._replica.rows(Kind.ITEM)
        claims = dict(self.claims())
        return [self._view(item, row, claims.get(item)) for item, row in rows if ItemField.TITLE in row]

    def state(self) -> tuple[int, int, int, bool]:
        """Differs whenever something was merged or judged anew. Equal before and after some reads: nothing changed between them."""
        return (self._replica.ops, self._replica.voided, self._replica.registers, self._replica.stale)

    def added(self, item: bytes) -> tuple[int, bytes]:
        """Where the item stands in the order in which items were added: no wall clock has a part in it, and it is the same on every node."""
        created = self._replica.get(Kind.ITEM, item, ItemField.CREATED_MS)
        return (0, item) if created is None else (created.lamport, created.digest)

    def stages(self) -> Counter[type[Stage]]:
        """How many items are in which stage, without looking at each."""
        count: Counter[type[Stage]] = Counter()
        counted, below = self._replica.tally(ItemField.STAGE, among=ItemField.TITLE)
        for value, items in counted:
            count[Backlog if value is None else type(decode_stage(value))] += items
        for item, value, fence, claim in below:
            registers = {} if value is None else {ItemField.STAGE: Written(value, fence)}
            count[type(decode_stage(stage_of(item, registers, decode_claim(claim))))] += 1
        return count

    def stage(self, item: bytes) -> Stage:
        """What is read of the item's stage: not the late move of a superseded holder."""
        return self.stage_under(item, self.claim(item))

    def stage_under(self, item: bytes, claim: Claim | None) -> Stage:
        """The same for who has the winning claim at hand."""
        return decode_stage(stage_of(item, self.registers(item, (ItemField.STAGE,)), claim))

    def claim(self, item: bytes) -> Claim | None:
        """The winning claim, whatever its state."""
        register = self._replica.get(Kind.CLAIM, item, ClaimField.CLAIM)
        return None if register is None else decode_claim(register.value)

    def registers(self, item: bytes, fields: Sequence[ItemField] = _READ_BY_CLAIM) -> dict[ItemField, Written]:
        """Those of the registers of whoever works on an item that are there, as the merge has them."""
        found = {field: self._replica.get(Kind.ITEM, item, field) for field in fields}
        return {field: Written(register.value, register.fence) for field, register in found.items() if register is not None}

    def outcome(self, item: bytes) -> Any:
        """What is read of an item's outcome: not the late word of a superseded holder."""
        return outcome_of(item, self.registers(item, (ItemField.OUTCOME,)), self.claim(item))

    def fence_of_people(self, item: bytes) -> Fence | None:
        """What a person's word about the stage carries: the fence of the winning claim, or that of the present stage where that is above it, as when the claim that it is of is on its way."""
        winning, stage = self._replica.winning_fence(item), self._replica.get(Kind.ITEM, item, ItemField.STAGE)
        return stage.fence if stage is not None and fence_beats(item, stage.fence, winning) else winning

    def read(self, item: bytes, field: ItemField, register: Register) -> Any:
        """What is read where the merge has this register of the item: of the late word of a superseded holder what the claim that follows found instead, None for nothing."""
        registers, claim = {field: Written(register.value, register.fence)}, self.claim(item)
        match field:
            case ItemField.STAGE:
                return stage_of(item, registers, claim)
            case ItemField.OUTCOME:
                return outcome_of(item, registers, claim)
            case ItemField.ATTEMPTS:
                return attempts_of(item, registers, claim)
            case _:
                return register.value

    def reads(self, item: bytes, field: ItemField, register: Register) -> bool:
        """Whether that is what the register says."""
        return bool(self.read(item, field, register) == register.value)

    def is_holder(self, author: bytes, item: bytes, claim_id: bytes) -> bool:
        """True when this claim wins on the item and is ``author``'s."""
        claim = self.claim(item)
        return claim is not None and claim.claim_id == claim_id and claim.node == author

    def claims(self) -> list[tuple[bytes, Claim]]:
        """``(item, winning claim)`` of every item that was ever claimed."""
        return [(item, decode_claim(row[ClaimField.CLAIM])) for item, row in self._replica.rows(Kind.CLAIM) if ClaimField.CLAIM in row]

    def is_done(self, item: bytes) -> bool:
        """For dependencies: Done, or archived as completed from there, counts."""
        view = self.item(item)
        return view is not None and is_finished(view.stage)

    def names(self) -> dict[bytes, str]:
        """Node names by key: what a node calls itself, else what its inviter called it, else what it was called under the key that it rotated from."""
        named = {key: str(row[MemberField.RECORD].get(2)) for key, row in self.members().items() if row.get(MemberField.RECORD, {}).get(2)}
        for key, row in self._replica.rows(Kind.NODE):
            if row.get(NodeField.NAME):
                named[key] = str(row[NodeField.NAME])
        for old, _ in self._replica.rows(Kind.ROTATION):
            new = self._replica.member(old).successor
            while old in named and new is not None and new not in named:
                named[new] = named[old]
                new = self._replica.member(new).successor
        return named

    def members(self) -> dict[bytes, Mapping[int, Any]]:
        """Member rows by key, without the genesis admin."""
        return dict(self._replica.rows(Kind.MEMBER))

    def roles(self) -> dict[bytes, Role]:
        """Roles now by key, the genesis admin's included, and those of keys that members rotated to."""
        found: dict[bytes, Role] = {}
        work = [self._replica.admin, *self.members()]
        while work:
            key = work.pop(0)
            if key not in found:
                member = self._replica.member(key)
                found[key] = Role(member.role)
                work += [member.successor] if member.successor else []
        return found

    def tombstones(self) -> list[tuple[bytes, Mapping[str, Any]]]:
        """Deleted ids with what was said about it."""
        return [(item, row[1]) for item, row in self._replica.rows(Kind.TOMBSTONE)]

    def _view(self, item: bytes, row: Mapping[int, Any], claim: Claim | None) -> ItemView:
        reads_all = claim is None or (claim.found is None and claim.found_stage is None)
        read, written = {}, []
        for field in _READ_BY_CLAIM:
            if field in row and (reads_all or (field is ItemField.STAGE and not is_working(row[field]))):
                read[field] = Written(row[field], None)  # whatever its fence
            elif field in row:
                written.append(field)
        registers = read | self.registers(item, written)
        return ItemView(
            id=item,
            title=row[ItemField.TITLE],
            body=row.get(ItemField.BODY, ""),
            stage=decode_stage(stage_of(item, registers, claim)),
            labels=row.get(ItemField.LABELS, []),
            priority=row.get(ItemField.PRIORITY, 0),
            depends_on=row.get(ItemField.DEPENDS_ON, []),
            created_ms=row.get(ItemField.CREATED_MS, 0),
            attempts=attempts_of(item, registers, claim),
            hold=hold_in(self._replica, item, row, claim),
            outcome=outcome_of(item, registers, claim),
            claim=claim,
        )


def is_finished(stage: Stage) -> bool:
    """For dependencies: Done, or archived as completed from there."""
    return isinstance(stage, Done) or (isinstance(stage, Archived) and stage.reason is ArchiveReason.COMPLETED)
