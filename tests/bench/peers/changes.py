"""The workload that every library gets: field writes to a table of items, the same from one seed.

The writes are in one causal order: an author has seen all that was written before its turn. So the last write to a field wins in every library, whatever its rule for
concurrent writes, and the final values can be compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

__all__ = ["AUTHORS", "FIELDS", "ITEMS", "TURNS", "Changes", "Value", "Write", "author_key", "digest_of", "item_key", "make_changes"]

ITEMS = 10_000
HOT_ITEMS = ITEMS * 5 // 100
HOT_SHARE = 0.3
AUTHORS = 8
TURNS = 16
"""Each author writes in two turns."""
FIELDS = ("title", "body", "label", "priority", "outcome", "created_ms", "hold", "attempts")
_NUMBERS = frozenset({"priority", "created_ms", "attempts"})

Value = str | int
Write = tuple[int, int, Value]
"""``(item, place in FIELDS, value)``."""


@dataclass(frozen=True, slots=True)
class Changes:
    """``writes`` in their order. ``final``: the value of each register that was written."""

    writes: list[Write]
    final: dict[tuple[int, int], Value]

    def turns(self) -> Iterator[tuple[int, list[Write]]]:
        """``(author, its writes)``, in order."""
        for turn in range(TURNS):
            yield turn % AUTHORS, self.writes[len(self.writes) * turn // TURNS : len(self.writes) * (turn + 1) // TURNS]

    @property
    def digest(self) -> str:
        """What :func:`digest_of` gives for a library that holds the right values."""
        return digest_of(lambda item, field: self.final.get((item, field)))


def make_changes(count: int, seed: int) -> Changes:
    """``count`` writes; 30 % of them on the first 5 % of the items. No write repeats the value that is there."""
    rng = Random(seed)
    writes: list[Write] = []
    final: dict[tuple[int, int], Value] = {}
    for number in range(count):
        item = rng.randrange(HOT_ITEMS) if rng.random() < HOT_SHARE else rng.randrange(HOT_ITEMS, ITEMS)
        field = rng.randrange(len(FIELDS))
        value: Value = number * 7 if FIELDS[field] in _NUMBERS else f"{FIELDS[field]} {number}: {rng.getrandbits(64):x}"
        writes.append((item, field, value))
        final[item, field] = value
    return Changes(writes, final)


def item_key(item: int) -> bytes:
    """The id of an item: 16 bytes, as a ULID has."""
    return hashlib.sha256(b"item %d" % item).digest()[:16]


def author_key(author: int) -> bytes:
    """32 bytes that name an author; a library takes as many of them as its names have."""
    return hashlib.sha256(b"author %d" % author).digest()


def digest_of(read: Callable[[int, int], Value | None]) -> str:
    """Over the values of all registers, in order; None stands for a register without a value."""
    values = hashlib.sha256()
    for item in range(ITEMS):
        for field in range(len(FIELDS)):
            values.update(repr((item, field, read(item, field))).encode())
    return values.hexdigest()
