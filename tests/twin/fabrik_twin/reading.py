"""What is read of an item beyond its registers (``merge.md``, "Holds" and "What a claim found"): whether it is held, its stage, its outcome, its failed attempts."""

from __future__ import annotations

from typing import Any

from fabrik_twin.cbor import plain
from fabrik_twin.merge import State, Touch, fence_beats

STAGE, HOLD, PERSON, OWN, OUTCOME, ATTEMPTS = 3, 9, 11, 12, 4, 10
DONE = 4


def _said(state: State, item: bytes, field: int) -> tuple[Touch | None, Any]:
    touch = state.winners.get((1, item, field))
    return (None, None) if touch is None else (touch, plain(touch.write.value))


def _claim(state: State, item: bytes) -> Any:
    touch = state.winners.get((2, item, 1))
    return None if touch is None else plain(touch.write.value)


def hold_of(state: State, item: bytes) -> Any:
    """The map by which the item is held, None when it is not."""
    claim = _claim(state, item)
    ended = max([touch.op.lamport for touch, value in (_said(state, item, HOLD), _said(state, item, PERSON)) if touch is not None and value is None], default=0)
    touch, value = _said(state, item, PERSON)
    if touch is not None and value is not None and touch.op.lamport >= ended:
        return value
    touch, value = _said(state, item, OWN)
    if touch is not None and value is not None and touch.op.lamport >= ended and value.get("claim") == (claim and claim[1]):
        return value
    _, value = _said(state, item, HOLD)
    return value if value is not None and (claim is None or value.get("claim") in (None, claim[1])) else None


def _found(state: State, item: bytes) -> tuple[int, int] | None:
    claim = _claim(state, item)
    found = None if claim is None else claim.get(13)
    return (
        tuple(found)
        if isinstance(found, list)
        and len(found) == 2
        and all(type(each) is int and 0 <= each <= most for each, most in zip(found, (2**32 - 1, claim[2]), strict=True))
        else None
    )


def _is_stage(said: Any) -> bool:
    if not isinstance(said, list) or [type(part) for part in said[:1]] != [int]:
        return False
    tag, *rest = said
    kinds = [type(part) for part in rest]
    if tag == 3:
        return kinds == [str, int] and len(rest[0].encode()) in range(1, 256) and rest[1] in range(1, 2**32)
    if tag == 4:
        return kinds == [int, bytes] and rest[0] >= 0 and len(rest[1]) in (20, 32)
    if tag == 5:
        return kinds == [int, int] and rest[0] >= 0 and rest[1] in range(6)
    return tag in (0, 1, 2) and not rest


def stage_of(state: State, item: bytes) -> Any:
    """As a register has it."""
    touch, value = _said(state, item, STAGE)
    claim = _claim(state, item)
    found = None if claim is None or not _is_stage(claim.get(14)) else claim[14]
    if touch is not None and (found is None or value[0] >= DONE or not _is_below(state, item, touch) or _is_of_people(claim, touch)):
        return value
    return found or [0]


def _is_below(state: State, item: bytes, touch: Touch) -> bool:
    winner = state.winners.get((2, item, 1))
    return winner is not None and fence_beats(item, winner.fence, touch.fence)


def _is_of_people(claim: Any, touch: Touch) -> bool:
    return claim.get(15) is True and claim.get(11, b"") == (touch.fence[2] if touch.fence else b"")


def _is_late(state: State, item: bytes, touch: Touch) -> bool:
    return _found(state, item) is not None and _is_below(state, item, touch)


def outcome_of(state: State, item: bytes) -> Any:
    """None without one."""
    touch, value = _said(state, item, OUTCOME)
    return None if touch is None or _is_late(state, item, touch) else value


def attempts_of(state: State, item: bytes) -> int:
    """How many failed."""
    touch, value = _said(state, item, ATTEMPTS)
    if touch is not None and not _is_late(state, item, touch):
        return min(int(value), 2**32 - 1)
    return (_found(state, item) or (0, 0))[0]
