"""Whether an item is held, and what of it counts (docs/spec/merge.md, "Holds"). Pure: register values in, a verdict out.

People hold items, and so do those who work on them. Both once wrote one register, where the later word won: a holder that had not heard yet that a person cancelled
its work could write over that, and what it wrote counted for nothing, so the work began again. Now each has a register of its own; the common one is for builds that know no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Said", "hold_of_claim", "is_told", "standing_hold"]


@dataclass(frozen=True, slots=True)
class Said:
    """The winning write of a register: its value (a map, or None) and its clock."""

    value: Any
    lamport: int


def standing_hold(common: Said | None, person: Said | None, of_claim: Said | None, claim_id: bytes | None) -> Any:
    """Why the item is held, a map; None when it is not. ``claim_id``: of the winning claim, None before the first.

    A person's word comes first, then that of the winning claim. A person's end of a hold ends all that was said before it; builds that know the common
    register alone write it there.
    """
    ended_at = max((said.lamport for said in (common, person) if said is not None and said.value is None), default=0)
    own = of_claim if of_claim is not None and hold_of_claim(of_claim.value) == claim_id else None
    for said in (person, own):
        if said is not None and said.value is not None and said.lamport >= ended_at:
            return said.value
    return common.value if common is not None and is_told(common.value, claim_id) else None


def is_told(value: Any, claim_id: bytes | None) -> bool:
    """Whether this value of a register of holds counts: a person's always, that of a claim while no other one wins."""
    said_by = hold_of_claim(value)
    return value is not None and (said_by is None or claim_id is None or said_by == claim_id)


def hold_of_claim(value: Any) -> Any:
    """The claim whose holder wrote this hold; None for a person's."""
    return value.get("claim") if isinstance(value, Mapping) else None
