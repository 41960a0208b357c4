"""What is shown: items, claims, runs and nodes as JSON-ready dictionaries. One shape for every surface; pure reading."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fabrik_node.clock import iso
from fabrik_node.domain.claims import Claim, ClaimState, decode_claim
from fabrik_node.domain.leases import LeaseState, LeaseTable
from fabrik_node.domain.runs import FINAL_STATES, RunRow, RunSignals, RunState, judge_run
from fabrik_node.domain.stages import stage_fields
from fabrik_node.errors import InvalidOp
from fabrik_node.ids import show_id, show_key, show_value
from fabrik_node.ports import ItemView

__all__ = ["Views", "claim_json", "run_from_summary"]


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
    """``leases`` None and ``own`` empty: nobody watches (a read from the store with no node running). ``is_heard``: some peer hears us, or there is none."""

    def __init__(
        self,
        *,
        own: bytes,
        name_of: Callable[[bytes], str],
        leases: LeaseTable | None,
        now: float,
        wall_ms: int,
        alive: Callable[[RunRow], bool | None],
        is_heard: bool = True,
    ) -> None:
        self._own = own
        self._name_of = name_of
        self._leases = leases
        self._now = now
        self._wall_ms = wall_ms
        self._alive = alive
        self._is_heard = is_heard

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
            "claim": None if claim is None or not claim.held else self.claim(view.id, claim, view.title),
        }

    def claim(self, item: bytes, claim: Claim, title: str = "") -> dict[str, Any]:
        """A claim with what this node can say of its lease."""
        state = None if self._leases is None or not claim.held else self._leases.state(claim.claim_id, claim.ttl_ms / 1000, self._now).value
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
            "ttl_s": claim.ttl_ms / 1000,
            "lease": state,
            "lease_age_s": None if self._leases is None or not claim.held else self._leases.age_s(claim.claim_id, self._now),
            "reason": claim.reason,
            "follows": show_id(claim.follows) if claim.follows else None,
        }

    def run(self, row: RunRow, *, claim: Claim | None, title: str = "") -> dict[str, Any]:
        """A run with the verdict of :func:`~fabrik_node.domain.runs.judge_run` and what it rests on. ``claim``: the winning one of its item."""
        own = row.node == self._own
        lease = None if self._leases is None else self._leases.get(row.claim_id)
        wins = None if claim is None else claim.claim_id == row.claim_id
        signals = RunSignals(
            own=own,
            process_alive=self._alive(row) if own else None,
            lease=self._run_lease(row, claim if wins else None, own=own),
            lease_age_s=None if lease is None else max(0.0, self._now - lease.seen_at),
            progress_age_s=None if lease is None else max(0.0, self._now - lease.progress_at),
            claim_wins=wins,
        )
        verdict = judge_run(row, signals)
        final = row.state in FINAL_STATES
        return {
            "run_id": show_id(row.run_id),
            "item": show_id(row.item),
            "title": title,
            "claim_id": show_id(row.claim_id),
            "node": show_key(row.node),
            "node_name": self._name_of(row.node),
            "own": own,
            "agent": row.agent,
            "state": verdict.state.value,
            "recorded_state": row.state.value,
            "evidence": verdict.evidence,
            "degraded": verdict.degraded,
            "unreachable_since": self._since(verdict.state, signals.lease_age_s),
            "phase": row.phase,
            "started_at": iso(row.started_ms),
            "ended_at": iso(row.ended_ms) if row.ended_ms else None,
            "exit_code": row.exit_code,
            "reason": row.reason,
            "age_s": None if final else (0.0 if own else signals.lease_age_s),
            "branch": row.branch,
            "worktree": row.worktree,
            "log": row.log,
            "engine": row.engine,
        }

    def _since(self, state: RunState, age_s: float | None) -> str | None:
        """When a run that nobody reaches was last heard of, by our wall clock."""
        lost = state in (RunState.UNREACHABLE, RunState.LOST) and age_s is not None
        return iso(self._wall_ms - round(age_s * 1000)) if lost and age_s is not None else None

    def _run_lease(self, row: RunRow, claim: Claim | None, *, own: bool) -> LeaseState | None:
        """By the TTL that its holder promised. On the holder's own node a renewal that reaches nobody is none."""
        if self._leases is None or self._leases.get(row.claim_id) is None:
            return None
        if own and not self._is_heard:
            return LeaseState.UNREACHABLE
        return self._leases.state(row.claim_id, self._leases.timing.ttl_s if claim is None else claim.ttl_ms / 1000, self._now)


def _label(claim: Claim) -> str:
    """The honest label: fenced (the remote refuses others), confirmed, tentative, released."""
    if claim.state is ClaimState.CONFIRMED and claim.receipt > 0:
        return "fenced"
    return claim.state.name.lower()


def run_from_summary(run_id: bytes, summary: Mapping[str, Any]) -> RunRow | None:
    """A foreign run as its owner summed it up; None for a summary that this version can not read."""
    match summary:
        case {"state": str(state), "item": bytes(item), "claim": bytes(claim_id), "node": bytes(node), "started_ms": int(started_ms)}:
            pass
        case _:
            return None
    ended_ms, exit_code = summary.get("ended_ms"), summary.get("exit_code")

    def text(name: str) -> str:
        found = summary.get(name)
        return found if isinstance(found, str) else ""

    if state not in {known.value for known in RunState} or len(item) != 16 or len(claim_id) != 16:
        return None
    return RunRow(
        run_id=run_id,
        item=item,
        claim_id=claim_id,
        node=node,
        state=RunState(state),
        started_ms=started_ms,
        ended_ms=ended_ms if isinstance(ended_ms, int) else 0,
        exit_code=exit_code if isinstance(exit_code, int) else None,
        agent=text("agent"),
        phase=text("phase"),
        reason=text("reason"),
        branch=text("branch"),
        engine=text("engine"),
    )
