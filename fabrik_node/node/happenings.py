"""From net changes of registers to the events that people and programs follow. Pure.

Maps in registers come from other nodes and may hold anything: what does not fit an event is left out, and never an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from fabrik_node._core import Change, Changes
from fabrik_node.domain.claims import Claim, ClaimState, decode_claim
from fabrik_node.domain.holds import is_told
from fabrik_node.domain.inheritance import Written, stage_of
from fabrik_node.domain.schema import ItemField, Kind, RequestField, Role
from fabrik_node.domain.stages import decode_stage, stage_fields
from fabrik_node.ids import show_id, show_key
from fabrik_node.node.holds import HOLD_FIELDS
from fabrik_node.ports import Event

__all__ = ["EVENTS_PER_BATCH_MAX", "happenings"]

EVENTS_PER_BATCH_MAX = 2_000
"""A batch that changes more registers than this (a first sync) is told as one ``sync.bulk`` event."""

_TAKEN = frozenset({"seq", "at", "type", "item", "by", "op"})
"""Keys of the event itself."""
_EDITS = {ItemField.TITLE: "title", ItemField.BODY: "body", ItemField.LABELS: "labels", ItemField.PRIORITY: "priority", ItemField.DEPENDS_ON: "depends_on"}


class Items(Protocol):
    """What is read of items after the batch: :class:`fabrik_node.node.board.Board`."""

    def claim(self, item: bytes) -> Claim | None:
        """The winning claim."""

    def outcome(self, item: bytes) -> Any:
        """The outcome."""

    def registers(self, item: bytes, fields: Sequence[ItemField]) -> Mapping[ItemField, Written]:
        """Those of them that are there."""


def happenings(changes: Changes, names: Mapping[bytes, str], items: Items) -> list[Event]:
    """Events of one batch. ``names`` gives node names by key; a key without one is shown by its first 8 hex digits."""
    if len(changes) > EVENTS_PER_BATCH_MAX:
        return [Event("sync.bulk", changes.newest_ms or 0, {"registers": len(changes)})]
    by_item: dict[tuple[int, bytes], list[Change]] = {}
    for change in changes:
        by_item.setdefault((change.kind, change.id), []).append(change)
    events: list[Event] = []
    for (kind, item), group in by_item.items():
        match kind:
            case Kind.ITEM:
                events += _item(group, by_item.get((Kind.CLAIM, item), ()), names, items)
            case Kind.CLAIM:
                events += [event for change in group for event in _claim(change, names)]
                if all(change.field != ItemField.STAGE for change in by_item.get((Kind.ITEM, item), ())):
                    events += _moved(None, group[0], names, items)
            case Kind.MEMBER:
                events += [_member(change, names) for change in group]
            case Kind.TOMBSTONE:
                events += [_event("item.deleted", change, names, {"item": show_id(change.id)}) for change in group if change.old is None]
            case Kind.RUN:
                events += [_run(change, names) for change in group if change.new is not None]
            case Kind.REQUEST:
                events += [event for change in group for event in _request(change, names)]
            case Kind.NODE:
                events += [_event("node.changed", change, names, {}) for change in group if change.field == 1 and change.new is not None]
            case _:
                continue
    return events


def _text(value: Mapping[str, Any], name: str) -> str:
    found = value.get(name)
    return found if isinstance(found, str) else ""


def _who(key: bytes, names: Mapping[bytes, str]) -> str:
    return names.get(key) or show_key(key)[:8]


def _event(kind: str, change: Change, names: Mapping[bytes, str], data: Mapping[str, Any]) -> Event:
    return Event(kind, change.wall_ms, {**data, "by": _who(change.author, names), "op": show_key(change.digest)})


def _item(group: Sequence[Change], claims: Sequence[Change], names: Mapping[bytes, str], items: Items) -> list[Event]:
    if all(change.new is None for change in group) and any(change.field not in HOLD_FIELDS for change in group):
        return []  # removed by a tombstone, which has an event of its own
    fields = {change.field: change for change in group}
    item = show_id(group[0].id)
    title = fields.get(ItemField.TITLE)
    stage = fields.get(ItemField.STAGE)
    events: list[Event] = []
    added = title is not None and title.old is None
    if added and title is not None:
        events.append(_event("item.added", title, names, {"item": item, "title": title.new}))
    if stage is not None and (stage.old is not None or not added):
        events += _moved(stage, claims[0] if claims else None, names, items)
    if not added:
        edited = [name for number, name in _EDITS.items() if number in fields]
        if edited:
            first = next(change for change in group if change.field in _EDITS)
            events.append(_event("item.edited", first, names, {"item": item, "fields": edited}))
    events += _hold([fields[field] for field in HOLD_FIELDS if field in fields], names, items)
    outcome = fields.get(ItemField.OUTCOME)
    if (
        outcome is not None and outcome.new not in (None, outcome.old) and outcome.new == items.outcome(outcome.id)
    ):  # not what is written again, nor what a superseded holder says late
        known = {key: value for key, value in outcome.new.items() if isinstance(value, str | int) and key not in _TAKEN}
        events.append(_event("item.outcome", outcome, names, {"item": item, **known}))
    return events


def _moved(stage: Change | None, claim: Change | None, names: Mapping[bytes, str], items: Items) -> list[Event]:
    """What the changes of an item's stage, and of its claim, did to the stage that is read: a late move of a superseded holder is none, and the claim that follows it takes one back."""
    change = stage or claim
    now = {} if change is None else items.registers(change.id, (ItemField.STAGE,))
    if change is None or not now:
        return []  # it was deleted, or a claim came before its item
    before = now if stage is None else {} if stage.old is None else {ItemField.STAGE: Written(stage.old, stage.old_fence)}
    then = items.claim(change.id) if claim is None else None if claim.old is None else decode_claim(claim.old)
    old, new = stage_of(change.id, before, then), stage_of(change.id, now, items.claim(change.id))
    if new == old and (stage is None or stage.old is not None):
        return []
    came = None if stage is not None and stage.old is None else decode_stage(old).name
    gone = decode_stage(new)
    return [_event("item.moved", change, names, {"item": show_id(change.id), "from": came, "to": gone.name, **stage_fields(gone)})]


