"""Who may write what (``merge.md``, "Authority"), the naive way: a set of statements in, every answer worked out again from all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from fabrik_twin.cbor import Map, encode
from fabrik_twin.op import BadSignature, Genesis, Op, be64, derive, verify

READER = frozenset({"node"})
AGENT = READER | {"work"}
PEER = AGENT | {"item"}
MAY = {0: frozenset[str](), 1: READER, 2: AGENT, 3: PEER, 4: PEER}
"""The classes of registers that a role allows; rotations are everybody's."""

Position = tuple[int, int, bytes]
"""``(epoch, seq, chain hash)`` of one author's op."""


def class_of(kind: int, field: int) -> str:
    """Of a register, but rotations."""
    if kind in (2, 6, 8) or (kind, field) in ((9, 1), (9, 3)) or (kind == 1 and field in (3, 4, 9, 10, 11, 12)):
        return "work"
    return {1: "item", 5: "item", 9: "item", 3: "member", 4: "node"}[kind]


def is_places(value: Any, check: Callable[[Any], bool]) -> bool:
    """A list of places."""
    return isinstance(value, list) and all(check(place) for place in value)


@dataclass(frozen=True)
class Record:
    """A member record; ``places`` is None for one that does not bind."""

    subject: bytes
    role: int
    places: tuple[Position, ...] | None
    next: bytes | None

    @property
    def revokes(self) -> bool:
        """Its subject is out for good."""
        return self.role == 0 and self.places is not None


def record_of(subject: bytes, value: Map, is_place: Callable[[Any], bool]) -> Record:
    """Keys 4 and 5 of another type are as if they were not there."""
    more = value.get(4) if is_places(value.get(4), is_place) else []
    commitment = value.get(5)
    places = None if 3 not in value else tuple((place[0], place[1], place[2]) for place in [value[3], *(more or [])])
    return Record(subject, value[1], places, commitment if isinstance(commitment, bytes) and len(commitment) == 32 else None)


@dataclass(frozen=True)
class Rotation:
    """A well-formed one."""

    new: bytes
    next: bytes | None
    keeps: tuple[Position, ...]


def rotation_message(mesh_id: bytes, old: bytes, epoch: int, seq: int, before: bytes, value: Any) -> bytes:
    """What the new key signs: the place, and the rotation without its signature."""
    rest = Map([(key, item) for key, item in (value.pairs if isinstance(value, Map) else value.items()) if key != 2])
    return b"fabrik/v1/rotation\0" + mesh_id + old + be64(epoch) + be64(seq) + before + encode(rest)


def rotation_of(mesh_id: bytes, old: bytes, epoch: int, seq: int, before: bytes, value: Map) -> Rotation | None:
    """None when the new key did not sign it for this place."""
    try:
        verify(value[1], rotation_message(mesh_id, old, epoch, seq, before, value), value[2])
    except BadSignature:
        return None
    return None if value[1] == old else Rotation(value[1], value.get(3), tuple((place[0], place[1], place[2]) for place in value.get(4, [])))


def commitment_to(key: bytes) -> bytes:
    """What is named before the key is known."""
    return derive("fabrik 2026 v1 next key", key)


@dataclass(frozen=True)
class Statement:
    """A sound op that writes member records or rotations. ``pure``: no other fields of version 1."""

    author: bytes
    at: Position
    op: Op
    records: tuple[tuple[int, Record], ...]
    rotations: tuple[Rotation, ...]
    pure: bool


@dataclass(frozen=True)
class Effect:
    """A record with effect; ``level`` is that of its author, ``age`` orders them."""

    record: Record
    level: float
    age: tuple[Any, ...]


LAST = float("inf")
"""Above all levels: that of keys without one."""


def names(genesis: Genesis, statements: list[Statement]) -> tuple[set[bytes], set[bytes]]:
    """Who is named, and who of them names others. Suspended logs have their part in it."""
    naming = {genesis.admin} | ({genesis.recovery} if genesis.recovery else set())
    named = set(naming)
    size = None
    while size != (len(named), len(naming)):
        size = len(named), len(naming)
        for one in statements:
            given = [record for _, record in one.records if record.role != 0 and one.author in naming]
            named |= {record.subject for record in given}
            naming |= {record.subject for record in given if record.role == 4 and record.places is not None}
            named |= {rotation.new for rotation in one.rotations if one.author in named}
            naming |= {rotation.new for rotation in one.rotations if one.author in naming}
    return named, naming


def spared(genesis: Genesis, statements: list[Statement]) -> set[bytes]:
    """Whose logs are never suspended: those who name, and whom one of them revoked, with effect or not."""
    _, naming = names(genesis, statements)
    return naming | {record.subject for one in statements if one.author in naming for _, record in one.records if record.revokes}


