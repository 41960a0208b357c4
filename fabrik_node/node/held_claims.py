"""The claims that are held, kept by changes: most items that were ever claimed are over, and each beat looks at the others alone."""

from __future__ import annotations

from collections.abc import Iterable

from fabrik_node._core import Changes
from fabrik_node.domain.claims import Claim, decode_claim
from fabrik_node.domain.schema import Kind
from fabrik_node.node.board import Board

__all__ = ["HeldClaims"]


class HeldClaims:
    """Belongs to the event loop, and must be told of every change. Invariant: the winning claims that were not given back, as of the last change."""

    def __init__(self, board: Board) -> None:
        self._by_item = {item: claim for item, claim in board.claims() if claim.held}

    def note(self, changes: Changes) -> None:
        """What became of claims."""
        for change in changes.of(Kind.CLAIM):
            if change.new is not None and (claim := decode_claim(change.new)).held:
                self._by_item[change.id] = claim
            else:
                self._by_item.pop(change.id, None)

    def all(self) -> Iterable[tuple[bytes, Claim]]:
        """``(item, claim)``."""
        return self._by_item.items()
