"""What is shown: items and claims as JSON-ready dictionaries. One shape for every surface; pure reading."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fabrik_node.clock import iso
from fabrik_node.domain.claims import Claim, ClaimState, decode_claim
from fabrik_node.domain.leases import LeaseTable
from fabrik_node.domain.stages import Stage, stage_fields
from fabrik_node.errors import InvalidOp
from fabrik_node.ids import show_id, show_key, show_value
from fabrik_node.ports import ItemView

__all__ = ["Views", "claim_json"]


def claim_json(value: Any, name_of: Callable[[bytes], str]) -> Any:
    """A claim register's value with names for its numbers; of a newer version or a void op, as :func:`show_value` gives it."""
    try:
        claim = decode_claim(value)
        said: dict[str, Any] = {
            "state": claim.state.name.lower(),
            "holder": f"{name_of(claim.node)}/{claim.agent}",
            "epoch": claim.epoch,
            "receipt": claim.receipt,
            "ttl_s": claim.ttl_ms / 1000,
            **({"reason": claim.reason} if claim.reason else {}),
            **({"follows": show_id(claim.follows)} if claim.follows else {}),
        }
    except (InvalidOp, AttributeError, IndexError, TypeError):
        return show_value(value)
    return show_value(said)  # the parts of a void claim may be anything


class Views:
    """``leases`` None: nobody watches (a read from the store with no node running). What was heard more than ``stale_s`` ago is marked as stale."""

    def __init__(self, *, name_of: Callable[[bytes], str], leases: LeaseTable | None, now: float, wall_ms: int, stale_s: float) -> None:
        self._name_of = name_of
        self._leases = leases
        self._now = now
        self._wall_ms = wall_ms
        self._stale_s = stale_s

    def item(self, view: ItemView) -> dict[str, Any]:
        """An item with its winning claim, if somebody holds it."""
        claim = view.claim
        return {
            "id": show_id(view.id),
            "title": view.title,
            "body": view.body,
            "stage": view.stage.name,
            "stage_data": stage_fields(view.stage),
            "labels": list(view.labels),
            "priority": view.priority,
            "depends_on": [show_id(other) for other in view.depends_on],
            "created_at": iso(view.created_ms),
            "age_s": max(0.0, (self._wall_ms - view.created_ms) / 1000),
            "attempts": view.attempts,
            "hold": None if view.hold is None else show_value(view.hold),
            "outcome": None if view.outcome is None else show_value(view.outcome),
            "claim": None if claim is None or not claim.held else self.claim(view.id, claim, view.title, view.stage),
        }

    def claim(self, item: bytes, claim: Claim, title: str = "", stage: Stage | None = None) -> dict[str, Any]:
        """A claim with what this node can say of its lease, whose TTL is that of the item's ``stage`` (None: of no stage)."""
        ttl_s = claim.ttl_ms / 1000 if stage is None else claim.ttl_s(stage)
        watched = self._leases if claim.held else None
        lease = None if watched is None else watched.get(claim.claim_id)
        age_s = None if watched is None else watched.age_s(claim.claim_id, self._now)
        return {
            "item": show_id(item),
            "title": title,
            "claim_id": show_id(claim.claim_id),
            "epoch": claim.epoch,
            "receipt": claim.receipt,
            "state": claim.state.name.lower(),
            "label": _label(claim),
            "node": show_key(claim.node),
            "node_name": self._name_of(claim.node),
            "agent": claim.agent,
            "ttl_s": ttl_s,
            "lease": None if watched is None else watched.state(claim.claim_id, ttl_s, self._now).value,
            "lease_age_s": age_s,
            "lease_heard": lease is not None and lease.heard,
            "stale": None if watched is None else lease is None or not lease.heard or (age_s is None or age_s > self._stale_s),
            "reason": claim.reason,
            "follows": show_id(claim.follows) if claim.follows else None,
        }


def _label(claim: Claim) -> str:
    """The honest label: fenced (the remote refuses others), confirmed, tentative, released."""
    if claim.state is ClaimState.CONFIRMED and claim.receipt > 0:
        return "fenced"
    return claim.state.name.lower()
