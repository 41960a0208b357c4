"""The in-memory twin of the store: the port ``OpStore`` without a disk, for fast tests of the rooms above it.

The contract tests of ``tests/integration/store`` run against both.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fabrik_node.clock import Clock
from fabrik_node.domain.runs import RunRow
from fabrik_node.errors import StoreFailed
from fabrik_node.ports import Event, Invite, PeerAddress, StoredSegment

if TYPE_CHECKING:
    from fabrik_node._core import Chained

__all__ = ["MemoryStore"]


class MemoryStore:
    """See :class:`~fabrik_node.ports.OpStore`. Set :attr:`failing` to make every further write fail like a broken disk."""

    def __init__(self, clock: Clock) -> None:
        self.failing: StoreFailed | None = None
        self._clock = clock
        self._closed = False
        self._rows: list[StoredSegment] = []
        self._heads: dict[tuple[bytes, int], int] = {}
        self._last_ms = 0
        self._events: list[Event] = []
        self._upto = 0
        self._meta: dict[str, bytes] = {}
        self._starts = 0
        self._peers: dict[str, PeerAddress] = {}
        self._invites: dict[bytes, Invite | None] = {}
        self._runs: dict[bytes, RunRow] = {}

    async def append(self, chained: Sequence[Chained]) -> int:
        self._check(writing=True)
        heads = dict(self._heads)
        for segment in chained:
            log = (segment.author, segment.epoch)
            if segment.first_seq != heads.get(log, 0) + 1:
                raise StoreFailed(f"a segment starts at op {segment.first_seq}, but the store holds {heads.get(log, 0)} ops of its log")
            heads[log] = segment.last_seq
        if not chained:
            return 0
        self._heads = heads
        for segment in chained:
            self._rows.append(StoredSegment(len(self._rows) + 1, segment.author, segment.epoch, segment.first_seq, segment.last_seq, segment.data))
        self._last_ms = self._clock.wall_ms()
        return len(self._rows)

    async def load(self, batch_bytes: int = 4_194_304) -> AsyncIterator[list[StoredSegment]]:
        self._check()
        batch: list[StoredSegment] = []
        for row in self._rows:
            batch.append(row)
            if sum(len(member.data) for member in batch) >= batch_bytes:
                yield batch
                batch = []
        if batch:
            yield batch

    async def read(self, author: bytes, epoch: int, after_seq: int, max_bytes: int) -> list[StoredSegment]:
        self._check()
        found: list[StoredSegment] = []
        for row in self._rows:
            if (row.author, row.epoch) == (author, epoch) and row.last_seq > after_seq:
                if found and sum(len(member.data) for member in found) + len(row.data) > max_bytes:
                    break
                found.append(row)
        return found

    async def last_op_ms(self) -> int:
        self._check()
        return self._last_ms

    async def append_events(self, events: Sequence[Event], upto_pos: int) -> list[Event]:
        self._check(writing=True)
        if upto_pos > len(self._rows):
            raise StoreFailed(f"events can not be done up to row {upto_pos}: the store ends at row {len(self._rows)}")
        numbered = [replace(event, seq=len(self._events) + index + 1) for index, event in enumerate(events)]
        self._events += numbered
        self._upto = max(self._upto, upto_pos)
        return numbered

    async def events(self, after: int, limit: int) -> list[Event]:
        self._check()
        return self._events[max(after, 0) :][: max(limit, 0)]

    async def events_upto(self) -> tuple[int, int]:
        self._check()
        return len(self._events), self._upto

    async def get_meta(self, key: str) -> bytes | None:
        self._check()
        return self._meta.get(key)

    async def set_meta(self, key: str, value: bytes) -> None:
        self._check(writing=True)
        self._meta[key] = value

    async def next_start(self) -> int:
        self._check(writing=True)
        self._starts += 1
        return self._starts

    async def peers(self) -> list[PeerAddress]:
        self._check()
        return [self._peers[url] for url in sorted(self._peers)]

    async def put_peer(self, peer: PeerAddress) -> None:
        self._check(writing=True)
        self._peers[peer.url] = peer

    async def put_invite(self, invite: Invite) -> None:
        self._check(writing=True)
        if invite.token_id in self._invites:
            raise StoreFailed("this invitation exists")
        self._invites[invite.token_id] = invite

    async def invite(self, token_id: bytes) -> Invite | None:
        self._check()
        return self._invites.get(token_id)

    async def use_invite(self, token_id: bytes) -> bool:
        self._check(writing=True)
        if self._invites.get(token_id) is None:
            return False
        self._invites[token_id] = None
        return True

    async def put_run(self, row: RunRow) -> None:
        self._check(writing=True)
        self._runs[row.run_id] = row

    async def runs(self) -> list[RunRow]:
        self._check()
        return sorted(self._runs.values(), key=lambda row: (row.started_ms, row.run_id), reverse=True)

    async def stats(self) -> dict[str, Any]:
        self._check()
        return {
            "logs": len(self._heads),
            "ops": sum(self._heads.values()),
            "segments": len(self._rows),
            "last_op_ms": self._last_ms,
            "events": len(self._events),
            "runs": len(self._runs),
            "peers": len(self._peers),
        }

    async def close(self) -> None:
        self._closed = True

    def _check(self, *, writing: bool = False) -> None:
        if self._closed:
            raise StoreFailed("the store is closed")
        if writing and self.failing is not None:
            raise self.failing
