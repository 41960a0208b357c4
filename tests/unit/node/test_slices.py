"""A bulk is merged in parts: in order, none too large unless it is one segment, and each knows how many segments follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from fabrik_node.node.batches import slices


@dataclass(frozen=True)
class Part:
    ops: int


@pytest.mark.promise("I20")
@pytest.mark.parametrize(
    ("sizes", "cut"),
    [
        ([], []),
        ([1], [[1]]),
        ([9], [[9]]),
        ([2, 2, 1], [[2, 2, 1]]),
        ([2, 2, 2], [[2, 2], [2]]),
        ([9, 1, 9], [[9], [1], [9]]),
        ([5, 1, 4, 5], [[5], [1, 4], [5]]),
    ],
)
def test_slices_hold_at_most_so_many_ops(sizes: list[int], cut: list[list[int]]) -> None:
    segments: Any = [Part(ops) for ops in sizes]
    found = list(slices(segments, 5))
    assert [[each.ops for each in part] for part, _ in found] == cut
    assert [left for _, left in found] == [sum(map(len, cut[place + 1 :])) for place in range(len(cut))]
