"""Chance made large: whatever asyncio and the threads below it may do late, they do late, by a seed. See docs/TESTING.md, *Jitter*.

Only what is legal: a result of another thread comes later, but in the order in which it was given; a socket is readable later, and gives fewer
bytes at a time; a thread begins later; a pass of the event loop takes longer; a port that a double fills in memory answers as late as the real one may.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
import threading
import time
from asyncio import base_events, selector_events, sslproto, unix_events
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import pytest

__all__ = ["Jitter", "Plugin"]

LONG_S = 0.03
"""The longest nap. A test that needs its bound of a minute because of it waits for thousands of them in a row."""
PARTS = ("results", "threads", "pools", "store", "sockets", "chunks", "loop", "doubles")


class Jitter:
    """How late each part is during one test. One part may be much slower than another: that is what turns orders round."""

    now: ClassVar[Jitter | None] = None
    """Of the test that runs."""

    def __init__(self, seed: str, test: str) -> None:
        choice = Random(f"{seed} {test}")
        self.slow = {part: choice.choice((0.0, 0.1, 0.5, 1.0)) for part in PARTS}
        self._random = {part: Random(f"{seed} {test} {part}") for part in PARTS}
        self._lock = threading.Lock()
        self._lanes: WeakKeyDictionary[base_events.BaseEventLoop, list[float]] = WeakKeyDictionary()
        self._held: WeakKeyDictionary[base_events.BaseEventLoop, dict[int, float]] = WeakKeyDictionary()

    def nap_s(self, part: str) -> float:
        """How long this part waits now, from a hundredth of the longest nap to all of it, each size as often as another."""
        with self._lock:
            chance, length = self._random[part].random(), self._random[part].random()
        return LONG_S * math.exp(-4.6 * length) if chance < self.slow[part] else 0.0

    def size(self, most: int) -> int:
        """How many bytes a socket gives now."""
        with self._lock:
            chance, length = self._random["chunks"].random(), self._random["chunks"].random()
        return most if chance >= self.slow["chunks"] else max(1, min(most, round(math.exp(length * math.log(65_536)))))

    def deliver(self, loop: base_events.BaseEventLoop, handle: asyncio.Handle) -> None:
        """Run what came from another thread, later, behind what came before it."""
        lane = self._lanes.setdefault(loop, [0.0])
        now = loop.time()
        due = max(now + self.nap_s("results"), lane[0] + 1e-9 if lane[0] >= now else 0.0)
        if due <= now:
            _run(handle)
        else:
            lane[0] = due
            base_events.BaseEventLoop.call_at(loop, due, _run, handle)  # a test may watch the timers of its loop

    def ready(self, loop: base_events.BaseEventLoop, events: Sequence[tuple[Any, int]], spared: int) -> list[tuple[Any, int]]:
        """Those of the ready files that are told now; a file stays ready until it is. ``spared``: how the loop is woken by other threads."""
        held, now, found = self._held.setdefault(loop, {}), loop.time(), []
        for key, mask in events:
            if key.fd != spared and key.fd not in held and (nap := self.nap_s("sockets")):
                held[key.fd] = now + nap
            if held.get(key.fd, 0.0) <= now:
                held.pop(key.fd, None)
                found.append((key, mask))
        if nap := self.nap_s("loop") / 4 or (0.0005 if events and not found else 0.0):
            time.sleep(nap)
        return found

    def __str__(self) -> str:
        return ", ".join(f"{part} {slow}" for part, slow in self.slow.items() if slow)


def _run(handle: asyncio.Handle) -> None:
    if not handle.cancelled():
        handle._run()


def _nap(part: str) -> None:
    if Jitter.now is not None and (seconds := Jitter.now.nap_s(part)):
        time.sleep(seconds)


def _size(most: int, _transport: Any) -> int:
    return most if Jitter.now is None else Jitter.now.size(most)


def _late(part: str, work: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(work)
    def later(*args: Any, **more: Any) -> Any:
        _nap(part)
        return work(*args, **more)

    return later


def _wrap(owner: Any, name: str) -> Callable[[Callable[..., Any]], None]:
    """Put ``made(the original)`` in the place of a function."""

    def put(made: Callable[..., Any]) -> None:
        setattr(owner, name, made(getattr(owner, name)))

    return put


def _install() -> None:
    """Once for the process; without a test that runs, everything is as it was."""

    @_wrap(base_events.BaseEventLoop, "call_soon_threadsafe")
    def _(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(loop: base_events.BaseEventLoop, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
            if (jitter := Jitter.now) is None:
                return real(loop, callback, *args, context=context)
            handle = asyncio.Handle(callback, args, loop, context)
            real(loop, jitter.deliver, loop, handle)
            return handle

        return call

    @_wrap(selector_events.BaseSelectorEventLoop, "_process_events")
    def _(real: Callable[..., Any]) -> Callable[..., Any]:
        def process(loop: Any, events: Sequence[tuple[Any, int]]) -> None:
            jitter = Jitter.now
            real(loop, events if jitter is None else jitter.ready(loop, events, loop._ssock.fileno()))

        return process

    for transport in (selector_events._SelectorSocketTransport, unix_events._UnixReadPipeTransport):  # type: ignore[attr-defined]
        most = transport.max_size
        transport.max_size = property(functools.partial(_size, most))

    @_wrap(sslproto.SSLProtocol, "get_buffer")
    def _(real: Callable[..., Any]) -> Callable[..., Any]:
        def get(protocol: Any, hint: int) -> Any:
            room = real(protocol, hint)
            return room if Jitter.now is None else room[: Jitter.now.size(len(room))]

        return get

    @_wrap(ThreadPoolExecutor, "submit")
    def _(real: Callable[..., Any]) -> Callable[..., Any]:
        return lambda pool, work, /, *args, **more: real(pool, _late("pools", work), *args, **more)

    _wrap(threading.Thread, "run")(functools.partial(_late, "threads"))
    _install_rooms()


def _install_rooms() -> None:
    """The same for what is ours: the store's thread, and the doubles."""
    from memory_pipeline import MemoryPipeline
    from memory_store import MemoryStore
    from memory_workspaces import MemoryWorkspaces

    from fabrik_node.store.connection import Connection

    @_wrap(Connection, "run")
    def _(real: Callable[..., Any]) -> Callable[..., Any]:
        return lambda connection, work: real(connection, _late("store", work))

    for double in (MemoryStore, MemoryPipeline, MemoryWorkspaces):
        for name, method in list(vars(double).items()):
            if inspect.iscoroutinefunction(method) and not name.startswith("_"):
                setattr(double, name, _answering_late(method))


def _answering_late(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    async def later(*args: Any, **more: Any) -> Any:
        answer = await method(*args, **more)
        if Jitter.now is not None and Jitter.now.slow["doubles"]:
            loop = asyncio.get_running_loop()
            turn = loop.create_future()
            loop.call_soon_threadsafe(lambda: None if turn.done() else turn.set_result(None))
            await turn
        return answer

    return later


class Plugin:
    """Jitter for each test, and the way to play it again."""

    def __init__(self, seed: str) -> None:
        self.seed = seed
        _install()

    def pytest_report_header(self) -> str:
        return f"jitter: FABRIK_JITTER={self.seed}"

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        Jitter.now = Jitter(self.seed, item.nodeid)
        try:
            return (yield)
        finally:
            Jitter.now = None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.failed:
            report.sections.append(("jitter", f"FABRIK_JITTER={self.seed} .venv/bin/python -m pytest '{item.nodeid}'\nslow: {Jitter.now}"))
        return report
