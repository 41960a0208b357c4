"""Whole nodes without a network: real core, real writer, a store of either kind, a clock in the hand of the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from memory_store import MemoryStore
from store_doubles import HandClock

from fabrik_node._core import Genesis, Replica, SigningKey, genesis_encode
from fabrik_node.domain.leases import LeaseTiming
from fabrik_node.domain.schema import Kind, MemberField, NodeField, Role
from fabrik_node.node.node import Node
from fabrik_node.node.pipeline import NodePipeline
from fabrik_node.ports import Arbiter, ArbiterReceipt, ArbiterTaken, Branches, ClaimIntent, Event, OpStore, Snapshots
from fabrik_node.service.reading import Reader
from fabrik_node.service.run_views import AtWork
from fabrik_node.service.service import Service
from fabrik_node.store.sqlite import SqliteStore

__all__ = ["BOUND_S", "TIMING", "FakeArbiter", "FakeBranches", "NoSink", "NodeRig", "Rigs", "RunDouble", "eventually", "pull_branch", "sync"]

BOUND_S = 60.0
"""A failure bound: nothing here takes a tenth of it."""
TIMING = LeaseTiming(beat_s=10.0, ttl_s=90.0, grace_s=30.0, lock_delay_s=15.0, settle_s=0.02)


class NoSink:
    """No exported file."""

    async def catch_up(self, _store: OpStore) -> int:
        return 0


class RunDouble:
    """A run that an agent would have in hand: it notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def waits(self, question: bytes, *, on: bool) -> None:
        self.told.append("waits" if on else "goes on")

    def unanswered(self, reason: str) -> None:
        self.told.append(reason)


class NoAgent:
    """A node that takes no work. ``on_cancel``: what its agent would do."""

    def __init__(self) -> None:
        self.on_cancel: Callable[[bytes, str], Awaitable[bool]] = self._not_in_hand
        self.runs: dict[bytes, RunDouble] = {}

    async def _not_in_hand(self, _run_id: bytes, _reason: str) -> bool:
        return False

    def in_hand(self, run_id: bytes) -> RunDouble | None:
        return self.runs.get(run_id)

    def describe(self) -> Mapping[str, Any]:
        return {"enabled": False, "slots": 0, "running": [], "draining": False, "halt": None}

    async def cancel(self, run_id: bytes, reason: str) -> bool:
        return await self.on_cancel(run_id, reason)

    async def halt(self, _reason: str) -> None:
        raise AssertionError("a node without an agent is not halted")

    async def go_on(self) -> bool:
        return False


class FakeArbiter:
    """The claim of each item at one place that all nodes of a test ask. ``gone``: it can not be reached."""

    def __init__(self) -> None:
        self.held: dict[str, ArbiterTaken] = {}
        self.gone: Exception | None = None
        self.before_cas: Callable[[ClaimIntent], None] = lambda _: None

    async def current(self, item: str) -> ArbiterTaken | None:
        if self.gone is not None:
            raise self.gone
        return self.held.get(item)

    async def cas(self, expected: bytes, intent: ClaimIntent) -> ArbiterReceipt | ArbiterTaken:
        if self.gone is not None:
            raise self.gone
        self.before_cas(intent)
        now = self.held.get(intent.item)
        if (b"" if now is None else now.oid) != expected:
            assert now is not None
            return now
        number = 1 if now is None else now.number + 1
        oid = bytes([number]) * 20
        self.held[intent.item] = ArbiterTaken(number, oid, intent.claim_id, intent.node, intent.state, intent.ttl_ms)
        return ArbiterReceipt(number, oid)


class FakeBranches:
    """A remote with these branches, and how many commits each has that the base has not."""

    def __init__(self, **ahead: int) -> None:
        self.ahead = ahead

    async def ahead_of_base(self, branch: str) -> int | None:
        return self.ahead.get(branch)


class FakeRunSteps:
    """The runs of a node without an agent: what was kept, and which runs were held."""

    def __init__(self) -> None:
        self.kept: list[str] = []
        self.commits: set[bytes] = set()
        """Those that the present worktree has."""
        self.held: dict[bytes, str] = {}
        self.on_keep: Callable[[], Awaitable[None]] | None = None

    async def keep(self, _run_id: bytes, message: str) -> bytes:
        if self.on_keep is not None:
            await self.on_keep()
        self.kept.append(message.splitlines()[0])
        commit = bytes([len(self.kept)]) * 20
        self.commits.add(commit)
        return commit

    async def for_space(self, _run_id: bytes, write: Callable[[], Awaitable[object]]) -> None:
        await write()

    async def contains(self, _run_id: bytes, commit: bytes) -> bool:
        return commit in self.commits

    def hold(self, run_id: bytes, reason: str) -> None:
        self.held[run_id] = reason


