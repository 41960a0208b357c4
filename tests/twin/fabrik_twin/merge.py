"""What a set of ops means (``merge.md``), the naive way: keep every op, judge all of them, pick every winner again on each question."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from fabrik_twin.cbor import Map, encode
from fabrik_twin.op import GENESIS, LIMIT, OPENING, WRITE, Fence, Genesis, Op, Write, be64, derive, digest

STEP_MAX = 2**24
HEADS_MAX = 64
"""Heads of one log; with one more it is suspended, unless it is the genesis admin's (merge.md, "Forks")."""
ITEM, CLAIM, MEMBER, NODE, TOMBSTONE, RUN = 1, 2, 3, 4, 5, 6

Log = tuple[bytes, int]
Place = tuple[int, bytes, int]


# ---- types of values ------------------------------------------------------------------------------------------------


def _uint(value: Any, low: int = 0, high: int = 2**64 - 1) -> bool:
    return type(value) is int and low <= value <= high


def _text(low: int, high: int | None) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        return isinstance(value, str) and low <= len(value.encode()) and (high is None or len(value.encode()) <= high)

    return check


def _raw(*sizes: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, bytes) and (not sizes or len(value) in sizes)


def _list_of(check: Callable[[Any], bool], most: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and len(value) <= most and all(check(item) for item in value)


def _map(value: Any) -> bool:
    return isinstance(value, Map) and all(isinstance(key, str) for key in value)


def _stage(value: Any) -> bool:
    shapes: dict[int, list[Callable[[Any], bool]]] = {
        0: [],
        1: [],
        2: [],
        3: [_text(1, 255), lambda v: _uint(v, 1, 2**32 - 1)],
        4: [_uint, _raw(20, 32)],
        5: [_uint, lambda v: _uint(v, 0, 5)],
    }
    if not isinstance(value, list) or not value or not _uint(value[0], 0, 5):
        return False
    shape = shapes[value[0]]
    return len(value) == 1 + len(shape) and all(check(item) for check, item in zip(shape, value[1:], strict=True))


def _fields(required: dict[int, Callable[[Any], bool]], optional: dict[int, Callable[[Any], bool]]) -> Callable[[Any], bool]:
    known = required | optional
    top = max(known)

    def check(value: Any) -> bool:
        if not isinstance(value, Map) or not all(number in value for number in required):
            return False
        return all(known[key](item) if type(key) is int and key in known else _uint(key, top + 1) for key, item in value.pairs)

    return check


_head = _list_of(lambda _: True, 3)
CLAIM_TYPE = _fields(
    {1: _raw(16), 2: _uint, 3: _uint, 4: lambda v: _uint(v, 0, 2), 5: _raw(32), 6: _text(0, None), 7: _uint, 8: _text(0, None)},
    {9: _text(0, None), 10: _raw(), 11: _raw(16)},
)
MEMBER_TYPE = _fields(
    {1: lambda v: _uint(v, 0, 4)},
    {2: _text(0, 64), 3: lambda v: _head(v) and len(v) == 3 and _uint(v[0], 1, LIMIT - 1) and _uint(v[1], 1, LIMIT) and _raw(32)(v[2])},
)

ID_BYTES = {ITEM: 16, CLAIM: 16, MEMBER: 32, NODE: 32, TOMBSTONE: 16, RUN: 16}
TYPES: dict[tuple[int, int], tuple[Callable[[Any], bool], bool]] = {
    (ITEM, 1): (_text(0, 200), False),
    (ITEM, 2): (_text(0, 32768), False),
    (ITEM, 3): (_stage, True),
    (ITEM, 4): (_map, True),
    (ITEM, 5): (_list_of(_text(0, 64), 32), False),
    (ITEM, 6): (lambda v: _uint(v, -(2**63), 2**63 - 1), False),
    (ITEM, 7): (_list_of(_raw(16), 64), False),
    (ITEM, 8): (_uint, False),
    (ITEM, 9): (lambda v: v is None or _map(v), False),
    (ITEM, 10): (_uint, True),
    (CLAIM, 1): (CLAIM_TYPE, False),
    (MEMBER, 1): (MEMBER_TYPE, False),
    (NODE, 1): (_text(0, 64), False),
    (NODE, 2): (_map, False),
    (TOMBSTONE, 1): (_map, False),
    (RUN, 1): (lambda v: _map(v) and "node" in v and _raw(32)(v["node"]), False),
}
"""``(kind, field) -> (type, fenced)``: the table of merge.md."""


# ---- op validity ----------------------------------------------------------------------------------------------------


def void_reason(admin: bytes, author: bytes, op: Op) -> str | None:
    """Which of rules 2 to 4 the op breaks; None when none. Rule 1 needs the log: see :func:`clock_after`."""
    if op.kind == GENESIS and (op.seq != 1 or author != admin):
        return "genesis out of place"
    if op.kind == OPENING and (op.seq != 1 or op.follows is None):
        return "epoch opening out of place"
    if op.follows is not None and op.kind != OPENING:
        return "follows out of place"
    if op.kind not in (WRITE, GENESIS, OPENING):
        return None
    for write in op.writes:
        if (write.kind, write.field) not in TYPES:
            continue
        check, fenced = TYPES[write.kind, write.field]
        if len(write.id) != ID_BYTES[write.kind] or not check(write.value) or (write.fence is not None and not fenced):
            return f"malformed write to {write.kind}.{write.field}"
        if write.kind == MEMBER and author != admin:
            return "a member record by another than the admin"
        if write.kind == CLAIM and write.value[5] != author:
            return "a claim for another node"
        if write.kind == NODE and write.id != author:
            return "a node record of another"
        if write.kind == RUN and write.value["node"] != author:
            return "a run of another"
    return None


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


def _rank(item: bytes, claim_id: bytes) -> bytes:
    """32 bytes; the *lower* ranks higher."""
    return digest(item + claim_id)


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

    The genesis admin's never is."""

    def __init__(self, genesis: Genesis, logs: dict[Log, Tree]) -> None:
        self.genesis = genesis
        self.logs = logs
        self.suspended = {log for log, tree in logs.items() if log[0] != genesis.admin and len(heads_of(tree)) > HEADS_MAX}
        self.lamport = 0
        self.void: list[tuple[bytes, int, int]] = []
        self.clocks: dict[Log, dict[bytes, int]] = {}
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

    def _effects(self, author: bytes, epoch: int) -> Iterable[Touch]:
        clocks = self.clocks[author, epoch] = {}
        for head, placed in self.logs[author, epoch].items():
            op, before = placed.op, clock_before(clocks, placed)
            clocks[head] = clock_after(before, op.lamport)
            self.lamport = max(self.lamport, clocks[head])
            if clocks[head] == before or void_reason(self.genesis.admin, author, op) is not None:
                self.void.append((author, epoch, op.seq))
                continue
            for index, write in enumerate(op.writes):
                if op.kind in (WRITE, GENESIS, OPENING) and (write.kind, write.field) in TYPES:
                    yield Touch(author, epoch, op, index)

    def admitted(self, author: bytes) -> bool:
        """The genesis admin, or a member record with a role other than none."""
        if author == self.genesis.admin:
            return True
        record = self.winners.get((MEMBER, author, 1))
        return record is not None and record.write.value[1] != 0

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
