"""The registers of ``merge.md`` and what their values must be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fabrik_twin.authority import is_places
from fabrik_twin.cbor import Map
from fabrik_twin.op import LIMIT, derive

ITEM, CLAIM, MEMBER, NODE, TOMBSTONE, RUN, ROTATION, STEP, REQUEST = 1, 2, 3, 4, 5, 6, 7, 8, 9


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


def is_place(value: Any) -> bool:
    """``[epoch, seq, digest]``."""
    return isinstance(value, list) and len(value) == 3 and _uint(value[0], 1, LIMIT - 1) and _uint(value[1], 1, LIMIT) and _raw(32)(value[2])


CLAIM_TYPE = _fields(
    {1: _raw(16), 2: _uint, 3: _uint, 4: lambda v: _uint(v, 0, 2), 5: _raw(32), 6: _text(0, None), 7: _uint, 8: _text(0, None)},
    {9: _text(0, None), 10: _raw(), 11: _raw(16)},
)
MEMBER_TYPE = _fields(
    {1: lambda v: _uint(v, 0, 4)},
    {2: _text(0, 64), 3: is_place},
)
ROTATION_TYPE = _fields({1: _raw(32), 2: _raw(64)}, {3: _raw(32), 4: lambda v: is_places(v, is_place)})
STEP_TYPE = _fields(
    {1: _raw(16), 2: _text(1, 100), 3: lambda v: _uint(v, 0, 3), 4: _raw(32), 5: _uint, 6: _raw(16), 7: _raw(16), 10: _uint},
    {8: _raw(20, 32), 9: lambda v: _uint(v, 0, 255), 11: lambda v: isinstance(v, bool), 12: _text(0, 1000)},
)
QUESTION_TYPE = _fields(
    {1: _raw(16), 2: _raw(16), 3: _raw(16), 4: _text(1, 4096), 5: _list_of(_text(1, 200), 16), 8: _uint},
    {6: _uint, 7: _text(0, 200)},
)
ANSWER_TYPE = _fields({1: _text(1, 4096), 2: _uint, 4: _text(1, 32)}, {3: _text(0, 4096)})


def step_id(item: bytes, name: str) -> bytes:
    """The id of a step's register."""
    return item + derive("fabrik 2026 v1 step", name.encode())[:16]


ID_BYTES = {ITEM: 16, CLAIM: 16, MEMBER: 32, NODE: 32, TOMBSTONE: 16, RUN: 16, ROTATION: 32, STEP: 32, REQUEST: 16}
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
    (ITEM, 11): (lambda v: v is None or _map(v), False),
    (ITEM, 12): (lambda v: v is None or _map(v), True),
    (CLAIM, 1): (CLAIM_TYPE, False),
    (MEMBER, 1): (MEMBER_TYPE, False),
    (NODE, 1): (_text(0, 64), False),
    (NODE, 2): (_map, False),
    (TOMBSTONE, 1): (_map, False),
    (RUN, 1): (lambda v: _map(v) and "node" in v and _raw(32)(v["node"]), False),
    (ROTATION, 1): (ROTATION_TYPE, False),
    (STEP, 1): (STEP_TYPE, True),
    (REQUEST, 1): (QUESTION_TYPE, False),
    (REQUEST, 2): (ANSWER_TYPE, False),
    (REQUEST, 3): (_map, False),
}
"""``(kind, field) -> (type, fenced)``: the table of merge.md."""
LATER = {(ITEM, 11), (ITEM, 12), (ROTATION, 1), (STEP, 1), (REQUEST, 1), (REQUEST, 2), (REQUEST, 3)}
"""Those that came after version 1: a bad write to one has no effect by itself."""
