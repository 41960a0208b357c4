"""When to dial again: full jitter, doubling, reset by health, and no hammering on a closed door.

Full jitter as in Marc Brooker, "Exponential Backoff And Jitter" (2015): uniform between 0 and the current ceiling.
"""

from __future__ import annotations

from typing import Protocol

from fabrik_sync.events import Closed, Refused
from fabrik_sync.reasons import Retry, retry_of

__all__ = ["Backoff", "Uniform"]


class Uniform(Protocol):
    """A source of chance; ``random.Random`` is one."""

    def uniform(self, a: float, b: float) -> float:
        """A number between ``a`` and ``b``."""
        ...


class Backoff:
    """The delays of one address. Times are seconds on the clock of ``now``."""

    def __init__(self, random: Uniform, *, first_s: float = 0.1, cap_s: float = 30.0, healthy_s: float = 10.0) -> None:
        self._random = random
        self._first_s = first_s
        self._cap_s = cap_s
        self._healthy_s = healthy_s
        self._ready_at: float | None = None
        self.attempts = 0
        """Failures in a row."""

    def handle_ready(self, now: float) -> None:
        """The session became ready (PeerReady)."""
        self._ready_at = now

    def handle_failed(self, now: float, end: Closed | Refused | None = None) -> float | None:
        """The dial failed (``end`` is None) or the session ended so. The delay in seconds until the next dial.

        None: dialling again is of no use before somebody changes something. Call :meth:`reset` when that may have happened.
        """
        if self._ready_at is not None and now - self._ready_at >= self._healthy_s:
            self.attempts = 0
        self._ready_at = None
        retry = Retry.SOON if end is None else retry_of(end.code, refused=isinstance(end, Refused))
        self.attempts += 1
        if retry is Retry.NEVER:
            return None
        if retry is Retry.SLOW:
            return self._random.uniform(self._cap_s / 2, self._cap_s)
        return self._random.uniform(0.0, min(self._cap_s, self._first_s * 2.0 ** min(self.attempts - 1, 32)))

    def reset(self) -> None:
        """Begin anew, for example when a member record or the configuration changed."""
        self.attempts = 0
        self._ready_at = None