class NodeRig:
    """One node and what stands on it.

    The node beats once when it starts, which :meth:`begun` awaits, and then when it is asked to (``beat_now``), never because time passed:
    so nothing takes the place of what a test lets it publish. ``timed``: it beats by the loop's time, too.
    """

    def __init__(
        self, node: Node, genesis: bytes, arbiter: Arbiter | None, *, dials: bool = False, branches: Branches | None = None, timed: bool = False
    ) -> None:
        self.node = node
        self._rests = asyncio.Event()
        self._rest = node.rest if timed else None
        node.rest = self._between_beats
        self.genesis = genesis
        self.dials = dials
        self.listen_url = ""
        self.home = Path("/home/of/the/node")
        self.switched: list[bool] = []
        node.inquiries.patience_s = 0.0  # no network here, so nobody answers
        self.limits: dict[str, int] = {}
        """``[claims] limits``: may be filled later, too."""
        self.at_work: set[bytes] = set()
        """Runs that an agent of this node would have in hand."""
        self.agent = NoAgent()
        self.run_steps = FakeRunSteps()
        self.pipeline = NodePipeline(node, arbiter, incarnation="boot:1:1", backoff_s=30.0, dials=lambda: self.dials, limits=self.limits)
        self.reader = Reader(
            replica=node.replica,
            requests=node.requests,
            by_item=node.by_item,
            held=node.held_claims.all,
            watch=node.on_changes,
            genesis=Genesis.decode(genesis),
            store=node.store,
            clock=node.clock,
            own=node.public,
            source="node",
            leases=node.leases,
            heard=node.presence.heard,
            diverged=lambda: node.audit.diverged,
            peers=lambda: node.peers(),
            set_aside=node.upkeep.recheck,
            at_work=lambda: AtWork(self.at_work),
        )
        self.service = Service(
            node=node,
            reader=self.reader,
            arbiter=arbiter,
            genesis=genesis,
            incarnation="boot:1:1",
            home=Path("/home/of/the/node"),
            pid=4711,
            listen_url=lambda: self.listen_url,
            switch=lambda: self.switched.append(True),
            agent=self.agent,
            run_steps=self.run_steps,
            limits=self.limits,
            branches=branches,
        )
        self.running: asyncio.Task[None] | None = None

    async def add(self, title: str = "an item", **args: Any) -> str:
        """A new item; its id as shown."""
        return str((await self.call("items.add", title=title, **args))["item"]["id"])

    async def call(self, op: str, **args: Any) -> dict[str, Any]:
        """One operation of the service."""
        return await asyncio.wait_for(self.service.call(op, args), BOUND_S)

    async def events(self, kind: str = "") -> list[Event]:
        """What the store has of the stream; of a node that serves, with all that happened by now."""
        if self.running is not None and not self.running.done():
            await asyncio.wait_for(self.node.stream.settled(), BOUND_S)
        found = await self.node.store.events(0, 1_000_000)
        return [event for event in found if not kind or event.type == kind]

    async def events_until(self, kind: str, count: int = 1) -> list[Event]:
        """Wait for ``count`` events of a type."""
        found: list[Event] = []

        async def look() -> None:
            async for event in self.node.stream.follow(0, follow=True):
                if event.type == kind:
                    found.append(event)
                    if len(found) >= count:
                        return

        await asyncio.wait_for(look(), BOUND_S)
        return found

    def watch(self, seconds: float) -> None:
        """Let time pass for a node that is awake: it looks at the leases in each beat."""
        clock, beat_s = self.node.clock, self.node.timing.beat_s
        assert isinstance(clock, HandClock)
        until = clock.seconds + seconds
        self.node.lease_watch.look()
        while clock.seconds < until:
            clock.advance(min(beat_s, until - clock.seconds))
            self.node.lease_watch.look()

    def start(self) -> None:
        """Serve."""
        self.running = asyncio.create_task(self.node.run())

    async def begun(self) -> None:
        """Until the first beat of a node that was started is over, or the node itself."""
        assert self.running is not None
        rests = asyncio.create_task(self._rests.wait())
        await asyncio.wait({rests, self.running}, timeout=BOUND_S, return_when=asyncio.FIRST_COMPLETED)
        rests.cancel()

    async def _between_beats(self, asked: asyncio.Event, seconds: float) -> None:
        self._rests.set()
        await (asked.wait() if self._rest is None else self._rest(asked, seconds))

    async def stop(self) -> None:
        """End like a node that is told to."""
        await self.node.close()
        if self.running is not None:
            await asyncio.wait_for(asyncio.gather(self.running, return_exceptions=True), BOUND_S)

    def facts(self) -> tuple[Any, ...]:
        """All that a refused write may not change."""
        replica = self.node.replica
        return replica.state_digest(), replica.frontier_digest(), replica.lamport, replica.ops, replica.registers


