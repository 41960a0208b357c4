"""The node itself: a replica, its store, its writer, its event stream and its presence, and what each tells the others.

Implements :class:`fabrik_node.ports.Replication` for the transport. :class:`~fabrik_node.node.pipeline.NodePipeline` stands on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fabrik_node._core import Chained, Changes, Head, Replica, SigningKey, coalesce, segment_span
from fabrik_node.clock import Clock
from fabrik_node.domain.leases import LeaseTable, LeaseTiming
from fabrik_node.domain.schema import Kind
from fabrik_node.errors import BrokenStore, FabrikError
from fabrik_node.ids import show_key
from fabrik_node.node.board import Board
from fabrik_node.node.doubt import Doubt, chain_hash
from fabrik_node.node.happenings import happenings
from fabrik_node.node.invitations import redeem
from fabrik_node.node.loading import check_loaded
from fabrik_node.node.presence import Presence
from fabrik_node.node.stream import EventSink, EventStream
from fabrik_node.node.writer import Committed, Writer
from fabrik_node.ports import IngestReport, OpStore, PeerStatus, StoredSegment

if TYPE_CHECKING:  # names of the stub, not of the extension
    from fabrik_node._core import Write

__all__ = ["Node"]


_OWN_FORK = "own_fork"
"""Where the store keeps the other history's segment, which with ours is the proof."""


