"""What every filling of the port does; run against SQLite and against the in-memory twin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from store_doubles import HandClock, fake_chained

from fabrik_node.domain.runs import ProcessId, RunRow, RunState
from fabrik_node.errors import StoreFailed
from fabrik_node.ports import Event, Invite, JoinRow, OpStore, PeerAddress, StoredSegment

RUN = RunRow(b"r" * 16, b"i" * 16, b"c" * 16, b"n" * 32, "agent", RunState.STARTING, "coding", 1000)


async def everything(store: OpStore, batch_bytes: int = 4_194_304) -> list[StoredSegment]:
    return [row async for batch in store.load(batch_bytes) for row in batch]


async def test_new_store_is_empty(store: OpStore) -> None:
    assert await everything(store) == []
    assert await store.read(b"\x01" * 32, 1, 0, 1000) == []
    assert await store.last_op_ms() == 0
    assert await store.events(0, 10) == []
    assert await store.events_upto() == (0, 0)
    assert await store.get_meta("anything") is None
    assert await store.peers() == []
    assert await store.runs() == []
    stats = await store.stats()
    assert {key: stats[key] for key in ("logs", "ops", "segments", "events", "runs", "peers")} == dict.fromkeys(
        ("logs", "ops", "segments", "events", "runs", "peers"), 0
    )


async def test_rows_come_back_in_order_of_arrival(store: OpStore, clock: HandClock) -> None:
    assert await store.append([fake_chained(1, 1, 5), fake_chained(2, 1)]) == 2
    clock.advance(1)
    assert await store.append([fake_chained(1, 6), fake_chained(1, 7, 9, data=b"x" * 5000)]) == 4
    assert await store.append([]) == 0
    rows = await everything(store)
    assert [(row.pos, row.author[0], row.first_seq, row.last_seq) for row in rows] == [(1, 1, 1, 5), (2, 2, 1, 1), (3, 1, 6, 6), (4, 1, 7, 9)]
    assert rows[3].data == b"x" * 5000
    assert await everything(store, batch_bytes=1) == rows
    assert await store.last_op_ms() == clock.wall_ms()
    stats = await store.stats()
    assert (stats["logs"], stats["ops"], stats["segments"]) == (2, 10, 4)


async def test_reading_a_log_from_within_a_segment(store: OpStore) -> None:
    await store.append([fake_chained(1, 1, 10), fake_chained(1, 11, 20), fake_chained(1, 21, 21), fake_chained(1, 1, 3, epoch=2)])

    async def firsts(after: int, max_bytes: int = 10_000, epoch: int = 1) -> list[int]:
        return [row.first_seq for row in await store.read(b"\x01" * 32, epoch, after, max_bytes)]

    assert await firsts(0) == [1, 11, 21]
    assert await firsts(9) == [1, 11, 21]
    assert await firsts(10) == [11, 21]
    assert await firsts(15) == [11, 21]
    assert await firsts(20) == [21]
    assert await firsts(21) == []
    assert await firsts(0, max_bytes=1) == [1]
    assert await firsts(0, epoch=2) == [1]
    assert await firsts(0, epoch=3) == []
    assert await firsts(2**70) == []
    assert await firsts(0, epoch=2**70) == []


@pytest.mark.parametrize(
    ("held", "batch"),
    [
        ([], [(1, 2, 2)]),
        ([(1, 1, 5)], [(1, 5, 6)]),
        ([(1, 1, 5)], [(1, 7, 8)]),
        ([(1, 1, 5)], [(1, 1, 5)]),
        ([(1, 1, 5)], [(2, 1, 1), (1, 6, 6), (1, 8, 8)]),
    ],
)
async def test_a_segment_must_continue_its_log(store: OpStore, held: Sequence[tuple[int, int, int]], batch: Sequence[tuple[int, int, int]]) -> None:
    await store.append([fake_chained(*segment) for segment in held])
    with pytest.raises(StoreFailed, match="starts at op"):
        await store.append([fake_chained(*segment) for segment in batch])
    assert [(row.author[0], row.first_seq, row.last_seq) for row in await everything(store)] == list(held)
    assert await store.append([fake_chained(9, 1)]) == len(held) + 1, "a refused batch leaves the store sound and no hole in pos"


async def test_events_are_numbered_without_gaps(store: OpStore) -> None:
    await store.append([fake_chained(1, 1), fake_chained(1, 2)])
    first = await store.append_events([Event("a", 1, {"n": 1}), Event("b", 2)], upto_pos=1)
    second = await store.append_events([Event("c", 3, {"text": "ä\u2028\n", "deep": [{"x": None}]})], upto_pos=2)
    assert [event.seq for event in [*first, *second]] == [1, 2, 3]
    assert await store.events(0, 10) == [*first, *second]
    assert await store.events(1, 1) == [first[1]]
    assert await store.events(3, 10) == []
    assert await store.events(0, 0) == []
    assert await store.events(-5, 2) == first
    assert await store.events_upto() == (3, 2)
    assert await store.append_events([], upto_pos=1) == []
    assert await store.events_upto() == (3, 2), "the cursor never goes back"
    with pytest.raises(StoreFailed):
        await store.append_events([Event("d", 4)], upto_pos=3)
    assert await store.events_upto() == (3, 2)


async def test_meta_and_starts(store: OpStore) -> None:
    await store.set_meta("k", b"1")
    await store.set_meta("k", b"")
    assert await store.get_meta("k") == b""
    assert [await store.next_start() for _ in range(3)] == [1, 2, 3]


async def test_peers_are_kept_by_url(store: OpStore) -> None:
    await store.put_peer(PeerAddress("ws://b"))
    await store.put_peer(PeerAddress("ws://a", b"k" * 32))
    await store.put_peer(PeerAddress("ws://b", b"q" * 32))
    assert await store.peers() == [PeerAddress("ws://a", b"k" * 32), PeerAddress("ws://b", b"q" * 32)]


async def test_an_invitation_is_redeemed_as_often_as_it_says(store: OpStore) -> None:
    once, twice, many = (Invite(bytes([n]) * 16, b"s" * 32, 3, 1234.5, "boot", uses_max, created_ms=n) for n, uses_max in ((1, 1), (2, 2), (3, 0)))
    for invite in (once, twice, many):
        await store.put_invite(invite)
        assert await store.invite(invite.token_id) == invite
    assert [invite.token_id for invite in await store.invites()] == [many.token_id, twice.token_id, once.token_id]
    assert await store.invite(b"u" * 16) is None
    assert [await store.use_invite(once.token_id, b"k" * 32, 5) for _ in range(2)] == [True, False]
    assert [await store.use_invite(twice.token_id, bytes([n]) * 32, 6) for n in range(3)] == [True, True, False]
    assert [await store.use_invite(many.token_id, bytes([n]) * 32, 7) for n in range(5)] == [True] * 5
    assert await store.invite(once.token_id) == replace(once, secret=b"", uses=1, ended="used")
    assert await store.invite(twice.token_id) == replace(twice, secret=b"", uses=2, ended="used")
    assert await store.invite(many.token_id) == replace(many, uses=5)
    assert await store.use_invite(b"u" * 16, b"k" * 32, 1) is False
    for invite in (once, many):
        with pytest.raises(StoreFailed):
            await store.put_invite(invite)
    assert await store.use_invite(once.token_id, b"k" * 32, 8) is False, "a second invitation with the id of a used one does not revive it"
    assert await store.end_invites([many.token_id, once.token_id, b"u" * 16], "withdrawn") == 1
    assert await store.use_invite(many.token_id, b"k" * 32, 8) is False
    assert await store.invite(many.token_id) == replace(many, secret=b"", uses=5, ended="withdrawn")
    await store.note_join(JoinRow(b"", b"q" * 32, 9))
    joins = await store.joins()
    assert [(join.token_id, join.at_ms) for join in joins] == [(once.token_id, 5), *[(twice.token_id, 6)] * 2, *[(many.token_id, 7)] * 5, (b"", 9)]


async def test_runs_are_replaced_by_id_and_newest_first(store: OpStore) -> None:
    process = ProcessId(123, "456", "boot")
    ended = replace(
        RUN, state=RunState.FAILED, process=process, ended_ms=5, exit_code=-9, reason="r", branch="b", worktree="/w", log="/l", engine="e", phase="qa"
    )
    newer = replace(RUN, run_id=b"s" * 16, started_ms=2000)
    same_time = replace(RUN, run_id=b"z" * 16)
    await store.put_run(RUN)
    await store.put_run(newer)
    await store.put_run(same_time)
    await store.put_run(ended)
    assert await store.runs() == [newer, same_time, ended]
    assert await store.open_runs() == [row for row in await store.runs() if not row.ended_ms]
    assert ended not in await store.open_runs()
    elsewhere = replace(RUN, run_id=b"t" * 16, item=b"j" * 16)
    await store.put_run(elsewhere)
    assert (await store.runs_of(RUN.item), await store.runs_of(elsewhere.item)) == ([newer, same_time, ended], [elsewhere])
    assert await store.runs_of(bytes(16)) == []
    assert await store.run(ended.run_id) == ended
    assert await store.run(bytes(16)) is None


async def test_closed_store_refuses_everything(store: OpStore) -> None:
    await store.close()
    await store.close()
    with pytest.raises(StoreFailed, match="closed"):
        await store.append([fake_chained(1, 1)])
    with pytest.raises(StoreFailed, match="closed"):
        await store.last_op_ms()
