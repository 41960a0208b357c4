"""Runs: one attempt of one agent at one item. What state a run is in says :mod:`fabrik_node.domain.run_state` alone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fabrik_node.domain.run_inputs import RunInputs

__all__ = ["FINAL_STATES", "WORK_STATES", "ProcessId", "RunRow", "RunState"]


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
WORK_STATES = frozenset({RunState.STARTING, RunState.RUNNING, RunState.QUIET, RunState.STALLED, RunState.WAITING, RunState.DRAINING})
"""They say that somebody is at work: never concluded without evidence that is fresh."""


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
    inputs: RunInputs | None = None
    """Kept in the replicated summary, not beside the other columns; None: not at hand."""
    asks: bytes = b""
    """Of one that waits: the question for whose answer. Kept in the replicated summary, too."""
