"""Runs as they are shown: the signals of :func:`~fabrik_node.domain.run_state.judge_run`, its verdict, and the dates of both. Pure reading."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from fabrik_node.clock import iso
from fabrik_node.domain.claims import Claim, ClaimState
from fabrik_node.domain.leases import Lease, LeaseState, LeaseTable, LeaseTiming
from fabrik_node.domain.requests import Asked
from fabrik_node.domain.run_state import STILLS_S, RunSignals, RunVerdict, judge_end, judge_run
from fabrik_node.domain.runs import FINAL_STATES, RunRow, RunState
from fabrik_node.ids import show_id, show_key
from fabrik_node.node.presence import leases_of
from fabrik_node.service.nodes import Neighbour, Neighbours

__all__ = ["AtWork", "RunViews"]


@dataclass(frozen=True, slots=True)
class AtWork:
    """What the agent of the running node has in hand: its runs by id, and whether it takes no more."""

    runs: Collection[bytes] = field(default=frozenset())
    draining: bool = False


class RunViews:
    """For one answer, so for one moment. ``leases`` and ``at_work`` None: no node runs here. ``is_heard``: some peer hears us, or there is none.

    ``asks``: the question for whose answer a run waits.
    """

    def __init__(
        self,
        *,
        own: bytes,
        name_of: Callable[[bytes], str],
        leases: LeaseTable | None,
        now: float,
        wall_ms: int,
        near: Neighbours,
        alive: Callable[[RunRow], bool | None],
        at_work: AtWork | None,
        is_heard: bool,
        stale_s: float,
        asks: Callable[[RunRow], Asked | None],
        stills_s: tuple[float, float] = STILLS_S,
    ) -> None:
        self._own = own
        self._name_of = name_of
        self._leases = leases
        self._timing = LeaseTiming() if leases is None else leases.timing
        self._now = now
        self._wall_ms = wall_ms
        self._near = near
        self._alive = alive
        self._at_work = at_work
        self._is_heard = is_heard
        self._stale_s = stale_s
        self._quiet_s, self._stall_s = stills_s
        self._asks = asks
        self._renewed: dict[bytes, Collection[bytes]] = {}

    def verdict(self, row: RunRow, claim: Claim | None) -> RunVerdict:
        """``claim``: the winning one of its item."""
        return judge_end(row) if row.state in FINAL_STATES else judge_run(row, self._signals(row, claim))

    def ends_s(self, row: RunRow, claim: Claim | None) -> float | None:
        """Seconds until the verdict may be another without any news; None: it needs news."""
        verdict = self.verdict(row, claim)
        stale_s = None if verdict.stale or verdict.age_s is None or row.node == self._own else max(0.0, self._stale_s - verdict.age_s)
        return min((seconds for seconds in (verdict.next_s, stale_s) if seconds is not None), default=None)

    def chosen(self, rows: Sequence[RunRow], node: str, state: str, claim_of: Callable[[bytes], Claim | None]) -> list[RunRow]:
        """Those of ``node`` (its name, or the beginning of its key) that are shown in ``state``; empty: of all. Only runs that are not over have to be judged for that."""
        wanted = {key: not node or self._name_of(key) == node or show_key(key).startswith(node) for key in {row.node for row in rows}}

        def shown_in(row: RunRow) -> RunState:
            return row.state if row.state in FINAL_STATES else self.verdict(row, claim_of(row.item)).state

        return [row for row in rows if wanted[row.node] and (not state or shown_in(row).value == state)]

    def run(self, row: RunRow, *, claim: Claim | None, title: str = "") -> dict[str, Any]:
        """A run with its verdict and what that rests on. ``claim``: the winning one of its item."""
        verdict = self.verdict(row, claim)
        ended = row.state in FINAL_STATES
        lost = verdict.state in (RunState.UNREACHABLE, RunState.LOST)
        since_ms = self._ago_ms(verdict.since_s)
        return {
            "run_id": show_id(row.run_id),
            "item": show_id(row.item),
            "title": title,
            "claim_id": show_id(row.claim_id),
            "node": show_key(row.node),
            "node_name": self._name_of(row.node),
            "own": row.node == self._own,
            "agent": row.agent,
            "state": verdict.state.value,
            "recorded_state": row.state.value,
            "evidence": verdict.evidence,
            "degraded": verdict.degraded,
            "as_of": iso(row.ended_ms) if ended else _date(self._ago_ms(verdict.age_s)),
            "age_s": None if ended else verdict.age_s,
            "stale": verdict.stale,
            "since": iso(row.ended_ms) if ended else _date(since_ms),
            "unreachable_since": _date(since_ms) if lost else None,
            "next": verdict.next,
            "next_s": verdict.next_s,
            "phase": row.phase,
            "started_at": iso(row.started_ms),
            "ended_at": iso(row.ended_ms) if row.ended_ms else None,
            "exit_code": row.exit_code,
            "reason": row.reason,
            "branch": row.branch,
            "worktree": row.worktree,
            "log": row.log,
            "engine": row.engine,
        }

    def _ago_ms(self, age_s: float | None) -> int | None:
        """Our wall clock then: for people."""
        return None if age_s is None else self._wall_ms - round(age_s * 1000)

    def _signals(self, row: RunRow, claim: Claim | None) -> RunSignals:
        own = row.node == self._own
        wins = None if claim is None else claim.claim_id == row.claim_id
        ttl_s = claim.ttl_ms / 1000 if claim is not None and wins else self._timing.ttl_s
        if self._leases is not None:
            ttl_s = self._leases.ttl_s(row.claim_id, ttl_s)
        lease = None if self._leases is None else self._leases.get(row.claim_id)
        owner = self._near.judge(row.node)
        work = self._at_work
        return RunSignals(
            own=own,
            claim_wins=wins,
            claim_released=bool(wins) and claim is not None and claim.state is ClaimState.RELEASED,
            lease=self._lease_state(row, ttl_s, own=own),
            lease_age_s=None if lease is None else max(0.0, self._now - lease.seen_at),
            lease_heard=lease is not None and lease.heard,
            progress_age_s=None if lease is None or not lease.heard else self._still_s(lease),
            in_hand=None if work is None else row.run_id in work.runs,
            process_alive=self._alive(row) if own else None,
            draining=own and work is not None and work.draining,
            owner=owner.state,
            owner_age_s=owner.age_s,
            renews=row.claim_id in self._renewed_by(row.node, owner),
            silent_after_s=owner.silent_s,
            ttl_s=ttl_s,
            takeover_after_s=self._takeover_after_s(row, ttl_s),
            quiet_after_s=self._quiet_s,
            stall_after_s=self._stall_s,
            stale_after_s=self._stale_s,
            asks=self._asks(row),
        )

    def _renewed_by(self, node: bytes, owner: Neighbour) -> Collection[bytes]:
        """The claims in its newest message, read once for all of its runs."""
        if node not in self._renewed:
            self._renewed[node] = frozenset() if owner.heard is None else frozenset(each[0] for each in leases_of(owner.heard.payload))
        return self._renewed[node]

    def _still_s(self, lease: Lease) -> float:
        """For how long its heartbeats say that it does not move; up to one beat after the last of them. A heartbeat that does not come says nothing of progress."""
        return max(0.0, min(self._now, lease.seen_at + self._timing.beat_s) - lease.progress_at)

    def _takeover_after_s(self, row: RunRow, ttl_s: float) -> float:
        """The age at which its lease is lost here, at the latest."""
        age_s = None if self._leases is None else self._leases.age_s(row.claim_id, self._now)
        if self._leases is None or age_s is None:
            return self._timing.takeover_after_s(ttl_s)
        return age_s + self._leases.lost_in_s(row.claim_id, ttl_s, self._now)

    def _lease_state(self, row: RunRow, ttl_s: float, *, own: bool) -> LeaseState | None:
        if self._leases is None or self._leases.get(row.claim_id) is None:
            return None
        if own and not self._is_heard:
            return LeaseState.UNREACHABLE
        return self._leases.state(row.claim_id, ttl_s, self._now)


def _date(wall_ms: int | None) -> str | None:
    return None if wall_ms is None else iso(wall_ms)
