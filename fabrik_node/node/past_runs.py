"""The runs of one item under earlier claims, as their nodes summed them up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fabrik_node._core import Replica
from fabrik_node.domain.claims import Claim, decode_claim
from fabrik_node.domain.inheritance import Written, counted_in
from fabrik_node.domain.interruptions import Interruptions, PastRun, count_interruptions
from fabrik_node.domain.runs import RunState
from fabrik_node.domain.schema import ClaimField, ItemField, Kind
from fabrik_node.node.by_item import ByItem
from fabrik_node.node.run_summaries import fencing_of

__all__ = ["interruptions_of"]

_STATES = {state.value: state for state in RunState}


def interruptions_of(replica: Replica, by_item: ByItem, item: bytes, claim_id: bytes) -> Interruptions:
    """Those before the claim ``claim_id``, and under later claims than the last hold or requeue of the item knew."""
    return count_interruptions(_past_runs(replica, by_item, item, claim_id))


def _past_runs(replica: Replica, by_item: ByItem, item: bytes, claim_id: bytes) -> Iterator[PastRun]:
    register, runs = replica.get(Kind.CLAIM, item, ClaimField.CLAIM), by_item.runs(item)
    claim = None if register is None else decode_claim(register.value)
    newest = 0 if claim is None else claim.epoch
    counted = _epoch_of_count(replica, claim, item)
    since = max(counted if counted <= newest else 0, _epoch_of_hold(replica, runs, claim, item))
    for said in runs.values():
        if said.get("claim") == claim_id:
            continue
        epoch, state, reason = _epoch(said), _STATES.get(str(said.get("state"))), said.get("reason")
        if state is not None and since < epoch <= newest:  # of a claim that nobody knows any member may say anything
            yield PastRun(epoch, state, reason if isinstance(reason, str) else "")


def _epoch_of_count(replica: Replica, claim: Claim | None, item: bytes) -> int:
    """Of the claim under which the attempts were counted or forgotten last: a requeue forgets them under the claim that wins then.

    Not when a run's summary was written: a node that comes back writes those of its lost runs anew, long after somebody has looked at the item.
    """
    register = replica.get(Kind.ITEM, item, ItemField.ATTEMPTS)
    return counted_in(item, {} if register is None else {ItemField.ATTEMPTS: Written(register.value, register.fence)}, claim)


def _epoch_of_hold(replica: Replica, runs: Mapping[bytes, Mapping[str, Any]], claim: Claim | None, item: bytes) -> int:
    """Of the claim that held the item last; 0 when none did, or nobody knows it: any member may write a fence that no claim has."""
    if claim is None:
        return 0
    own, hold = replica.get(Kind.ITEM, item, ItemField.CLAIM_HOLD), replica.get(Kind.ITEM, item, ItemField.HOLD)
    named = [] if own is None or own.value is None or own.fence is None else [own.fence[2]]
    if hold is not None and isinstance(hold.value, dict) and isinstance(hold.value.get("claim"), bytes):
        named.append(hold.value["claim"])
    epochs = [_epoch(said) for said in runs.values() if said.get("claim") in named]
    return max([0, claim.epoch if claim.claim_id in named else 0, *(epoch for epoch in epochs if epoch <= claim.epoch)])


def _epoch(summary: Mapping[str, Any]) -> int:
    """0: it names none, or in a way that this version can not read."""
    return fencing_of(summary).epoch
