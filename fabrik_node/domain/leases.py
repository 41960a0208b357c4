"""Leases as an observer sees them: on its own clock, since the last change that it saw. No wall clock anywhere.

Source: the design, section 7; client-go's leader election judges expiry the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Lease", "LeaseState", "LeaseTable", "LeaseTiming", "overdue_s"]


@dataclass(frozen=True, slots=True)
class LeaseTiming:
    """Seconds, all of them. ``grace_s`` and ``lock_delay_s`` pass after the TTL before a takeover."""

    beat_s: float = 10.0
    ttl_s: float = 90.0
    grace_s: float = 30.0
    lock_delay_s: float = 15.0
    settle_s: float = 2.0

    @property
    def holder_stop_s(self) -> float:
        """A holder that could not renew for so long stops itself: 80 % of the TTL."""
        return self.ttl_s * 0.8

    def takeover_after_s(self, ttl_s: float) -> float:
        """Seconds without an observed change until another may take the claim."""
        return ttl_s + self.grace_s + self.lock_delay_s


def overdue_s(renewed_at: float, now: float, timing: LeaseTiming) -> float | None:
    """Seconds without renewal once a holder must stop itself, None before. Both times on the holder's own clock."""
    age_s = now - renewed_at
    return age_s if age_s >= timing.holder_stop_s else None


class LeaseState(Enum):
    """What an observer may say of a lease."""

    FRESH = "fresh"
    """Renewed within its TTL."""
    UNREACHABLE = "unreachable"
    """No change for more than the TTL: nobody knows."""
    LOST = "lost"
    """TTL, grace and lock delay are over: it may be taken."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The last renewal that was seen of one claim. ``seen_at`` is on the observer's clock."""

    claim_id: bytes
    renew_n: int
    progress_n: int
    seen_at: float
    progress_at: float
    run_id: bytes = b""

    @property
    def heard(self) -> bool:
        """A renewal was heard. Before the first one ``seen_at`` is when the observer began to watch."""
        return self.renew_n >= 0


class LeaseTable:
    """The leases that one observer knows. Memory is bounded by the claims that it is told to keep (:meth:`keep`)."""

    def __init__(self, timing: LeaseTiming) -> None:
        self.timing = timing
        self._leases: dict[bytes, Lease] = {}

    def first_seen(self, claim_id: bytes, now: float) -> None:
        """Start the clock of a claim that nothing was heard of yet. Does nothing for a known one."""
        self._leases.setdefault(claim_id, Lease(claim_id, -1, -1, now, now))

    def observe(self, claim_id: bytes, renew_n: int, progress_n: int, run_id: bytes, now: float) -> bool:
        """A renewal was heard. True when it is news; an old or repeated one changes nothing."""
        old = self._leases.get(claim_id)
        if old is not None and renew_n <= old.renew_n:
            return False
        progressed = old is None or progress_n > old.progress_n
        self._leases[claim_id] = Lease(claim_id, renew_n, progress_n, now, now if progressed or old is None else old.progress_at, run_id)
        return True

    def get(self, claim_id: bytes) -> Lease | None:
        """The lease, or None when nothing is known."""
        return self._leases.get(claim_id)

    def age_s(self, claim_id: bytes, now: float) -> float | None:
        """Seconds since the last change that was seen."""
        lease = self._leases.get(claim_id)
        return None if lease is None else max(0.0, now - lease.seen_at)

    def state(self, claim_id: bytes, ttl_s: float, now: float) -> LeaseState:
        """The verdict of this observer. An unknown claim is unreachable, never lost: call :meth:`first_seen`."""
        age = self.age_s(claim_id, now)
        if age is None:
            return LeaseState.UNREACHABLE
        if age <= ttl_s:
            return LeaseState.FRESH
        return LeaseState.UNREACHABLE if age <= self.timing.takeover_after_s(ttl_s) else LeaseState.LOST

    def keep(self, claim_ids: set[bytes]) -> None:
        """Forget every other claim."""
        self._leases = {claim_id: lease for claim_id, lease in self._leases.items() if claim_id in claim_ids}
