"""``dry_run``: which use cases can be rehearsed, and what of it is shown: the writes as they would be, and whose work they would stop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from fabrik_node.domain.claims import decode_claim
from fabrik_node.domain.proofs import write_says
from fabrik_node.domain.schema import ItemField, Kind, MemberField, RequestField, Role
from fabrik_node.domain.steps import decode_step
from fabrik_node.ids import show_id, show_value
from fabrik_node.node.rehearsal import rehearse
from fabrik_node.service.reading import Reader, stage_json
from fabrik_node.service.step_views import step_json
from fabrik_node.service.views import claim_json

if TYPE_CHECKING:  # names of the stub, not of the extension
    from fabrik_node._core import Write

__all__ = ["REHEARSED", "rehearsed", "write_shown"]

REHEARSED = frozenset(
    {
        "approvals.answer",
        "claims.expire",
        "claims.keep",
        "claims.release",
        "drain",
        "invitations.withdraw",
        "invite",
        "items.add",
        "items.edit",
        "items.move",
        "items.requeue",
        "items.resolve",
        "keys.recover",
        "keys.rotate",
        "nodes.approve",
        "nodes.reject",
        "nodes.retire",
        "nodes.revoke",
        "nodes.role",
        "runs.cancel",
        "steps.again",
        "steps.done",
        "tombstone",
    }
)
"""They write at most one op, and it is the last that they do or the first; those that write more, or something else, ask for themselves. Others refuse ``dry_run``."""


_RECORD_NAMES: Mapping[int, str] = {1: "role", 2: "name", 3: "binds_after", 4: "binds_after_more", 5: "next_key"}
_ANSWER_NAMES: Mapping[int, str] = {1: "said", 2: "at_ms", 3: "note", 4: "by", 5: "question"}


async def rehearsed(reader: Reader, op: str, operation: Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]], args: Mapping[str, Any]) -> dict[str, Any]:
    """What ``operation`` would do now. Raises whatever it would raise."""
    with rehearse() as rehearsal:
        await operation({name: value for name, value in args.items() if name != "dry_run"})
    reader.views()
    effects = [*rehearsal.effects]
    for kind, item, _, value, _ in rehearsal.writes:
        if kind == Kind.CLAIM and (now := reader.board.claim(item)) is not None and now.held and decode_claim(value).claim_id != now.claim_id:
            effects.insert(0, f"the claim {show_id(now.claim_id)} of {reader.name_of(now.node)}/{now.agent} on item {show_id(item)} ends, and its work with it")
        if kind == Kind.TOMBSTONE:
            effects.append(f"item {show_id(item)} is gone for good, on every node")
    return reader.stamp({"dry_run": True, "op": op, "writes": [write_shown(reader, write) for write in rehearsal.writes], "effects": effects})


def write_shown(reader: Reader, write: Write) -> dict[str, Any]:
    """One register as it is and as it would be; ``before`` null when it was never written, ``id`` null for an item that does not exist yet."""
    kind, name, field, value, fence = write
    register = reader.replica.get(kind, name, field)
    said = write_says(kind, name, field, value, fence)
    before = None if register is None else reader.board.read(name, ItemField(field), register) if kind == Kind.ITEM else register.value
    is_new = kind == Kind.ITEM and reader.board.item(name) is None
    return {
        "kind": said["kind"],
        "id": None if is_new else said["id"],
        "field": said["field"],
        "before": None if register is None else _shown(reader, kind, field, before),
        "after": _shown(reader, kind, field, value),
    }


def _shown(reader: Reader, kind: int, field: int, value: Any) -> Any:
    if kind == Kind.CLAIM:
        return claim_json(value, reader.name_of)
    if kind == Kind.STEP:
        step = decode_step(value)
        return {"item": show_id(step.item), **step_json(step)}
    if (kind, field) == (Kind.MEMBER, MemberField.RECORD):
        return _named(value, _RECORD_NAMES)
    if (kind, field) == (Kind.REQUEST, RequestField.ANSWER):
        return _named(value, _ANSWER_NAMES)
    return stage_json(value) if (kind, field) == (Kind.ITEM, ItemField.STAGE) else show_value(value)


def _named(value: Any, names: Mapping[int, str]) -> Any:
    """With names for its numbers; of a newer version or a void op it may be anything."""
    if not isinstance(value, dict):
        return show_value(value)
    shown = {names.get(key, str(key)): part for key, part in value.items()}
    role = shown.get("role")
    return show_value(shown | ({"role": Role(role).name.lower()} if isinstance(role, int) and role in list(Role) else {}))