class Rigs:
    """Nodes of one mesh, the first of which is its admin. ``folder`` None: stores in memory. ``timed``: see :class:`NodeRig`."""

    def __init__(self, folder: Path | None = None, *, timing: LeaseTiming = TIMING, timed: bool = False) -> None:
        self.folder = folder
        self.timing = timing
        self.timed = timed
        self.clock = HandClock()
        self.keys = [SigningKey.from_seed(bytes([number + 1]) * 32) for number in range(8)]
        self.genesis = genesis_encode(self.keys[0].public, "test", bytes(16), 1_700_000_000_000)
        self.rigs: list[NodeRig] = []
        self._stores: dict[int, OpStore] = {}

    async def open(
        self,
        number: int = 0,
        *,
        arbiter: Arbiter | None = None,
        faults: Callable[[str], None] | None = None,
        sink: Any = None,
        start: bool = True,
        doubt: str = "",
        snapshots: Snapshots | None = None,
        timing: LeaseTiming | None = None,
        branches: Branches | None = None,
    ) -> NodeRig:
        """Node ``number``, new or again. The admin admits all others at its first start."""
        genesis = Genesis.decode(self.genesis)
        store = self._stores.get(number)
        if self.folder is not None:
            store = await SqliteStore.open(self.folder / f"{number}.db", self.clock, mesh_id=genesis.mesh_id, create_missing=True, faults=faults)
        elif store is None:
            store = MemoryStore(self.clock)
        self._stores[number] = store
        key = self.keys[number]
        await self._first_ops(store, key, number)
        try:
            node = await Node.open(
                genesis=self.genesis,
                store=store,
                snapshots=snapshots,
                key=key,
                doubt=doubt,
                clock=self.clock,
                timing=timing or self.timing,
                sink=sink or NoSink(),
                boot_id="boot",
            )
        except BaseException:
            await store.close()
            raise
        rig = NodeRig(node, self.genesis, arbiter, branches=branches, timed=self.timed)
        self.rigs.append(rig)
        if start:
            rig.start()
            await rig.begun()
        return rig

    async def _first_ops(self, store: OpStore, key: SigningKey, number: int) -> None:
        replica = Replica(self.genesis)
        async for batch in store.load():
            replica.load([row.data for row in batch])
        if replica.ops:
            return
        draft = replica.draft(key, 1 << 32 | number + 1)
        wall_ms = self.clock.wall_ms()
        chained = draft.genesis(wall_ms) if number == 0 else []
        chained += draft.append([(Kind.NODE, key.public, NodeField.NAME, f"node{number}", None)], wall_ms)
        if number == 0:
            members = [(Kind.MEMBER, other.public, MemberField.RECORD, {1: int(Role.AGENT)}, None) for other in self.keys[1:-1]]  # the last one is a stranger
            chained += draft.append(members, wall_ms)
        await store.append(chained)

    async def close(self) -> None:
        """Stop and close whatever is open."""
        for rig in self.rigs:
            if rig.running is not None and not rig.running.done():
                await rig.stop()
        for rig in self.rigs:  # afterwards: a node that was opened again has the store of the one before it
            await rig.node.store.close()
        for store in self._stores.values():  # also of a node that refused to start
            await store.close()

    @asynccontextmanager
    async def pair(self, **options: Any) -> AsyncIterator[tuple[NodeRig, NodeRig]]:
        """The admin and a member that know each other's logs."""
        one, two = await self.open(0, **options), await self.open(1, **options)
        await sync(one, two)
        yield one, two


async def sync(*rigs: NodeRig) -> None:
    """Bring every node to the union of their logs, without a network."""
    for _ in range(2):
        for target in rigs:
            for source in rigs:
                if source is not target:
                    await _pull(target, source)


async def _pull(target: NodeRig, source: NodeRig) -> None:
    """Everything that ``target`` lacks, by the places that it holds of each log."""
    admin = source.node.replica.admin
    logs = dict.fromkeys((head.author, head.epoch) for head in sorted(source.node.heads(), key=lambda head: head.author != admin))
    for author, epoch in logs:
        for branch, after in source.node.replica.cursors(author, epoch, target.node.replica.places(author, epoch)):
            await pull_branch(target, source, author, epoch, branch, after)


async def pull_branch(target: NodeRig, source: NodeRig, author: bytes, epoch: int, branch: int, after: int) -> None:
    """One branch from one node to another, behind op ``after``, as far as the source can give it."""
    while True:
        rows, ends = await source.node.read(author, epoch, branch, after, 262_144)
        if not rows:
            return
        await asyncio.wait_for(target.node.ingest([row.data for row in rows], source.node.public), BOUND_S)
        after = rows[-1].last_seq
        if ends:
            return


async def eventually(question: Callable[[], Any], what: str = "") -> None:
    """Let the loop work until the answer is true."""

    async def look() -> None:
        while not question():
            await asyncio.sleep(0.002)

    try:
        await asyncio.wait_for(look(), BOUND_S)
    except TimeoutError:
        raise AssertionError(f"not within {BOUND_S} s: {what or question}") from None


def ids(views: Sequence[Any]) -> list[bytes]:
    """The ids of item views."""
    return [view.id for view in views]
