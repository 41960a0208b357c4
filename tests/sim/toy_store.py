"""What a node is to the protocol, as small as it can be: hash-chained logs of opaque ops that may fork, members named by the admin's log."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from nacl.signing import SigningKey, VerifyKey

from fabrik_sync import CROWDED_SEQ, MARKER, Head, Heads, LogId, Place
from fabrik_sync.ports import ORDINARY

MEMBER = b"member:"
SPARED = b"spared:"
REVOKED = b"revoked:"


class Signer:
    """An Identity with real Ed25519 and repeatable randomness."""

    def __init__(self, seed: bytes) -> None:
        self._key = SigningKey(hashlib.sha256(b"key" + seed).digest())
        self._random = Random(seed)
        self.public = bytes(self._key.verify_key)

    def sign(self, message: bytes) -> bytes:
        return bytes(self._key.sign(message).signature)

    def verify(self, public: bytes, message: bytes, signature: bytes) -> None:
        VerifyKey(public).verify(message, signature)

    def random(self, n: int) -> bytes:
        return self._random.randbytes(n)


@dataclass
class Branch:
    """Own ops begin behind ``start``; ``base`` is ``(branch, seq)`` that they stand on."""

    base: tuple[int, int] | None
    start: int
    ops: list[bytes] = field(default_factory=list)
    chain: list[bytes] = field(default_factory=list)

    @property
    def seq(self) -> int:
        return self.start + len(self.ops)


@dataclass
class Log:
    """Branches in the order in which they were met; branch 0 begins at seq 1. ``first``: the hash before that."""

    first: bytes
    branches: list[Branch] = field(default_factory=lambda: [Branch(None, 0)])
    suspended: bool = False

    @property
    def ops(self) -> list[bytes]:
        return self.branches[0].ops

    @property
    def chain(self) -> list[bytes]:
        return self.branches[0].chain

    def owner(self, branch: int, seq: int) -> int:
        """Whose own op it is that a branch's path has at ``seq``."""
        while (base := self.branches[branch].base) is not None and seq <= base[1]:
            branch = base[0]
        return branch

    def hash(self, branch: int, seq: int) -> bytes:
        """``h_seq`` on a branch's path."""
        owner = self.branches[self.owner(branch, seq)]
        return owner.chain[seq - owner.start - 1] if seq else self.first

    def find(self, seq: int, h: bytes) -> int | None:
        """The branch whose own op at ``seq`` has this hash (branch 0 for seq 0)."""
        if seq == 0:
            return 0 if h == self.first else None
        for number, branch in enumerate(self.branches):
            if branch.start < seq <= branch.seq and branch.chain[seq - branch.start - 1][: len(h)] == h:
                return number
        return None

    def step(self, at: tuple[int, int], op: bytes) -> tuple[tuple[int, int], bool]:
        """Go one op on from a place: where it is then, and whether the op is new."""
        branch, seq = at
        h = _step(self.hash(branch, seq), op)
        known = self.find(seq + 1, h)
        if known is not None:
            return (known, seq + 1), False
        here = self.branches[branch]
        if here.seq != seq:
            branch = len(self.branches)
            here = Branch(at, seq)
            self.branches.append(here)
        here.ops.append(op)
        here.chain.append(h)
        return (branch, seq + 1), True


@dataclass(frozen=True)
class Applied:
    """The outcome of one segment: how many ops were new, how many held already, and what else was wrong with it."""

    new: int = 0
    held: int = 0
    gap: bool = False
    unrooted: bool = False
    fork: bool = False
    refused: bool = False
    ops: int = 0
    taken: tuple[int, int] | None = None
    """The branch and place of its last op, when something was new."""


