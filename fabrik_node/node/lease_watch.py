"""The look at all leases, in each beat and whenever a claim is to be taken over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fabrik_node.clock import Clock
from fabrik_node.domain.claims import Claim
from fabrik_node.domain.leases import LeaseState, LeaseTable
from fabrik_node.domain.nearness import silent_after_s
from fabrik_node.domain.stages import Archived, Done
from fabrik_node.domain.takeovers import MEMBER_WINDOW_S, MassLoss, is_minority
from fabrik_node.ids import show_id
from fabrik_node.node.board import Board
from fabrik_node.node.held_claims import HeldClaims
from fabrik_node.node.presence import Heard

__all__ = ["LeaseWatch"]


class LeaseWatch:
    """Feeds :class:`LeaseTable` with the claims that there are, and judges whether this node should trust what it says. ``tell`` writes an event.

    ``heard``: the newest message of each node; ``own``: our key.
    """

    def __init__(
        self,
        board: Board,
        held: HeldClaims,
        leases: LeaseTable,
        clock: Clock,
        tell: Callable[[str, Mapping[str, Any]], None],
        heard: Callable[[], Mapping[bytes, Heard]],
        own: bytes,
    ) -> None:
        self._board = board
        self._held = held
        self._leases = leases
        self._clock = clock
        self._tell = tell
        self._heard = heard
        self._own = own
        timing = leases.timing
        self._brake = MassLoss(window_s=timing.ttl_s, wait_s=timing.takeover_after_s(timing.ttl_s), count=timing.mass_loss)
        self.listens: Callable[[], bool] = lambda: True
        """Whether anybody whom we expect could be heard now: without that, no lease is taken for lost."""
        self.strays: dict[bytes, tuple[bytes, float]] = {}
        """By item: a claim that an arbiter granted and of which nothing is known here, and its TTL in seconds. Watched like the others, until it is known or the item needs no claim."""

    def look(self) -> None:
        """See :meth:`LeaseTable.watch`. Claims that are suspected from now on are told, once; so is a brake."""
        now, leases = self._clock.now(), self._leases
        held = {claim.claim_id: self._ttl_s(item, claim) for item, claim in self._held.all()}
        self.strays = {item: stray for item, stray in self.strays.items() if self._is_stray(item, stray[0])}
        for claim_id in leases.watch(now, {**dict(self.strays.values()), **held}, listens=self.listens()):
            self._tell("claim.suspected", {"claim_id": show_id(claim_id)})
        lost = [claim_id for claim_id, ttl_s in held.items() if leases.state(claim_id, ttl_s, now) is LeaseState.LOST]
        if leases.timing.mass_loss and self._brake.look(now, lost, len(held)):
            self._tell("claim.mass_loss", {"lost": len(lost), "held": len(held), "waits_s": self._brake.wait_s})
        leases.held_back = self._held_back(now)

    def _ttl_s(self, item: bytes, claim: Claim) -> float:
        """The stage is read only where it matters: this is for each held claim, in each look."""
        return claim.ttl_s(self._board.stage_under(item, claim)) if claim.stage_ttls else claim.ttl_ms / 1000

    def others(self) -> tuple[dict[bytes, float], set[bytes]]:
        """Seconds since the last message of each other node that was seen to live since our start, and those that are seen to live now.

        A first message says neither: peers keep the last one of a node that is gone, and hand it to each that starts.
        """
        now, beat_s, heard = self._clock.now(), self._leases.timing.beat_s, self._heard()
        ages = {key: now - said.at for key, said in heard.items() if key != self._own and said.changed}
        return ages, {key for key, age_s in ages.items() if age_s <= silent_after_s(heard[key].payload.get("beat_ms"), beat_s)}

    def _is_stray(self, item: bytes, claim_id: bytes) -> bool:
        view = self._board.item(item)
        if view is None or isinstance(view.stage, Done | Archived):
            return False
        return view.claim is None or claim_id not in {view.claim.claim_id, view.claim.follows}

    def _held_back(self, now: float) -> str:
        ages, here = self.others()
        if self._leases.timing.minority_waits and is_minority(ages, here):
            known = 1 + sum(1 for age_s in ages.values() if age_s <= MEMBER_WINDOW_S)
            return f"only {1 + len(here)} of {known} nodes are to be seen from here"
        return f"many claims were lost at once: for {self._brake.until - now:.0f} s more" if self._brake.is_on(now) else ""
