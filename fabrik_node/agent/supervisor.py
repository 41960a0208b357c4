"""The lease of one claim, renewed from a thread of its own, and the holder's own end when that fails for too long.

A command that eats the CPU, or an event loop that is busy, must not cost the lease; and a holder that nobody hears of must have
stopped before others may take over. So the thread both renews and, at 80 % of the TTL without success, throws the run's switch itself.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable
from math import inf

from fabrik_node.agent.results import Result
from fabrik_node.agent.stop import Stop, StopSwitch
from fabrik_node.clock import Clock
from fabrik_node.domain.leases import LeaseTiming, overdue_s

__all__ = ["LeaseKeeper"]

_AGAIN_S = 5.0
"""A renewal that somebody waits for is tried again so often at least."""
_LOOK_S = 1.0
"""The clock is looked at so often at least: a thread's own waiting does not count the time that a machine was asleep."""


class LeaseKeeper:
    """:meth:`start` before the command, :meth:`stop` after the claim is released.

    ``renew(progress_n)`` sends one heartbeat and says whether it reached somebody; it is called in the keeper's thread, and an exception
    counts as failure. ``mark()`` gives anything that differs after progress. ``since``: when the claim was asked for, on ``clock``.
    ``stage``: TTL and beat of the stage in which the item is claimed, which count from ``since``; None: those of ``timing`` for all stages.
    """

    def __init__(
        self,
        *,
        renew: Callable[[int], bool],
        mark: Callable[[], Hashable],
        timing: LeaseTiming,
        clock: Clock,
        switch: StopSwitch,
        since: float,
        name: str,
        stage: tuple[float, float] | None = None,
    ) -> None:
        self._renew = renew
        self._mark = mark
        self._timing = timing
        self._lock = threading.Lock()
        """Of the TTLs, and of what was asked for and answered."""
        self._stage_ttl_s, self._stage_beat_s = stage or (timing.ttl_s, timing.beat_s)
        self._coming_ttl_s = inf
        self._beat_s = self._stage_beat_s
        self._asked = 0
        self._answered = 0
        self._tell_answered: Callable[[], None] = lambda: None
        self._clock = clock
        self._switch = switch
        self._end = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"lease-{name}", daemon=True)
        self._seen: Hashable = None
        self._last_error = ""
        self.ttl_s = self._stage_ttl_s
        """What counts now; not always that of the stage, see :meth:`enter` and :meth:`ready`."""
        self.renewed_at = since
        """Taken before the last renewal that succeeded: what observers count from is later."""
        self.progress_n = 0
        self.beats = 0
        """Renewals that succeeded."""

    def start(self) -> None:
        """The first renewal is tried at once."""
        self._thread.start()

    async def ready(self, ttl_s: float, beat_s: float) -> bool:
        """Before the item goes to a stage with this TTL and beat: a shorter TTL counts from a renewal that is made now, and waited for.

        The last one may be as old as the beat of the stage before, and older than a shorter TTL. Until it succeeds the TTL of the stage before
        goes on counting. False when the switch was thrown before, because of it or for any other cause. One caller at a time.
        """
        with self._lock:
            if ttl_s >= max(self.ttl_s, self._stage_ttl_s):
                return True
            self._coming_ttl_s, self._beat_s = ttl_s, min(self._beat_s, beat_s)
            self._asked += 1
        woken, loop = asyncio.Event(), asyncio.get_running_loop()

        def tell() -> None:
            loop.call_soon_threadsafe(woken.set)

        self._tell_answered = tell
        detach = self._switch.attach(tell)
        try:
            while self._answered < self._asked and self._switch.stop is None:
                self._wake.set()
                try:
                    async with asyncio.timeout(min(self._beat_s, _AGAIN_S)):
                        await woken.wait()
                    woken.clear()
                except TimeoutError:
                    self.check()  # the thread may be gone
        finally:
            detach()
            self._tell_answered = lambda: None
        return self._answered >= self._asked

    def enter(self, ttl_s: float, beat_s: float) -> None:
        """The item is in a stage with this TTL and this time between renewals. Longer ones count from the next renewal that succeeds, and that is tried at once."""
        with self._lock:
            longer = ttl_s > self.ttl_s
            self._stage_ttl_s, self._coming_ttl_s = ttl_s, inf
            self.ttl_s = min(self.ttl_s, ttl_s)
            self._stage_beat_s = beat_s
            self._beat_s = min(self._beat_s, beat_s) if longer else beat_s
        if longer:
            self._wake.set()

    async def stop(self) -> None:
        """No renewal is under way or will be when this returns."""
        self._end.set()
        self._wake.set()
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join)

    def check(self) -> None:
        """Throw the switch when the lease is overdue. Called by the thread, and by the run too, lest the thread itself is gone."""
        ttl_s = self.ttl_s
        late_s = overdue_s(self.renewed_at, self._clock.now(), ttl_s)
        if late_s is not None:
            cause = f" ({self._last_error})" if self._last_error else ""
            self._switch.throw(Stop(Result.LEASE_LOST, f"the lease could not be renewed for {late_s:.0f} of {ttl_s:.0f} s{cause}"))

    def _run(self) -> None:
        while not self._end.is_set():
            self._wake.clear()
            if self._end.is_set():
                return
            began = self._clock.now()
            self.check()  # the machine may have been asleep until now: an overdue lease is not renewed as if nothing had been
            self._beat(began)
            self.check()
            waited_s = 0.0
            while waited_s < self._beat_s and self._clock.now() < began + self._beat_s:
                slice_s = min(_LOOK_S, self._beat_s - waited_s)
                if self._wake.wait(slice_s):
                    break
                waited_s += slice_s
                self.check()

    def _beat(self, began: float) -> None:
        with self._lock:
            ttl_s, asked = min(self._stage_ttl_s, self._coming_ttl_s), self._asked
        try:
            mark = self._mark()
            if mark != self._seen:
                self._seen = mark
                self.progress_n += 1
            reached = self._renew(self.progress_n)
        except Exception as error:  # noqa: BLE001 - whatever it is, the lease was not renewed, and this thread must go on to say so
            self._last_error = str(error) or type(error).__name__
            return
        if reached:
            with self._lock:
                self.renewed_at = began
                self.ttl_s = min(ttl_s, self._stage_ttl_s)  # the item may be in another stage by now
                self.beats += 1
                self._answered = asked
                if self.ttl_s == self._stage_ttl_s:
                    self._beat_s = self._stage_beat_s
            self._last_error = ""
            self._tell_answered()