def _hold(group: Sequence[Change], names: Mapping[bytes, str], items: Items) -> list[Event]:
    """One word about it, though it stands in two registers. What a superseded holder says late holds nothing."""
    claim = items.claim(group[0].id) if group else None
    told = [change for change in group if is_told(change.new, None if claim is None else claim.claim_id)]
    if told:
        return [_event("item.held", told[0], names, {"item": show_id(told[0].id), "reason": _text(told[0].new, "reason")})]
    ended = [change for change in group if change.new is None and change.old is not None]
    return [_event("item.requeued", ended[0], names, {"item": show_id(ended[0].id)})] if ended else []


def _claim(change: Change, names: Mapping[bytes, str]) -> list[Event]:
    if change.new is None:
        return []
    new = decode_claim(change.new)
    old = None if change.old is None else decode_claim(change.old)
    data = _claim_data(change.id, new, names)
    if old is None or old.claim_id != new.claim_id:
        lost = (
            []
            if old is None or not old.held
            else [_event("claim.superseded", change, names, _claim_data(change.id, old, names) | {"superseded_by": show_id(new.claim_id)})]
        )
        if new.state is ClaimState.RELEASED:
            return [*lost, _event("claim.released", change, names, data | {"reason": new.reason})]
        confirmed = [_event("claim.confirmed", change, names, data)] if new.state is ClaimState.CONFIRMED else []
        return [*lost, _event("claim.taken", change, names, data), *confirmed]
    if new.state is ClaimState.RELEASED and old.state is not ClaimState.RELEASED:
        return [_event("claim.released", change, names, data | {"reason": new.reason})]
    if new.state is ClaimState.CONFIRMED and old.state is ClaimState.TENTATIVE:
        return [_event("claim.confirmed", change, names, data)]
    return []


def _claim_data(item: bytes, claim: Claim, names: Mapping[bytes, str]) -> dict[str, Any]:
    return {
        "item": show_id(item),
        "claim": show_id(claim.claim_id),
        "epoch": claim.epoch,
        "receipt": claim.receipt,
        "holder": _who(claim.node, names),
        "agent": claim.agent,
    }


def _request(change: Change, names: Mapping[bytes, str]) -> list[Event]:
    """A question, an answer, an end: the first word of each, and each later one."""
    new, data = change.new, {"question": show_id(change.id)}
    if new is None:
        return []
    match change.field:
        case RequestField.QUESTION:
            return [_event("question.asked", change, names, data | {"item": show_id(new[1]), "text": new[4], "options": list(new[5])})]
        case RequestField.ANSWER:
            return [_event("question.answered", change, names, data | {"answer": new[1]})]
        case RequestField.WITHDRAWN:
            said = {name: _text(new, name) for name in ("kind", "said", "reason")}
            return [_event("question.ended", change, names, data | {name: text for name, text in said.items() if text})]
        case _:
            return []


def _member(change: Change, names: Mapping[bytes, str]) -> Event:
    record = change.new or {}
    role = Role(record.get(1, 0)).name.lower()
    name = record.get(2) or _who(change.id, names)
    return _event("member.changed", change, names, {"node": show_key(change.id), "name": name, "role": role})


def _run(change: Change, names: Mapping[bytes, str]) -> Event:
    summary = change.new
    data: dict[str, Any] = {
        "run": show_id(change.id),
        "node": _who(summary["node"], names),
        "state": _text(summary, "state"),
        "phase": _text(summary, "phase"),
        "agent": _text(summary, "agent"),
    }
    item = summary.get("item")
    if isinstance(item, bytes) and len(item) == 16:
        data["item"] = show_id(item)
    if reason := _text(summary, "reason"):
        data["reason"] = reason
    if isinstance(summary.get("exit_code"), int):
        data["exit_code"] = summary["exit_code"]
    return _event("run.changed", change, names, data)
