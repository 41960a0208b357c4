"""An event loop whose time passes at once: while nobody is ready, the next timer is due. What runs in it may not wait for anything but timers."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["VirtualClock", "run_virtual"]

_T = TypeVar("_T")
_WALL_MS = 1_795_000_000_000


class _Selector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def select(self, timeout: float | None = None) -> Any:
        """Nothing is waited for: the time until the next timer has passed."""
        if timeout is None:
            return super().select(None)
        self.seconds += max(0.0, timeout)
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, selector: _Selector) -> None:
        super().__init__(selector)
        self._virtual = selector
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._virtual.seconds

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:  # type: ignore[override]
        """Here and now: a thread would be overtaken by the time."""
        del executor
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except BaseException as error:
            future.set_exception(error)
        return future


class VirtualClock:
    """The clock of the running loop, for whom a :class:`~fabrik_node.clock.Clock` is needed."""

    def now(self) -> float:
        """Seconds of the loop."""
        return asyncio.get_running_loop().time()

    def wall_ms(self) -> int:
        """A date that goes with them."""
        return _WALL_MS + round(self.now() * 1000)


def run_virtual(main: Coroutine[Any, Any, _T]) -> _T:
    """Like :func:`asyncio.run`, in virtual time."""
    with asyncio.Runner(loop_factory=lambda: _Loop(_Selector())) as runner:
        return runner.run(main)
