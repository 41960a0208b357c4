"""The node itself: a replica, its store, its writer, its event stream and its presence, and what each tells the others.

Implements :class:`fabrik_node.ports.Replication` for the transport. :class:`~fabrik_node.node.pipeline.NodePipeline` stands on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fabrik_node._core import Chained, ChainResult, Changes, Genesis, Head, SigningKey
from fabrik_node.clock import Clock
from fabrik_node.domain.leases import LeaseTable, LeaseTiming
from fabrik_node.domain.schema import Kind
from fabrik_node.domain.sparing import Sparing
from fabrik_node.errors import BrokenStore, FabrikError, StoreFull
from fabrik_node.ids import show_key
from fabrik_node.node.admission import admitted
from fabrik_node.node.audit import Audit
from fabrik_node.node.batches import Committed
from fabrik_node.node.board import Board
from fabrik_node.node.by_item import ByItem
from fabrik_node.node.clones import Clones
from fabrik_node.node.commit_times import CommitTimes
from fabrik_node.node.double_work import events_of
from fabrik_node.node.epochs import DOUBT_KEY, Epochs
from fabrik_node.node.happenings import EVENTS_PER_BATCH_MAX
from fabrik_node.node.held_claims import HeldClaims
from fabrik_node.node.inquiries import Inquiries
from fabrik_node.node.invitations import Invitations
from fabrik_node.node.knocks import Knocks
from fabrik_node.node.lease_watch import LeaseWatch
from fabrik_node.node.loading import Loaded, load, rebuild, set_aside
from fabrik_node.node.presence import Presence
from fabrik_node.node.quotas import Quotas
from fabrik_node.node.relay import read_sound
from fabrik_node.node.repair import Repair
from fabrik_node.node.requests import Requests
from fabrik_node.node.resting import rest
from fabrik_node.node.rights import submit
from fabrik_node.node.stream import EventSink, EventStream
from fabrik_node.node.tally import Tally
from fabrik_node.node.upkeep import Upkeep
from fabrik_node.node.writer import Writer
from fabrik_node.ports import IngestReport, KnockAnswer, OpStore, PeerStatus, Snapshots, StoredSegment, Traffic

if TYPE_CHECKING:  # names of the stub, not of the extension
    from fabrik_node._core import Write

__all__ = ["Node"]

_OWN_ROWS_LOST = "rows of this node's own log are damaged"


class Node:
    """Make it with :meth:`open`, run :meth:`run` as a task, stop with :meth:`close`.

    Invariants: an op is durable before it is merged, merged before it is published; nothing is published that is not durable; no stored row is sent
    that is not what was merged.
    """

    def __init__(
        self,
        *,
        genesis: bytes,
        loaded: Loaded,
        store: OpStore,
        snapshots: Snapshots | None,
        key: SigningKey,
        start: int,
        clock: Clock,
        timing: LeaseTiming,
        sink: EventSink,
        boot_id: str,
    ) -> None:
        replica = loaded.replica
        self.genesis = genesis
        self.replica = replica
        self.loaded = loaded
        self.store = store
        self.clock = clock
        self.timing = timing
        self.boot_id = boot_id
        self.key = key
        self.next_commitment = b""
        self.board = Board(replica)
        self.held_claims = HeldClaims(self.board)
        self.requests = Requests.kept(replica)
        self.by_item = ByItem(replica).fill()
        self.leases = LeaseTable(timing)
        self.commit_times = CommitTimes(clock.now())
        self.stream = EventStream(store, sink, clock)
        self.tell = self.stream.note
        """One event of the node itself."""
        self.presence = Presence(key, replica.mesh_id, start, clock, self.leases, is_admitted=replica.is_admitted, is_holder=self.board.is_holder)
        self.inquiries = Inquiries(self.presence, key.public, clock, self.beat_now, start << 32)
        self.lease_watch = LeaseWatch(self.board, self.held_claims, self.leases, clock, self.tell, self.presence.heard, key.public)
        self.audit = Audit(replica, self.presence.heard, key.public, clock, self.tell, self.name_of)
        self.quotas = Quotas(replica.heads(), self.tell, self.name_of)
        self.epochs = Epochs(replica, store, key.public, self.tell)
        self.repair = Repair(replica, store, self.tell, self.name_of, self._ask)
        self.clones = Clones(replica, store, self.epochs, key.public, clock, self.tell, self.name_of, self.repair)
        self.writer = Writer(replica, store, key, self.epochs, clock, self)
        self.upkeep = Upkeep(self, snapshots)
        self.invitations = Invitations(self)
        self.knocks = Knocks(self)
        self.stream.on_full = self.upkeep.disk_full
        self.refused_segments = 0
        self._bad_told = Sparing(count=5, window_s=600.0)
        self.tally = Tally()
        self.traffic: Callable[[], Traffic] = Traffic
        """What the connections counted."""
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
        self.rest: Callable[[asyncio.Event, float], Awaitable[None]] = rest
        """Between two beats."""
        self._peers_moved = asyncio.Event()
        self._closing = asyncio.Event()

    # ---- life -----------------------------------------------------------------------------------

    @classmethod
    async def open(cls, *, genesis: bytes, store: OpStore, key: SigningKey, snapshots: Snapshots | None = None, doubt: str = "", **parts: Any) -> Node:
        """Load the store. ``doubt``: why our own log is doubtful from the outside (a copied home, a store made anew).

        What is damaged is set aside and told. Raises :class:`BrokenStore` when nothing of ours is stored, unless there is doubt.
        """
        loaded = await load(genesis, store, snapshots, (await store.events_upto())[1])
        own = key.public
        if (
            not doubt
            and not await store.get_meta(DOUBT_KEY)
            and not any(head.author == own for head in loaded.replica.heads())
            and not any(row.author == own for row, _ in loaded.aside)
        ):
            raise BrokenStore(
                "the store holds no op of this node, though its key was used before",
                "restore the store, or learn everything from the peers: fabrik-node serve --new-store --peer URL; or make a new node: fabrik-node init in an empty home",
            )
        node = cls(genesis=genesis, loaded=loaded, store=store, snapshots=snapshots, key=key, start=await store.next_start(), **parts)
        await node._begin(doubt)
        return node

    async def _begin(self, doubt: str) -> None:
        loaded = self.loaded
        self._names = self.board.names()
        logs = {(row.author, row.epoch) for row, _ in loaded.aside}
        damaged = logs | {(row.author, row.epoch) for row in await self.store.damaged()}
        await self.epochs.start(epoch for author, epoch in damaged if author == self.public)
        if reason := doubt or self._doubt_found() or (_OWN_ROWS_LOST if self._is_ours_now(logs) else ""):
            await self.epochs.suspect(reason)  # before anything else is written: each of those writes may remove the only sign
        await self.stream.start()  # this replaces an exported file that is ahead of the store
        await set_aside(self.store, loaded)
        await self.clones.note_suspended(loaded.newly_suspended)
        for author, epoch in logs:
            rows = [(row, why) for row, why in loaded.aside if (row.author, row.epoch) == (author, epoch)]
            self.repair.tell_damaged(author, epoch, len(rows), sum(row.last_seq - row.first_seq + 1 for row, _ in rows), rows[0][1])
        await self.repair.start()
        if self._is_ours_now({(row.author, row.epoch) for row in self.repair.lost}):
            await self.epochs.suspect(_OWN_ROWS_LOST)
        for verified, data in await self.repair.waiting():
            self.writer.pending.put(verified, data)
        if loaded.late_pos:
            self.stream.tell([] if loaded.changes is None else events_of(loaded.changes, self.board, self.by_item, self._names), loaded.late_pos)
        for _, claim in self.held_claims.all():
            self.leases.first_seen(claim.claim_id, self.clock.now())

    def _is_ours_now(self, logs: set[tuple[bytes, int]]) -> bool:
        """Whether one of these is the log that we write in."""
        return (self.public, self.epochs.current) in logs

    def _doubt_found(self) -> str:
        """Why the branches that were loaded make our own log doubtful; empty when they do not."""
        if sum(1 for head in self.epochs.own_heads() if head.epoch == self.epochs.current) > 1:
            return "this node's log has two branches: its home was copied, or restored from an older image and written to"
        return ""

    async def space(self) -> None:
        """There is room again on a disk that was full: write down what could not be. Raises what the store raises."""
        await self.epochs.save()
        await self.clones.prove_again()
        await self.repair.after_commit({(row.author, row.epoch) for row in self.repair.lost})

    async def run(self) -> None:
        """Serve until :meth:`close`. Raises a group with what made the node stop: a failed persist ends it (fail-stop)."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write_to_the_end(), name="writer")
            tasks.create_task(self.stream.run(), name="events")
            tasks.create_task(self._beats(), name="presence")
            upkeep = tasks.create_task(self.upkeep.run(), name="upkeep")
            await self._closing.wait()
            upkeep.cancel()

    async def close(self) -> None:
        """Finish what was accepted, then let :meth:`run` return."""
        self._closing.set()
        self._beat.set()
        self.writer.close()

    # ---- local writes ---------------------------------------------------------------------------

    async def write(self, key: object, build: Callable[[], Sequence[Write]]) -> list[Chained]:
        """One local op; see :meth:`Writer.submit`. Raises AuthError, and writes nothing, when it would be void for lack of role."""
        return await submit(self, key, build)

    def check_writable(self) -> None:
        """Returns when local writes are taken, else raises why not. Before anything is done outside that a write has to follow."""
        if self.upkeep.full is not None:
            raise self.upkeep.full

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
        """In which we write."""
        return self.epochs.current

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

    def successor(self, key: bytes) -> bytes | None:
        """See :meth:`fabrik_node.ports.Replication.successor`."""
        return self.replica.member(key).successor

    def is_named(self, key: bytes) -> bool:
        """A member, or one that was."""
        return self.replica.member(key).named

    def names_others(self, key: bytes) -> bool:
        """An admin, or one that was."""
        return self.replica.member(key).names

    def admitted(self) -> Collection[bytes]:
        """All of them, whether they ever wrote or not."""
        return admitted(self.replica, Genesis.decode(self.genesis).recovery)

    def heads(self) -> Sequence[Head]:
        """All logs, with all their branches."""
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
            if self._bad_told.may((peer, error.code), self.clock.now()):
                self.stream.note("peer.bad_segment", {"peer": self.name_of(peer), "code": error.code, "message": error.message})
            raise
        result = await self.writer.ingest(verified, segments, peer)
        self._count(result)
        if await self.repair.fetched(verified, segments):
            self._tell_heads(self._heads_of({(each.author, each.epoch) for each in verified}))  # what follows the hole can be sent again
            if self.replica.stale and not self.repair.holes:
                await self.writer.ingest([], [], b"")  # a turn in which the replica is built anew
        return IngestReport(
            new_ops=sum(each.ops for each in result.chained),
            duplicates=result.duplicates,
            heads=self._heads_of({(each.author, each.epoch) for each in verified}),
            gaps=[(gap.author, gap.epoch, gap.have_seq) for gap in result.gaps],
            unrooted=[(gap.author, gap.epoch) for gap in result.gaps if gap.unrooted],
            taken=result.chained,
            forks=len(result.forks),
            unknown_authors=result.unknown,
        )

    def heads_of(self, author: bytes, epoch: int) -> Sequence[Head]:
        """See :meth:`fabrik_node.ports.Replication.heads_of`."""
        return self._heads_of({(author, epoch)})

    def suspended(self) -> Sequence[tuple[bytes, int]]:
        """See :meth:`fabrik_node.ports.Replication.suspended`."""
        return self.replica.suspended()

    def holds(self, author: bytes, epoch: int, seq: int, head: bytes) -> bool:
        """See :meth:`fabrik_node.ports.Replication.holds`."""
        return self.replica.holds(author, epoch, seq, head)

    def marker(self, author: bytes, epoch: int) -> tuple[int, bytes] | None:
        """See :meth:`fabrik_node.ports.Replication.marker`."""
        return self.replica.marker(author, epoch)

    def places(self, author: bytes, epoch: int) -> Sequence[tuple[int, bytes]]:
        """See :meth:`fabrik_node.ports.Replication.places`."""
        return self.replica.places(author, epoch)

    def cursors(self, author: bytes, epoch: int, places: Sequence[tuple[int, bytes]]) -> Sequence[tuple[int, int]]:
        """See :meth:`fabrik_node.ports.Replication.cursors`."""
        return self.replica.cursors(author, epoch, places)

    async def read(self, author: bytes, epoch: int, branch: int, after_seq: int, max_bytes: int) -> tuple[list[StoredSegment], bool]:
        """See :meth:`fabrik_node.ports.Replication.read`."""
        return await read_sound(self, author, epoch, branch, after_seq, max_bytes)

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

    async def check_invitation(self, token_id: bytes, check: Callable[[bytes], bool]) -> None:
        """See :meth:`fabrik_node.ports.Replication.check_invitation`."""
        await self.invitations.check(token_id, check)

    async def redeem(self, token_id: bytes, key: bytes, check: Callable[[bytes], bool], next_commitment: bytes = b"") -> None:
        """See :meth:`fabrik_node.ports.Replication.redeem`."""
        await self.invitations.redeem(token_id, key, check, next_commitment)

    def knock(self, key: bytes, name: str, next_commitment: bytes, address: str) -> KnockAnswer:
        """See :meth:`fabrik_node.ports.Replication.knock`."""
        return self.knocks.knock(key, name, next_commitment, address)

    def committed_s(self, behind: Iterable[tuple[bytes, int, int, int]]) -> float:
        """See :meth:`fabrik_node.ports.Replication.committed_s`."""
        return self.commit_times.age_s((((author, epoch, branch), seq) for author, epoch, branch, seq in behind), self.clock.now())

    def ephemeral_in(self, message: bytes) -> tuple[bytes, int] | None:
        """See :meth:`fabrik_node.ports.Replication.ephemeral_in`."""
        taken = self.presence.receive(message)
        if taken is not None and self.audit.is_waited_for(self.presence.heard()[taken[0]].payload):
            self.beat_now()
        return taken

    def ephemerals(self) -> Sequence[tuple[bytes, int, bytes]]:
        """See :meth:`fabrik_node.ports.Replication.ephemerals`."""
        return [(heard.author, heard.counter, heard.message) for heard in self.presence.heard().values()]

    def on_ephemeral(self, callback: Callable[[bytes, int, bytes], None]) -> Callable[[], None]:
        """See :meth:`fabrik_node.ports.Replication.on_ephemeral`."""
        return self.presence.subscribe(callback)

    # ---- what the writer asks -----------------------------------------------------------------------

    def publish(self, committed: Committed) -> None:
        """See :class:`~fabrik_node.node.batches.WriterHooks`."""
        kinds = committed.changes.kinds
        self._count_commit(committed)
        for index in (self.by_item, self.held_claims, self.requests):
            index.note(committed.changes)
        if kinds & {Kind.MEMBER, Kind.NODE, Kind.ROTATION}:
            self._names = self.board.names()
        self.quotas.note(committed.chained)
        self.stream.tell(events_of(committed.changes, self.board, self.by_item, self._names), committed.pos)
        now = self.clock.now()
        for each in committed.chained:
            self.commit_times.note((each.author, each.epoch, each.branch), each.first_seq, each.last_seq, now)
        holders: dict[bytes, bytes] = {change.new[1]: change.new[5] for change in committed.changes.of(Kind.CLAIM) if change.new is not None}  # by claim id
        for claim_id in holders:
            self.leases.first_seen(claim_id, now)
        self.presence.handle_claims(holders)
        if kinds & {Kind.MEMBER, Kind.ROTATION} or not committed.chained:  # after a rebuild everything may be judged otherwise
            self.presence.handle_members()
            self.audit.forget(self.is_admitted)
            for told in tuple(self._members):  # before the heads: a session must know whom to take logs from
                told()
        self._tell_heads(self._heads_of({(each.author, each.epoch) for each in committed.chained} | self.clones.resumed()))
        self.upkeep.committed(committed.ops)
        for follower in tuple(self._changed):
            follower(committed.changes)

    async def chained(self, result: ChainResult, peer: bytes) -> None:
        """See :class:`~fabrik_node.node.batches.WriterHooks`."""
        if result.chained:
            await self.clones.chained(result, peer)
            await self.repair.after_commit({(each.author, each.epoch) for each in result.chained})

    async def rebuild(self) -> Changes | None:
        """See :class:`~fabrik_node.node.batches.WriterHooks`."""
        if not self.repair.holes:
            fresh, bad = await rebuild(self.replica, self.store)
            for row in bad:
                await self.upkeep.check_log(row.author, row.epoch, row.branch, row.first_seq - 1, 1)
            if not self.repair.holes:
                return self.replica.adopt(fresh)
        return None

    def disk_full(self, error: StoreFull) -> None:
        """See :class:`~fabrik_node.node.batches.WriterHooks`."""
        self.upkeep.disk_full(error)

    # ---- inside ---------------------------------------------------------------------------------

    def _tell_heads(self, heads: Sequence[Head]) -> None:
        for tell in tuple(self._committed):
            tell(heads)

    def _ask(self, author: bytes, epoch: int, have_seq: int) -> None:
        for ask in tuple(self._missing):
            ask(author, epoch, have_seq)

    async def _write_to_the_end(self) -> None:
        await self.writer.run()
        self.stream.close()  # after the last batch, whose events it stores

    async def _beats(self) -> None:
        while not self._closing.is_set():
            self._beat.clear()
            self.lease_watch.look()
            self.presence.publish(await self._said())
            if not self._closing.is_set():
                await self.invitations.tidy()
            await self.rest(self._beat, self.timing.beat_s)

    def _count(self, result: ChainResult) -> None:
        self.tally.duplicates += result.duplicates
        self.tally.gaps += len(result.gaps)
        self.tally.forks += len(result.forks)
        self.tally.unknown_segments += len(result.unknown)
        self.tally.suspended += len(result.suspended)

    def _count_commit(self, committed: Committed) -> None:
        if committed.chained and committed.peer is None:
            self.tally.commits_local += 1
            self.tally.ops_local += committed.ops
        elif committed.chained:
            self.tally.commits_remote += 1
            self.tally.ops_remote += committed.ops
        self.tally.bulk_batches += len(committed.changes) > EVENTS_PER_BATCH_MAX

    async def _said(self) -> dict[str, Any]:
        """What our next message says."""
        facts = {"epoch": self.epoch, "lamport": self.replica.lamport, "beat_ms": round(self.timing.beat_s * 1000), "wall_ms": self.clock.wall_ms()}
        payload = {**facts, **self.describe_self(), **await self.audit.look()}
        payload |= self.inquiries.part(self.presence.room(payload))
        part = await self.audit.part(self.presence.room(payload))
        return {**payload, "audit": part} if part else payload

    def _heads_of(self, logs: set[tuple[bytes, int]]) -> list[Head]:
        """Every branch of these logs."""
        found: list[Head] = []
        for author, epoch in logs:
            branch = 0
            while (head := self.replica.head(author, epoch, branch)) is not None:
                found.append(head)
                branch += 1
        return found
