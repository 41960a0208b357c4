"""Nodes on a virtual network in virtual time: everything that happens follows from the seed.

A connection is two first-in-first-out pipes with latency, bandwidth and a bounded socket buffer. Frames in flight are lost
when it is cut. Commits and reads take time. Nothing here knows the protocol: it does what the session's manual tells a shell.
"""

from __future__ import annotations

import copy
import functools
import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from sim.toy_store import MEMBER, REVOKED, Signer, ToyStore

from fabrik_sync import (
    Backoff,
    BadProof,
    CaughtUp,
    Closed,
    DuplicateSeen,
    EphemeralReceived,
    Event,
    Hub,
    Join,
    JoinRequested,
    Limits,
    LogId,
    PeerReady,
    ReadRequest,
    Reason,
    Refused,
    SegmentsReceived,
    Session,
    State,
    verify_join_proof,
)

MESH = bytes(range(32))


@dataclass(eq=False)
class Pipe:
    """One direction. ``in_flight`` is what the receiver has not taken; the sender waits while it is over ``buffer``."""

    latency: float
    bandwidth: float
    buffer: int
    in_flight: int = 0
    free_at: float = 0.0
    stalled: bool = False
    held: list[bytes] = field(default_factory=list)
    held_since: float = 0.0
    """Since when the first of ``held`` waits: TCP counts its pauses from there."""
    unacked: int = 0
    """What arrived while the other direction was stalled, so that the sender does not know."""
    gone: bool = False
    """No network will ever carry it again, and its sender is not told."""
    bytes_total: int = 0


@dataclass(eq=False)
class End:
    """One end of a connection: a node's session and the pipe that it writes to."""

    node: Node
    session: Session
    out: Pipe
    dialled: Node | None = None
    other: End | None = None
    open: bool = True
    events: list[Event] = field(default_factory=list)
    wake_at: float = -1.0


class Node:
    def __init__(self, world: World, name: str, admin: bytes | None) -> None:
        self.world = world
        self.name = name
        self.signer = Signer(f"{world.seed}/{name}".encode())
        self.key = self.signer.public
        self.store = ToyStore(admin or self.key)
        self.limits = Limits()
        self.hub = Hub(self.key)
        self.ends: list[End] = []
        self.up = True
        self.backoffs: dict[str, Backoff] = {}
        self.dials: dict[str, float] = {}
        self.presence: dict[bytes, tuple[int, float]] = {}
        self.tokens: dict[bytes, bytes] = {}
        self.counts: Counter[str] = Counter()
        self.commit_s = 0.002

    @property
    def log(self) -> LogId:
        return LogId(self.key, 1)

    def write(self, op: bytes, log: LogId | None = None, at: tuple[int, int] | None = None) -> None:
        """Commit an own op (``at``: behind which place of which branch), then tell everybody."""
        log = log or self.log
        self.store.append(log, op, at)
        self._committed(log, admits=op.startswith((MEMBER, REVOKED)))

    def beat(self, counter: int) -> None:
        self.hub.handle_ephemeral(self.key, counter, b"beat %d" % counter)
        self.pump_all()

    def pump_all(self) -> None:
        for end in list(self.ends):
            self.world.pump(end)

    def _committed(self, log: LogId, *, admits: bool) -> None:
        if admits:
            self.hub.handle_admitted_changed()
            self.world.dial_all(self)
        for moved in [log, *self.store.resumed]:
            self.hub.handle_heads(moved, self.store.heads_of(moved))
        self.store.resumed.clear()
        self.pump_all()

    def on_event(self, end: End, event: Event) -> None:
        match event:
            case PeerReady():
                if end.dialled:
                    self.backoffs[end.dialled.name].handle_ready(self.world.now)
                self._pump_others(end, self.hub.add(end.session))
                self.counts["ready"] += 1
            case DuplicateSeen():
                self._pump_others(end, self.hub.handle_duplicate(end.session))
            case SegmentsReceived():
                self.world.after(self.commit_s, lambda: self._commit(end, event))
            case EphemeralReceived(author, counter, data):
                if data == b"beat %d" % counter and self.hub.handle_ephemeral(author, counter, data):
                    self.presence[author] = (counter, self.world.now)
                    self.world.soon(self.pump_all)
                else:
                    self.counts["ephemerals again"] += 1
            case JoinRequested(key, token_id, transcript, proof):
                self._join(end, key, token_id, transcript, proof)
            case CaughtUp():
                self.counts["caught up"] += 1
            case Refused() | Closed():
                self.counts[f"ended {event.code}"] += 1
                self.hub.remove(end.session)
                self.world.soon(self.pump_all)

    def _pump_others(self, end: End, touched: list[Session]) -> None:
        for other in list(self.ends):
            if other.session in touched and other is not end:
                self.world.pump(other)
        if end.session in touched:
            self.world.soon(lambda: self.world.pump(end))

    def _join(self, end: End, key: bytes, token_id: bytes, transcript: bytes, proof: bytes) -> None:
        secret = self.tokens.get(token_id)
        if secret is None:
            end.session.join_refused("bad_token", "this token is not known here, or was used: ask for a new one")
            return
        try:
            verify_join_proof(secret, transcript, proof)
        except BadProof as error:
            end.session.join_refused(Reason.BAD_PROOF, str(error))
            return
        del self.tokens[token_id]
        self.write(MEMBER + key)
        end.session.join_accepted(b"genesis")

    def _commit(self, end: End, event: SegmentsReceived) -> None:
        if not self.up or end not in self.ends:
            return
        before = len(self.store.members)
        for data in event.segments:
            result = self.store.apply(event.log, data)
            self.counts["new ops"] += result.new
            self.counts["held ops"] += result.held
            self.counts["forks"] += result.fork
            self.counts["segments of suspended logs"] += result.refused
            if result.gap:
                self.counts["gaps"] += 1
                self.counts["stray ops"] += result.ops
                end.session.handle_gap(event.log, self.store.seq(event.log), unrooted=result.unrooted)
            if result.taken is not None:
                end.session.handle_taken(event.log, self.store.tip(event.log, result.taken))
        end.session.handle_processed(event.size_bytes)
        if event.log in self.store.logs:
            self._committed(event.log, admits=len(self.store.members) != before)
        self.world.pump(end)


