"""Limits per label: how many claims on items with one label may live at once, in the whole mesh as far as an observer can see.

Best effort by nature: whoever is cut off counts what it sees. After a partition heals nobody is stopped, and nothing new begins until there is room.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fabrik_node._core import blake3
from fabrik_node.domain.picking import PREFERRED

__all__ = ["Full", "Holding", "Taken", "full_limit", "limited_by", "settles"]


@dataclass(frozen=True, slots=True)
class Holding:
    """A claim that lives as far as this observer can see. ``settled``: confirmed, or granted by an arbiter."""

    item: bytes
    claim_id: bytes
    labels: Collection[str]
    holder: str
    settled: bool = True


@dataclass(frozen=True, slots=True)
class Full:
    """A limit that is reached: ``holders`` in a fixed order, one for each claim, those over the limit too."""

    label: str
    limit: int
    holders: Sequence[str]

    @property
    def text(self) -> str:
        """For people: which limit, how full, held by whom."""
        by = f", held by {' and '.join(self.holders)}" if self.holders else ""
        return f"limit of {self.label} reached: {len(self.holders)} of {self.limit}{by}"


def limited_by(labels: Iterable[str], limits: Mapping[str, int]) -> list[str]:
    """The labels of an item that have a limit, in a fixed order. A preferred label counts without its question mark."""
    return sorted({label.removesuffix(PREFERRED) for label in labels} & limits.keys())


def full_limit(item: bytes, labels: Collection[str], limits: Mapping[str, int], holdings: Iterable[Holding]) -> Full | None:
    """The first limit that keeps ``item`` from being claimed; None when there is room. A claim on the item itself does not count."""
    wanted = limited_by(labels, limits)
    if not wanted:
        return None
    others = [(holding, limited_by(holding.labels, limits)) for holding in holdings if holding.item != item]
    for label in wanted:
        holders = sorted(holding.holder for holding, has in others if label in has)
        if len(holders) >= limits[label]:
            return Full(label, limits[label], holders)
    return None


class Taken:
    """What holdings take of the limits, counted once, for looks at many items: :meth:`is_full` says what :func:`full_limit` would say of each."""

    def __init__(self, limits: Mapping[str, int], holdings: Iterable[Holding]) -> None:
        self._has: dict[bytes, Counter[str]] = {}
        total: Counter[str] = Counter()
        for holding in holdings:
            has = limited_by(holding.labels, limits)
            self._has.setdefault(holding.item, Counter()).update(has)
            total.update(has)
        self._over = {label: total[label] - limit for label, limit in limits.items() if total[label] >= limit}

    def is_full(self, item: bytes, labels: Iterable[str]) -> bool:
        """Whether a limit keeps ``item`` from being claimed. Claims on the item itself do not count."""
        if not self._over:
            return False
        own = self._has.get(item, Counter())
        return any((over := self._over.get(label.removesuffix(PREFERRED))) is not None and own[label.removesuffix(PREFERRED)] <= over for label in labels)


def settles(own: Holding, limits: Mapping[str, int], holdings: Iterable[Holding]) -> Full | None:
    """Whether a claim that is about to be confirmed has room among all others: those that are settled go first, the rest by a hash that is the same everywhere."""

    def place(holding: Holding) -> tuple[bool, bytes]:
        return (not holding.settled, blake3(holding.claim_id))

    return full_limit(own.item, own.labels, limits, [holding for holding in holdings if place(holding) < place(own)])
