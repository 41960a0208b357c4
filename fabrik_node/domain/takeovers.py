"""When an observer must not trust its own view of who is lost: it sees too few others, or too many claims went at once.

A takeover that waits costs time; one that was wrong costs double work. Both rules end by themselves.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

__all__ = ["MEMBER_WINDOW_S", "MassLoss", "is_minority"]

MEMBER_WINDOW_S = 3600.0
"""Who was not heard for longer is not counted among those who should be there."""


def is_minority(heard_s: Mapping[bytes, float], here: Collection[bytes]) -> bool:
    """Whether fewer than half of the nodes are to be seen from here, this one included.

    ``heard_s``: seconds since the last message of each other node that lived since our start; ``here``: those that are seen to live. Half is enough: of two, one takes over.
    """
    known = {key for key, age_s in heard_s.items() if age_s <= MEMBER_WINDOW_S}
    return 2 * (1 + len(known & set(here))) < 1 + len(known)


@dataclass(slots=True)
class MassLoss:
    """The brake: ``count`` claims, or a ``share`` of all (of two at least), lost within ``window_s`` stop takeovers for ``wait_s``. Seconds on the observer's clock."""

    window_s: float
    wait_s: float
    count: int = 3
    share: float = 0.3
    _lost_at: dict[bytes, float] | None = None
    _until: float = 0.0

    def look(self, now: float, lost: Collection[bytes], held: int) -> bool:
        """Note which claims are lost now, of ``held`` in all. True when the brake was put on by it. The same losses put it on once."""
        before = self._lost_at or {}
        self._lost_at = {claim_id: before.get(claim_id, now) for claim_id in lost}
        news = [claim_id for claim_id in lost if claim_id not in before]
        recent = sum(1 for at in self._lost_at.values() if now - at <= self.window_s)
        if not news or self.is_on(now) or not (recent >= self.count or (recent >= 2 and recent > self.share * held)):
            return False
        self._until = now + self.wait_s
        return True

    def is_on(self, now: float) -> bool:
        """No lost claim may be taken over now."""
        return now < self._until

    @property
    def until(self) -> float:
        """The end of the last brake; 0 before the first."""
        return self._until
