"""What a claim takes over of the registers that belong to whoever works on an item: stage, outcome and attempts (docs/spec/merge.md, "What a claim found"). Pure.

A holder that was superseded and has not heard of it goes on writing. Its fence is the lower one, so the merge lets it change nothing that its successor wrote; but at first the successor
has written nothing. So a claim says in its first op what it found: it writes again, under its own fence, the outcome if there is one; the attempts, two small numbers, and the stage stand in the claim itself.
Of what else of them has a lower fence nothing is read, with one exception: that the item is Done or in the archive. What is merged is merged, whoever says so; and the archive is a person's word, which has
to stop the agent that takes the item over in that moment, before its work begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

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


def _is_read(field: ItemField, written: Written, claim: Claim | None) -> bool:
    """False for the late word of a superseded holder. A claim of an earlier build does not say what it found: there the newest write is read, whoever made it."""
    if claim is None or written.fence == claim.fence:
        return True
    return claim.found_stage is None or not is_working(written.value) if field is ItemField.STAGE else claim.found is None


def stage_of(registers: Registers, claim: Claim | None) -> Any:
    """The stage of an item whose winning claim is ``claim``, as a register has it; Backlog before the first move."""
    written = registers.get(ItemField.STAGE)
    if written is not None and _is_read(ItemField.STAGE, written, claim):
        return written.value
    return _BACKLOG if claim is None or claim.found_stage is None else list(claim.found_stage)


def outcome_of(registers: Registers, claim: Claim | None) -> Any:
    """The outcome of an item whose winning claim is ``claim``; None without one."""
    written = registers.get(ItemField.OUTCOME)
    return written.value if written is not None and _is_read(ItemField.OUTCOME, written, claim) else None


def attempts_of(registers: Registers, claim: Claim | None) -> int:
    """How many attempts failed."""
    written = registers.get(ItemField.ATTEMPTS)
    if written is not None and _is_read(ItemField.ATTEMPTS, written, claim):
        return min(int(written.value), ATTEMPTS_MAX)
    return 0 if claim is None or claim.found is None else claim.found[0]


def counted_in(registers: Registers, claim: Claim | None) -> int:
    """Epoch of the claim under which attempts were counted, or forgotten, last; 0 for none."""
    written = registers.get(ItemField.ATTEMPTS)
    if written is not None and _is_read(ItemField.ATTEMPTS, written, claim):
        return 0 if written.fence is None else written.fence[1]
    return 0 if claim is None or claim.found is None else claim.found[1]


def inherited(claim: Claim, now: Claim | None, registers: Registers) -> tuple[Claim, dict[ItemField, Any]]:
    """``claim`` as its first op states it after ``now``, the winning one, and what that op writes beside it under the claim's fence.

    An operator's ending writes the stage again, too: the item may be on its way out of the hands of agents with it.
    """
    counted, stage = counted_in(registers, now), stage_of(registers, now)
    found = (attempts_of(registers, now), min(counted, claim.epoch) if now is not None and counted <= now.epoch else 0)
    again: dict[ItemField, Any] = {}
    outcome = outcome_of(registers, now)
    if outcome is not None:  # finished work that waits is of the claim that ended last, and not of one that came to no end since
        again[ItemField.OUTCOME] = without_finished(outcome) if now is not None and now.held else outcome
    if not claim.held:
        again[ItemField.STAGE] = stage
    return replace(claim, found=found, found_stage=stage_value(stage)), again
