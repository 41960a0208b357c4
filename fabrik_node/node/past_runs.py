"""The runs of one item under earlier claims, as their nodes summed them up."""

from __future__ import annotations

from collections.abc import Iterator

from fabrik_node._core import Replica
from fabrik_node.domain.interruptions import Interruptions, PastRun, count_interruptions
from fabrik_node.domain.runs import RunState
from fabrik_node.domain.schema import ItemField, Kind, RunField
from fabrik_node.node.by_item import ByItem

__all__ = ["interruptions_of"]

_STATES = {state.value: state for state in RunState}


def interruptions_of(replica: Replica, by_item: ByItem, item: bytes, claim_id: bytes) -> Interruptions:
    """Those before the claim ``claim_id``, and after the last hold or requeue of the item."""
    return count_interruptions(_past_runs(replica, by_item, item, claim_id))


def _past_runs(replica: Replica, by_item: ByItem, item: bytes, claim_id: bytes) -> Iterator[PastRun]:
    hold = replica.get(Kind.ITEM, item, ItemField.HOLD)
    since = -1 if hold is None else hold.lamport
    for run_id, said in by_item.runs(item).items():
        if said.get("claim") == claim_id:
            continue
        epoch, state, reason = said.get("claim_epoch"), _STATES.get(str(said.get("state"))), said.get("reason")
        register = replica.get(Kind.RUN, run_id, RunField.SUMMARY)
        if isinstance(epoch, int) and state is not None and register is not None and register.lamport > since:
            yield PastRun(epoch, state, reason if isinstance(reason, str) else "")
