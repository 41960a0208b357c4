"""Who takes which item first, so that agents that look at one list rarely collide. A collision costs a claim that loses, never more."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from fabrik_node._core import blake3

__all__ = ["GROUP", "ITEMS_SHARED_MAX", "PREFERRED", "Offer", "goes_before", "patience_s", "preferred_labels", "required_labels", "share", "turn_s"]

PREFERRED = "?"
"""The end of a label of an item that an agent need not have, but that lets it go first."""
GROUP = "group:"
"""The beginning of a label that only puts an item into a group, for a limit: no agent needs it, and none is preferred for it."""
_TURNS_MAX = 4
_MARGIN = 1.5
"""Answers take different times, and the claim has to reach us, too."""
_STEP_S_MAX = 5.0
ITEMS_SHARED_MAX = 32
"""Of all items the best are shared out, so that many agents at a long list cost little."""


def required_labels(labels: Collection[str]) -> frozenset[str]:
    """What an agent must have to take an item with these labels."""
    return frozenset(label for label in labels if not label.endswith(PREFERRED) and not label.startswith(GROUP))


def preferred_labels(labels: Collection[str]) -> frozenset[str]:
    """What lets an agent go first, as agents name it."""
    return frozenset(label.removesuffix(PREFERRED) for label in labels if label.endswith(PREFERRED) and not label.startswith(GROUP))


@dataclass(frozen=True, slots=True)
class Offer:
    """What one agent can take: items that need no more than ``labels``, ``room`` of them now."""

    labels: Collection[str]
    room: int


def _place(item: bytes, preferred: Collection[str], key: bytes, has: Collection[str]) -> tuple[int, bytes]:
    """First those with more of its preferred labels, then by the hash of item and key: each item has an order of its own, the same on every node."""
    return (-len(set(preferred) & set(has)), blake3(item + key))


def goes_before(item: bytes, labels: Collection[str], one: tuple[bytes, Collection[str]], other: tuple[bytes, Collection[str]]) -> bool:
    """Whether ``one`` (key, labels) goes before ``other`` at this item."""
    preferred = preferred_labels(labels)
    return _place(item, preferred, *one) < _place(item, preferred, *other)


def share(
    items: Sequence[tuple[bytes, Collection[str]]], own: bytes, offers: Mapping[bytes, Offer], is_late: Callable[[bytes, bytes], bool]
) -> list[tuple[bytes, int]]:
    """The items that fall to ``own``, each with how many agents go before it there; at most its room, all of them its to take.

    ``items`` (id, labels): best first, none that ``own`` may not take. The best one falls to who goes first there, the next one to who goes first of those with room left, and
    so on: so with as many agents as items each has one, and who takes what it was given changes nothing for the others. Agents that are left over are dealt out in the
    same way as the second, third, ... of each item. ``is_late(key, item)``: that agent did not come in its time: nothing is left to it, and ``own`` lets it go first still.
    """
    room = {key: offer.room for key, offer in offers.items() if offer.room > 0}
    orders = [_order(item, labels, own, offers, is_late) for item, labels in items[:ITEMS_SHARED_MAX]]
    found: list[tuple[bytes, int]] = []
    turn, is_moving = 0, True
    while is_moving and own in room:
        is_moving = False
        for order in orders:
            if (key := order.next(room)) is None:
                continue
            is_moving = True
            room[key] -= 1
            if not room[key]:
                del room[key]
            if key == own:
                found.append((order.item, turn + order.late))
                if own not in room:
                    break
        turn += 1
    return found


class _Order:
    """Those who may take one item, in their order. ``late``: how many go before us and are late."""

    def __init__(self, item: bytes, keys: Sequence[bytes], late: int) -> None:
        self.item = item
        self.late = late
        self._keys = iter(keys)

    def next(self, room: Mapping[bytes, int]) -> bytes | None:
        """The next one with room; nobody twice."""
        return next((key for key in self._keys if key in room), None)


def _order(item: bytes, labels: Collection[str], own: bytes, offers: Mapping[bytes, Offer], is_late: Callable[[bytes, bytes], bool]) -> _Order:
    required, preferred = required_labels(labels), preferred_labels(labels)
    places = {key: _place(item, preferred, key, offer.labels) for key, offer in offers.items() if offer.room > 0 and required <= set(offer.labels)}
    late = {key for key in places if key != own and is_late(key, item)}
    before = sum(1 for key in late if own in places and places[key] < places[own])
    return _Order(item, sorted((key for key in places if key not in late), key=places.__getitem__), before)


def turn_s(ahead: int, settle_s: float, claim_s: float = 0.0) -> float:
    """Seconds to wait for the ``ahead`` agents that go first, but for four of them at most: they may be busy.

    ``claim_s``: how long an arbiter takes to answer a claim. Who comes sooner asks it in vain, and finds nothing here that says so.
    """
    return min(ahead, _TURNS_MAX) * max(settle_s / _TURNS_MAX, min(_MARGIN * claim_s, _STEP_S_MAX))


def patience_s(settle_s: float, claim_s: float = 0.0) -> float:
    """Seconds after which an agent that is free and leaves an item alone does not come for it any more, as far as others know."""
    return turn_s(_TURNS_MAX, settle_s, claim_s)
