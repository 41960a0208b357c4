"""Who may be at the gate: a bounded number of callers, and no address takes the places of all others."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["Places", "neighbourhood"]

_T = TypeVar("_T")
_PREFIX_V6 = 64
"""Bits of an IPv6 address that a host is given; the others are its own to choose, 2^64 of them (RFC 4291, section 2.5.1)."""


def neighbourhood(address: str) -> str:
    """What stands for whoever calls from there: an IPv4 address, or the /64 of an IPv6 one; any other text as it is."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        mapped = found.ipv4_mapped
        return str(mapped) if mapped is not None else str(ipaddress.ip_network((found, _PREFIX_V6), strict=False))
    return str(found)


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
