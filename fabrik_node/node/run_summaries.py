"""Runs as other nodes may know them: what their owners summed up in a register."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fabrik_node.domain.run_inputs import inputs_from
from fabrik_node.domain.runs import RunRow, RunState

__all__ = ["Fencing", "fencing_of", "run_from_summary"]

_INT_MAX = 2**63 - 1
_STATES = {known.value: known for known in RunState}


@dataclass(frozen=True, slots=True)
class Fencing:
    """What a summary says of its claim. 0 and None: it does not say it, or not in a way that this version can read."""

    epoch: int
    receipt: int
    follows: bytes | None


def fencing_of(summary: Mapping[str, Any]) -> Fencing:
    """The claim under which a run was made, as its summary tells: any member may write anything there."""
    follows = summary.get("claim_follows")
    return Fencing(_number(summary.get("claim_epoch")), _number(summary.get("claim_receipt")), follows if isinstance(follows, bytes) else None)


def _number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _INT_MAX else 0


def run_from_summary(run_id: bytes, summary: Mapping[str, Any]) -> RunRow | None:
    """A foreign run as its owner summed it up; None for a summary that this version can not read."""
    match summary:
        case {"state": str(state), "item": bytes(item), "claim": bytes(claim_id), "node": bytes(node), "started_ms": int(started_ms)}:
            pass
        case _:
            return None
    ended_ms, exit_code, asks = summary.get("ended_ms"), summary.get("exit_code"), summary.get("asks")

    def text(name: str) -> str:
        found = summary.get(name)
        return found if isinstance(found, str) else ""

    if state not in _STATES or len(item) != 16 or len(claim_id) != 16:
        return None
    return RunRow(
        run_id=run_id,
        item=item,
        claim_id=claim_id,
        node=node,
        state=_STATES[state],
        started_ms=started_ms,
        ended_ms=ended_ms if isinstance(ended_ms, int) else 0,
        exit_code=exit_code if isinstance(exit_code, int) else None,
        agent=text("agent"),
        phase=text("phase"),
        reason=text("reason"),
        branch=text("branch"),
        engine=text("engine"),
        inputs=inputs_from(summary),
        asks=asks if isinstance(asks, bytes) else b"",
    )
