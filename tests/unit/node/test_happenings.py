"""From changes of registers to the events that people read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from fabrik_node._core import Changes
from fabrik_node.domain.claims import Claim, ClaimState, Fence, decode_claim, encode_claim
from fabrik_node.domain.inheritance import Written
from fabrik_node.domain.schema import ItemField, Kind, RequestField
from fabrik_node.ids import show_id
from fabrik_node.node.happenings import EVENTS_PER_BATCH_MAX, happenings

ME, YOU, ITEM = b"\x01" * 32, b"\x02" * 32, b"\x09" * 16
NAMES = {ME: "me"}


@dataclass(frozen=True)
class Fake:
    """What the core says of one register."""

    kind: int
    id: bytes
    field: int
    old: Any
    new: Any
    author: bytes = ME
    wall_ms: int = 5
    digest: bytes = b"\xdd" * 32
    old_fence: Fence | None = None


class Fakes(tuple[Fake, ...]):
    """The changes of one call."""

    __slots__ = ()

    @property
    def newest_ms(self) -> int:
        return max(change.wall_ms for change in self)


@dataclass(frozen=True)
class Items:
    """What is read after the changes. ``late``: nothing of the outcome."""

    changes: tuple[Fake, ...] = ()
    winning: Claim | None = None
    late: bool = False
    stage: Written | None = None
    """Its register; of one that changed the fence alone counts."""

    def claim(self, item: bytes) -> Claim | None:
        return self.winning

    def outcome(self, item: bytes) -> Any:
        return None if self.late else self._new(item, ItemField.OUTCOME)

    def registers(self, item: bytes, fields: Sequence[ItemField]) -> dict[ItemField, Written]:
        new = {field: self._new(item, field) for field in fields}
        fence = None if self.stage is None else self.stage.fence
        unchanged = {} if self.stage is None or self.stage.value is None else {ItemField.STAGE: self.stage}
        return unchanged | {field: Written(value, fence) for field, value in new.items() if value is not None}

    def _new(self, item: bytes, field: ItemField) -> Any:
        return next((change.new for change in self.changes if (change.kind, change.id, change.field) == (Kind.ITEM, item, field)), None)


def told(*changes: Fake, winning: Claim | None = None, late: bool = False) -> list[tuple[str, dict[str, Any]]]:
    events = happenings(cast("Changes", Fakes(changes)), NAMES, Items(changes, winning, late=late))
    return [(event.type, {key: value for key, value in event.data.items() if key not in ("by", "op")}) for event in events]


def item(field: ItemField, old: Any, new: Any, author: bytes = ME) -> Fake:
    return Fake(Kind.ITEM, ITEM, field, old, new, author)


def claim(number: int, state: ClaimState, node: bytes = ME, reason: str = "") -> dict[int, Any]:
    return encode_claim(Claim(bytes([number]) * 16, number, 0, state, node, "agent", 1000, "i", reason))


def taken(old: Any, new: Any) -> list[str]:
    return [kind for kind, _ in told(Fake(Kind.CLAIM, ITEM, 1, old, new))]


def test_an_added_item_is_one_event_and_its_first_stage_none() -> None:
    assert told(item(ItemField.TITLE, None, "t"), item(ItemField.BODY, None, "b"), item(ItemField.STAGE, None, [0])) == [
        ("item.added", {"item": show_id(ITEM), "title": "t"})
    ]


def test_moves_edits_and_holds() -> None:
    assert told(item(ItemField.STAGE, [2], [3, "branch", 1])) == [
        ("item.moved", {"item": show_id(ITEM), "from": "Qa", "to": "Merge", "feature_branch": "branch", "commits_ahead": 1})
    ]
    assert told(item(ItemField.TITLE, "a", "b"), item(ItemField.LABELS, [], ["x"])) == [("item.edited", {"item": show_id(ITEM), "fields": ["title", "labels"]})]
    assert told(item(ItemField.HOLD, None, {"reason": "why"})) == [("item.held", {"item": show_id(ITEM), "reason": "why"})]
    assert told(item(ItemField.HOLD, {"reason": "why"}, None)) == [("item.requeued", {"item": show_id(ITEM)})]
    assert told(item(ItemField.HOLD, None, None)) == []


def test_a_late_move_of_a_superseded_holder_is_no_move() -> None:
    """And what a claim finds takes such a move back."""
    old, new = (decode_claim(claim(number, ClaimState.CONFIRMED)) for number in (1, 2))
    new = replace(new, found_stage=(1,))

    def moves(*changes: Fake, fence: Fence | None, stage: Any = None) -> list[tuple[str | None, str]]:
        events = happenings(cast("Changes", Fakes(changes)), NAMES, Items(changes, new, stage=Written(stage, fence)))
        return [(event.data["from"], event.data["to"]) for event in events if event.type == "item.moved"]

    late = Fake(Kind.ITEM, ITEM, ItemField.STAGE, [1], [2], old_fence=old.fence)
    taken_over = Fake(Kind.CLAIM, ITEM, 1, encode_claim(old), encode_claim(new))
    assert moves(late, fence=old.fence) == []
    assert moves(late, taken_over, fence=old.fence) == moves(taken_over, late, fence=old.fence) == [], "it was never read"
    assert moves(taken_over, fence=old.fence, stage=[2]) == [("Qa", "Coding")], "it was read until now"
    assert moves(taken_over, fence=old.fence, stage=[1]) == moves(taken_over, fence=old.fence) == []
    assert moves(replace(late, old=[2], old_fence=old.fence), fence=new.fence) == [("Coding", "Qa")], "the same again, by who may"
    assert moves(replace(late, old=[2], old_fence=new.fence), fence=new.fence) == []
    archived = [5, 0, 1]
    assert moves(replace(late, old=[2], new=archived), fence=old.fence) == [("Coding", "Archived")], "a person's word stops the successor"


def test_a_hold_that_does_not_count_is_not_told() -> None:
    winning = decode_claim(claim(2, ClaimState.CONFIRMED))
    late, own, of_operator = ({"reason": "why"} | said for said in ({"claim": b"\x01" * 16}, {"claim": b"\x02" * 16}, {}))
    assert told(item(ItemField.HOLD, None, late), winning=winning) == [], "another claim won before its holder said so"
    for counts in (own, of_operator):
        assert told(item(ItemField.HOLD, None, counts), winning=winning) == [("item.held", {"item": show_id(ITEM), "reason": "why"})]
    assert told(item(ItemField.HOLD, None, late)) == [("item.held", {"item": show_id(ITEM), "reason": "why"})], "no claim beats it"


def test_a_hold_in_two_registers_is_one_event() -> None:
    winning = decode_claim(claim(2, ClaimState.RELEASED))
    person, late = {"reason": "cancelled"}, {"reason": "why", "claim": b"\x01" * 16}
    held = [("item.held", {"item": show_id(ITEM), "reason": "cancelled"})]
    for common in (person, late):
        assert told(item(ItemField.HOLD, None, common), item(ItemField.PERSON_HOLD, None, person), winning=winning) == held
    assert told(item(ItemField.CLAIM_HOLD, None, late), winning=winning) == []
    ended = [item(ItemField.HOLD, late, None), item(ItemField.PERSON_HOLD, person, None)]
    assert told(*ended) == [("item.requeued", {"item": show_id(ITEM)})]


def test_a_deleted_item_is_one_event() -> None:
    gone = [item(ItemField.TITLE, "t", None), item(ItemField.STAGE, [1], None), Fake(Kind.CLAIM, ITEM, 1, claim(1, ClaimState.CONFIRMED), None)]
    assert told(*gone, Fake(Kind.TOMBSTONE, ITEM, 1, None, {})) == [("item.deleted", {"item": show_id(ITEM)})]
    assert told(Fake(Kind.TOMBSTONE, ITEM, 1, {}, {"reason": "an earlier delete came late"})) == []


def test_the_life_of_claims() -> None:
    tentative, confirmed, released = (claim(1, state) for state in ClaimState)
    assert taken(None, tentative) == ["claim.taken"]
    assert taken(None, confirmed) == ["claim.taken", "claim.confirmed"]
    assert taken(tentative, confirmed) == ["claim.confirmed"]
    assert taken(confirmed, released) == ["claim.released"]
    assert taken(released, released) == []
    assert taken(confirmed, claim(2, ClaimState.TENTATIVE)) == ["claim.superseded", "claim.taken"]
    assert taken(released, claim(2, ClaimState.CONFIRMED)) == ["claim.taken", "claim.confirmed"]
    assert taken(confirmed, claim(2, ClaimState.RELEASED)) == ["claim.superseded", "claim.released"]


def test_who_did_it_is_a_name_or_the_start_of_a_key() -> None:
    events = happenings(cast("Changes", [item(ItemField.TITLE, None, "t"), Fake(Kind.TOMBSTONE, b"\x08" * 16, 1, None, {}, YOU)]), NAMES, Items())
    assert [event.data["by"] for event in events] == ["me", "02020202"]
    assert events[0].data["op"] == "dd" * 32
    assert events[0].wall_ms == 5


def test_a_first_sync_is_one_event() -> None:
    many = [Fake(Kind.ITEM, number.to_bytes(16, "big"), ItemField.TITLE, None, "t", wall_ms=number) for number in range(EVENTS_PER_BATCH_MAX + 1)]
    assert told(*many) == [("sync.bulk", {"registers": len(many)})]
    assert len(told(*many[1:])) == EVENTS_PER_BATCH_MAX
    assert told() == []


def test_kinds_of_a_newer_version_are_left_out() -> None:
    assert told(Fake(77, b"x", 1, None, {1: b"y"}), Fake(Kind.NODE, ME, 9, None, "x")) == []


def test_questions_to_people_are_told_with_their_answers_and_ends() -> None:
    ident, question = b"\x07" * 16, {1: b"\x08" * 16, 2: b"r" * 16, 3: b"c" * 16, 4: "deploy?", 5: ["yes", "no"], 8: 1}
    changes = [
        Fake(Kind.REQUEST, ident, RequestField.QUESTION, None, question, YOU),
        Fake(Kind.REQUEST, ident, RequestField.ANSWER, None, {1: "yes", 2: 2, 4: "person"}, YOU),
        Fake(Kind.REQUEST, ident, RequestField.WITHDRAWN, None, {"kind": "taken", "said": "yes", "run": b"r" * 16, "reason": 7}, YOU),
    ]
    shown = show_id(ident)
    assert told(*changes) == [
        ("question.asked", {"question": shown, "item": show_id(b"\x08" * 16), "text": "deploy?", "options": ["yes", "no"]}),
        ("question.answered", {"question": shown, "answer": "yes"}),
        ("question.ended", {"question": shown, "kind": "taken", "said": "yes"}),
    ]