class Node:
    """Build it with :meth:`open`, run :meth:`run` as a task, stop with :meth:`close`.

    Invariants: an op is durable before it is merged, merged before it is published; nothing is published that is not durable.
    """

    def __init__(
        self, *, replica: Replica, store: OpStore, key: SigningKey, start: int, clock: Clock, timing: LeaseTiming, sink: EventSink, boot_id: str
    ) -> None:
        self.replica = replica
        self.store = store
        self.clock = clock
        self.timing = timing
        self.boot_id = boot_id
        self.board = Board(replica)
        self.leases = LeaseTable(timing)
        self.stream = EventStream(store, sink, clock)
        self.presence = Presence(key, replica.mesh_id, start, clock, self.leases, is_admitted=replica.is_admitted, is_holder=self.board.is_holder)
        self.writer = Writer(replica, store, key, clock, self._publish)
        self.key = key
        self.tell = self.stream.note
        """One event of the node itself."""
        self.doubt = Doubt(key.public, self.tell, self.name_of)
        self.refused_segments = 0
        self.peers: Callable[[], Sequence[PeerStatus]] = tuple
        self.connected: Callable[[], int] = int
        """How many peers are connected now; may be asked from any thread."""
        self.describe_self: Callable[[], Mapping[str, Any]] = dict
        self._names: dict[bytes, str] = {}
        self._committed: list[Callable[[Sequence[Head]], None]] = []
        self._members: list[Callable[[], None]] = []
        self._missing: list[Callable[[bytes, int, int], None]] = []
        self._changed: list[Callable[[Changes], None]] = []
        self._beat = asyncio.Event()
        self._peers_moved = asyncio.Event()
        self._closing = asyncio.Event()

    # ---- life -----------------------------------------------------------------------------------

    async def load(self) -> int:
        """Replay the store into the replica; events that a crash cut off are told now. The number of ops."""
        upto = await self.stream.start()
        late: list[StoredSegment] = []
        async for batch in self.store.load():
            told = [row.data for row in batch if row.pos <= upto]
            late += [row for row in batch if row.pos > upto]
            if told:
                check_loaded(await asyncio.to_thread(self.replica.load, told))
        self._names = self.board.names()
        if late:
            verified = await asyncio.to_thread(self.replica.verify, [row.data for row in late])
            changes = self.replica.merge(self.replica.chain(verified, admit_all=True).chained)
            self.stream.tell(happenings(changes, self._names), late[-1].pos)
            self._names = self.board.names()
        own = [head.epoch for head in self.replica.heads() if head.author == self.public]
        if not own:
            raise BrokenStore(
                "the store holds no op of this node, though its key was used before", "restore the store; or make a new node: fabrik-node init in an empty home"
            )
        self.writer.epoch = max(own)
        if await self.store.get_meta(_OWN_FORK) is not None:
            self.saw_fork(self.public, self.writer.epoch, 0, self.public)
        now = self.clock.now()
        for _, claim in self.board.claims():
            if claim.held:
                self.leases.first_seen(claim.claim_id, now)
        return self.replica.ops

    async def run(self) -> None:
        """Serve until :meth:`close`. Raises a group with what made the node stop: a failed persist ends it (fail-stop)."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write_to_the_end(), name="writer")
            tasks.create_task(self.stream.run(), name="events")
            tasks.create_task(self._beats(), name="presence")

    async def close(self) -> None:
        """Finish what was accepted, then let :meth:`run` return."""
        self._closing.set()
        self._beat.set()
        self.writer.close()

    # ---- local writes ---------------------------------------------------------------------------

    async def write(self, key: object, build: Callable[[], Sequence[Write]]) -> list[Chained]:
        """One local op; see :meth:`Writer.submit`."""
        return await self.writer.submit(key, build)

    def on_changes(self, callback: Callable[[Changes], None]) -> Callable[[], None]:
        """``callback(net changes)`` in the event loop after each commit; returns the way out."""
        self._changed.append(callback)
        return lambda: self._changed.remove(callback)

    def name_of(self, key: bytes) -> str:
        """The node's name, or the first hex digits of its key."""
        return self._names.get(key) or show_key(key)[:8]

    @property
    def names(self) -> Mapping[bytes, str]:
        """Node names by key."""
        return self._names

    def tell_peers_moved(self) -> None:
        """The transport says that the state of a peer changed. From the event loop only."""
        moved, self._peers_moved = self._peers_moved, asyncio.Event()
        moved.set()

    async def peers_moved(self) -> None:
        """Returns at the next change of a peer's state."""
        await self._peers_moved.wait()

    @property
    def epoch(self) -> int:
        """Of our own log."""
        return self.writer.epoch

    def beat_now(self) -> None:
        """Publish presence without waiting for the next beat. From the event loop only."""
        self._beat.set()

    # ---- Replication ----------------------------------------------------------------------------

    @property
    def mesh_id(self) -> bytes:
        """32 bytes."""
        return self.replica.mesh_id

    @property
    def public(self) -> bytes:
        """Our key."""
        return self.key.public

    def sign(self, message: bytes) -> bytes:
        """With our key; the caller puts a domain string in front."""
        return self.key.sign(message)

    def is_admitted(self, key: bytes) -> bool:
        """A member, or the genesis admin."""
        return self.replica.is_admitted(key)

    def heads(self) -> Sequence[Head]:
        """All logs."""
        return self.replica.heads()

    def frontier_digest(self) -> bytes:
        """Equal on two nodes exactly when they hold the same logs."""
        return self.replica.frontier_digest()

    async def ingest(self, segments: Sequence[bytes], peer: bytes) -> IngestReport:
        """See :meth:`fabrik_node.ports.Replication.ingest`."""
        try:
            verified = await asyncio.to_thread(self.replica.verify, segments) if len(segments) > 1 else self.replica.verify(segments)
        except FabrikError as error:
            self.refused_segments += len(segments)
            self.stream.note("peer.bad_segment", {"peer": self.name_of(peer), "code": error.code, "message": error.message})
            raise
        result = await self.writer.ingest(verified)
        unrooted = [gap for gap in result.gaps if gap.unrooted]
        for fork in result.forks:
            self.saw_fork(fork.author, fork.epoch, fork.seq, peer)
            if fork.author == self.public:  # proven by a signature, unlike what a peer announces: it holds over restarts
                await self.store.set_meta(_OWN_FORK, fork.segment)
        for gap in unrooted:
            self.saw_fork(gap.author, gap.epoch, gap.first_seq - 1, peer)
        taken = [each for each in result.chained if each.branch == 0]
        if own := sum(each.ops for each in taken if each.author == self.public):
            self.doubt.learned_own(own, peer)
        return IngestReport(
            new_ops=sum(each.ops for each in taken),
            duplicates=result.duplicates,
            heads=self._heads_of({(each.author, each.epoch) for each in verified}),
            gaps=[(gap.author, gap.epoch, gap.have_seq) for gap in result.gaps],
            unrooted=[(gap.author, gap.epoch) for gap in unrooted],
            taken=taken,
            forks=len(result.forks) + len(unrooted),
            unknown_authors=result.unknown,
        )

    def saw_fork(self, author: bytes, epoch: int, seq: int, peer: bytes) -> None:
        """Another op than ours at this place of a log."""
        self.doubt.saw_fork(author, epoch, seq, peer)
        self.writer.halted = self.doubt.own_fork

    async def check_own_log(self, epoch: int, heads: Sequence[tuple[int, bytes]], peer: bytes) -> None:
        """A peer that refuses our log announced these heads of it; one that names no head refuses it as forked."""
        if not heads:
            self.saw_fork(self.public, epoch, 0, peer)
        for seq, digest in heads:
            ours = await chain_hash(self.replica, self.store, self.public, epoch, seq)
            if ours is not None and ours != digest:
                self.saw_fork(self.public, epoch, seq, peer)

    def check_writable(self) -> None:
        """Returns when local writes are taken, else raises why not. Before anything is done outside that a write has to follow."""
        if self.writer.halted is not None:
            raise self.writer.halted

    def heads_of(self, author: bytes, epoch: int) -> Sequence[Head]:
        """See :meth:`fabrik_node.ports.Replication.heads_of`."""
        return self._heads_of({(author, epoch)})

    def suspended(self) -> Sequence[tuple[bytes, int]]:
        """See :meth:`fabrik_node.ports.Replication.suspended`."""
        return self.replica.suspended()

    def holds(self, author: bytes, epoch: int, seq: int, head: bytes) -> bool:
        """See :meth:`fabrik_node.ports.Replication.holds`."""
        return self.replica.holds(author, epoch, seq, head)

    def places(self, author: bytes, epoch: int) -> Sequence[tuple[int, bytes]]:
        """See :meth:`fabrik_node.ports.Replication.places`."""
        return self.replica.places(author, epoch)

    def cursors(self, author: bytes, epoch: int, places: Sequence[tuple[int, bytes]]) -> Sequence[tuple[int, int]]:
        """See :meth:`fabrik_node.ports.Replication.cursors`."""
        return self.replica.cursors(author, epoch, places)

    async def read(self, author: bytes, epoch: int, branch: int, after_seq: int, max_bytes: int) -> tuple[list[StoredSegment], bool]:
        """See :meth:`fabrik_node.ports.Replication.read`."""
        head = self.replica.head(author, epoch, branch)
        if branch or head is None or head.seq <= after_seq:
            return [], True
        rows = [row for row in await self.store.read(author, epoch, after_seq, max_bytes) if row.first_seq <= head.seq]
        if not rows:
            return [], True
        joined = [StoredSegment(rows[-1].pos, *segment_span(data), data) for data in coalesce([row.data for row in rows], max_bytes)]
        return joined, joined[-1].last_seq >= head.seq

    def on_committed(self, callback: Callable[[Sequence[Head]], None]) -> Callable[[], None]:
        """See :meth:`fabrik_node.ports.Replication.on_committed`."""
        self._committed.append(callback)
        return lambda: self._committed.remove(callback)

    def on_missing(self, callback: Callable[[bytes, int, int], None]) -> Callable[[], None]:
        """See :meth:`fabrik_node.ports.Replication.on_missing`."""
        self._missing.append(callback)
        return lambda: self._missing.remove(callback)

    def on_members(self, callback: Callable[[], None]) -> Callable[[], None]:
        """See :meth:`fabrik_node.ports.Replication.on_members`."""
        self._members.append(callback)
        return lambda: self._members.remove(callback)

    async def redeem(self, token_id: bytes, key: bytes, check: Callable[[bytes], bool]) -> None:
        """See :meth:`fabrik_node.ports.Replication.redeem`."""
        await redeem(self, token_id, key, check)

    def ephemeral_in(self, message: bytes) -> tuple[bytes, int] | None:
        """See :meth:`fabrik_node.ports.Replication.ephemeral_in`."""
        return self.presence.receive(message)

    def ephemerals(self) -> Sequence[tuple[bytes, int, bytes]]:
        """See :meth:`fabrik_node.ports.Replication.ephemerals`."""
        return [(heard.author, heard.counter, heard.message) for heard in self.presence.heard().values()]

    def on_ephemeral(self, callback: Callable[[bytes, int, bytes], None]) -> Callable[[], None]:
        """See :meth:`fabrik_node.ports.Replication.on_ephemeral`."""
        return self.presence.subscribe(callback)

    # ---- inside ---------------------------------------------------------------------------------

    def _publish(self, committed: Committed) -> None:
        kinds = committed.changes.kinds
        if kinds & {Kind.MEMBER, Kind.NODE}:
            self._names = self.board.names()
        self.stream.tell(happenings(committed.changes, self._names), committed.pos)
        now = self.clock.now()
        for change in committed.changes.of(Kind.CLAIM):
            if change.new is not None:
                self.leases.first_seen(change.new[1], now)
        heads = self._heads_of({(each.author, each.epoch) for each in committed.chained})
        if Kind.MEMBER in kinds:
            for told in tuple(self._members):  # before the heads: a session must know whom to take logs from
                told()
        for tell in tuple(self._committed):
            tell(heads)
        for follower in tuple(self._changed):
            follower(committed.changes)

    async def _write_to_the_end(self) -> None:
        await self.writer.run()
        self.stream.close()  # after the last batch, whose events it stores

    async def _beats(self) -> None:
        while not self._closing.is_set():
            self._beat.clear()
            held = {claim.claim_id for _, claim in self.board.claims() if claim.held}
            self.leases.keep(held)
            self.presence.publish(self.describe_self())
            try:
                async with asyncio.timeout(self.timing.beat_s):
                    await self._beat.wait()
            except TimeoutError:
                continue

    def _heads_of(self, logs: set[tuple[bytes, int]]) -> list[Head]:
        """Every branch of these logs."""
        found: list[Head] = []
        for author, epoch in logs:
            branch = 0
            while (head := self.replica.head(author, epoch, branch)) is not None:
                found.append(head)
                branch += 1
        return found