class Authority:
    """One answer for one set. ``paths``: for each op of an author, itself and all before it."""

    def __init__(
        self, genesis: Genesis, statements: list[Statement], path: Callable[[bytes, Position], frozenset[bytes]], suspended: set[tuple[bytes, int]]
    ) -> None:
        self.genesis = genesis
        self.path = path
        self.named = names(genesis, statements)[0]
        self.statements = [one for one in statements if (one.author, one.at[0]) not in suspended]
        self.levels: dict[bytes, float] = {genesis.admin: 0}
        if genesis.recovery:
            self.levels[genesis.recovery] = -1
        self.effects: list[Effect] = []
        self.chosen: dict[bytes, tuple[Position, Rotation]] = {}
        self.effective: set[tuple[bytes, Position]] = set()
        level = -1
        while any(held >= level for held in self.levels.values()):
            self._rotate(level)
            self._command(level)
            level += 1
        self._rotate(LAST)

    # ---- what is asked of an op -------------------------------------------------------------------------------------

    def within(self, author: bytes, at: Position, places: Iterable[Position]) -> bool:
        """The op is one of these places, or before one on its branch."""
        return any(at[0] == place[0] and place[2] != bytes(32) and at[2] in self.path(author, place) for place in places)

    def level(self, key: bytes) -> float:
        """:data:`LAST` for those who have none."""
        return self.levels.get(key, LAST)

    def olds(self, key: bytes) -> set[bytes]:
        """All keys that it succeeds."""
        found: set[bytes] = set()
        work = [key]
        while work:
            new = work.pop()
            more = {old for old, (_, rotation) in self.chosen.items() if rotation.new == new} - found
            found |= more
            work += more
        return found

    def is_root(self, key: bytes) -> bool:
        """The genesis admin, or one that succeeds it."""
        return self.genesis.admin in {key} | self.olds(key)

    def about(self, key: bytes, below: float = LAST) -> list[Effect]:
        """The records about a key and, with a role, about those that it succeeds; the latest first."""
        olds = self.olds(key)
        found = [one for one in self.effects if one.level < below and (one.record.subject == key or (one.record.subject in olds and one.record.role != 0))]
        return sorted(found, key=lambda one: one.age, reverse=True)

    def survives(self, author: bytes, at: Position, below: float = LAST) -> bool:
        """Within every revocation of its author."""
        cuts = [one.record for one in self.effects if one.record.subject == author and one.level < below and one.record.revokes]
        return all(self.within(author, at, record.places or ()) for record in cuts)

    def before_rotation(self, author: bytes, at: Position) -> bool:
        """Within what the author's rotation leaves, if there is one."""
        if author not in self.chosen:
            return True
        place, rotation = self.chosen[author]
        return self.within(author, at, [place, *rotation.keeps])

    def on_dead_line(self, key: bytes) -> bool:
        """It succeeds a key by an op that a revocation of that one leaves out."""
        return any(old in self.chosen and not self.survives(old, self.chosen[old][0]) for old in self.olds(key))

    def _binding(self, author: bytes, at: Position, below: float = LAST) -> Record | None:
        roles = [one.record for one in self.about(author, below) if one.record.role != 0 and one.record.places is not None]
        return next((record for record in roles if not self.within(author, at, record.places or ())), None)

    # ---- level by level ---------------------------------------------------------------------------------------------

    def _commitments(self, key: bytes, level: float) -> set[bytes | None]:
        found = {one.record.next for one in self.effects if one.record.subject == key and one.level < level}
        found |= {rotation.next for _, rotation in self.chosen.values() if rotation.new == key}
        return (found | ({self.genesis.next} if key == self.genesis.admin else set())) - {None}

    def _rotate(self, level: float) -> None:
        while True:
            found: dict[bytes, list[tuple[int, bytes, Position, Rotation]]] = {}
            for one in self.statements:
                old = one.author
                if self.level(old) == level and old not in self.chosen and self.survives(old, one.at, level):
                    fitting = [rotation for rotation in one.rotations if commitment_to(rotation.new) in self._commitments(old, level)]
                    found.setdefault(old, []).extend((one.op.lamport, one.at[2], one.at, rotation) for rotation in fitting)
            choices = {old: min(some, key=lambda choice: choice[:2]) for old, some in found.items() if some}
            if not choices:
                return
            for old, (_, _, at, rotation) in choices.items():
                self.chosen[old] = (at, rotation)
                if self.level(rotation.new) > level:
                    self.levels[rotation.new] = level

    def _commands(self, one: Statement, level: float) -> bool:
        if level == -1:
            return True
        if not self.survives(one.author, one.at, level) or not self.before_rotation(one.author, one.at):
            return False
        record = self._binding(one.author, one.at, level)
        return self.is_root(one.author) if record is None else record.role == 4

    def _command(self, level: int) -> None:
        verdicts, orders = [], []
        for one in self.statements:
            if not one.records or self.level(one.author) != level or not self._commands(one, level):
                continue
            if any(self.level(record.subject) < level for _, record in one.records) or (level == -1 and not one.pure):
                continue
            against = [record.revokes and self.level(record.subject) == level for _, record in one.records]
            if all(against) and one.pure:
                verdicts.append(one)
            elif not any(against):
                orders.append(one)
        for one in verdicts:
            self._enact(one, level)
        for one in [one for one in orders if self.survives(one.author, one.at) and not self.on_dead_line(one.author)]:
            self._enact(one, level)
            for _, record in one.records:
                if record.role == 4 and record.places is not None and self.level(record.subject) > level:
                    self.levels[record.subject] = level + 1

    def _enact(self, one: Statement, level: int) -> None:
        self.effective.add((one.author, one.at))
        self.effects += [Effect(record, level, (one.op.lamport, one.op.digest, index, one.author, one.at[0])) for index, record in one.records]

    # ---- the answers ------------------------------------------------------------------------------------------------

    def may(self, author: bytes, at: Position, classes: set[str]) -> bool:
        """Whether a sound op has effect that writes registers of these classes."""
        if "member" in classes:
            return (author, at) in self.effective
        if self.level(author) == -1:
            return not classes
        if author not in self.named:
            return classes <= PEER
        if not self.survives(author, at) or not self.before_rotation(author, at) or self.on_dead_line(author):
            return False
        record = self._binding(author, at)
        if record is not None:
            return classes <= MAY[record.role]
        return (self.is_root(author) or any(one.record.role != 0 for one in self.about(author))) and classes <= PEER

    def role(self, key: bytes) -> int:
        """Now."""
        if self.level(key) == -1:
            return 4
        if any(one.record.subject == key and one.record.revokes for one in self.effects) or key in self.chosen or self.on_dead_line(key):
            return 0
        records = self.about(key)
        return records[0].record.role if records else 4 * self.is_root(key)
