"""The comparison of two states, register by register: what is said in pages, what is read of them, and what differs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from fabrik_node._core import schema
from fabrik_node.ids import show_id, show_key

__all__ = ["BUCKETS_MAX", "DIGEST_BYTES", "REGISTERS_MAX", "Entries", "Page", "Pages", "Place", "Said", "differing", "read_said", "register_name"]

DIGEST_BYTES = 16
"""Of each digest within an audit: enough to tell registers apart that nobody made alike on purpose."""
BUCKETS = 256
BUCKETS_MAX = 4
"""Buckets of one node whose registers are compared."""
REGISTERS_MAX = 32
"""Registers that are named for one node."""
_ENTRIES_MAX = 512
"""Registers that one message may list: 16 KiB have no room for more."""

Place: TypeAlias = tuple[int, bytes, int]
"""``(kind, id, field)``; orders like the keys of the state digest."""
Entries: TypeAlias = Sequence[tuple[int, bytes, int, bytes]]


@dataclass(frozen=True, slots=True)
class Page:
    """Registers of one bucket behind ``after`` (None: from the first), all of them up to the last one here; with ``end`` there is none behind it."""

    bucket: int
    after: Place | None
    end: bool
    entries: Entries

    def differences(self, ours: Entries) -> list[Place]:
        """What is not on both sides with one digest, within the bounds of this page."""
        theirs = {(kind, key, number): digest for kind, key, number, digest in self.entries}
        last = max(theirs, default=None)
        mine = {
            place: digest
            for *at, digest in ours
            if (place := _place(at)) is not None and (self.after is None or place > self.after) and (self.end or (last is not None and place <= last))
        }
        return sorted(place for place in {*theirs, *mine} if theirs.get(place) != mine.get(place))


@dataclass(frozen=True, slots=True)
class Said:
    """What one message says of its author's state."""

    frontier: bytes
    state: bytes
    rules: bytes
    audit_frontier: bytes = b""
    buckets: bytes = b""
    entries: tuple[Page, ...] = ()


class Pages:
    """Goes through the registers of some buckets, as many in each message as there is room for, and from the first again after the last."""

    def __init__(self) -> None:
        self._of: tuple[bytes, bytes] | None = None
        self.buckets: list[int] = []
        self._at = 0
        self._after: Place | None = None
        self.finished = False
        """Everything was said once."""

    def begin(self, of: tuple[bytes, bytes], buckets: list[int]) -> None:
        """These buckets of this state. Nothing changes while both are as before."""
        if (self._of, self.buckets) != (of, buckets):
            self._of, self.buckets, self._at, self._after, self.finished = of, buckets, 0, None, False

    def take(self, rows: Mapping[int, Entries], room: int) -> list[list[Any]]:
        """The next pages, encoded, in at most ``room`` bytes."""
        said: list[list[Any]] = []
        for _ in self.buckets:
            bucket = self.buckets[self._at]
            left = [row for row in rows.get(bucket, []) if self._after is None or row[:3] > self._after]
            taken: list[list[Any]] = []
            room -= 64
            for row in left:
                room -= len(row[1]) + DIGEST_BYTES + 8
                if room < 0:
                    break
                taken.append(list(row))
            end = len(taken) == len(left)
            if taken or end:
                said.append([bucket, None if self._after is None else list(self._after), end, taken])
            if not end:
                self._after = left[len(taken) - 1][:3] if taken else self._after
                return said
            self._at, self._after = (self._at + 1) % len(self.buckets), None
            self.finished = self.finished or self._at == 0
        return said


def differing(ours: bytes, theirs: bytes) -> list[int]:
    """Buckets whose digests are unequal."""
    size = DIGEST_BYTES
    return [number for number in range(BUCKETS) if ours[number * size : (number + 1) * size] != theirs[number * size : (number + 1) * size]]


def read_said(payload: Mapping[str, Any]) -> Said | None:
    """What a message says of its author's state; None when it says nothing of use. Others may say anything: what is ill-formed is left out."""
    match payload:
        case {"frontier": bytes(frontier), "state": bytes(state), "rules": bytes(rules)} if len(frontier) == len(state) == 32:
            pass
        case _:
            return None
    match payload.get("audit"):
        case {"frontier": bytes(at), "buckets": bytes(buckets), "entries": list(pages)} if len(buckets) == BUCKETS * DIGEST_BYTES:
            return Said(frontier, state, rules, at, buckets, tuple(page for each in pages[:BUCKETS_MAX] if (page := _page(each)) is not None))
        case _:
            return Said(frontier, state, rules)


def _page(said: Any) -> Page | None:
    match said:
        case [int(bucket), None | [*_] as after, bool(end), list(rows)] if 0 <= bucket < BUCKETS and len(rows) <= _ENTRIES_MAX:
            entries = [(*place, row[3]) for row in rows if isinstance(row, list) and len(row) == 4 and isinstance(row[3], bytes) and (place := _place(row[:3]))]
            begin = None if after is None else _place(after)
            in_place = all(place[1][-1:] == bytes([bucket]) for place in entries)
            return Page(bucket, begin, end, entries) if in_place and len(entries) == len(rows) and (after is None) == (begin is None) else None
        case _:
            return None


def _place(said: Sequence[Any]) -> Place | None:
    match said:
        case [int(kind), bytes(key), int(number)] if 0 <= kind <= 255 and 0 <= number <= 255 and 1 <= len(key) <= 32:
            return kind, key, number
        case _:
            return None


_NAMES = {number: (name, {place: field for field, place, _, _ in fields}) for name, number, _, fields in schema()}


def register_name(kind: int, key: bytes, number: int) -> str:
    """A register for people: ``item 01h... title``. Never its value."""
    name, fields = _NAMES.get(kind, (f"kind {kind}", {}))
    shown = show_id(key) if len(key) == 16 else show_key(key)
    return f"{name} {shown} {fields.get(number, f'field {number}')}"
