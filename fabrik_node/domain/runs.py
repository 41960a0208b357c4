"""Runs: one attempt of one agent at one item, and the one function that says what state a run is in.

Three signals stay apart: the lease (does anybody hear of it), process life (pid, start time and boot id) and progress.
A lost heartbeat with a live process is degraded, not dead. A missing signal gives ``unknown``, never a guess.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from fabrik_node.domain.leases import LeaseState

__all__ = ["FINAL_STATES", "ProcessId", "RunRow", "RunSignals", "RunState", "RunVerdict", "judge_run"]


class RunState(Enum):
    """The first group is written down by the owner; the second is what an observer concludes."""

    STARTING = "starting"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    SUPERSEDED = "superseded"

    QUIET = "quiet"
    STALLED = "stalled"
    WAITING = "waiting"
    DRAINING = "draining"
    UNREACHABLE = "unreachable"
    LOST = "lost"
    ORPHANED = "orphaned"
    UNKNOWN = "unknown"


FINAL_STATES = frozenset({RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED, RunState.INTERRUPTED, RunState.SUPERSEDED})


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process that can not be mistaken for another: pid, its start time and the boot that it belongs to."""

    pid: int
    started: str
    boot_id: str


@dataclass(frozen=True, slots=True)
class RunRow:
    """What the owner writes down of a run. Times are Unix milliseconds, for people; 0 or None means not yet."""

    run_id: bytes
    item: bytes
    claim_id: bytes
    node: bytes
    agent: str
    state: RunState
    phase: str
    started_ms: int
    process: ProcessId | None = None
    ended_ms: int = 0
    exit_code: int | None = None
    reason: str = ""
    branch: str = ""
    worktree: str = ""
    log: str = ""
    engine: str = ""


@dataclass(frozen=True, slots=True)
class RunSignals:
    """What an observer knows besides the row. ``None`` means: can not be known from here."""

    own: bool
    """The observer is the run's own node."""
    process_alive: bool | None
    lease: LeaseState | None
    lease_age_s: float | None
    progress_age_s: float | None
    claim_wins: bool | None
    quiet_after_s: float = 60.0
    stall_after_s: float = 900.0


@dataclass(frozen=True, slots=True)
class RunVerdict:
    """``evidence`` is one line; ``degraded`` names a signal that is lost although the run is alive."""

    state: RunState
    evidence: str
    degraded: str = ""


def judge_run(row: RunRow, signals: RunSignals) -> RunVerdict:
    """The state of a run for every surface. Pure: the same inputs give the same verdict."""
    if row.state in FINAL_STATES:
        return RunVerdict(row.state, row.reason or f"ended with exit code {row.exit_code}")
    if signals.claim_wins is False:
        return RunVerdict(RunState.SUPERSEDED, "another claim on the item wins")
    if signals.own:
        return _judge_own(row, signals)
    return _judge_foreign(row, signals)


def _judge_own(row: RunRow, signals: RunSignals) -> RunVerdict:
    if row.process is None:
        return RunVerdict(row.state, f"no command runs in phase {row.phase}: the node itself is at work")
    if signals.process_alive is None:
        return RunVerdict(RunState.UNKNOWN, "its process can not be looked at")
    if not signals.process_alive:
        return RunVerdict(RunState.INTERRUPTED, f"process {row.process.pid} is gone and left no result")
    degraded = "" if signals.lease is LeaseState.FRESH else "heartbeat lost"
    alive = f"process {row.process.pid} is alive"
    if signals.progress_age_s is not None and signals.progress_age_s >= signals.stall_after_s:
        return RunVerdict(RunState.STALLED, f"{alive}, no progress for {signals.progress_age_s:.0f} s", degraded)
    if signals.progress_age_s is not None and signals.progress_age_s >= signals.quiet_after_s:
        return RunVerdict(RunState.QUIET, f"{alive}, no progress for {signals.progress_age_s:.0f} s", degraded)
    return RunVerdict(row.state, alive, degraded)


def _judge_foreign(row: RunRow, signals: RunSignals) -> RunVerdict:
    if signals.lease is None or signals.lease_age_s is None:
        return RunVerdict(RunState.UNKNOWN, "nothing was heard of its lease here")
    heard = f"last heard of {signals.lease_age_s:.1f} s ago"
    match signals.lease:
        case LeaseState.FRESH:
            if signals.progress_age_s is not None and signals.progress_age_s >= signals.stall_after_s:
                return RunVerdict(RunState.STALLED, f"{heard}, no progress for {signals.progress_age_s:.0f} s")
            if signals.progress_age_s is not None and signals.progress_age_s >= signals.quiet_after_s:
                return RunVerdict(RunState.QUIET, f"{heard}, no progress for {signals.progress_age_s:.0f} s")
            return RunVerdict(row.state, heard)
        case LeaseState.UNREACHABLE:
            return RunVerdict(RunState.UNREACHABLE, heard)
        case LeaseState.LOST:
            return RunVerdict(RunState.LOST, f"{heard}: its lease is over")
