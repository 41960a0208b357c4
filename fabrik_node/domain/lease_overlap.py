"""Whether settings of a lease leave time for which two holders could be at work at once."""

from __future__ import annotations

__all__ = ["overlap_s"]


def overlap_s(*, beat_s: float, ttl_s: float, takeover_after_s: float, link_dead_s: float, kill_grace_s: float, stops_at: float = 0.8) -> float:
    """Seconds for which a cut-off holder may still be at work when others may take over; 0 or less: none. All times in seconds.

    A holder counts a renewal that it handed to a connection, and a connection that leads nowhere is noticed after ``link_dead_s`` only. So its last
    renewal may be ``link_dead_s`` younger than the last one that others heard, and that may be a beat older than the cut. It stops at ``stops_at`` of its
    TTL, and its processes are gone ``kill_grace_s`` later. With an arbiter the overlap costs work, never a second merge.
    """
    return link_dead_s + beat_s + stops_at * ttl_s + kill_grace_s - takeover_after_s
