"""What waiting for people does to a run: the time of its command stands still, and a question that nobody answered in time holds its item. A git remote that is away stops the time, too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Waiting"]


class Waiting:
    """Of one run. :meth:`enter` and :meth:`leave` for each question that its command waits for, with an empty id for the git remote; several may overlap. For one event loop."""

    def __init__(self) -> None:
        self._questions: list[bytes] = []
        self._limit: _Limit | None = None
        self.unanswered = ""
        """Why its item is held when the command ends, whatever that ends with; empty unless a question had its time and no default."""

    @property
    def is_on(self) -> bool:
        """Somebody is waited for."""
        return bool(self._questions)

    @property
    def question(self) -> bytes:
        """The one that is waited for longest; empty while none is."""
        return next(filter(None, self._questions), b"")

    def enter(self, question: bytes) -> None:
        """One more is waited for."""
        self._questions.append(question)
        if self._limit is not None:
            self._limit.halt()

    def leave(self, question: bytes) -> None:
        """One is not waited for any more."""
        self._questions.remove(question)
        if self._limit is not None and not self.is_on:
            self._limit.go_on()

    @contextmanager
    def limit(self, seconds: float, over: Callable[[], None]) -> Iterator[None]:
        """Call ``over`` once when the command inside took ``seconds`` besides its waiting."""
        self._limit = _Limit(seconds, over)
        if not self.is_on:
            self._limit.go_on()
        try:
            yield
        finally:
            self._limit.halt()
            self._limit = None


class _Limit:
    """Time that runs down while it is going."""

    def __init__(self, seconds: float, over: Callable[[], None]) -> None:
        self._left_s = seconds
        self._over = over
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def go_on(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._since = loop.time()
            self._timer = loop.call_later(self._left_s, self._over)

    def halt(self) -> None:
        if self._timer is not None:
            self._left_s = max(0.0, self._left_s - (asyncio.get_running_loop().time() - self._since))
            self._timer.cancel()
            self._timer = None
