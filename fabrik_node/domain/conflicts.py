"""The claims of one item as its log tells them: who followed whom, and who rivalled whom. The losers stay listed for ever.

Two claims are **rivals** when they follow the same claim (or are both first): neither knew of the other. A claim that follows another is its
**successor**, whether the other was released or thought lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from fabrik_node.domain.claims import Claim, decode_claim
from fabrik_node.domain.schema import Kind
from fabrik_node.errors import InvalidOp

__all__ = ["ClaimStory", "Statement", "reason_of_victory", "rival_groups", "tell_claims"]


class Statement(Protocol):
    """One write of the item's log; see ``Touch`` of the core."""

    @property
    def kind(self) -> int: ...

    @property
    def author(self) -> bytes: ...

    @property
    def lamport(self) -> int: ...

    @property
    def wall_ms(self) -> int: ...

    @property
    def value(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class ClaimStory:
    """One claim with its last statement. Wall times are those of its holder, for people."""

    claim: Claim
    lamport: int
    """Of its first statement."""
    first_ms: int
    last_ms: int


def tell_claims(statements: Iterable[Statement]) -> list[ClaimStory]:
    """Every claim of the item in the order of its first statement. What its author may not state, or no version can read, is left out."""
    found: dict[bytes, ClaimStory] = {}
    for said in sorted((each for each in statements if each.kind == Kind.CLAIM), key=lambda each: (each.lamport, each.author)):
        claim = _readable(said.value)
        if claim is None or claim.node != said.author:
            continue
        old = found.get(claim.claim_id)
        if old is None:
            found[claim.claim_id] = ClaimStory(claim, said.lamport, said.wall_ms, said.wall_ms)
        else:
            newest = claim if (claim.receipt, claim.epoch, claim.state) >= (old.claim.receipt, old.claim.epoch, old.claim.state) else old.claim
            found[claim.claim_id] = ClaimStory(newest, old.lamport, old.first_ms, max(old.last_ms, said.wall_ms))
    return list(found.values())


def rival_groups(claims: Iterable[Claim]) -> list[list[Claim]]:
    """Claims that follow the same one, of two and more; in the order of the input."""
    groups: dict[bytes, list[Claim]] = {}
    for claim in claims:
        groups.setdefault(claim.follows, []).append(claim)
    return [group for group in groups.values() if len(group) > 1]


def reason_of_victory(winner: Claim, loser: Claim) -> str:
    """Why the merge prefers ``winner``, in a few words."""
    if winner.receipt != loser.receipt:
        return f"its receipt {winner.receipt} is higher than {loser.receipt}" if loser.receipt else "the git remote granted it"
    if winner.epoch != loser.epoch:
        return f"its epoch {winner.epoch} is higher than {loser.epoch}"
    return "its hash is lower"


def _readable(value: Any) -> Claim | None:
    try:
        return decode_claim(value)
    except (InvalidOp, AttributeError, IndexError, TypeError):
        return None
