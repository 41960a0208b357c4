"""One author's log of work items, made with the real core: what a busy pipeline leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fabrik_node._core import SEGMENT_BYTES_MAX, Chained, Replica, SigningKey, cbor_encode, coalesce, genesis_encode
from fabrik_node.domain.schema import ItemField, Kind

if TYPE_CHECKING:
    from fabrik_node._core import Write

__all__ = ["OPS_PER_ITEM", "Workload", "append_ops", "as_segments", "item_write", "make_workload", "row_writes"]

OPS_PER_ITEM = 10
"""A title, and then changes of priority, labels and body, as people and agents make them."""
_DRAFT_OPS = 5_000
WALL_MS = 1_780_000_000_000


@dataclass(frozen=True, slots=True)
class Workload:
    """``singles``: one signed op each. ``segments``: the same ops, joined to full segments with one signature each."""

    genesis: bytes
    segments: list[bytes]
    singles: list[bytes]
    ops: int
    value_bytes: int


def item_write(number: int) -> Write:
    """The write of op ``number`` of the log."""
    item, turn = divmod(number, OPS_PER_ITEM)
    key = item.to_bytes(16, "big")
    match turn:
        case 0:
            return (Kind.ITEM, key, ItemField.TITLE, f"Item {item}: one of very many in this log", None)
        case 1:
            return (Kind.ITEM, key, ItemField.CREATED_MS, WALL_MS + number, None)
        case 2:
            return (Kind.ITEM, key, ItemField.LABELS, ["python", "bench"], None)
        case 3:
            return (Kind.ITEM, key, ItemField.BODY, "What is to be done, in a sentence or two, as an agent finds it in its prompt.", None)
        case _:
            return (Kind.ITEM, key, ItemField.PRIORITY, turn * 1000 + item % 7, None)


def _one_write(number: int) -> Sequence[Write]:
    return (item_write(number),)


def append_ops(
    replica: Replica, key: SigningKey, epoch: int, ops: int, writes: Callable[[int], Sequence[Write]] = _one_write
) -> Iterator[tuple[list[bytes], int]]:
    """Sign ``ops`` ops onto the log, in batches that are merged into ``replica``: ``(single segments, bytes of their values)``."""
    for start in range(0, ops, _DRAFT_OPS):
        draft = replica.draft(key, epoch)
        batch: list[Chained] = []
        values = 0
        for number in range(start, min(ops, start + _DRAFT_OPS)):
            drafted = writes(number)
            values += sum(len(cbor_encode(write[3])) for write in drafted)
            batch += draft.append(drafted, WALL_MS + number)
        replica.merge(batch)
        yield [each.data for each in batch], values


def as_segments(batches: Iterable[tuple[list[bytes], int]]) -> Iterator[list[bytes]]:
    """The batches of :func:`append_ops`, joined to segments as full as they may be."""
    pending: list[bytes] = []
    for singles, _ in batches:
        joined = coalesce([*pending, *singles], SEGMENT_BYTES_MAX)
        pending = joined[-1:]
        if joined[:-1]:
            yield joined[:-1]
    if pending:
        yield pending


def row_writes(number: int) -> list[Write]:
    """An op that adds an item with five fields."""
    item = number.to_bytes(16, "big")
    fields = [
        (ItemField.TITLE, f"Item {number}: one of very many in this log"),
        (ItemField.CREATED_MS, WALL_MS + number),
        (ItemField.LABELS, ["python", "bench"]),
    ]
    fields += [(ItemField.BODY, "What is to be done, in a sentence or two, as an agent finds it in its prompt."), (ItemField.PRIORITY, number % 7)]
    return [(Kind.ITEM, item, field, value, None) for field, value in fields]


def make_workload(ops: int, *, keep_singles: bool = False, writes: Callable[[int], Sequence[Write]] = _one_write) -> Workload:
    """A mesh of one author with ``ops`` ops."""
    key = SigningKey.from_seed(bytes(range(32)))
    genesis = genesis_encode(key.public, "bench", bytes(16), WALL_MS)
    replica = Replica(genesis)
    epoch = 1 << 32 | 7
    first = replica.draft(key, epoch).genesis(WALL_MS)
    replica.merge(first)
    opening = [each.data for each in first]
    singles = list(opening)
    value_bytes = 0

    def counted() -> Iterator[tuple[list[bytes], int]]:
        nonlocal value_bytes
        for data, values in append_ops(replica, key, epoch, ops, writes):
            value_bytes += values
            if keep_singles:
                singles.extend(data)
            yield data, values

    segments = [*opening, *(segment for group in as_segments(counted()) for segment in group)]
    return Workload(genesis, segments, singles, replica.ops, value_bytes)
