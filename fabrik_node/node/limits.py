"""The limits of ``[claims]`` as a node applies them: before it asks for a claim, and once more before a claim without a receipt is confirmed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from fabrik_node.domain.claims import Claim, ClaimState
from fabrik_node.domain.groups import Full, Holding, Taken, full_limit, limited_by, settles
from fabrik_node.domain.leases import LeaseState
from fabrik_node.domain.picking import ITEMS_SHARED_MAX
from fabrik_node.domain.stages import Archived, Done, Stage
from fabrik_node.ports import ItemView

__all__ = ["ClaimLimits", "living"]


def living(items: Iterable[ItemView], name_of: Callable[[bytes], str], lease: Callable[[Claim, Stage], LeaseState]) -> list[Holding]:
    """The claims of items that live as far as this observer can see: neither given back nor lost, on items that are not over."""
    return [
        Holding(view.id, view.claim.claim_id, view.labels, f"{name_of(view.claim.node)}/{view.claim.agent}", view.claim.state is not ClaimState.TENTATIVE)
        for view in items
        if view.claim is not None and view.claim.held and not isinstance(view.stage, Done | Archived) and lease(view.claim, view.stage) is not LeaseState.LOST
    ]


class ClaimLimits:
    """``limits`` by label; ``items`` gives all that are not over. Belongs to the event loop. Costs nothing while there are no limits."""

    def __init__(
        self,
        limits: Mapping[str, int],
        items: Callable[[], Iterable[ItemView]],
        name_of: Callable[[bytes], str],
        lease: Callable[[Claim, Stage], LeaseState],
    ) -> None:
        self._limits = limits
        self._items = items
        self._name_of = name_of
        self._lease = lease
        self._asked: dict[bytes, Collection[str]] = {}

    def full(self, view: ItemView) -> Full | None:
        """The limit that keeps ``view`` from being claimed. A look at all items, unless no limit is on this one."""
        if not limited_by(view.labels, self._limits):
            return None
        return full_limit(view.id, view.labels, self._limits, self._holdings(self._items()))

    def taken(self, items: Iterable[ItemView]) -> Taken:
        """For a look at many items, of which these are all."""
        return Taken(self._limits, self._holdings(items) if self._limits else ())

    def _holdings(self, items: Iterable[ItemView]) -> list[Holding]:
        """What counts against the limits, with the items for which this node asks in this moment."""
        asked = [Holding(item, b"", labels, "this node, which asks for one") for item, labels in self._asked.items()]
        return asked + [holding for holding in living(items, self._name_of, self._lease) if holding.item not in self._asked]

    def fitting(self, views: Sequence[ItemView], asked: Collection[bytes]) -> Sequence[ItemView]:
        """Of ``views``, best first, those that could all be claimed together with ``asked``, the items for which others ask: agents that share them out keep the limits."""
        if not self._limits:
            return views
        open_items = list(self._items())
        holdings = self._holdings(open_items)
        held = {holding.item for holding in holdings}
        left = Counter(self._limits)
        for labels in [*(holding.labels for holding in holdings), *(view.labels for view in open_items if view.id in asked and view.id not in held)]:
            left.subtract(limited_by(labels, self._limits))
        found: list[ItemView] = []
        for view in views:
            wanted = limited_by(view.labels, self._limits)
            if view.id in asked or any(left[label] <= 0 for label in wanted):
                continue
            left.subtract(wanted)
            found.append(view)
            if len(found) == ITEMS_SHARED_MAX:
                break
        return found

    @contextmanager
    def asking(self, view: ItemView) -> Iterator[None]:
        """While a claim is asked for it takes its place: two slots of one agent must not both find the last one."""
        self._asked[view.id] = view.labels
        try:
            yield
        finally:
            del self._asked[view.id]

    def without_room(self, view: ItemView, wanted: Claim) -> Full | None:
        """Whether claims that came while ``wanted`` was settling, or were there before, go before it."""
        if not limited_by(view.labels, self._limits):
            return None
        own = Holding(view.id, wanted.claim_id, view.labels, "", settled=False)
        return settles(own, self._limits, living(self._items(), self._name_of, self._lease))
