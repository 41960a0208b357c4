"""WebSockets that tell of every byte that arrives, and that read no more of them at once than the event loop can bear.

A large frame takes a slow link longer than a living peer may be silent, so bytes are signs of life. And one packet may hold thousands of small
frames: they are taken in steps, with others in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection

__all__ = ["FRAMES_PER_STEP", "HeardClient", "HeardServer"]

FRAMES_PER_STEP = 64
"""Frames, also of WebSocket itself, that one step may give: about a millisecond."""
_STEP_BYTES_MIN = 256
_STEP_BYTES_MAX = 65_536
_LAST_FRAMES = 1_024
"""Frames of the last bytes of a connection that is closed; the rest is thrown away."""


def _nobody() -> None:
    """Nobody listens yet."""


class _Heard(Connection):
    """Takes its bytes in steps. A step is halved when it gave many frames, and doubled while it gives few: a bulk dump is one step."""

    on_bytes: Callable[[], None] = staticmethod(_nobody)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._backlog = bytearray()
        self._step = 4_096
        self._full = False
        self._waits: asyncio.Handle | None = None
        self.frames_heard = 0
        """Of all kinds, so far."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As websockets does it; but whether its queue is full is one of two reasons not to read."""
        super().connection_made(transport)
        self.recv_messages.pause = self._hold
        self.recv_messages.resume = self._go_on

    def data_received(self, data: bytes) -> None:
        """Tell, then take them, or as much of them as one step may."""
        self.on_bytes()
        if not self._backlog and not self._full and self._waits is None and len(data) <= self._step:
            self._feed(data)
            return
        self._backlog += data
        if self._waits is None and not self._full:
            self._take()
        elif self._backlog:
            self.transport.pause_reading()

    def process_event(self, event: Any) -> None:
        """One frame."""
        self.frames_heard += 1
        super().process_event(event)

    def eof_received(self) -> None:
        """What waits is taken as far as one may expect it of an honest peer."""
        before = self.frames_heard
        while self._backlog and self.frames_heard - before < _LAST_FRAMES:
            self._feed(self._cut())
        self._backlog.clear()
        super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is left to answer."""
        self._backlog.clear()
        if self._waits is not None:
            self._waits.cancel()
        super().connection_lost(exc)

    def _hold(self) -> None:
        self._full = True
        self.transport.pause_reading()

    def _go_on(self) -> None:
        self._full = False
        if self._backlog:
            self._later()
        else:
            self.transport.resume_reading()

    def _later(self) -> None:
        if self._waits is None:
            self._waits = asyncio.get_running_loop().call_soon(self._again)

    def _again(self) -> None:
        self._waits = None
        if not self._full:
            self._take()

    def _take(self) -> None:
        """One step; what is left waits for the next turn of the event loop, and nothing is read meanwhile."""
        before = self.frames_heard
        while self._backlog and not self._full and self.frames_heard - before < FRAMES_PER_STEP:
            self._feed(self._cut())
        if self._backlog:
            self.transport.pause_reading()
            if not self._full:
                self._later()
        elif not self._full:
            self.transport.resume_reading()

    def _cut(self) -> bytes:
        part = bytes(self._backlog[: self._step])
        del self._backlog[: self._step]
        return part

    def _feed(self, part: bytes) -> None:
        before = self.frames_heard
        super().data_received(part)
        given = self.frames_heard - before
        if given > FRAMES_PER_STEP // 2:
            self._step = max(_STEP_BYTES_MIN, self._step // 2)
        elif given <= FRAMES_PER_STEP // 16:
            self._step = min(_STEP_BYTES_MAX, self._step * 2)


class HeardClient(_Heard, ClientConnection):
    """The end that called."""


class HeardServer(_Heard, ServerConnection):
    """The end that was called."""
