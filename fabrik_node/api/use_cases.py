"""What the local API serves: the service, seen from here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

from fabrik_node.process import Peer
from fabrik_node.service.callers import Caller

__all__ = ["STREAMS", "UseCases"]

STREAMS = frozenset({"ask.wait", "db.dump", "events", "runs.logs", "runs.watch"})
"""Operations that answer with many lines; all others answer with one."""


class UseCases(Protocol):
    """Both raise :class:`~fabrik_node.errors.FabrikError` for whatever a caller may see; anything else is a bug of ours."""

    def caller(self, token: str | None, peer: Peer) -> Caller:
        """Who speaks: shows this token, or none, and is this process."""
        ...

    def run_of(self, peer: Peer) -> str:
        """The id of the run whose process it is, as far as the system tells; empty for all others."""
        ...

    async def call(self, op: str, args: Mapping[str, Any], caller: Caller) -> dict[str, Any]: ...

    def stream(self, op: str, args: Mapping[str, Any], caller: Caller) -> AsyncIterator[dict[str, Any]]:
        """May end with one dictionary that has ``"end": True``; whatever else is in it goes out with the end line."""
        ...
