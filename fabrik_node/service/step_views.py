"""Steps as every surface shows them."""

from __future__ import annotations

from typing import Any

from fabrik_node.clock import iso
from fabrik_node.domain.steps import Step, StepState
from fabrik_node.ids import show_id, show_key
from fabrik_node.node.steps import StepBook
from fabrik_node.ports import ItemView

__all__ = ["goes_on", "step_json", "steps_json"]


def goes_on(view: ItemView, step: Step) -> bool:
    """Begun, and the claim under which it was begun is held: as far as anybody knows, somebody is at it."""
    return step.state is StepState.STARTED and view.claim is not None and view.claim.held and view.claim.claim_id == step.claim_id


def steps_json(book: StepBook, view: ItemView | None, run_id: bytes = b"") -> list[dict[str, Any]]:
    """Of one item, in the order of their last change; with ``run_id`` those that this run began last. What was begun by a run that is over is ``unended``."""
    if view is None:
        return []
    found = [step for step in book.of(view.id) if run_id in (b"", step.run_id)]
    return [step_json(step, "unended" if step.state is StepState.STARTED and not goes_on(view, step) else "") for step in found]


def step_json(step: Step, name_of_state: str = "") -> dict[str, Any]:
    """One step as every surface shows it."""
    return {
        "name": step.name,
        "state": name_of_state or step.state.name.lower(),
        "attempt": step.attempt,
        "run": show_id(step.run_id),
        "claim": show_id(step.claim_id),
        "commit": step.commit.hex() or None,
        "exit_status": step.exit_status,
        "inputs": show_key(step.inputs),
        "side_effects": step.side_effects,
        "command": step.command,
        "at": iso(step.wall_ms),
    }
