"""How holds are written: into the registers that count, and into the common one, which is all that earlier builds know (:mod:`fabrik_node.domain.holds`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fabrik_node._core import Replica
from fabrik_node.domain.claims import Claim
from fabrik_node.domain.holds import Said, hold_of_claim, standing_hold
from fabrik_node.domain.schema import ItemField, Kind

if TYPE_CHECKING:  # names of the stub, not of the extension
    from fabrik_node._core import Write

__all__ = ["HOLD_FIELDS", "claim_hold_writes", "hold_in", "person_hold_writes"]

HOLD_FIELDS = (ItemField.PERSON_HOLD, ItemField.CLAIM_HOLD, ItemField.HOLD)
"""All registers of an item that say that it is held."""


def hold_in(replica: Replica, item: bytes, row: Mapping[int, Any], claim: Claim | None) -> Any:
    """The hold of an item whose registers are ``row`` and whose winning claim is ``claim``; None when it is not held."""
    if all(row.get(field) is None for field in HOLD_FIELDS):
        return None

    def said(field: ItemField) -> Said | None:
        register = replica.get(Kind.ITEM, item, field) if field in row else None
        return None if register is None else Said(register.value, register.lamport)

    return standing_hold(said(ItemField.HOLD), said(ItemField.PERSON_HOLD), said(ItemField.CLAIM_HOLD), None if claim is None else claim.claim_id)


def person_hold_writes(item: bytes, hold: Mapping[str, Any] | None) -> list[Write]:
    """A person says that the item is held, with ``reason`` and ``since_ms``, or (None) that nothing holds it any more, whoever said so until now."""
    said, own = (None, None) if hold is None else (dict(hold), None if hold_of_claim(hold) is not None else dict(hold))
    return [(Kind.ITEM, item, ItemField.HOLD, said, None), (Kind.ITEM, item, ItemField.PERSON_HOLD, own, None)]


def claim_hold_writes(item: bytes, claim: Claim, reason: str, since_ms: int) -> list[Write]:
    """Whoever works on the item under ``claim`` says that it is held. Counts while that claim wins; a person's word stands beside it."""
    said = {"reason": reason, "since_ms": since_ms, "claim": claim.claim_id}
    return [(Kind.ITEM, item, ItemField.HOLD, said, None), (Kind.ITEM, item, ItemField.CLAIM_HOLD, said, claim.fence)]
