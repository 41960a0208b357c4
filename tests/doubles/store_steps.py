"""One write of every kind to a store, and how to see afterwards which of them are there."""

from __future__ import annotations

import errno
import os
from functools import cache
from typing import TYPE_CHECKING

from fabrik_node import _core
from fabrik_node._core import Replica, SigningKey
from fabrik_node.domain.runs import RunRow, RunState
from fabrik_node.errors import StoreFull
from fabrik_node.ports import Event, Invite, JoinRow, PeerAddress
from fabrik_node.store.transactions import WRITES

if TYPE_CHECKING:
    from fabrik_node._core import Chained
    from fabrik_node.store.sqlite import SqliteStore

__all__ = ["KEY", "OPS", "SNAPSHOTS", "STEPS", "Steps", "author_ops", "done"]

KEY = SigningKey.from_seed(b"\x07" * 32)
GENESIS = _core.genesis_encode(KEY.public, "mesh", b"n" * 16, 1)
OPS = 400
SNAPSHOTS = (b"old" * 10_000, b"new" * 20_000)
STEPS = tuple(name for name in WRITES if name != "probe")
HOLE = 390
"""The row that is set aside before the steps, and put back by one of them."""


@cache
def author_ops(count: int = OPS) -> tuple[Chained, ...]:
    """Ops of one log, each a segment of its own."""
    draft = Replica(GENESIS).draft(KEY, 1)
    chained = draft.genesis(1)
    while len(chained) < count:
        chained += draft.append([(1, b"i" * 16, 1, f"title {len(chained)}", None)], 1)
    return tuple(chained)


class Steps:
    """What a child does. :attr:`armed`: the preparation is over. :attr:`no_space`: the next write meets a full disk."""

    def __init__(self) -> None:
        self.armed = False
        self.no_space = False

    def fault(self, point: str) -> None:
        """A full disk, when one is wanted."""
        if self.no_space and point == "meta.before_commit":
            self.no_space = False
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def prepare(self, store: SqliteStore) -> None:
        """What the steps need to be there."""
        ops = author_ops()
        pos = await store.append(ops[:-1])
        await store.append_events([Event("before", 1)], pos)
        await store.put_invite(Invite(b"old" + bytes(13), b"s" * 32, 2, 1.0, "boot"))
        await store.put_invite(Invite(b"late" + bytes(12), b"s" * 32, 2, 1.0, "boot"))
        await store.set_aside([(HOLE, "damaged: bits"), (HOLE - 2, "damaged: more")])
        await store.refill(KEY.public, 1, 0, [ops[HOLE - 3].data])

    async def do(self, store: SqliteStore, name: str) -> None:
        """The write of this name; before the first, a full disk and its end, which is the write ``probe``."""
        ops = author_ops()
        match name:
            case "append":
                self.no_space = True
                try:
                    await store.set_meta("full", b"1")
                except StoreFull:
                    assert await store.try_again()
                await store.append(ops[-1:])
            case "events":
                await store.append_events([Event("after", 2)], 0)
            case "meta":
                await store.set_meta("key", b"value")
            case "start":
                await store.next_start()
            case "peer":
                await store.put_peer(PeerAddress("ws://a"))
            case "invite":
                await store.put_invite(Invite(b"new" + bytes(13), b"s" * 32, 2, 1.0, "boot"))
            case "redeem":
                await store.use_invite(b"old" + bytes(13), KEY.public, 1)
            case "end_invites":
                await store.end_invites([b"late" + bytes(12)], "withdrawn")
            case "join":
                await store.note_join(JoinRow(b"", KEY.public, 1))
            case "run":
                await store.put_run(RunRow(b"r" * 16, b"i" * 16, b"c" * 16, b"n" * 32, "agent", RunState.RUNNING, "coding", 1))
            case "set_aside":
                await store.set_aside([(380, "damaged: bits")])
            case "forget_damaged":
                await store.forget_damaged([380])
            case "refill":
                await store.refill(KEY.public, 1, 0, [ops[HOLE - 1].data])
            case "pack":
                assert await store.pack(512, KEY.public)
            case "fork":
                await store.put_fork(b"a" * 32, 1, 5, b"proof", 1)
            case "suspend":
                await store.suspend(b"a" * 32, 1)
            case _:
                raise AssertionError(f"no step for the write {name}")


async def done(store: SqliteStore) -> dict[str, bool]:
    """Of each step, whether its write is there."""
    rows = [row async for batch in store.load() for row in batch]
    damaged = {row.pos for row in await store.damaged()}
    aside = not any(row.pos == 380 for row in rows) and not any(row.first_seq <= 380 <= row.last_seq for row in rows)
    return {
        "append": any(row.last_seq == OPS for row in rows),
        "events": len(await store.events(0, 10)) == 2,
        "meta": await store.get_meta("key") == b"value",
        "start": (await store._read("test", lambda connection: connection.execute("SELECT value FROM counters WHERE name = 'starts'").fetchone()))[0] == 1,
        "peer": len(await store.peers()) == 1,
        "invite": await store.invite(b"new" + bytes(13)) is not None,
        "redeem": await _ended(store, b"old" + bytes(13)) == "used",
        "end_invites": await _ended(store, b"late" + bytes(12)) == "withdrawn",
        "join": any(join.token_id == b"" for join in await store.joins()),
        "run": len(await store.runs()) == 1,
        "set_aside": aside,
        "forget_damaged": aside and 380 not in damaged,
        "refill": HOLE not in damaged,
        "pack": any(row.last_seq > row.first_seq for row in rows),
        "fork": len(await store.forks()) == 1,
        "suspend": len(await store.suspended()) == 1,
    }


async def _ended(store: SqliteStore, token_id: bytes) -> str:
    found = await store.invite(token_id)
    assert found is not None
    assert bool(found.secret) == (not found.ended)
    return found.ended
