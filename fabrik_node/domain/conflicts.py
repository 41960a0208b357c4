"""The claims of one item as its log tells them: who followed whom, and who rivalled whom. The losers stay listed for ever.

Two claims are **rivals** when they follow the same claim (or are both first): neither knew of the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fabrik_node.domain.claims import Claim, Fence, decode_claim
from fabrik_node.domain.schema import Kind
from fabrik_node.errors import InvalidOp

__all__ = ["ClaimStory", "Conflict", "Statement", "Worked", "find_conflicts", "reason_of_victory", "tell_claims"]

_ID_BYTES = 16


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


@dataclass(frozen=True, slots=True)
class Worked:
    """A claim under which somebody worked. ``follows`` None: not said. ``overtaken``: its work went on, or would, when another claim won."""

    claim_id: bytes
    epoch: int
    receipt: int
    follows: bytes | None
    overtaken: bool

    @property
    def fence(self) -> Fence:
        """As of :class:`Claim`."""
        return (self.receipt, self.epoch, self.claim_id)


@dataclass(frozen=True, slots=True)
class Conflict:
    """Work was done twice. ``rival``: neither knew of the other; ``takeover``: the loser was thought lost, or was stopped by hand."""

    kind: str
    winner: Worked
    loser: Worked


def find_conflicts(current: Claim | None, worked: Sequence[Worked], beats: Callable[[Fence, Fence], bool]) -> list[Conflict]:
    """The conflicts of one item, in the order of ``worked``: one for each claim whose work does not count. ``current``: its winning claim; ``beats``: the merge."""
    known = {each.claim_id: each for each in worked}
    if current is not None:
        known.setdefault(current.claim_id, Worked(current.claim_id, current.epoch, current.receipt, current.follows, overtaken=False))
    found = []
    for loser in worked:
        rivals = [each for each in known.values() if each.follows is not None and each.follows == loser.follows and beats(each.fence, loser.fence)]
        if rivals:
            best = rivals[0]
            for each in rivals[1:]:
                best = each if beats(each.fence, best.fence) else best
            found.append(Conflict("rival", best, loser))
        elif loser.overtaken and current is not None and current.claim_id != loser.claim_id:
            after = next((each for each in known.values() if each.follows == loser.claim_id), known[current.claim_id])
            found.append(Conflict("takeover", after, loser))
    return found


def reason_of_victory(winner: Worked, loser: Worked) -> str:
    """Why the merge prefers ``winner``, in a few words."""
    if winner.receipt != loser.receipt:
        return f"its receipt {winner.receipt} is higher than {loser.receipt}" if loser.receipt else "the git remote granted it"
    if winner.epoch != loser.epoch:
        return f"its epoch {winner.epoch} is higher than {loser.epoch}"
    return "its hash is lower"


def _readable(value: Any) -> Claim | None:
    """None for what is no claim: of a void op it may be anything."""
    try:
        claim = decode_claim(value)
    except (InvalidOp, AttributeError, IndexError, TypeError):
        return None
    numbers = (claim.epoch, claim.receipt, claim.ttl_ms)
    names, texts = (claim.claim_id, claim.node, claim.oid, claim.follows), (claim.agent, claim.incarnation, claim.reason)
    typed = all(type(each) is int for each in numbers) and all(isinstance(each, bytes) for each in names) and all(isinstance(each, str) for each in texts)
    return claim if typed and len(claim.claim_id) == _ID_BYTES else None
