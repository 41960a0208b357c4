"""A claim that arrives after the renewals of it: they count from when they came, and nothing else is looked at again."""

from __future__ import annotations

import pytest
from node_rig import TIMING
from store_doubles import HandClock

from fabrik_node._core import SigningKey
from fabrik_node.domain.leases import LeaseTable
from fabrik_node.node.presence import Presence

MESH = bytes(32)


class Watched:
    """Presence of one node that heard three others, each with four leases on claims that are not here yet."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.leases = LeaseTable(TIMING)
        self.keys = [SigningKey.from_seed(bytes([number]) * 32) for number in range(1, 5)]
        self.here: dict[bytes, bytes] = {}
        self.asked: list[bytes] = []
        self.presence = Presence(
            self.keys[0], MESH, 1, self.clock, self.leases, is_admitted=lambda _: True, is_holder=lambda author, _, claim: self._is_holder(author, claim)
        )
        for number, key in enumerate(self.keys[1:], 1):
            leases = [[claim(number, place), bytes(16), 7, 1, b""] for place in range(4)]
            assert self.presence.receive(key.ephemeral(MESH, 1, {"leases": leases})) is not None
        self.heard_at = self.clock.now()
        self.asked.clear()

    def _is_holder(self, author: bytes, claim_id: bytes) -> bool:
        self.asked.append(claim_id)
        return self.here.get(claim_id) == author

    def arrive(self, claim_id: bytes, holder: bytes) -> None:
        self.here[claim_id] = holder
        self.presence.handle_claims({claim_id: holder})


def claim(number: int, place: int) -> bytes:
    return bytes([number, place]) + bytes(14)


@pytest.mark.promise("B5")
def test_a_claim_that_arrives_costs_a_look_at_its_own_lease_alone() -> None:
    watched = Watched()
    watched.clock.advance(1)
    watched.arrive(claim(2, 3), watched.keys[2].public)
    assert watched.asked == [claim(2, 3)]
    lease = watched.leases.get(claim(2, 3))
    assert lease is not None
    assert (lease.renew_n, lease.seen_at) == (7, watched.heard_at), "from when it came"
    assert watched.leases.get(claim(2, 2)) is None


def test_a_claim_of_another_or_of_one_who_was_not_heard_is_renewed_by_nobody() -> None:
    watched = Watched()
    watched.arrive(claim(2, 3), watched.keys[1].public)
    watched.arrive(claim(3, 3), bytes(32))
    watched.presence.handle_claims({})
    assert watched.asked == []
    assert watched.leases.get(claim(2, 3)) is None


def test_a_message_older_than_a_beat_renews_nothing_any_more() -> None:
    watched = Watched()
    watched.clock.advance(TIMING.beat_s + 1)
    watched.arrive(claim(2, 3), watched.keys[2].public)
    assert watched.asked == []
