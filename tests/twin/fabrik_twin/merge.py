"""What a set of ops means (``merge.md``), the naive way: keep every op, judge all of them, pick every winner again on each question."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fabrik_twin.authority import Authority, Position, Statement, class_of, record_of, rotation_of, spared
from fabrik_twin.cbor import encode
from fabrik_twin.op import GENESIS, LIMIT, OPENING, WRITE, Fence, Genesis, Op, Write, be64, derive, digest
from fabrik_twin.schema import CLAIM, ID_BYTES, ITEM, LATER, MEMBER, NODE, ROTATION, RUN, STEP, TOMBSTONE, TYPES, is_place, step_id

STEP_MAX = 2**24
HEADS_MAX = 64
"""Heads of one log; with one more it is suspended, unless its author is spared (merge.md, "Forks")."""

KNOWN_KINDS = (WRITE, GENESIS, OPENING)

Log = tuple[bytes, int]
Place = tuple[int, bytes, int]


# ---- op validity ----------------------------------------------------------------------------------------------------


def void_reason(admin: bytes, author: bytes, op: Op) -> str | None:
    """Which of rules 2 to 4 the op breaks; None when none. Rule 1 needs the log (:func:`clock_after`), rule 5 all logs (:class:`~fabrik_twin.authority.Authority`)."""
    if op.kind == GENESIS and (op.seq != 1 or author != admin):
        return "genesis out of place"
    if op.kind == OPENING and (op.seq != 1 or op.follows is None):
        return "epoch opening out of place"
    if op.follows is not None and op.kind != OPENING:
        return "follows out of place"
    if op.kind not in (WRITE, GENESIS, OPENING):
        return None
    for write in op.writes:
        if (write.kind, write.field) not in TYPES.keys() - LATER:
            continue
        check, fenced = TYPES[write.kind, write.field]
        if len(write.id) != ID_BYTES[write.kind] or not check(write.value) or (write.fence is not None and not fenced):
            return f"malformed write to {write.kind}.{write.field}"
        if write.kind == CLAIM and write.value[5] != author:
            return "a claim for another node"
        if write.kind == NODE and write.id != author:
            return "a node record of another"
        if write.kind == RUN and write.value["node"] != author:
            return "a run of another"
    return None


def counts(author: bytes, write: Write) -> bool:
    """Whether a write of an op with effect goes into its register."""
    place = (write.kind, write.field)
    if place not in LATER:
        return place in TYPES
    check, fenced = TYPES[place]
    if len(write.id) != ID_BYTES[write.kind] or not check(write.value) or (write.fence is not None and not fenced):
        return False
    if write.kind == ROTATION:
        return write.id == author
    return write.kind != STEP or write.id == step_id(write.value[1], write.value[2])


def clock_after(clock: int, lamport: int) -> int:
    """The log's clock after an op: unchanged when it breaks rule 1."""
    return lamport if clock < lamport <= min(clock + STEP_MAX, LIMIT) else clock


# ---- winners --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Touch:
    """One write that has effect, and where it was made."""

    author: bytes
    epoch: int
    op: Op
    index: int

    @property
    def write(self) -> Write:
        """The write itself."""
        return self.op.writes[self.index]

    @property
    def fence(self) -> Fence | None:
        """The fence of the write; of a claim its own receipt, epoch and id."""
        write = self.write
        return (write.value[3], write.value[2], write.value[1]) if write.kind == CLAIM else write.fence


def _rank(place: bytes, claim_id: bytes) -> bytes:
    """32 bytes; the *lower* ranks higher. A register's id begins with its item's."""
    return digest(place[:16] + claim_id)


def _height(item: bytes, fence: Fence | None) -> tuple[int, int, int]:
    """What compares as the fence does; a missing one is below all."""
    return (0, 0, -1) if fence is None else (fence[0], fence[1], 2**256 - 1 - int.from_bytes(_rank(item, fence[2]), "big"))


def fence_beats(item: bytes, fence: Fence | None, other: Fence | None) -> bool:
    """True when ``fence`` is strictly above ``other`` for this item."""
    return _height(item, fence) > _height(item, other)


def _strength(touch: Touch) -> tuple[Any, ...]:
    write = touch.write
    state = write.value[4] if write.kind == CLAIM else 0
    return (_height(write.id, touch.fence), state, *_place(touch))


def _place(touch: Touch) -> tuple[Any, ...]:
    """Total: an op does not name its author, so two authors can write the same bytes."""
    return (touch.op.lamport, touch.op.digest, touch.index, touch.author, touch.epoch)


@dataclass(frozen=True)
class Placed:
    """An op at its place in the tree of its log: ``head`` is its chain hash, ``prev`` the one before it."""

    op: Op
    prev: bytes
    head: bytes


Tree = dict[bytes, Placed]
"""The ops of one log by chain hash, each after the one before it."""


def heads_of(tree: Tree) -> list[Placed]:
    """The ends of a log's branches, in order of (seq, chain hash)."""
    inner = {placed.prev for placed in tree.values()}
    return sorted((placed for head, placed in tree.items() if head not in inner), key=lambda placed: (placed.op.seq, placed.head))


def clock_before(clocks: dict[bytes, int], placed: Placed) -> int:
    """The clock that an op of a log finds: that of the path before it."""
    return clocks.get(placed.prev, 0)


