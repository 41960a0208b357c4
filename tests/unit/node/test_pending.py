"""The buffer of what came too early: bounded, fair, and nothing in it is taken twice."""

from __future__ import annotations

import random

import pytest
from fabrik_twin.author import Author, new_genesis
from fabrik_twin.op import Key

from fabrik_node import _core
from fabrik_node.node.pending import Pending

GENESIS = new_genesis(Key(bytes([1]) * 32))
CHECKER = _core.Replica(GENESIS)


def early(seed: int, epoch: int, count: int, size: int = 10) -> list[tuple[_core.Verified, bytes]]:
    """Segments of one op each, of one author."""
    author = Author(GENESIS, Key(bytes([seed]) * 32), epoch=epoch)
    made = []
    for number in range(count):
        author.op((1, bytes(16), 1, "x" * size + str(number), None))
        made.append(author.segment(number + 1, number + 1))
    return list(zip(CHECKER.verify(made), made, strict=True))


@pytest.mark.promise("E14")
def test_what_fits_is_given_once_and_in_order() -> None:
    pending = Pending()
    parts = early(2, 5, 9)
    shuffled = parts[2:]
    random.Random(5).shuffle(shuffled)
    for verified, data in [*shuffled, *shuffled]:
        pending.put(verified, data)
    assert (pending.count, pending.bytes) == (7, sum(len(data) for _, data in shuffled))
    log = (parts[0][0].author, 5)
    assert pending.take(log, 1, 1) == [], "op 2 is missing"
    assert [verified.first_seq for verified, _ in pending.take(log, 2, 4)] == [3, 4, 5]
    assert pending.take(log, 2, 4) == []
    assert pending.take((log[0], 6), 1, 100) == []
    assert [data for _, data in pending.take(log, 5, 8)] == [data for _, data in parts[5:]]
    assert (pending.count, pending.bytes, pending.logs()) == (0, 0, [])


@pytest.mark.promise("E14")
def test_it_is_bounded_and_one_author_can_not_push_out_another() -> None:
    small = early(2, 5, 3)
    flood = early(3, 7, 200, size=100)
    pending = Pending(bytes_max=20_000, count_max=50)
    for verified, data in small:
        pending.put(verified, data)
    for verified, data in flood:
        pending.put(verified, data)
        assert pending.count <= 50
        assert pending.bytes <= 20_000
    assert pending.dropped == 203 - pending.count
    assert len(pending.take((small[0][0].author, 5), 1, 3)) == 3, "the quiet author lost nothing"
    left = pending.take((flood[0][0].author, 7), 1, 200)
    assert [verified.first_seq for verified, _ in left] == list(range(201 - len(left), 201)), "the oldest went first"
    assert pending.bytes == 0


def test_a_log_that_is_taken_no_more_is_forgotten() -> None:
    pending = Pending()
    for verified, data in early(2, 5, 4):
        pending.put(verified, data)
    pending.forget((early(2, 5, 1)[0][0].author, 5))
    assert (pending.count, pending.bytes) == (0, 0)
