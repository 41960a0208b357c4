"""What a session says of itself, for ``status`` and for tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fabrik_sync.ports import LogId
from fabrik_sync.states import State

__all__ = ["Status"]


@dataclass(frozen=True, slots=True)
class Status:
    """A session at one moment. Numbers are 0 before READY."""

    state: State
    is_initiator: bool
    peer_key: bytes | None
    """Once it is proven."""
    version: int
    heard_at: float
    """When the last frame came, on the clock of ``now``; when the session began, if none did."""
    caught_up: bool
    """We hold everything that the peer announced and whose author is admitted."""
    behind: bool
    """The peer is slow: there is more for it than its outbox and window take."""
    lag_out: int
    """Ops that the peer is not known to have, and that are not on their way to it."""
    lag_in: int
    """Ops of admitted authors that the peer has and we lack."""
    lag_behind: Sequence[tuple[LogId, int, int]]
    """``(log, our number of the branch, seq)``: the peer is not known to hold what we hold behind ``seq``; on its way is not there."""
    unadmitted_logs: int
    """Logs of the peer that are left alone because nobody admitted their author."""
    outbox_bytes: int
    """Segment frames that wait for the socket."""
    unacked_bytes: int
    """Segment bytes queued or sent that the peer has not reported as processed."""
    unacked_ops: int
    """Ops in them: with ``lag_out`` all that the peer is not known to hold."""
    unprocessed_bytes: int
    """Segment bytes received that our shell has not reported as processed."""
