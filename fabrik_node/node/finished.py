"""Finished work that waits for whoever claims its item next."""

from __future__ import annotations

from fabrik_node._core import Replica
from fabrik_node.domain.finished import FinishedWork, finished_from
from fabrik_node.domain.schema import ItemField, Kind

__all__ = ["finished_under"]


def finished_under(replica: Replica, item: bytes, claim_id: bytes) -> FinishedWork | None:
    """What was left under the claim ``claim_id``. What an earlier one left does not count: somebody was at the item since then, or ended a claim on it by hand."""
    register = replica.get(Kind.ITEM, item, ItemField.OUTCOME)
    if register is None or register.fence is None or register.fence[2] != claim_id:
        return None
    return finished_from(register.value)
