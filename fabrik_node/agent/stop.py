"""The one switch that ends a run early, from whatever thread, and the first cause wins."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from fabrik_node.agent.results import Result

__all__ = ["Stop", "StopSwitch", "Stopped"]


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a run ends early. ``hold`` is not empty when the item is to be held for a person."""

    result: Result
    reason: str
    hold: str = ""


class Stopped(Exception):
    """Raised inside a run at its next step after the switch was thrown. Never leaves the run."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(stop)
        self.stop = stop


class StopSwitch:
    """Thread-safe. :meth:`throw` once or often; :meth:`attach` what is to be ended with it; :meth:`check` between steps."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stop: Stop | None = None
        self._callbacks: list[Callable[[], None]] = []

    @property
    def stop(self) -> Stop | None:
        """The first cause, None while nobody threw it."""
        return self._stop

    def throw(self, stop: Stop) -> bool:
        """End the run for this cause: attached callbacks run in this thread. False when it was thrown before."""
        with self._lock:
            if self._stop is not None:
                return False
            self._stop = stop
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback()
        return True

    def attach(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` when the switch is thrown, at once if it was; returns the way to detach. It must not block or raise."""
        with self._lock:
            thrown = self._stop is not None
            self._callbacks.append(callback)
        if thrown:
            callback()
        return lambda: self._detach(callback)

    def _detach(self, callback: Callable[[], None]) -> None:
        with self._lock:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

    def check(self) -> None:
        """Raises :class:`Stopped` once the switch is thrown."""
        if self._stop is not None:
            raise Stopped(self._stop)
