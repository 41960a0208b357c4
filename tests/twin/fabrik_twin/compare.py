"""Puts a replica of the Rust core beside the twin: delivers to it, and says where the two differ."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from fabrik_node import _core
from fabrik_node.errors import FabrikError
from fabrik_twin.cbor import Refused, encode, plain
from fabrik_twin.world import Verdict, World


def shown(replica: _core.Replica) -> dict[str, Any]:
    """All that a replica says about itself as a whole. Equal before and after means that nothing happened."""
    suspended = set(replica.suspended())
    heads = [(head.author, head.epoch, head.seq, head.head, head.clock) for head in replica.heads()]
    return {
        "state": replica.state_digest().hex(),
        "frontier": replica.frontier_digest().hex(),
        "lamport": replica.lamport,
        "ops": replica.ops,
        "void": replica.voided,
        "registers": replica.registers,
        "heads": sorted((*head[:4], 0 if head[:2] in suspended else head[4]) for head in heads),  # a clock without effect is nothing to agree about
        "suspended": replica.suspended(),
        "members": sorted((author, *role_of(replica, author)) for author in {head[0] for head in heads}),
        "markers": {log: marker for log in sorted({head[:2] for head in heads}) if (marker := replica.marker(*log))},
    }


def role_of(replica: _core.Replica, key: bytes) -> tuple[int, bool]:
    """The role now, and whether logs of the key are taken."""
    member = replica.member(key)
    return member.role, member.named


def expected(world: World) -> dict[str, Any]:
    """The same of the twin."""
    state = world.state
    return {
        "state": state.state_digest().hex(),
        "frontier": world.frontier_digest().hex(),
        "lamport": state.lamport,
        "ops": sum(len(tree) for tree in world.logs.values()),
        "void": len(state.void),
        "registers": len(state.winners),
        "heads": [(*log, end.op.seq, end.head, state.clocks.get(log, {}).get(end.head, 0)) for log in sorted(world.logs) for end in world.heads(*log)],
        "suspended": sorted(state.suspended),
        "members": sorted((author, state.authority.role(author), state.named(author)) for author in {author for author, _ in world.logs}),
        "markers": {log: marker for log in sorted(world.logs) if (marker := world.marker(*log))},
    }


def registers(replica: _core.Replica, world: World) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Every register that the twin has, as both see it: value, fence, and where the winning write was made."""
    ours, theirs = {}, {}
    for place, touch in world.state.winners.items():
        op = touch.op
        theirs[place] = (encode(touch.write.value), plain(touch.write.value), op.lamport, op.digest, touch.author, touch.epoch, op.seq, op.wall_ms)
        found = replica.get(*place)
        ours[place] = found and (
            _core.cbor_encode(found.value),
            found.value,
            found.lamport,
            found.digest,
            found.author,
            found.epoch,
            found.seq,
            found.wall_ms,
        )
    return ours, theirs


def same(replica: _core.Replica, world: World) -> None:
    """Assert that both hold the same. Registers first: they say more than a digest."""
    ours, theirs = registers(replica, world)
    assert ours == theirs
    assert shown(replica) == expected(world)


class Held:
    """A replica of the core and what it stored, as a node holds them."""

    def __init__(self, genesis: bytes) -> None:
        self.genesis = genesis
        self.replica = _core.Replica(genesis)
        self.stored: list[_core.Chained] = []

    def take(self, segments: Sequence[bytes], *, admit_all: bool = False) -> _core.ChainResult:
        """One batch: verify, chain, merge; and when what was merged would be judged otherwise now, everything again."""
        result = self.replica.chain(self.replica.verify(segments), admit_all=admit_all)
        self.replica.merge(result.chained)
        self.stored += result.chained
        if self.replica.stale:
            fresh = self.replica.anew()
            fresh.load([chained.data for chained in self.stored], [chained.branch for chained in self.stored])
            self.replica.adopt(fresh)
        return result


def offer(held: Held, data: bytes, *, admit_all: bool = False) -> Verdict | str:
    """One segment to the core: what became of it, or the code of the error that refused it."""
    try:
        result = held.take([data], admit_all=admit_all)
    except FabrikError as error:
        return error.code
    if result.unknown:
        return Verdict("unknown")
    if result.refused:
        return Verdict("refused")
    if result.gaps:
        return Verdict("gap")
    stored = sum(chained.ops for chained in result.chained)
    return Verdict("stored" if stored else "duplicate", stored, result.duplicates, sum(fork.seq for fork in result.forks))


def offer_twin(world: World, data: bytes, *, admit_all: bool = False) -> Verdict | str:
    """One segment to the twin."""
    try:
        return world.offer(data, admit_all=admit_all)
    except Refused as error:
        return error.verdict


def deliver(held: Held, logs: Sequence[Sequence[bytes]], rng: Random) -> list[_core.Chained]:
    """Every segment at least once, in any order, some twice, in batches of any size, again until all of it is in. What was stored."""
    waiting = [segment for log in logs for segment in log]
    began = len(held.stored)
    while waiting:
        rng.shuffle(waiting)
        before = held.replica.ops
        left: list[bytes] = []
        while waiting:
            batch = [waiting.pop() for _ in range(min(len(waiting), rng.randint(1, 4)))]
            if rng.random() < 0.3:
                batch.append(rng.choice(batch))
            result = held.take(batch)
            if result.gaps or result.unknown:
                left.extend(batch)
        assert held.replica.ops > before or not left, "no segment of a whole round fitted"
        waiting = left
    return held.stored[began:]
