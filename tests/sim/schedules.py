"""Schedules: a mesh, what goes wrong with it and when, all from one seed; then the network heals, and what was promised is checked.

A write counts as acknowledged when the node that took it says so. Nothing is asked of a node's inside but its store.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from sim.weather import Weather
from sim.world import Node

from fabrik_node.transport.mesh import RETRY_S_MAX
from fabrik_sync import Limits, LogId, Session, State, Status

HEAL_S = 10.0
MISSING_OPS_MAX = 10_000
SHAPES = ("pair", "line", "star", "ring", "random")


def edges(shape: str, count: int, random: Random) -> list[tuple[int, int]]:
    """Who dials whom."""
    match shape:
        case "pair" | "line":
            found = [(i, i + 1) for i in range(count - 1)]
        case "star":
            found = [(i, 0) for i in range(1, count)]
        case "ring":
            found = [(i, (i + 1) % count) for i in range(count)]
        case _:
            found = [(i, random.randrange(i)) for i in range(1, count)]
            found += [(a, b) for a in range(count) for b in range(a) if random.random() < 0.3 and (a, b) not in found]
    return [random.choice([(a, b), (a, b), (a, b), (b, a)]) for a, b in found] + [(b, a) for a, b in found if random.random() < 0.1]


class Schedule:
    """One seed. :meth:`run` plays it, :meth:`check` raises AssertionError for what was not kept."""

    def __init__(self, shape: str, seed: int) -> None:
        self.name = f"{shape}-{seed}"
        self.random = random = Random(self.name)
        self.world = world = Weather(seed)
        world.retry_s_max = RETRY_S_MAX
        world.latency = random.choice([0.0002, 0.005, 0.05, 0.2])
        world.spread = (0.5, 1.5) if world.latency > 0.1 else random.choice([(0.5, 1.5), (0.2, 5.0)])
        count = 2 if shape == "pair" else random.randint(3, 6)
        self.nodes = [world.add(f"n{i}") for i in range(count)]
        self.slow = random.random() < 0.2
        self.acked: dict[tuple[LogId, int], bytes] = {}
        self.epochs = {node.name: 1 for node in self.nodes}
        self.ops = self.payload = 0
        for node in self.nodes:
            self._furnish(node)
        self.edges = edges(shape, count, random)
        for a, b in self.edges:
            world.link(self.nodes[a], self.nodes[b])

    def _furnish(self, node: Node) -> None:
        random = self.random
        node.store.members |= {other.key for other in self.nodes}
        node.store.segment_ops = random.choice([7, 50, 200])
        node.commit_s = random.choice([0.0005, 0.002, 0.02])
        node.limits = Limits(window_bytes=random.choice([262_144, 1_048_576]), chunk_bytes=random.choice([400, 65_536]))
        if self.slow and random.random() < 0.4:
            self.world.speed[node.name] = 20e3
            node.commit_s = 0.2

    # ---- playing

    def run(self) -> None:
        """Until everything that goes wrong has gone wrong, and the network is whole again."""
        self.world.run(self.random.choice([0.0, 0.1, 15.0]))
        for _ in range(self.random.randint(3, 25)):
            self.random.choice(_WEIGHTED)(self)
            self.world.run(self.random.choice([0.0, 0.001, 0.02, 0.3, 2.0, 7.0]))
            self._check_bounds()
        self._heal()

    def write(self, node: Node, count: int, size: int) -> None:
        """So many acknowledged ops."""
        log = LogId(node.key, self.epochs[node.name])
        for _ in range(count):
            op = self.random.randbytes(size)
            node.write(op, log)
            self.acked[log, node.store.seq(log)] = op
        self.ops += count
        self.payload += count * (size + 90)

    def _one(self, *, up: bool = True) -> Node | None:
        found = [node for node in self.nodes if node.up is up]
        return self.random.choice(found) if found else None

    def _few(self) -> None:
        if node := self._one():
            self.write(node, self.random.randint(1, 5), self.random.randint(1, 300))

    def _burst(self) -> None:
        count = self.random.choice([30, 30, 100, 100, 300, 2_000])
        if (node := self._one()) and self.ops + count <= MISSING_OPS_MAX and not (self.slow and count > 100):
            self.write(node, count, 40)

    def _big(self) -> None:
        if node := self._one():
            self.write(node, 1, self.random.randint(20_000, 60_000))

    def _beat(self) -> None:
        if node := self._one():
            node.counts["beats"] += 1
            node.beat(node.counts["beats"])

    def _cut(self) -> None:
        alive = [conn for conn in self.world.conns if conn[0].open and conn[1].open]
        if alive:
            self.world.cut(self.random.choice(alive))

    def _half_cut(self) -> None:
        alive = [conn for conn in self.world.conns if conn[0].open and conn[1].open]
        if alive:
            self.world.half_cut(self.random.choice(alive), first=self.random.randrange(2), later_s=self.random.choice([0.3, 3.0, None]))

    def _part(self) -> None:
        """Two sides: dials and connections between them fail at once, or nothing passes in silence."""
        side = set(self.random.sample([node.name for node in self.nodes], self.random.randint(1, len(self.nodes) - 1)))
        across = [(a, b) for a in self.nodes for b in self.nodes if (a.name in side) and (b.name not in side)]
        if self.random.random() < 0.5:
            self.world.blocked = {frozenset((a.name, b.name)) for a, b in across}
            for conn in self.world.conns:
                if conn[0].open and frozenset((conn[0].node.name, conn[1].node.name)) in self.world.blocked:
                    self.world.cut(conn)
        else:
            for a, b in across:
                self.world.darken(a, b)
                self.world.darken(b, a)

    def _one_way(self) -> None:
        a, b = self.random.sample(self.nodes, 2)
        self.world.darken(a, b)

    def _mend(self) -> None:
        self.world.blocked.clear()
        self.world.clear()

    def _crash(self) -> None:
        if node := self._one():
            self.world.crash(node)

    def _start(self) -> None:
        if node := self._one(up=False):
            self.world.restart(node)

    def _wipe(self) -> None:
        """Only when others have all acknowledged ops that this node has: the last copy of an op can not be lost and kept."""
        if (node := self._one()) is None:
            return
        others = [other for other in self.nodes if other is not node]
        if all(any(other.store.seq(log) >= min(seq, node.store.seq(log)) for other in others) for log, seq in self.acked):
            self.world.wipe(node)
            self.epochs[node.name] += 1

    # ---- healing

    def _heal(self) -> None:
        self._mend()
        for node in self.nodes:
            if not node.up:
                self.world.restart(node)
        self.before = self._moved()
        self.healed = self.world.now

    def _moved(self) -> tuple[int, int]:
        ends = [end for conn in self.world.conns for end in conn]
        return sum(node.counts["held ops"] for node in self.nodes), sum(end.out.bytes_total for end in ends)

    @property
    def bound_s(self) -> float:
        """How long after the heal: ten seconds and three round trips from end to end; a slow peer takes as long as its share takes it."""
        hops = len(self.nodes) - 1
        round_trip = 2 * 1.5 * self.world.latency * self.world.spread[1]
        return HEAL_S + 3 * round_trip * hops + (90.0 if self.slow else 0.0)

    # ---- checking

    def _check_bounds(self) -> None:
        for node in self.nodes:
            for end in node.ends:
                status = end.session.status()
                assert sorted_behind(status) == sorted_behind(all_looked_at(end.session)), f"{self.name}: a log was not looked at anew although it changed"
                assert status.outbox_bytes <= node.limits.outbox_bytes, self.name
                assert status.unprocessed_bytes <= node.limits.window_bytes, self.name

    def check(self) -> None:
        """What was promised."""
        world, where = self.world, f"rerun with SCHEDULE={self.name}"
        assert world.run(self.bound_s, until=world.converged), f"{where}: not equal after {self.bound_s:.1f} s: {[node.counts for node in self.nodes]}"
        self.took = world.now - self.healed
        for (log, seq), op in self.acked.items():
            for node in self.nodes:
                held = node.store.logs[log].ops
                assert len(held) >= seq, f"{where}: {node.name} lacks op {seq} of {log}"
                assert held[seq - 1] == op, f"{where}: {node.name} has another op {seq} of {log}"
        for node in self.nodes:
            assert node.counts["forks"] == 0, f"{where}: {node.counts}"
        world.run(15.0)  # connections that were one too many go, and one that its other end does not know any more is dialled again
        self._check_costs(where)
        self._check_quiet(where)

    def _check_costs(self, where: str) -> None:
        """In a tree an op that comes twice was on its way when a connection ended. Each link that closes a ring may bring each op once more, not oftener;
        and who lost its disk may be given everything by two neighbours, when the first one is far away.
        """
        now = self._moved()
        self.repeated, sent = now[0] - self.before[0], now[1] - self.before[1]
        links = len({frozenset(edge) for edge in self.edges})
        spare = links - (len(self.nodes) - 1) + sum(self.epochs.values()) - len(self.nodes)
        if not self.slow:
            assert self.repeated <= 2 * spare * self.ops + 50, f"{where}: {self.repeated} ops came twice, of {self.ops}"
        assert sent <= 3 * links * self.payload + 20_000 * links, f"{where}: {sent} bytes for {self.payload} of ops"

    def _check_quiet(self, where: str) -> None:
        live = [end.session for conn in self.world.conns for end in conn if end.session.state is State.LIVE]
        assert live, where
        assert all(session.is_caught_up and session.status().lag_in == 0 for session in live), where
        before = {session: session.counters.bytes_out for session in live}
        self.world.run(20.0)
        assert self.world.converged(), where
        loud = [session.counters.bytes_out - was for session, was in before.items() if session.counters.bytes_out - was > 200]
        assert not loud, f"{where}: something goes round: {loud}"


def sorted_behind(status: Status) -> Status:
    """In which order logs are named is of no account."""
    return replace(status, lag_behind=sorted(status.lag_behind))


def all_looked_at(session: Session) -> Status:
    """Its status when no log is spared."""
    link = session._replication
    if link is not None:
        link.book.touched.update(link.book.rows)
        link._behind.clear()
        link._lags.clear()
        link._out = link._back = 0
    return session.status()


_WEIGHTED: list[Callable[[Schedule], None]] = [
    *[Schedule._few] * 8,
    *[Schedule._burst] * 3,
    Schedule._big,
    Schedule._beat,
    *[Schedule._cut] * 3,
    *[Schedule._half_cut] * 2,
    *[Schedule._part] * 2,
    *[Schedule._one_way] * 3,
    *[Schedule._mend] * 2,
    *[Schedule._crash] * 2,
    *[Schedule._start] * 2,
    Schedule._wipe,
]

__all__ = ["HEAL_S", "MISSING_OPS_MAX", "SHAPES", "Schedule", "edges"]
