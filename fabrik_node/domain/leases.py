"""Leases as an observer sees them: on its own clock, since the last change that it saw. No wall clock anywhere.

Source: the design, section 7; client-go's leader election judges expiry the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from math import ceil

__all__ = ["HOLDER_STOPS_AT", "Lease", "LeaseState", "LeaseTable", "LeaseTiming", "overdue_s"]

HOLDER_STOPS_AT = 0.8
"""The part of the TTL after which a holder that could not renew stops itself."""
_NAP_S_MIN = 5.0


@dataclass(frozen=True, slots=True)
class LeaseTiming:
    """Seconds, all of them. A takeover has two phases: after TTL and ``grace_s`` a holder is suspected; then ``lock_delay_s`` of listening to the others."""

    beat_s: float = 10.0
    ttl_s: float = 90.0
    grace_s: float = 30.0
    lock_delay_s: float = 15.0
    settle_s: float = 2.0
    stage_ttl_s: Mapping[str, float] = field(default_factory=dict)
    """By the name of a stage: what counts there in place of ``ttl_s``."""
    minority_waits: bool = True
    mass_loss: int = 3
    """See :mod:`fabrik_node.domain.takeovers`; 0: no brake."""
    stage_beat_s: Mapping[str, float] = field(default_factory=dict)
    """By the name of a stage: how often a holder renews there, in place of ``beat_s``."""

    def beat_in_s(self, stage: str) -> float:
        """Seconds between the renewals of a holder whose item is in ``stage``."""
        return self.stage_beat_s.get(stage, self.beat_s)

    @property
    def nap_s(self) -> float:
        """An observer that did not look for longer was asleep: what it would have heard meanwhile, it did not hear."""
        return max(2 * self.beat_s, _NAP_S_MIN)

    def takeover_after_s(self, ttl_s: float) -> float:
        """Seconds without an observed change until another may take the claim, at the earliest."""
        return ttl_s + self.grace_s + self.lock_delay_s


def overdue_s(renewed_at: float, now: float, ttl_s: float) -> float | None:
    """Seconds without renewal once a holder must stop itself, at 80 % of the TTL; None before. Both times on the holder's own clock."""
    age_s = now - renewed_at
    return age_s if age_s >= ttl_s * HOLDER_STOPS_AT else None


class LeaseState(Enum):
    """What an observer may say of a lease."""

    FRESH = "fresh"
    """Renewed within its TTL."""
    UNREACHABLE = "unreachable"
    """No change for more than the TTL: nobody knows."""
    LOST = "lost"
    """TTL and grace are over, and the lock delay too, in which this observer was awake and listened: it may be taken."""


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
    """The leases that one observer knows. Memory is bounded by the claims that it is told to watch (:meth:`watch`).

    Nobody is lost who was not looked for: an observer that was asleep, or cut off, has to listen for a lock delay first.
    """

    def __init__(self, timing: LeaseTiming) -> None:
        self.timing = timing
        self._leases: dict[bytes, Lease] = {}
        self._ttls: Mapping[bytes, float] = {}
        self._suspects: dict[bytes, float] = {}
        self._watched_at: float | None = None
        self._listens = False
        self.held_back = ""
        """Why this observer takes nothing over now, although leases are lost; empty when nothing is in the way."""

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

    def ttl_s(self, claim_id: bytes, otherwise: float) -> float:
        """What counts for the claim in the stage that its item had at the last :meth:`watch`; ``otherwise`` for one that was not watched yet."""
        return self._ttls.get(claim_id, otherwise)

    def state(self, claim_id: bytes, ttl_s: float, now: float) -> LeaseState:
        """The verdict of this observer. ``ttl_s`` counts until the claim is watched. An unknown claim is unreachable, never lost: call :meth:`first_seen`."""
        age = self.age_s(claim_id, now)
        if age is None:
            return LeaseState.UNREACHABLE
        ttl_s = self.ttl_s(claim_id, ttl_s)
        if age <= ttl_s:
            return LeaseState.FRESH
        looked = self._watched_at is not None and now - self._watched_at <= self.timing.nap_s
        listened_s = self._suspects.get(claim_id) if looked and self._listens and age > ttl_s + self.timing.grace_s else None
        return LeaseState.UNREACHABLE if listened_s is None or listened_s < self.timing.lock_delay_s else LeaseState.LOST

    def lost_in_s(self, claim_id: bytes, ttl_s: float, now: float) -> float:
        """Seconds until it may be taken, at the latest, if nothing is heard and this observer stays awake; 0 when it may be now."""
        if self.state(claim_id, ttl_s, now) is LeaseState.LOST:
            return 0.0
        beat_s = self.timing.beat_s
        begins_s = max(0.0, self.ttl_s(claim_id, ttl_s) + self.timing.grace_s - (self.age_s(claim_id, now) or 0.0))
        return begins_s + beat_s + beat_s * ceil(max(0.0, self.timing.lock_delay_s - self._suspects.get(claim_id, 0.0)) / beat_s)

    def watch(self, now: float, held: Mapping[bytes, float], *, listens: bool) -> list[bytes]:
        """Look at all leases; the claims that are suspected from now on. Once in a beat at least, or it counts as asleep.

        ``held``: the claims that there are, with their TTL in seconds; every other is forgotten. ``listens``: whether anybody could be heard.
        A TTL that became shorter than the lease is old counts from the next renewal: the last one was made for the longer one.
        """
        passed_s = 0.0 if self._watched_at is None else max(0.0, now - self._watched_at)
        awake = listens and self._listens and passed_s <= self.timing.nap_s
        self._watched_at, self._listens = now, listens
        self._ttls = {claim_id: self._counting_s(claim_id, ttl_s, now) for claim_id, ttl_s in held.items()}
        self._leases = {claim_id: lease for claim_id, lease in self._leases.items() if claim_id in held}
        before, self._suspects = self._suspects, {}
        for claim_id, ttl_s in self._ttls.items():
            age = self.age_s(claim_id, now)
            if age is not None and age > ttl_s + self.timing.grace_s:
                self._suspects[claim_id] = before.get(claim_id, 0.0) + min(passed_s, self.timing.beat_s) if awake and claim_id in before else 0.0
        return [claim_id for claim_id in self._suspects if claim_id not in before]

    def _counting_s(self, claim_id: bytes, ttl_s: float, now: float) -> float:
        known_s, age_s = self._ttls.get(claim_id, ttl_s), self.age_s(claim_id, now)
        return max(known_s, ttl_s) if age_s is not None and age_s > ttl_s else ttl_s
