"""What a session counts. For people and tests; nothing decides by it, but for the limit of unknown frames."""

from __future__ import annotations

from dataclasses import dataclass, field

from fabrik_sync.limits import LIMIT_NAMES

__all__ = ["Counters"]


@dataclass(slots=True)
class Counters:
    """Totals of one session since it began. Bytes are of whole frames without the transport's own."""

    frames_in: int = 0
    frames_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    segments_in: int = 0
    segments_out: int = 0
    segment_bytes_in: int = 0
    segment_bytes_out: int = 0
    segments_dropped: int = 0
    """Received for a log that we do not accept."""
    duplicates_avoided: int = 0
    """Times that something was not sent because the peer turned out to have it."""
    wants_out: int = 0
    wants_with_places_out: int = 0
    """Of them, those for forked logs."""
    wants_in: int = 0
    wants_deferred: int = 0
    """Times that a log was left to another peer that streams it already."""
    ephemerals_in: int = 0
    ephemerals_out: int = 0
    ephemerals_stale: int = 0
    """Received, not newer than what this peer had sent."""
    ephemerals_replaced: int = 0
    """Not sent because a newer one of the same author came first, or the peer has it."""
    unknown_frames: int = 0
    limits: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LIMIT_NAMES, 0))
    """How often each limit was hit, by its name."""

    def hit(self, limit: str) -> None:
        """Count one. An empty name is no limit."""
        if limit:
            self.limits[limit] += 1
