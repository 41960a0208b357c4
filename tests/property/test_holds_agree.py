"""Cancels, holds of holders, requeues and claims in any order, by nodes that know any part of what the others did: in the end everybody sees what a person said."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fabrik_node._core import Replica, SigningKey, genesis_encode
from fabrik_node.domain.claims import Claim, encode_claim, override, successor
from fabrik_node.domain.schema import ClaimField, ItemField, Kind, MemberField, Role
from fabrik_node.node.board import Board
from fabrik_node.node.holds import claim_hold_writes, person_hold_writes

ITEM = b"the item of it! "
KEYS = [SigningKey.from_seed(bytes([number + 1]) * 32) for number in range(3)]
GENESIS = genesis_encode(KEYS[0].public, "holds", bytes(16), 0)


@dataclass
class Word:
    """What one op says of the hold; ``reason`` empty: it ends it. ``claim``: of a holder, else empty."""

    reason: str
    claim: bytes
    place: tuple[int, bytes]


@dataclass
class Node:
    """One author and what it knows: how many ops of each log."""

    number: int
    key: SigningKey
    know: list[int]
    replica: Replica = field(default_factory=lambda: Replica(GENESIS))


class World:
    """Three nodes and one item, which the second claimed, as all know. ``words`` is what was said of the hold, in no order: an oracle that keeps no registers."""

    def __init__(self) -> None:
        self.nodes = [Node(number, key, [0] * len(KEYS)) for number, key in enumerate(KEYS)]
        self.logs: list[list[bytes]] = [[] for _ in KEYS]
        self.words: list[Word] = []
        first = self.nodes[0]
        draft = first.replica.draft(first.key, 1)
        members = [(Kind.MEMBER, key.public, MemberField.RECORD, {1: int(Role.AGENT)}, None) for key in KEYS[1:]]
        made = [*draft.genesis(0), *draft.append([*members, (Kind.ITEM, ITEM, ItemField.TITLE, "held", None)], 0)]
        self._keep(first, made)
        self.hear(self.nodes[1], 0, len(made))
        self.act(self.nodes[1], "claim", 0)
        for node in self.nodes:
            for author, log in enumerate(self.logs):
                self.hear(node, author, len(log))

    def hear(self, node: Node, author: int, upto: int) -> None:
        """The ops of a log up to there."""
        late = self.logs[author][node.know[author] : upto]
        node.replica.merge(node.replica.chain(node.replica.verify(late)).chained)
        node.know[author] = max(node.know[author], upto)

    def write(self, node: Node, writes: list[Any]) -> tuple[int, bytes]:
        """One op; its lamport and digest."""
        [chained] = made = node.replica.draft(node.key, 1).append(writes, 0)
        self._keep(node, made)
        return node.replica.lamport, chained.digests[0]

    def _keep(self, node: Node, made: list[Any]) -> None:
        node.replica.merge(made)
        self.logs[node.number] += [chained.data for chained in made]
        node.know[node.number] = len(self.logs[node.number])

    def act(self, node: Node, what: str, name: int) -> None:
        """What ``node`` would do, if it may as far as it knows."""
        view = Board(node.replica).item(ITEM)
        assert view is not None
        claim, reason = view.claim, f"{what} {name}"
        if what == "edit":  # of no matter but for the clock
            self.write(node, [(Kind.ITEM, ITEM, ItemField.TITLE, reason, None)])
        elif what == "requeue":
            if view.hold is not None:
                self.words.append(Word("", b"", self.write(node, person_hold_writes(ITEM, None))))
        elif what == "cancel":
            ending = [] if claim is None or not claim.held else [self._claim(override(claim, **self._own(node, name), reason=reason))]
            self.words.append(Word(reason, b"", self.write(node, [*ending, *person_hold_writes(ITEM, {"reason": reason, "since_ms": 0})])))
        elif what == "claim":
            if view.hold is None and (claim is None or not claim.held or claim.node != node.key.public):  # anybody's lease may be taken for lost
                self.write(node, [self._claim(successor(claim, **self._own(node, name), agent="a", ttl_ms=1).confirmed())])
        elif claim is not None and claim.held and claim.node == node.key.public:
            writes = [self._claim(claim.released("")), *claim_hold_writes(ITEM, claim, reason, 0)]
            self.words.append(Word(reason, claim.claim_id, self.write(node, writes)))

    def _own(self, node: Node, name: int) -> dict[str, Any]:
        return {"claim_id": bytes([node.number + 1, name]) * 8, "node": node.key.public, "incarnation": ""}

    def _claim(self, claim: Claim) -> Any:
        return (Kind.CLAIM, ITEM, ClaimField.CLAIM, encode_claim(claim), None)

    def expected(self, winner: bytes | None) -> str:
        """By the words alone: a person's last one, and if that ended the hold, what the holder that wins said since."""
        person = max((word for word in self.words if not word.claim), key=lambda word: word.place, default=Word("", b"", (0, b"")))
        own = [word for word in self.words if word.claim and word.claim == winner and word.place[0] >= person.place[0]]
        return person.reason or (max(own, key=lambda word: word.place).reason if own else "")


ACTS = st.tuples(st.integers(0, 2), st.sampled_from(["cancel", "hold", "hold", "requeue", "claim", "claim", "hear", "hear", "edit"]), st.integers(0, 2))


@pytest.mark.promise("I15", "C18")
@example([(0, "cancel", 0), (1, "edit", 0), (1, "hold", 0)], Random(0))
@example([(2, "claim", 0), (2, "hold", 0), (1, "edit", 0), (1, "edit", 0), (1, "hold", 0)], Random(0))
@given(st.lists(ACTS, min_size=3, max_size=16), st.randoms(use_true_random=False))
def test_in_the_end_an_item_is_held_as_a_person_said_and_on_all_nodes(acts: list[tuple[int, str, int]], rng: Random) -> None:
    world = World()
    for turn, (number, what, other) in enumerate(acts):
        node = world.nodes[number]
        if what == "hear":
            world.hear(node, other, rng.randint(node.know[other], len(world.logs[other])))
        else:
            world.act(node, what, turn + 1)
    for node in world.nodes:
        while missing := [author for author, log in enumerate(world.logs) if node.know[author] < len(log)]:
            author = rng.choice(missing)
            world.hear(node, author, node.know[author] + 1)
    boards = [Board(node.replica).item(ITEM) for node in world.nodes]
    assert len({node.replica.state_digest() for node in world.nodes}) == 1
    for view in boards:
        assert view is not None
        expected = world.expected(None if view.claim is None else view.claim.claim_id)
        assert (view.hold or {}).get("reason", "") == expected
    world.act(world.nodes[0], "requeue", 99)
    for node in world.nodes[1:]:
        world.hear(node, 0, len(world.logs[0]))
    for node in world.nodes:
        view = Board(node.replica).item(ITEM)
        assert view is not None
        assert view.hold is None, "a requeue frees it"