class State:
    """Everything that follows from a genesis record and a set of chained ops. A log with more than :data:`HEADS_MAX` heads is suspended: without effect.

    Those of keys that name others, or that one of them revoked, never are."""

    def __init__(self, genesis: Genesis, logs: dict[Log, Tree]) -> None:
        self.genesis = genesis
        self.logs = logs
        self.lamport = 0
        self.void: list[tuple[bytes, int, int]] = []
        self._clocks = {log: self._clocks_of(tree) for log, tree in logs.items()}
        statements = list(self._statements())
        free = spared(genesis, statements)
        self.suspended = {log for log, tree in logs.items() if log[0] not in free and len(heads_of(tree)) > HEADS_MAX}
        self.clocks = {log: clocks for log, clocks in self._clocks.items() if log not in self.suspended}
        self.authority = Authority(genesis, statements, self._path, self.suspended)
        touches: dict[Place, list[Touch]] = defaultdict(list)
        for log in logs.keys() - self.suspended:
            for touch in self._effects(*log):
                touches[touch.write.kind, touch.write.id, touch.write.field].append(touch)
        self.deleted = {place[1] for place in touches if place[0] == TOMBSTONE}
        self.winners: dict[Place, Touch] = {}
        for place, found in touches.items():
            if place[0] == TOMBSTONE:
                self.winners[place] = min(found, key=_place)
            elif not (place[0] in (ITEM, CLAIM) and place[1] in self.deleted):
                self.winners[place] = max(found, key=_strength)

    def _clocks_of(self, tree: Tree) -> dict[bytes, int]:
        clocks: dict[bytes, int] = {}
        for head, placed in tree.items():
            clocks[head] = clock_after(clock_before(clocks, placed), placed.op.lamport)
        return clocks

    def _is_sound(self, log: Log, placed: Placed) -> bool:
        before, after = clock_before(self._clocks[log], placed), self._clocks[log][placed.head]
        return after != before and void_reason(self.genesis.admin, log[0], placed.op) is None

    def _path(self, author: bytes, place: Position) -> frozenset[bytes]:
        """The chain hashes of an op that is held and of those before it; places name by the first half of a hash."""
        epoch, seq, named = place
        tree = self.logs.get((author, epoch), {})
        head = next((head for head, placed in tree.items() if placed.op.seq == seq and head[:16] == named[:16]), None)
        path = set()
        while head in tree:
            path.add(head)
            head = tree[head].prev
        return frozenset(path)

    def _statements(self) -> Iterable[Statement]:
        for (author, epoch), tree in self.logs.items():
            for placed in tree.values():
                op = placed.op
                if op.kind not in KNOWN_KINDS or not self._is_sound((author, epoch), placed):
                    continue
                writes = [(index, write) for index, write in enumerate(op.writes) if counts(author, write)]
                records = tuple((index, record_of(write.id, write.value, is_place)) for index, write in writes if write.kind == MEMBER)
                turns = [
                    rotation_of(self.genesis.mesh_id, author, epoch, op.seq, placed.prev, write.value)
                    for _, write in writes
                    if write.kind == ROTATION and (len(op.writes), op.kind) == (1, WRITE)
                ]
                rotations = tuple(turn for turn in turns if turn is not None)
                if records or rotations:
                    pure = all(write.kind == MEMBER or (write.kind, write.field) in LATER for _, write in writes)
                    at = (epoch, op.seq, placed.head)
                    yield Statement(author, at, op, records, rotations, pure)

    def _effects(self, author: bytes, epoch: int) -> Iterable[Touch]:
        for head, placed in self.logs[author, epoch].items():
            op = placed.op
            self.lamport = max(self.lamport, self._clocks[author, epoch][head])
            classes = {class_of(write.kind, write.field) for write in op.writes if (write.kind, write.field) in TYPES.keys() - LATER}
            if not self._is_sound((author, epoch), placed) or (op.kind in KNOWN_KINDS and not self.authority.may(author, (epoch, op.seq, head), classes)):
                self.void.append((author, epoch, op.seq))
                continue
            for index, write in enumerate(op.writes):
                if op.kind in KNOWN_KINDS and counts(author, write) and self._may_write(author, (epoch, op.seq, head), write, classes):
                    yield Touch(author, epoch, op, index)

    def _may_write(self, author: bytes, at: Position, write: Write, classes: set[str]) -> bool:
        """A later register that its author may not write has no effect by itself. Those of version 1 were judged with their op, as was all of one with member records."""
        if (write.kind, write.field) not in LATER or write.kind == ROTATION or "member" in classes:
            return True
        return self.authority.may(author, at, {class_of(write.kind, write.field)})

    def admitted(self, author: bytes) -> bool:
        """Whether it may connect: its role now is other than none."""
        return self.authority.role(author) != 0

    def named(self, author: bytes) -> bool:
        """Whether its logs are taken."""
        return author in self.authority.named

    def state_digest(self) -> bytes:
        """See merge.md."""
        buckets: list[list[tuple[bytes, bytes]]] = [[] for _ in range(256)]
        for place, touch in self.winners.items():
            fence = touch.fence
            receipt, epoch, rank = (0, 0, b"") if fence is None else (fence[0], fence[1], _rank(place[1], fence[2]))
            key = encode(list(place))
            buckets[place[1][-1]].append((key, encode([receipt, epoch, rank, touch.op.lamport, touch.op.digest, touch.write.value])))
        joined = b"".join(derive("fabrik 2026 v1 state bucket", b"".join(key + entry for key, entry in sorted(bucket))) for bucket in buckets)
        return derive("fabrik 2026 v1 state", be64(len(self.winners)) + joined)
