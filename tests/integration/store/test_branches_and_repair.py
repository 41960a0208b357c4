"""Branches, rows that are set aside and put back, and packing: against SQLite and the in-memory twin, with real segments."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from store_doubles import HandClock, fake_chained

from fabrik_node import _core
from fabrik_node._core import Chained, Replica, SigningKey
from fabrik_node.errors import StoreFailed
from fabrik_node.ports import Event, OpStore, StoredSegment
from fabrik_node.store.migrations import known_migrations
from fabrik_node.store.sqlite import SqliteStore

MESH = bytes(range(32))
Opener = Callable[..., Awaitable[SqliteStore]]
KEY = SigningKey.from_seed(b"\x07" * 32)
GENESIS = _core.genesis_encode(KEY.public, "mesh", b"n" * 16, 1)


def author_ops(count: int, *, text: str = "title", start: Sequence[bytes] = ()) -> list[Chained]:
    """``count`` ops of one log, each its own segment, behind those of ``start``."""
    replica = Replica(GENESIS)
    replica.load(list(start))
    draft = replica.draft(KEY, 1)
    chained = [] if start else draft.genesis(1)
    while len(chained) < count:
        chained += draft.append([(1, b"i" * 16, 1, f"{text} {len(chained)}", None)], 1)
    return chained


async def rows_of(store: OpStore, branch: int = 0) -> list[StoredSegment]:
    return await store.read(KEY.public, 1, 0, 100_000_000, branch)


async def spans(store: OpStore, branch: int = 0) -> list[tuple[int, int]]:
    return [(row.first_seq, row.last_seq) for row in await rows_of(store, branch)]


async def test_branches_have_rows_of_their_own(store: OpStore) -> None:
    await store.append([fake_chained(1, 1, 5), fake_chained(1, 4, 4, branch=1, base=(0, 3)), fake_chained(1, 5, 6, branch=1), fake_chained(1, 6, 6)])
    await store.append([fake_chained(1, 7, 7, branch=1), fake_chained(1, 6, 8, branch=2, base=(1, 5))])
    key = b"\x01" * 32
    assert [(row.first_seq, row.last_seq) for row in await store.read(key, 1, 0, 10_000)] == [(1, 5), (6, 6)]
    assert [(row.first_seq, row.branch) for row in await store.read(key, 1, 0, 10_000, 1)] == [(4, 1), (5, 1), (7, 1)]
    assert [row.first_seq for row in await store.read(key, 1, 6, 10_000, 1)] == [7]
    assert await store.read(key, 1, 0, 10_000, 3) == []
    assert [row.branch async for batch in store.load() for row in batch] == [0, 1, 1, 0, 1, 2]
    stats = await store.stats()
    assert (stats["logs"], stats["ops"], stats["segments"]) == (1, 6 + 4 + 3, 6)


@pytest.mark.parametrize(
    "wrong",
    [
        fake_chained(1, 4, branch=2, base=(0, 3)),  # not the next number
        fake_chained(1, 5, branch=1, base=(0, 3)),  # not behind its base
        fake_chained(1, 4, branch=1),  # unknown, without a base
        fake_chained(1, 1, branch=0, base=(0, 0)),  # there already
    ],
)
async def test_a_branch_opens_exactly_behind_its_base(store: OpStore, wrong: Chained) -> None:
    await store.append([fake_chained(1, 1, 5)])
    with pytest.raises(StoreFailed):
        await store.append([wrong])
    assert await store.append([fake_chained(1, 4, branch=1, base=(0, 3))]) == 2


async def test_what_is_beyond_heads_and_what_holds_them(store: OpStore) -> None:
    chained = author_ops(8)
    replica = Replica(GENESIS)
    await store.append(chained[:5])
    replica.merge(chained[:5])
    heads = replica.heads()
    await store.append(chained[5:])
    await store.append([fake_chained(9, 1, 3)])
    found = [(row.author[0], row.first_seq) async for batch in store.load_beyond(heads) for row in batch]
    assert found == [(KEY.public[0], 6), (KEY.public[0], 7), (KEY.public[0], 8), (9, 1)]
    (row,) = await store.head_rows(heads)
    assert row is not None
    assert (row.first_seq, row.last_seq, row.data) == (5, 5, chained[4].data)
    await store.set_aside([(row.pos, "damaged: test")])
    assert await store.head_rows(heads) == [None]


async def test_rows_that_are_set_aside_leave_their_log_and_are_kept(store: OpStore, clock: HandClock) -> None:
    chained = author_ops(6)
    await store.append(chained)
    await store.set_aside([(3, "damaged: bits"), (4, "follows a damaged row"), (99, "not there")])
    assert await spans(store) == [(1, 1), (2, 2), (5, 5), (6, 6)]
    damaged = await store.damaged()
    assert [(row.pos, row.first_seq, row.why, row.at_ms) for row in damaged] == [
        (3, 3, "damaged: bits", clock.wall_ms()),
        (4, 4, "follows a damaged row", clock.wall_ms()),
    ]
    assert await store.damaged_data(4) == chained[3].data
    assert await store.damaged_data(7) == b""
    await store.forget_damaged([4])
    assert [row.pos for row in await store.damaged()] == [3]


async def test_a_log_goes_on_behind_a_hole_at_its_end_and_from_its_start(store: OpStore) -> None:
    """The ops of a hole are merged: what comes next follows them. After a start that lost them, the log goes on where its rows end."""
    chained = author_ops(6)
    await store.append(chained[:4])
    await store.set_aside([(4, "damaged")])
    with pytest.raises(StoreFailed):
        await store.append([chained[5]])
    await store.append([chained[4]])
    assert await spans(store) == [(1, 1), (2, 2), (3, 3), (5, 5)]
    await store.set_aside([(5, "follows a damaged row")])
    await store.append(chained[3:5])
    assert await spans(store) == [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]


async def test_a_branch_that_lost_all_its_rows_gives_its_number_back(store: OpStore) -> None:
    await store.append([fake_chained(1, 1, 5), fake_chained(1, 4, branch=1, base=(0, 3))])
    await store.set_aside([(2, "follows a damaged row")])
    await store.append([fake_chained(1, 3, 4, branch=1, base=(0, 2))])
    assert [(row.first_seq, row.last_seq) for row in await store.read(b"\x01" * 32, 1, 0, 1000, 1)] == [(3, 4)]


@pytest.mark.promise("I8")
@pytest.mark.parametrize(("hole", "fetched"), [((3, 4), (3, 4)), ((3, 4), (1, 8)), ((3, 4), (2, 6)), ((7, 8), (7, 8)), ((1, 2), (1, 4)), ((5, 6), (4, 8))])
async def test_a_hole_is_filled_with_what_a_peer_sent(store: OpStore, hole: tuple[int, int], fetched: tuple[int, int]) -> None:
    """Rows of two ops; what is fetched covers the hole, cut as the peer has it."""
    chained = author_ops(8)
    data = [each.data for each in chained]
    await store.append([*fit(data, [(1, 2), (3, 4), (5, 6), (7, 8)])])
    (pos,) = [row.pos for row in await rows_of(store) if (row.first_seq, row.last_seq) == hole]
    await store.set_aside([(pos, "damaged: bits")])
    await store.refill(KEY.public, 1, 0, _core.coalesce(data[fetched[0] - 1 : fetched[1]], 262_144))
    assert await store.damaged() == []
    held = await spans(store)
    assert held[0][0] == 1
    assert held[-1][1] == 8
    assert all(after[0] == before[1] + 1 for before, after in pairwise(held))
    replica = Replica(GENESIS)
    result = replica.load([row.data async for batch in store.load() for row in batch])
    assert (result.damaged, result.stranded, result.ops) == ([], [], 8), "rows in order of pos chain, with all their signatures"
    everything = Replica(GENESIS)
    everything.load(data)
    assert replica.state_digest() == everything.state_digest()


@pytest.mark.promise("I8")
@pytest.mark.parametrize("parts", [[(3, 4), (5, 6)], [(3, 3), (4, 4), (5, 5), (6, 6)], [(2, 3), (4, 7)], [(1, 5), (6, 8)]])
async def test_a_hole_that_is_filled_from_several_segments_keeps_its_place(store: OpStore, parts: Sequence[tuple[int, int]]) -> None:
    """A branch that leaves within the hole came after its row: rows in order of pos must still chain."""
    data = [each.data for each in author_ops(8)]
    await store.append([*fit(data, [(1, 2), (3, 6), (7, 8)])])
    other = author_ops(6, text="other", start=data[:4])[:1]
    replica = loaded(data)
    (branched,) = replica.chain(replica.verify([other[0].data]), admit_all=True).chained
    assert (branched.branch, branched.base) == (1, (0, 4))
    await store.append([branched])
    await store.set_aside([(2, "damaged: bits")])
    await store.refill(KEY.public, 1, 0, [_core.coalesce(data[first - 1 : last], 262_144)[0] for first, last in parts])
    assert await store.damaged() == []
    rows = [row async for batch in store.load() for row in batch]
    result = Replica(GENESIS).load([row.data for row in rows], [row.branch for row in rows])
    assert (result.damaged, result.stranded, result.ops) == ([], [], 9)


def loaded(data: Sequence[bytes]) -> Replica:
    replica = Replica(GENESIS)
    replica.load(list(data))
    return replica


@pytest.mark.parametrize("fetched", [(3, 3), (4, 4), (5, 6)])
async def test_half_a_hole_is_not_filled(store: OpStore, fetched: tuple[int, int]) -> None:
    data = [each.data for each in author_ops(6)]
    await store.append([*fit(data, [(1, 2), (3, 4), (5, 6)])])
    await store.set_aside([(2, "damaged: bits")])
    with pytest.raises(StoreFailed, match="nothing was put back"):
        await store.refill(KEY.public, 1, 0, _core.coalesce(data[fetched[0] - 1 : fetched[1]], 262_144))
    assert await spans(store) == [(1, 2), (5, 6)]
    assert [row.pos for row in await store.damaged()] == [2]


def fit(data: Sequence[bytes], cuts: Sequence[tuple[int, int]]) -> list[Chained]:
    """The ops of ``data`` chained in segments of these spans."""
    replica = Replica(GENESIS)
    joined = [_core.coalesce(data[first - 1 : last], 262_144)[0] for first, last in cuts]
    return list(replica.chain(replica.verify(joined), admit_all=True).chained)


async def test_forks_and_suspended_logs_are_remembered_once(store: OpStore) -> None:
    assert await store.put_fork(b"a" * 32, 1, 5, b"proof", 77)
    assert not await store.put_fork(b"a" * 32, 1, 5, b"proof", 78)
    assert await store.put_fork(b"a" * 32, 1, 5, b"other", 79)
    assert [(row.number, row.seq, row.proof, row.at_ms) for row in await store.forks()] == [(1, 5, b"proof", 77), (2, 5, b"other", 79)]
    for seq in range(10, 100):
        await store.put_fork(b"a" * 32, 1, seq, b"p", 1)
    assert len(await store.forks()) == 64, "a log that forks for ever does not fill the disk"
    await store.suspend(b"b" * 32, 2)
    await store.suspend(b"a" * 32, 3)
    await store.suspend(b"b" * 32, 2)
    assert await store.suspended() == [(b"a" * 32, 3), (b"b" * 32, 2)]


async def told(store: OpStore, pos: int) -> None:
    await store.append_events([Event("x", 1)], pos)


async def test_old_small_rows_are_packed_and_nothing_is_lost(reopen: Opener) -> None:
    store = await reopen()
    chained = author_ops(700)
    data = [each.data for each in chained]
    pos = await store.append(chained)
    assert await store.pack(512, KEY.public) == 0, "rows whose events are not told stay as they are"
    await told(store, pos)
    steps = []
    while gone := await store.pack(512, KEY.public):
        steps.append(gone)
    rows = await rows_of(store)
    assert sum(steps) == 700 - len(rows) > 500
    assert [row.first_seq for row in rows[-64:]] == list(range(637, 701)), "the newest stay as they came"
    assert rows[0].pos == 1
    signatures = await store._read("test", lambda connection: connection.execute("SELECT sigs, last_seq FROM segments WHERE pos = 1").fetchone())
    assert len(signatures[0]) == 72 * (signatures[1] - 1), "the author keeps the signature of each of its ops"
    assert [int.from_bytes(signatures[0][at : at + 8], "big") for at in range(0, len(signatures[0]), 72)] == list(range(1, signatures[1]))
    replica, before = Replica(GENESIS), Replica(GENESIS)
    result = replica.load([row.data async for batch in store.load() for row in batch])
    before.load(data)
    assert (result.damaged, result.stranded) == ([], [])
    assert (replica.state_digest(), replica.frontier_digest(), replica.ops) == (before.state_digest(), before.frontier_digest(), 700)
    more = author_ops(3, text="more", start=data)
    assert await store.append(more) == pos + 3, "places are not used again"
    assert await store.integrity_check() == []
    assert (await store.stats())["ops"] == 703


async def test_packing_stops_at_holes_and_large_rows(reopen: Opener) -> None:
    store = await reopen()
    chained = author_ops(600)
    pos = await store.append(chained)
    await store.set_aside([(300, "damaged: bits")])
    await told(store, pos)
    while await store.pack(512, b""):
        pass
    held = await spans(store)
    assert [first for first, last in held if first <= 300 <= last] == []
    assert held[0] == (1, held[0][1])
    assert held[0][1] <= 299
    await store.refill(KEY.public, 1, 0, [chained[299].data])
    assert await store.damaged() == []
    replica = Replica(GENESIS)
    assert replica.load([row.data async for batch in store.load() for row in batch]).ops == 600


async def test_a_database_of_the_first_schema_is_brought_up_to_date(reopen: Opener) -> None:
    chained = author_ops(5)
    store = await reopen(migrations=known_migrations()[:1])

    def fill(connection: object) -> None:
        connection.execute("INSERT INTO logs (id, author, epoch) VALUES (1, ?, 1)", (KEY.public,))  # type: ignore[attr-defined]
        rows = [(1, each.first_seq, each.last_seq, 7, each.data) for each in chained]
        connection.executemany("INSERT INTO segments (log, first_seq, last_seq, stored_ms, data) VALUES (?, ?, ?, ?, ?)", rows)  # type: ignore[attr-defined]

    await store._writer.run(fill)
    await store.close()
    store = await reopen()
    assert [migration.number for migration in store.migrated] == [2]
    assert [(row.pos, row.first_seq, row.data, row.branch) for row in await rows_of(store)] == [(n + 1, n + 1, each.data, 0) for n, each in enumerate(chained)]
    assert await store.append(author_ops(1, text="next", start=[each.data for each in chained])) == 6
    assert await store.integrity_check() == []


def test_the_schema_of_this_version_is_complete(tmp_path: Path) -> None:
    assert [migration.name for migration in known_migrations()] == ["first", "branches"]
