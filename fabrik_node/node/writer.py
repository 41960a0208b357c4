"""The one writer: everything that changes the replica passes here, in batches, in this order: build, persist, merge, publish.

A batch is either local commands (group commit: one transaction for all that are waiting) or the segments of one peer.
Two local commands with one key never share a batch, so each sees what the one before it did.

Doubt about our own log is raised and ended here, in the turn of the commit that gives the reason (:mod:`fabrik_node.node.epochs`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fabrik_node._core import Chained, ChainResult, Draft, Replica, SigningKey, Verified
from fabrik_node.clock import Clock
from fabrik_node.errors import FabrikError, StoreFailed, StoreFull
from fabrik_node.node.batches import Committed, WriterHooks, heard, slices, told, whole
from fabrik_node.node.epochs import Epochs, doubt_about
from fabrik_node.node.pending import Pending
from fabrik_node.ports import OpStore

if TYPE_CHECKING:  # names of the stub, not of the extension
    from fabrik_node._core import Write

__all__ = ["BATCH_COMMANDS_MAX", "Writer"]

BATCH_COMMANDS_MAX = 256
"""Local commands in one transaction: keeps one commit below some tens of milliseconds."""
_THREAD_OPS_MIN = 2_000
"""A merge of more ops than this leaves the event loop free."""
_MERGE_OPS = 4_096
"""Ops that are merged in one call, if they are of several segments: the loop can not read the replica while it goes on, some ten milliseconds on a busy machine."""


@dataclass(slots=True)
class _Local:
    key: Hashable
    make: Callable[[Draft], list[Chained]]
    done: asyncio.Future[list[Chained]]
    last: bool = False
    """What comes after it has to see that it is merged."""


@dataclass(slots=True)
class _Remote:
    verified: Sequence[Verified]
    data: Sequence[bytes]
    peer: bytes
    done: asyncio.Future[ChainResult]


@dataclass(slots=True)
class _Waiting:
    local: deque[_Local] = field(default_factory=deque)
    remote: deque[_Remote] = field(default_factory=deque)


class Writer:
    """Call :meth:`run` as a task, then :meth:`submit` and :meth:`ingest` from the same loop.

    After a failed persist every call raises the same :class:`StoreFailed`: the node must stop (``failed`` says why).
    """

    def __init__(self, replica: Replica, store: OpStore, key: SigningKey, epochs: Epochs, clock: Clock, hooks: WriterHooks) -> None:
        self._replica = replica
        self._store = store
        self._key = key
        self._epochs = epochs
        self._clock = clock
        self._hooks = hooks
        self._waiting = _Waiting()
        self._wake = asyncio.Event()
        self._closing = False
        self.pending = Pending()
        """Segments whose predecessors are missing."""
        self.failed: FabrikError | None = None
        self.full_batches = 0
        """Batches of local ops that had no room for others that waited."""
        self.pos = 0
        """The store's position of the newest row that was committed here."""

    async def submit(self, key: Hashable, build: Callable[[], Sequence[Write]]) -> list[Chained]:
        """One local op. ``build`` runs in the writer, on the newest state: it checks and returns the writes, or raises.

        Returns when the op is durable and merged. No writes: no op, an empty list.
        """

        def make(draft: Draft) -> list[Chained]:
            writes = build()
            return draft.append(writes, self._clock.wall_ms()) if writes else []

        return await self._queue(key, make)

    async def rotate(self, make: Callable[[Draft], list[Chained]]) -> list[Chained]:
        """The op by which our key names the next one; ``make`` drafts it in the writer, on the newest state, or raises. What follows is judged as the merge judges it then."""
        return await self._queue(make, make, last=True)

    async def ingest(self, verified: Sequence[Verified], data: Sequence[bytes], peer: bytes) -> ChainResult:
        """Segments of a peer, verified already, and their bytes. Returns when what is new of them is durable and merged; the rest may wait in :attr:`pending`."""
        self._check_open()
        done: asyncio.Future[ChainResult] = asyncio.get_running_loop().create_future()
        self._waiting.remote.append(_Remote(verified, data, peer, done))
        self._wake.set()
        return await done

    def close(self) -> None:
        """Finish what is waiting, then let :meth:`run` return."""
        self._closing = True
        self._wake.set()

    async def run(self) -> None:
        """The loop. Ends after :meth:`close`, or after a failed persist, which it raises.

        However it ends, nobody is left waiting. Cancelling it lets the batch in hand end first: the store would finish its half anyway.
        """
        try:
            while True:
                if not self._waiting.local and not self._waiting.remote:
                    if self._closing:
                        return
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                if self._waiting.remote:
                    await whole(self._remote_batch())
                if self._waiting.local:
                    await whole(self._local_batch())
        except FabrikError as error:
            self._fail(error)
            raise
        except BaseException as error:
            self._fail(StoreFailed(f"the writer ended: {error!r}", "look at the node's log, then start it again"))
            raise

    async def _queue(self, key: Hashable, make: Callable[[Draft], list[Chained]], *, last: bool = False) -> list[Chained]:
        self._check_open()
        done: asyncio.Future[list[Chained]] = asyncio.get_running_loop().create_future()
        self._waiting.local.append(_Local(key, make, done, last))
        self._wake.set()
        return await done

    def _check_open(self) -> None:
        if self.failed is not None:
            raise StoreFailed(f"this node stopped writing: {self.failed}", "look at its log, then start it again")
        if self._closing:
            raise StoreFailed("this node is stopping", "fabrik-node serve")

    def _fail(self, error: FabrikError) -> None:
        self.failed = error
        dones: list[asyncio.Future[Any]] = [*(each.done for each in self._waiting.local), *(each.done for each in self._waiting.remote)]
        for done in dones:
            if not done.done():
                done.set_exception(error)
        self._waiting = _Waiting()

    async def _local_batch(self) -> None:
        epoch, opening = self._epochs.current, list[Chained]()
        follows = None
        if self._epochs.doubt:
            try:
                await self._epochs.save()  # a crash behind the first op of the new epoch may not forget why there is one
            except StoreFull as full:
                self._refuse(full)
                return
            epoch, follows = self._epochs.fresh()
        draft = self._replica.draft(self._key, epoch)
        if follows is not None:
            opening = draft.open_epoch(follows, self._clock.wall_ms())
        keys: set[Hashable] = set()
        accepted: list[tuple[_Local, list[Chained]]] = []
        deferred: deque[_Local] = deque()
        while self._waiting.local and len(accepted) < BATCH_COMMANDS_MAX:
            command = self._waiting.local.popleft()
            if command.done.cancelled():
                continue
            if command.key in keys:
                deferred.append(command)
                continue
            try:
                chained = command.make(draft)
            except Exception as error:  # noqa: BLE001 - a broken command must not stop the node's writer
                command.done.set_exception(told(error))
                continue
            keys.add(command.key)
            accepted.append((command, chained))
            if command.last:
                break
        self.full_batches += len(accepted) >= BATCH_COMMANDS_MAX and bool(self._waiting.local)
        self._waiting.local.extendleft(reversed(deferred))
        everything = [each for _, chained in accepted for each in chained]
        try:
            if everything:
                await self._commit([*opening, *everything], None)
                if epoch != self._epochs.current:
                    await self._opened(epoch)
        except BaseException as error:
            refused = told(error)
            for command, _ in accepted:
                if not command.done.done():
                    command.done.set_exception(refused)
            if not self._is_full(error):
                raise
            return
        for command, chained in accepted:
            if not command.done.done():
                command.done.set_result(chained)

    def _refuse(self, full: StoreFull) -> None:
        """Nothing of what waits can be written."""
        self._hooks.disk_full(full)
        for command in self._waiting.local:
            if not command.done.done():
                command.done.set_exception(full)
        self._waiting.local.clear()

    async def _opened(self, epoch: int) -> None:
        """The ops are durable and counted, so their callers are told so. A note that does not fit on a full disk is written later."""
        try:
            await self._epochs.opened(epoch)
        except StoreFull as full:
            self._hooks.disk_full(full)

    async def _remote_batch(self) -> None:
        remote = self._waiting.remote.popleft()
        if remote.done.cancelled():
            return
        try:
            result = self._replica.chain(remote.verified)
        except FabrikError as error:  # the peer's fault: it may not stop the node
            remote.done.set_exception(error)
            return
        for gap in result.gaps:
            self.pending.put(remote.verified[gap.index], remote.data[gap.index])
        try:
            if reason := doubt_about(result, self._key.public, self._epochs.current):
                await self._epochs.suspect(reason)  # durable before the ops that raise it
            await self._commit(result.chained, remote.peer, result.suspended)
            await self._note(result, remote.peer)
        except BaseException as error:
            if not remote.done.done():
                remote.done.set_exception(told(error))
            if not self._is_full(error):
                raise
            return
        if not remote.done.done():
            remote.done.set_result(result)
        self._retry(result.chained)

    async def _note(self, result: ChainResult, peer: bytes) -> None:
        """The ops are durable and merged, whatever becomes of the notes about them: those that find no space are written when there is some."""
        try:
            await self._hooks.chained(result, peer)
        except StoreFull as full:
            self._hooks.disk_full(full)

    def _retry(self, chained: Sequence[Chained]) -> None:
        """What waited for these ops is next."""
        for log, first, last in {((each.author, each.epoch), each.first_seq, each.last_seq) for each in chained}:
            again = self.pending.take(log, first, last)
            if again:
                done: asyncio.Future[ChainResult] = asyncio.get_running_loop().create_future()
                done.add_done_callback(heard)
                self._waiting.remote.appendleft(_Remote([each for each, _ in again], [data for _, data in again], b"", done))

    async def _commit(self, chained: Sequence[Chained], peer: bytes | None, suspended: Sequence[tuple[bytes, int]] = ()) -> None:
        if chained:
            await self._append(chained, peer, suspended)
        if self._replica.stale and (changes := await self._hooks.rebuild()) is not None:
            self._hooks.publish(Committed([], changes, self.pos, 0, peer))

    async def _append(self, chained: Sequence[Chained], peer: bytes | None, suspended: Sequence[tuple[bytes, int]]) -> None:
        pos = self.pos = await self._store.append(chained)
        for author, epoch in suspended:
            await self._store.suspend(author, epoch)
        for part, left in slices(chained, _MERGE_OPS):
            ops = sum(each.ops for each in part)
            if ops > _THREAD_OPS_MIN:
                changes = await asyncio.to_thread(self._replica.merge, part)
            else:
                changes = self._replica.merge(part)
            self._hooks.publish(Committed(part, changes, pos - left, ops, peer))

    def _is_full(self, error: BaseException) -> bool:
        """A full disk refuses, and does not end the node."""
        if isinstance(error, StoreFull):
            self._hooks.disk_full(error)
            return True
        return False
