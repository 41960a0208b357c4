"""WebSockets that tell of every byte that arrives: a large frame takes a slow link longer than a living peer may be silent."""

from __future__ import annotations

from collections.abc import Callable

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection

__all__ = ["HeardClient", "HeardServer"]


def _nobody() -> None:
    """Nobody listens yet."""


class HeardClient(ClientConnection):
    """The end that called."""

    on_bytes: Callable[[], None] = staticmethod(_nobody)

    def data_received(self, data: bytes) -> None:
        """Tell, then take them."""
        self.on_bytes()
        super().data_received(data)


class HeardServer(ServerConnection):
    """The end that was called."""

    on_bytes: Callable[[], None] = staticmethod(_nobody)

    def data_received(self, data: bytes) -> None:
        """Tell, then take them."""
        self.on_bytes()
        super().data_received(data)