class ToyStore:
    """Durable at once. ``segment_ops`` bounds the ops of one segment, as stored ones are bounded; ``heads_max`` the heads of one log
    (of the admin's: those that are announced one by one)."""

    def __init__(self, admin: bytes, *, segment_ops: int = 50, heads_max: int = 64) -> None:
        self.admin = admin
        self.segment_ops = segment_ops
        self.heads_max = heads_max
        self.logs: dict[LogId, Log] = {}
        self.members = {admin}
        self.named = {admin}
        self.spared = {admin}
        self.resumed: list[LogId] = []
        """Logs that are no longer suspended, and that nobody was told of yet."""
        self.reads = 0
        self._digest = b""

    # ---- Replica

    def heads(self) -> Iterator[tuple[LogId, Heads]]:
        for log in self.logs:
            yield log, self.heads_of(log)

    def holds(self, log: LogId, seq: int, h: bytes) -> bool:
        return log in self.logs and self.logs[log].find(seq, h) is not None

    def places(self, log: LogId) -> list[Place]:
        if log not in self.logs:
            return []
        held = self.logs[log]
        backs = [0, *(1 << power for power in range(53))]
        found = [(branch.seq - back, number) for back in backs for number, branch in enumerate(held.branches) if branch.seq > back]
        found += [(1, number) for number in range(len(held.branches))]
        return list(dict.fromkeys((seq, held.hash(number, seq)[:16]) for seq, number in found))[:1_024]

    def cursors(self, log: LogId, places: Sequence[Place]) -> list[tuple[int, int]]:
        if log not in self.logs:
            return []
        held = self.logs[log]
        known = [branch.start for branch in held.branches]
        for seq, mark in places:
            branch = held.find(seq, mark)
            at: tuple[int, int] | None = None if branch is None else (branch, seq)
            while at is not None:
                known[at[0]] = max(known[at[0]], at[1])
                at = held.branches[at[0]].base
        return [(number, known[number]) for number, branch in enumerate(held.branches) if known[number] < branch.seq]

    def admit(self, key: bytes) -> bool:
        return key in self.members

    def takes(self, author: bytes) -> bool:
        return author in self.named or author in self.members

    def priority(self, author: bytes) -> int:
        return 0 if author == self.admin else ORDINARY

    # ---- writing and reading

    def heads_of(self, log: LogId) -> Heads:
        held = self.logs[log]
        tips = [Head(branch.seq, branch.chain[-1], number, branch.base) for number, branch in enumerate(held.branches)]
        tips.sort(key=lambda tip: (tip.seq, tip.h))
        if held.suspended:
            return (*tips, MARKER)
        if len(tips) > self.heads_max:
            return (*tips, Head(CROWDED_SEQ, hashlib.sha256(repr([(tip.seq, tip.h) for tip in tips]).encode()).digest()))
        return tuple(tips)

    def seq(self, log: LogId) -> int:
        return max(branch.seq for branch in self.logs[log].branches) if log in self.logs else 0

    def tip(self, log: LogId, at: tuple[int, int]) -> Head:
        """The place ``at`` = (branch, seq) as a head."""
        return Head(at[1], self.logs[log].hash(*at), at[0], self.logs[log].branches[at[0]].base)

    def append(self, log: LogId, op: bytes, at: tuple[int, int] | None = None) -> tuple[int, int]:
        """Write behind branch 0, or behind ``at`` = (branch, seq): where it went."""
        held = self.logs.setdefault(log, Log(_start(log)))
        where, _ = held.step(at or (0, held.branches[0].seq), op)
        self._note(log, op)
        return where

    def _note(self, log: LogId, op: bytes) -> None:
        held = self.logs[log]
        self._digest = b""
        held.suspended = len(held.branches) > self.heads_max and log.author not in self.spared
        if log.author == self.admin and op.startswith(MEMBER):
            self.members.add(op[len(MEMBER) :])
            self.named.add(op[len(MEMBER) :])
        if log.author == self.admin and op.startswith(REVOKED):
            self.members.discard(op[len(REVOKED) :])
        if log.author == self.admin and op.startswith(SPARED):
            self.spared.add(op[len(SPARED) :])
            self.resumed += [other for other, known in self.logs.items() if known.suspended and other.author in self.spared]
            for other in self.resumed:
                self.logs[other].suspended = False

    def read(self, log: LogId, after: int, max_bytes: int, number: int = 0) -> list[tuple[int, int, bytes]]:
        self.reads += 1
        held, result, size = self.logs[log], [], 0
        branch = held.branches[number]
        while after < branch.seq:
            ops = branch.ops[after - branch.start :][: self.segment_ops]
            while ops and (room := len(data := encode_segment(log, after + 1, held.hash(number, after), ops))) + size > max_bytes:
                ops = ops[: len(ops) // 2]
            if not ops:
                break
            result.append((after + 1, after + len(ops), data))
            size += room
            after += len(ops)
        return result

    def apply(self, log: LogId, data: bytes) -> Applied:
        """Verify, chain, persist. A segment that does not fit changes nothing."""
        named, first, prev, ops = decode_segment(data)
        assert named == log, "the frame names another log than its segment"
        held = self.logs.get(log) or Log(_start(log))
        if held.suspended:
            return Applied(refused=True)
        branch = held.find(first - 1, prev)
        if branch is None:
            return Applied(gap=True, ops=len(ops), unrooted=any(known.seq >= first - 1 for known in held.branches))
        at, new, fork = (branch, first - 1), 0, len(held.branches)
        self.logs[log] = held
        for op in ops:
            at, is_new = held.step(at, op)
            new += is_new
            self._note(log, op)
        return Applied(ops=len(ops), new=new, held=len(ops) - new, fork=len(held.branches) > fork, taken=at if new else None)

    def digest(self) -> bytes:
        """Of the heads: a suspended log counts by its marker."""
        if self._digest:
            return self._digest
        parts = []
        for log in sorted(self.logs):
            heads = self.heads_of(log)
            shown = heads[-1:] if heads[-1] == MARKER else heads
            parts += [log.author, log.epoch.to_bytes(8, "big"), *(head.seq.to_bytes(8, "big") + head.h for head in shown)]
        self._digest = hashlib.sha256(b"".join(parts)).digest()
        return self._digest


def _start(log: LogId) -> bytes:
    return hashlib.sha256(b"start" + log.author + log.epoch.to_bytes(8, "big")).digest()


def _step(h: bytes, op: bytes) -> bytes:
    return hashlib.sha256(h + hashlib.sha256(op).digest()).digest()


def encode_segment(log: LogId, first: int, prev: bytes, ops: list[bytes]) -> bytes:
    body = b"".join(len(op).to_bytes(4, "big") + op for op in ops)
    return log.author + log.epoch.to_bytes(8, "big") + first.to_bytes(8, "big") + prev + body


def decode_segment(data: bytes) -> tuple[LogId, int, bytes, list[bytes]]:
    log, first, prev, at, ops = LogId(data[:32], int.from_bytes(data[32:40], "big")), int.from_bytes(data[40:48], "big"), data[48:80], 80, []
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        ops.append(data[at + 4 : end])
        at = end
    return log, first, prev, ops
