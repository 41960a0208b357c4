"""What the real core says of a set of ops, remembered: a world has many states and few sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fabrik_node._core import Replica, SigningKey, Touch, genesis_encode, history
from fabrik_node.domain.claims import Claim, decode_claim
from fabrik_node.domain.conflicts import tell_claims
from fabrik_node.domain.inheritance import Written
from fabrik_node.domain.schema import ClaimField, ItemField, Kind, MemberField, Role
from fabrik_node.domain.stages import Stage
from fabrik_node.node.board import Board

__all__ = ["ITEM", "Core", "View"]

ITEM = b"item of a world!"
_EPOCH = 1


@dataclass(frozen=True, slots=True)
class View:
    """The item as the merge of one set of ops has it. ``stage_op``: the op that wrote its stage, None before the first. ``outcome`` and ``attempts`` as they are read."""

    claim: Claim | None
    stage: Stage
    stage_op: int | None
    registers: Mapping[ItemField, Written]
    outcome: Any
    attempts: int

    def wins(self, claim: Claim) -> bool:
        """The condition of every write of a holder, and of its being told that it lost."""
        return self.claim is not None and self.claim.claim_id == claim.claim_id and self.claim.held


class Core:
    """Ops are numbers here. Each was signed by a node that knew a set of others, so an op follows what its author wrote before."""

    def __init__(self, nodes: int) -> None:
        self.keys = [SigningKey.from_seed(bytes([number + 1]) * 32) for number in range(nodes)]
        self._genesis = genesis_encode(self.keys[0].public, "small world", bytes(16), 0)
        replica = Replica(self._genesis)
        draft = replica.draft(self.keys[0], _EPOCH)
        chained = draft.genesis(0)
        members = [(Kind.MEMBER, key.public, MemberField.RECORD, {1: int(Role.AGENT)}, None) for key in self.keys[1:]]
        chained += draft.append([*members, (Kind.ITEM, ITEM, ItemField.TITLE, "the item", None)], 0)
        self._first = [each.data for each in chained]
        self._segments: list[bytes] = []
        self.writes: list[tuple[int, list[Any]]] = []
        """``(node, writes)`` of each op."""
        self._by_digest: dict[tuple[bytes, bytes], int] = {}
        self._numbers: dict[tuple[int, bytes], int] = {}
        self._written: dict[tuple[frozenset[int], int, str], int] = {}
        self._views: dict[frozenset[int], View] = {}
        self._listed: dict[frozenset[int], frozenset[bytes]] = {}

    def write(self, known: frozenset[int], node: int, writes: Sequence[Any]) -> int:
        """The op by which ``node``, which knows ``known``, writes this. The same op whenever that is the case."""
        name = (known, node, repr(writes))
        if name not in self._written:
            [chained] = self._replica(known).draft(self.keys[node], _EPOCH).append(list(writes), 0)
            data = chained.data
            number = self._numbers.setdefault((node, data), len(self._segments))
            if number == len(self._segments):
                self._segments.append(data)
                self.writes.append((node, list(writes)))
                self._by_digest[self.keys[node].public, chained.digests[0]] = number
            self._written[name] = number
        return self._written[name]

    def view(self, known: frozenset[int]) -> View:
        """The item as a node has it that knows these ops."""
        if known not in self._views:
            replica = self._replica(known)
            claim = replica.get(Kind.CLAIM, ITEM, ClaimField.CLAIM)
            stage = replica.get(Kind.ITEM, ITEM, ItemField.STAGE)
            board = Board(replica)
            item = board.item(ITEM)
            assert item is not None
            self._views[known] = View(
                None if claim is None else decode_claim(claim.value),
                item.stage,
                None if stage is None else self._by_digest[stage.author, stage.digest],
                board.registers(ITEM),
                item.outcome,
                item.attempts,
            )
        return self._views[known]

    def listed(self, known: frozenset[int]) -> frozenset[bytes]:
        """The claims that a node with these ops can list."""
        if known not in self._listed:
            touches: list[Touch] = history([self._segments[number] for number in sorted(known)], ITEM)
            self._listed[known] = frozenset(story.claim.claim_id for story in tell_claims(touches))
        return self._listed[known]

    def _replica(self, known: frozenset[int]) -> Replica:
        replica = Replica(self._genesis)
        segments = [*self._first, *(self._segments[number] for number in sorted(known))]
        loaded = replica.load(segments)
        assert not loaded.damaged
        assert not loaded.stranded
        return replica
