"""The look at all leases, in each beat and whenever a claim is to be taken over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fabrik_node.clock import Clock
from fabrik_node.domain.leases import LeaseTable
from fabrik_node.ids import show_id
from fabrik_node.node.board import Board

__all__ = ["LeaseWatch"]


class LeaseWatch:
    """Feeds :class:`LeaseTable` with the claims that there are. ``tell`` writes an event."""

    def __init__(self, board: Board, leases: LeaseTable, clock: Clock, tell: Callable[[str, Mapping[str, Any]], None]) -> None:
        self._board = board
        self._leases = leases
        self._clock = clock
        self._tell = tell
        self.listens: Callable[[], bool] = lambda: True
        """Whether anybody whom we expect could be heard now: without that, no lease is taken for lost."""
        self.strays: dict[bytes, float] = {}
        """Claims that an arbiter granted and of which nothing is known here, with their TTL in seconds: watched like the others."""

    def look(self) -> None:
        """See :meth:`LeaseTable.watch`. Claims that are suspected from now on are told, once."""
        held = {claim.claim_id: claim.ttl_s(self._board.stage(item)) for item, claim in self._board.claims() if claim.held}
        for claim_id in self._leases.watch(self._clock.now(), {**self.strays, **held}, listens=self.listens()):
            self._tell("claim.suspected", {"claim_id": show_id(claim_id)})
