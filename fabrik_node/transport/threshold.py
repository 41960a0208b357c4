"""Callers of whom nothing is known yet: what they may send, what became of them, and the refusal that they get."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import cast

from fabrik_node.transport.join_frame import Refusal

__all__ = ["DISCARD_BYTES", "Caller", "Shut", "Threshold"]

DISCARD_BYTES = 65_536
"""What is read and thrown away of it meanwhile: a connection that is closed with unread bytes takes back what was sent."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who came through. ``key`` stands behind its certificate or join frame, ``token_id`` is the joiner's; ``own_key`` is the one of ours that TLS showed it; empty on a plain link."""

    address: str
    key: bytes = b""
    token_id: bytes = b""
    own_cert: bytes = b""
    peer_cert: bytes = b""
    own_key: bytes = b""


class Shut(Exception):
    """The gate stays shut. ``by_caller``: the caller did not like us."""

    def __init__(self, code: str, hint: str, *, told: str = "", by_caller: bool = False, key: bytes = b"", welcome: bytes = b"", quiet: bool = False) -> None:
        super().__init__(code, hint)
        self.refusal = Refusal(str(code), hint)
        self.told = told or hint
        self.by_caller = by_caller
        self.key = key
        self.welcome = welcome
        """The genesis record, for a member that knocked."""
        self.quiet = quiet
        """The node tells about it itself."""


class Threshold(asyncio.Protocol):
    """Holds the first bytes of a caller, and no more than a gate may read; reading is paused until somebody asks."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.received = bytearray()
        self.discarded = 0
        self._wanted = 1
        self._discards = False
        self._moved = asyncio.Event()
        self._lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        if self._discards:
            self.discarded += len(data)
        else:
            self.received += data
            if len(self.received) >= self._wanted:
                self.transport.pause_reading()
        self._moved.set()

    def eof_received(self) -> None:
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._end()

    @property
    def lost(self) -> bool:
        """The caller is gone."""
        return self._lost

    def _end(self) -> None:
        self._lost = True
        self._moved.set()

    async def read(self, count: int) -> bytes:
        """The first ``count`` bytes; fewer when the caller ends before. What follows them stays in ``received``."""
        self._wanted = count
        self.transport.resume_reading()
        while len(self.received) < count and not self._lost:
            self._moved.clear()
            await self._moved.wait()
        first = bytes(self.received[:count])
        del self.received[:count]
        return first

    async def discard(self) -> None:
        """Until the caller closes, or has sent too much."""
        self._discards = True
        self.transport.resume_reading()
        while not self._lost and self.discarded < DISCARD_BYTES:
            self._moved.clear()
            await self._moved.wait()
