"""What a claim takes over of the registers that belong to whoever works on an item: stage, outcome and attempts (docs/spec/merge.md, "What a claim found"). Pure.

A holder that was superseded and has not heard of it goes on writing. Its fence is the lower one, so the merge lets it change nothing that its successor wrote; but at first the successor
has written nothing. So a claim says in its first op what it found: it writes again, under its own fence, the outcome if there is one; the attempts, two small numbers, and the stage stand in the claim itself.
Of what else of them has a lower fence nothing is read, with two exceptions. That the item is Done or in the archive: what is merged is merged, whoever says so, and the archive is a person's word, which has
to stop the agent that takes the item over in that moment, before its work begins. And the stage that was written under the claim before, if that had ended: its holder was through, so that is of people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fabrik_node._core import fence_beats
from fabrik_node.domain.claims import ATTEMPTS_MAX, Claim, Fence
from fabrik_node.domain.finished import without_finished
from fabrik_node.domain.schema import ItemField
from fabrik_node.domain.stages import is_working, stage_value

__all__ = ["Written", "attempts_of", "counted_in", "inherited", "outcome_of", "stage_of"]

_BACKLOG = [0]


@dataclass(frozen=True, slots=True)
class Written:
    """The winning write of a register."""

    value: Any
    fence: Fence | None


Registers = Mapping[ItemField, Written]
"""Of one item, by field; those that nobody wrote are not there."""


def _is_late(item: bytes, field: ItemField, written: Written, claim: Claim | None) -> bool:
    """Whether this was written by a holder whom the one of ``claim`` superseded. A claim of an earlier build does not say what it found: there the newest write is read, whoever made it.

    What has a fence above that of the winning claim is of one that is not known here yet, or came to nothing, and written by people who saw it.
    A stage that has the fence of the claim before, which had ended, is of people, too.
    """
    if claim is None or not fence_beats(item, claim.fence, written.fence):
        return False
    if field is not ItemField.STAGE:
        return claim.found is not None
    under = b"" if written.fence is None else written.fence[2]
    return claim.found_stage is not None and is_working(written.value) and not (claim.follows_ended and claim.follows == under)


def stage_of(item: bytes, registers: Registers, claim: Claim | None) -> Any:
    """The stage of an item whose winning claim is ``claim``, as a register has it; Backlog before the first move."""
    written = registers.get(ItemField.STAGE)
    if written is not None and not _is_late(item, ItemField.STAGE, written, claim):
        return written.value
    return _BACKLOG if claim is None or claim.found_stage is None else list(claim.found_stage)


def outcome_of(item: bytes, registers: Registers, claim: Claim | None) -> Any:
    """The outcome of an item whose winning claim is ``claim``; None without one."""
    written = registers.get(ItemField.OUTCOME)
    return written.value if written is not None and not _is_late(item, ItemField.OUTCOME, written, claim) else None


def attempts_of(item: bytes, registers: Registers, claim: Claim | None) -> int:
    """How many attempts failed."""
    written = registers.get(ItemField.ATTEMPTS)
    if written is not None and not _is_late(item, ItemField.ATTEMPTS, written, claim):
        return min(int(written.value), ATTEMPTS_MAX)
    return 0 if claim is None or claim.found is None else claim.found[0]


def counted_in(item: bytes, registers: Registers, claim: Claim | None) -> int:
    """Epoch of the claim under which attempts were counted, or forgotten, last; 0 for none."""
    written = registers.get(ItemField.ATTEMPTS)
    if written is not None and not _is_late(item, ItemField.ATTEMPTS, written, claim):
        return 0 if written.fence is None else written.fence[1]
    return 0 if claim is None or claim.found is None else claim.found[1]


def inherited(item: bytes, claim: Claim, now: Claim | None, registers: Registers) -> tuple[Claim, dict[ItemField, Any]]:
    """``claim`` as its first op states it after ``now``, the winning one, and what that op writes beside it under the claim's fence.

    An operator's ending writes the stage again, too: the item may be on its way out of the hands of agents with it.
    """
    counted, stage = counted_in(item, registers, now), stage_of(item, registers, now)
    found = (attempts_of(item, registers, now), min(counted, claim.epoch) if now is not None and counted <= now.epoch else 0)
    again: dict[ItemField, Any] = {}
    outcome = outcome_of(item, registers, now)
    if outcome is not None:  # finished work that waits is of the claim that ended last, and not of one that came to no end since
        again[ItemField.OUTCOME] = without_finished(outcome) if now is not None and now.held else outcome
    if not claim.held:
        again[ItemField.STAGE] = stage
    ended = (now is None or not now.held) and claim.follows == (b"" if now is None else now.claim_id)
    return replace(claim, found=found, found_stage=stage_value(stage), follows_ended=ended), again
