"""What one node counted since its start. For people and monitoring; nothing is decided by it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Tally"]


@dataclass(slots=True)
class Tally:
    """Totals since the start."""

    commits_local: int = 0
    """Transactions of own ops that are durable."""
    commits_remote: int = 0
    ops_local: int = 0
    """Ops in them."""
    ops_remote: int = 0
    duplicates: int = 0
    """Ops that came and were held already."""
    gaps: int = 0
    """Segments that came before what they stand on."""
    forks: int = 0
    """Branches that were met for the first time."""
    unknown_segments: int = 0
    """Segments of authors that nobody admitted."""
    suspended: int = 0
    """Logs that got more heads than may have effect: the limit of heads was hit."""
    bulk_batches: int = 0
    """Batches told as one event, because they changed more registers than events are made for."""
    disk_full: int = 0
    """Times that the disk became full."""
