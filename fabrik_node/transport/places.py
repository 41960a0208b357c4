"""Who may be at the gate: a bounded number of callers, and no address takes the places of all others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Generic, TypeVar

from fabrik_node.domain.neighbourhood import neighbourhood

__all__ = ["Places", "neighbourhood"]

_T = TypeVar("_T")


class Places(Generic[_T]):
    """``most`` places. For one caller more, the oldest of the neighbourhood that has most of them gives way, the newcomer's counted."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: dict[_T, str] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[_T]:
        return iter(tuple(self._held))

    def take(self, who: _T, address: str) -> _T | None:
        """A place for ``who``; whoever gives way for it, if somebody does."""
        home = neighbourhood(address)
        loser = self._loser(home) if len(self._held) >= self._most else None
        if loser is not None:
            del self._held[loser]
        self._held[who] = home
        return loser

    def leave(self, who: _T) -> None:
        """Its place is free. Nothing happens when it has none."""
        self._held.pop(who, None)

    def _loser(self, newcomer: str) -> _T:
        counts = Counter(self._held.values())
        counts[newcomer] += 1
        most = max(count for home, count in counts.items() if count > (home == newcomer))  # a newcomer of its own has nobody who could give way
        return next(who for who, home in self._held.items() if counts[home] == most)
