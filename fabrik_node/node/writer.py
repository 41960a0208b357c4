"""The one writer: everything that changes the replica passes here, in batches, in this order: build, persist, merge, publish.

A batch is either local commands (group commit: one transaction for all that are waiting) or the segments of one peer.
Two local commands with one key never share a batch, so each sees what the one before it did.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fabrik_node._core import Chained, ChainResult, Changes, Replica, SigningKey, Verified
from fabrik_node.clock import Clock
from fabrik_node.errors import FabrikError, Internal, StoreFailed
from fabrik_node.ports import OpStore

if TYPE_CHECKING:  # names of the stub, not of the extension
    from fabrik_node._core import Write

__all__ = ["BATCH_COMMANDS_MAX", "Committed", "Writer"]

BATCH_COMMANDS_MAX = 256
"""Local commands in one transaction: keeps one commit below some tens of milliseconds."""
_THREAD_OPS_MIN = 2_000
"""A merge of more ops than this leaves the event loop free."""


@dataclass(frozen=True, slots=True)
class Committed:
    """One batch that is durable and merged. ``pos`` is the store's position of its last row."""

    chained: Sequence[Chained]
    changes: Changes
    pos: int
    ops: int
    local: bool


@dataclass(slots=True)
class _Local:
    key: Hashable
    build: Callable[[], Sequence[Write]]
    done: asyncio.Future[list[Chained]]


@dataclass(slots=True)
class _Remote:
    verified: Sequence[Verified]
    done: asyncio.Future[ChainResult]


@dataclass(slots=True)
class _Waiting:
    local: deque[_Local] = field(default_factory=deque)
    remote: deque[_Remote] = field(default_factory=deque)


class Writer:
    """Call :meth:`run` as a task, then :meth:`submit` and :meth:`ingest` from the same loop.

    After a failed persist every call raises the same :class:`StoreFailed`: the node must stop (``failed`` says why).
    """

    def __init__(self, replica: Replica, store: OpStore, key: SigningKey, clock: Clock, publish: Callable[[Committed], None]) -> None:
        self._replica = replica
        self._store = store
        self._key = key
        self.epoch = 0
        """Of our own log; set before the first submit."""
        self._clock = clock
        self._publish = publish
        self._waiting = _Waiting()
        self._wake = asyncio.Event()
        self._closing = False
        self.failed: FabrikError | None = None
        self.halted: FabrikError | None = None
        """Why local writes are refused although the store is sound; None while they are not. Segments of peers are still taken."""

    async def submit(self, key: Hashable, build: Callable[[], Sequence[Write]]) -> list[Chained]:
        """One local op. ``build`` runs in the writer, on the newest state: it checks and returns the writes, or raises.

        Returns when the op is durable and merged. No writes: no op, an empty list.
        """
        self._check_open()
        if self.halted is not None:
            raise self.halted
        done: asyncio.Future[list[Chained]] = asyncio.get_running_loop().create_future()
        self._waiting.local.append(_Local(key, build, done))
        self._wake.set()
        return await done

    async def ingest(self, verified: Sequence[Verified]) -> ChainResult:
        """Segments of a peer, verified already. Returns when what is new of them is durable and merged."""
        self._check_open()
        done: asyncio.Future[ChainResult] = asyncio.get_running_loop().create_future()
        self._waiting.remote.append(_Remote(verified, done))
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
                    await _whole(self._remote_batch())
                if self._waiting.local:
                    await _whole(self._local_batch())
        except FabrikError as error:
            self._fail(error)
            raise
        except BaseException as error:
            self._fail(StoreFailed(f"the writer ended: {error!r}", "look at the node's log, then start it again"))
            raise

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
        draft = self._replica.draft(self._key, self.epoch)
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
                writes = command.build()
                chained = draft.append(writes, self._clock.wall_ms()) if writes else []
            except Exception as error:  # noqa: BLE001 - a broken command must not stop the node's writer
                command.done.set_exception(_told(error))
                continue
            keys.add(command.key)
            accepted.append((command, chained))
        self._waiting.local.extendleft(reversed(deferred))
        everything = [each for _, chained in accepted for each in chained]
        try:
            await self._commit(everything, local=True)
        except BaseException as error:
            refused = _told(error)
            for command, _ in accepted:
                if not command.done.done():
                    command.done.set_exception(refused)
            raise
        for command, chained in accepted:
            if not command.done.done():
                command.done.set_result(chained)

    async def _remote_batch(self) -> None:
        remote = self._waiting.remote.popleft()
        if remote.done.cancelled():
            return
        try:
            result = self._replica.chain(remote.verified)
        except FabrikError as error:  # the peer's fault: it may not stop the node
            remote.done.set_exception(error)
            return
        try:
            await self._commit([each for each in result.chained if each.branch == 0], local=False)  # the store keeps no other branches yet
        except BaseException as error:
            if not remote.done.done():
                remote.done.set_exception(_told(error))
            raise
        if not remote.done.done():
            remote.done.set_result(result)

    async def _commit(self, chained: Sequence[Chained], *, local: bool) -> None:
        if not chained:
            return
        pos = await self._store.append(chained)
        ops = sum(each.ops for each in chained)
        if ops > _THREAD_OPS_MIN:
            changes = await asyncio.to_thread(self._replica.merge, chained)
        else:
            changes = self._replica.merge(chained)
        self._publish(Committed(chained, changes, pos, ops, local))


async def _whole(batch: Coroutine[Any, Any, None]) -> None:
    """Await a batch to its end, also when cancelled meanwhile; then be cancelled."""
    task = asyncio.ensure_future(batch)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error from None
        raise


def _told(error: BaseException) -> FabrikError:
    """What a caller is told of the error that broke its batch."""
    if isinstance(error, FabrikError):
        return error
    told = Internal(f"a write broke: {error!r}", "report this with the node's log")
    told.__cause__ = error
    return told