class World:
    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.now = 0.0
        self.nodes: dict[str, Node] = {}
        self.conns: list[tuple[End, End]] = []
        self.blocked: set[frozenset[str]] = set()
        self.retry_s_max = 30.0
        self.latency, self.bandwidth, self.buffer = 0.005, 50e6, 65_536
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    # ---- time

    def after(self, delay: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self.now + delay, next(self._count), action))

    def soon(self, action: Callable[[], None]) -> None:
        self.after(0.0, action)

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Let time pass; true as soon as ``until`` holds."""
        end = self.now + seconds
        while self._heap and self._heap[0][0] <= end:
            if until is not None and until():
                return True
            self.now, _, action = heapq.heappop(self._heap)
            action()
        self.now = end
        return until is not None and until()

    # ---- nodes and links

    def add(self, name: str, *, member: bool = True) -> Node:
        """The first node is the admin; each further one is a member, and knows the admin's log as an invitation gives it."""
        first = next(iter(self.nodes.values()), None)
        node = Node(self, name, first.key if first else None)
        self.nodes[name] = node
        if first is None:
            node.write(MEMBER + node.key)
        elif member:
            first.write(MEMBER + node.key)
            for op in first.store.logs[first.log].ops:
                node.store.append(first.log, op)
        return node

    def clone(self, of: Node, name: str) -> Node:
        """A copy of a node's disk, that runs with the same key."""
        node = Node(self, name, of.store.admin)
        node.signer, node.key, node.store = of.signer, of.key, copy.deepcopy(of.store)
        node.hub = Hub(node.key)
        self.nodes[name] = node
        return node

    def link(self, a: Node, b: Node) -> None:
        """``a`` dials ``b`` and goes on to."""
        a.backoffs[b.name] = Backoff(Random(f"{self.seed}{a.name}{b.name}"), cap_s=self.retry_s_max)
        self._dial_in(a, b, 0.0)

    def dial(self, a: Node, b: Node, *, join: Join | None = None, expected: bytes | None = None, again: bool = False) -> tuple[End, End]:
        """One connection."""
        left = Session.connect(
            identity=a.signer, mesh=MESH, replica=a.store, now=self.now, limits=a.limits, wants=a.hub.wants, join=join, expected_key=expected
        )
        right = Session.accept(
            identity=b.signer, mesh=MESH, replica=b.store, now=self.now, limits=b.limits, wants=b.hub.wants, unknown_key_hint="fabrik-node invite"
        )
        ends = End(a, left, self._pipe(), b if again else None), End(b, right, self._pipe())
        ends[0].other, ends[1].other = ends[1], ends[0]
        a.ends.append(ends[0])
        b.ends.append(ends[1])
        self.conns.append(ends)
        self.pump(ends[0])
        self.pump(ends[1])
        return ends

    def _pipe(self) -> Pipe:
        return Pipe(self.latency * self.random.uniform(0.5, 1.5), self.bandwidth, self.buffer)

    def dial_all(self, node: Node) -> None:
        """Whom we know has changed, or we just started: what was refused may work now."""
        for name, backoff in node.backoffs.items():
            backoff.reset()
            self._dial_in(node, self.nodes[name], 0.0)

    def _dial_in(self, a: Node, b: Node, delay: float) -> None:
        """One dial per address is planned at a time: the latest plan counts."""
        at = a.dials[b.name] = self.now + delay
        self.after(delay, lambda: self._dial(a, b) if a.dials.get(b.name) == at else None)

    def _dial(self, a: Node, b: Node) -> None:
        del a.dials[b.name]
        if not a.up or any(end.dialled is b and end.open for end in a.ends):
            return
        if a.hub.peer(b.key) is not None:
            self._dial_in(a, b, 1.0)
        elif b.up and frozenset((a.name, b.name)) not in self.blocked:
            self.dial(a, b, again=True)
        else:
            self._redial(a, b, None)

    def _redial(self, a: Node, b: Node, end: Closed | Refused | None) -> None:
        delay = a.backoffs[b.name].handle_failed(self.now, end)
        if delay is not None:
            self._dial_in(a, b, delay)

    def cut(self, conn: tuple[End, End]) -> None:
        """The connection breaks; what is in flight is lost."""
        for end in conn:
            self._lose(end)

    def _lose(self, end: End) -> None:
        if end.open:
            end.open = False
            end.session.handle_disconnected()
            self.pump(end)

    def crash(self, node: Node) -> None:
        """Everything but the store is gone."""
        node.up = False
        for conn in [conn for conn in self.conns if node in (conn[0].node, conn[1].node)]:
            self.cut(conn)

    def restart(self, node: Node) -> None:
        node.up, node.hub, node.ends = True, Hub(node.key), []
        self.dial_all(node)

    # ---- what a shell does after each call

    def pump(self, end: End) -> None:
        session = end.session
        for event in session.poll_events():
            end.events.append(event)
            end.node.on_event(end, event)
            if isinstance(event, Closed | Refused):
                if end.dialled:
                    self._redial(end.node, end.dialled, event)
                self.soon(lambda: self._shut(end))
        while (request := session.poll_read()) is not None:
            answer = end.node.store.read(request.log, request.after_seq, request.max_bytes, request.branch)
            if self.random.random() < 0.5:
                session.handle_read(request, answer)
            else:
                self.after(0.0005, functools.partial(self._answer, end, request, answer))
        while end.open and end.out.in_flight < end.out.buffer and (frame := session.poll_frame()) is not None:
            self._send(end, frame)
        at = session.next_timeout()
        if at is not None and at != end.wake_at:
            end.wake_at = at
            self.after(max(0.0, at - self.now), lambda: self._wake(end, at))

    def _answer(self, end: End, request: ReadRequest, answer: list[tuple[int, int, bytes]]) -> None:
        end.session.handle_read(request, answer)
        self.pump(end)

    def _wake(self, end: End, at: float) -> None:
        if end.wake_at == at and end.session.state is not State.CLOSED:
            end.wake_at = -1.0
            end.session.handle_timeout(self.now)
            self.pump(end)

    def _send(self, end: End, frame: bytes) -> None:
        pipe = end.out
        pipe.in_flight += len(frame)
        pipe.bytes_total += len(frame)
        if pipe.stalled:
            pipe.held_since = pipe.held_since if pipe.held else self.now
            pipe.held.append(frame)
            return
        begin = max(pipe.free_at, self.now)
        pipe.free_at = begin + len(frame) / pipe.bandwidth
        for second in range(1, int(pipe.free_at - begin) + 1):
            self.after(begin + second + pipe.latency - self.now, lambda: self._arrive_in_part(end))
        self.after(pipe.free_at - self.now + pipe.latency, lambda: self._arrive(end, frame))

    def _arrive(self, end: End, frame: bytes) -> None:
        other = end.other
        assert other is not None
        if other.out.stalled:
            end.out.unacked += len(frame)
        else:
            end.out.in_flight -= len(frame)
        if other.open:
            other.session.receive_frame(frame, self.now)
            self.pump(other)
        if end.open:
            self.pump(end)

    def _arrive_in_part(self, end: End) -> None:
        if end.other is not None and end.other.open:
            end.other.session.receive_part(self.now)

    def release(self, end: End) -> None:
        """A stalled pipe flows again."""
        if end.out.gone:
            return
        end.out.stalled = False
        held, end.out.held = end.out.held, []
        for frame in held:
            end.out.in_flight -= len(frame)
            end.out.bytes_total -= len(frame)
            self._send(end, frame)
        back = end.other
        if back is not None and back.out.unacked:
            back.out.in_flight -= back.out.unacked
            back.out.unacked = 0
            self.soon(lambda: self.pump(back))

    def _shut(self, end: End) -> None:
        """Closed: when its last frame has left, the transport goes, and the other end sees that."""
        other = end.other
        assert other is not None
        end.node.ends = [other_end for other_end in end.node.ends if other_end is not end]
        if end.open:
            self.pump(end)
            end.open = False
            self.after(end.out.latency + max(0.0, end.out.free_at - self.now) + 0.001, lambda: self._lose(other))

    # ---- what has to hold

    def converged(self) -> bool:
        return len({node.store.digest() for node in self.nodes.values() if node.up}) == 1
