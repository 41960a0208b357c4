"""Whose turn it is at which free item, as one node sees it: from what the others say of their agents in presence.

An agent says for which items it asks just before it asks, and that it is free again as soon as it is: so others know of it long before the claim is granted
and its op has come. Nothing here decides who has an item, only who asks for it: claims do that, whatever anybody says.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

from fabrik_node.clock import Clock
from fabrik_node.domain.leases import LeaseTiming
from fabrik_node.domain.picking import ITEMS_SHARED_MAX, Offer, goes_before, patience_s, share, turn_s
from fabrik_node.node.presence import Heard
from fabrik_node.ports import ItemView

__all__ = ["ASKING_S_MAX", "Turns"]

ASKING_S_MAX = 10.0
"""For how long an agent that asks for an item keeps others from asking, on their own clock since they heard of it."""
_AGAIN_S = 100.0
"""After that long the same agent may keep others from the same item again: so by asking and taking it back, whatever for, for a tenth of the time at most."""
_BEGUN_MAX = 128
"""Items for which one agent asked in that time, as far as others mind."""
_TELLS_MAX = 20
"""Messages before their time in one beat: who asks for one item after the other in vain waits for the beat then, as everybody did before there were such messages."""
_ASKING_MAX = 64
"""Items that one agent asks for at a time, as far as others mind."""
_SLOTS_MAX = 1_024
_LISTENING_S_MAX = 1.0
_LISTENING = 1 / 4
"""Of the time that a claim takes: where that is long, news of other agents often are late, too, and a collision costs more."""
_LOOKS_APART_S = 1.5
"""In beats: an agent that looked no longer ago would have seen an item before, had it been there."""


@dataclass(frozen=True, slots=True)
class _Said:
    """What one node said of its agent last. ``free_since``: since when it has room, ``asking`` since when it asks for what, both on our clock, by when we heard it."""

    offer: Offer
    free_since: float
    asking: Mapping[bytes, float]


@dataclass(slots=True)
class _Begun:
    """``at``: when an agent first asked for an item, as far as we remember. ``is_withdrawn``: it took that back once, and those who waited have an order again."""

    at: float
    is_withdrawn: bool = False


@dataclass(frozen=True, slots=True)
class _Seen:
    """``at``: our first look that showed the item. ``is_new``: we would have seen it before, had it been there."""

    at: float
    is_new: bool


class Turns:
    """Belongs to the event loop; what it keeps is bounded by the members and by the candidates of the last look. ``here()``: the other nodes that are seen to live and may claim. ``tell()``: say to all now what we say of ourselves.

    ``withdrawn(item)`` is called when another agent does not ask for an item any more, for whatever reason.
    """

    def __init__(
        self,
        own: bytes,
        timing: LeaseTiming,
        clock: Clock,
        here: Callable[[], Collection[bytes]],
        *,
        tell: Callable[[], None],
        withdrawn: Callable[[bytes], None],
    ) -> None:
        self._own = own
        self._timing = timing
        self._clock = clock
        self._here = here
        self._tell = tell
        self._tells = 0
        self._tells_since = float("-inf")
        self._withdrawn = withdrawn
        self._said: dict[bytes, _Said] = {}
        self._begun: dict[bytes, dict[bytes, _Begun]] = {}
        self._seen: dict[bytes, _Seen] = {}
        self._looked_at = float("-inf")
        self.asking: set[bytes] = set()
        """The items for which our own agent asks, for what we say of ourselves."""

    def hear(self, heard: Heard) -> None:
        """The newest message of a node."""
        if heard.author == self._own:
            return
        before = self._said.pop(heard.author, None)
        said = heard.payload.get("agent")
        labels = said.get("labels") if isinstance(said, dict) else None
        if isinstance(said, dict) and isinstance(labels, list):
            asking = self._begin(heard.author, _asked(said), heard.at)
            offer = Offer([label for label in labels if isinstance(label, str)], _room(heard.payload, said, len(asking)))
            has_stayed = before is not None and 0 < offer.room <= before.offer.room
            self._said[heard.author] = _Said(offer, before.free_since if before is not None and has_stayed else heard.at, asking)
        now = self._said.get(heard.author)
        for item in () if before is None else before.asking:
            begun = self._begun[heard.author].get(item)
            if (now is None or item not in now.asking) and begun is not None and not begun.is_withdrawn:
                begun.is_withdrawn = True
                if item in self._seen:  # as if it had come only now: those who waited have an order again
                    self._seen[item] = _Seen(heard.at, True)
                self._withdrawn(item)

    def _begin(self, author: bytes, items: Sequence[bytes], at: float) -> dict[bytes, float]:
        """Since when it asks for each of these: taking it back and asking again makes nothing newer."""
        begun = {item: one for item, one in self._begun.get(author, {}).items() if at - one.at < _AGAIN_S}
        for item in items:
            if item not in begun and len(begun) < _BEGUN_MAX:
                begun[item] = _Begun(at)
        self._begun[author] = begun
        return {item: begun[item].at for item in items if item in begun}

    def choose(self, views: Sequence[ItemView], labels: Sequence[str], room: int, claim_s: float) -> list[tuple[bytes, float]]:
        """The items that fall to our agent, at most ``room`` of ``views`` (best first, all that it could take), each with the seconds after which it is its turn.

        That changes with what is heard, so look again then. ``claim_s``: see :func:`~fabrik_node.domain.picking.turn_s`.
        """
        now, settle_s = self._clock.now(), self._timing.settle_s
        asked = self.asked()
        views = list(islice((view for view in views if view.id not in asked), ITEMS_SHARED_MAX))
        self._look(views, now)
        patient_s = patience_s(settle_s, claim_s)
        here = self._others()
        offers = {key: said.offer for key, said in here.items()} | {self._own: Offer(labels, room)}

        def is_late(key: bytes, item: bytes) -> bool:
            seen = self._seen[item]
            return now - here[key].free_since >= patient_s and (not seen.is_new or now - seen.at >= patient_s)

        found = share([(view.id, view.labels) for view in views], self._own, offers, is_late)
        return [(item, max(0.0, turn_s(ahead, settle_s, claim_s) - (now - self._seen[item].at))) for item, ahead in found]

    def is_asked_by_others(self, view: ItemView, labels: Collection[str]) -> bool:
        """Whether somebody else asks for it. Of two that began at the same time each knows which of them goes first: our agent, with these labels, or the other."""
        now = self._clock.now()
        return any(
            now - said.asking[view.id] < ASKING_S_MAX
            and (view.id not in self.asking or goes_before(view.id, view.labels, (key, said.offer.labels), (self._own, labels)))
            for key, said in self._others().items()
            if view.id in said.asking
        )

    def asked(self) -> set[bytes]:
        """All items for which others ask."""
        now = self._clock.now()
        return {item for said in self._others().values() for item, since in said.asking.items() if now - since < ASKING_S_MAX}

    @contextmanager
    def intent(self, item: bytes, claim_s: float) -> Iterator[float]:
        """While our agent asks for ``item``; gives the seconds for which it should first listen whether others do. ``claim_s``: how long an arbiter takes to answer."""
        self.asking.add(item)
        self.say()
        try:
            yield min(_LISTENING_S_MAX, max(self._timing.settle_s / 16, _LISTENING * claim_s)) if self._others() else 0.0
        finally:
            self.asking.discard(item)
            self.say()

    def say(self) -> None:
        """Tell the others now what we say of ourselves, unless we did so too often."""
        now = self._clock.now()
        if now - self._tells_since >= self._timing.beat_s:
            self._tells, self._tells_since = 0, now
        self._tells += 1
        if self._tells <= _TELLS_MAX:
            self._tell()

    def _others(self) -> dict[bytes, _Said]:
        return {key: self._said[key] for key in self._here() if key in self._said}

    def _look(self, views: Sequence[ItemView], now: float) -> None:
        is_new = now - self._looked_at <= _LOOKS_APART_S * self._timing.beat_s
        self._looked_at = now
        self._seen = {view.id: self._seen.get(view.id) or _Seen(now, is_new) for view in views}


def _asked(said: Mapping[str, Any]) -> list[bytes]:
    """Another version may say anything."""
    asking = said.get("asking")
    return [item for item in asking[:_ASKING_MAX] if isinstance(item, bytes)] if isinstance(asking, list) else []


def _room(payload: Mapping[str, Any], said: Mapping[str, Any], asking: int) -> int:
    """What is not said counts as one slot that is free."""
    busy, slots = said.get("busy"), said.get("slots")
    if payload.get("accepting") is False or said.get("problem"):
        return 0
    if not isinstance(busy, int) or not isinstance(slots, int):
        return 1
    return max(0, min(slots, _SLOTS_MAX) - max(0, busy) - asking)
