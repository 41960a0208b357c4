"""How much of what the peer sent is not processed yet, and when to tell it that some is."""

from __future__ import annotations

__all__ = ["FlowViolation", "Window"]


class FlowViolation(Exception):
    """The peer sent more than its window, or acknowledged more than it got, or went back too often. ``limit`` names the limit, if it was one."""

    def __init__(self, what: str, limit: str = "") -> None:
        super().__init__(what)
        self.limit = limit


class Window:
    """Segment bytes of one session: received, processed, acknowledged."""

    def __init__(self, size_bytes: int) -> None:
        self._size = size_bytes
        self._received = 0
        self._processed = 0
        self._acked = 0

    @property
    def open_bytes(self) -> int:
        """Received, and not reported as processed."""
        return self._received - self._processed

    def receive(self, size: int) -> None:
        """Raises :class:`FlowViolation` when the peer has no credit for so much."""
        self._received += size
        if self.open_bytes > self._size:
            raise FlowViolation(f"{self.open_bytes} bytes are unprocessed, the window is {self._size}", "window_bytes")

    def processed(self, size: int) -> None:
        """So much is dealt with. Raises ValueError for more than was received."""
        if size < 0 or self._processed + size > self._received:
            raise ValueError(f"{size} bytes processed, but only {self.open_bytes} are open")
        self._processed += size

    @property
    def ack_due(self) -> bool:
        """All is processed, or a quarter of the window: small change waits for more."""
        unsaid = self._processed - self._acked
        return unsaid > 0 and (unsaid >= self._size // 4 or self._processed == self._received)

    def take_ack(self) -> int:
        """The total to acknowledge now."""
        self._acked = self._processed
        return self._acked
