"""What a run worked from, beside what it would work from now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from fabrik_node._core import Replica
from fabrik_node.domain.run_inputs import ENGINE, Difference, RunInputs, differences, inputs_from, make_inputs
from fabrik_node.domain.runs import RunRow
from fabrik_node.domain.schema import Kind, RunField
from fabrik_node.ids import show_id
from fabrik_node.ports import ItemView

__all__ = ["Drift", "InputsNow"]

InputsNow = Callable[[ItemView], RunInputs]


@dataclass(frozen=True, slots=True)
class Drift:
    """For one answer. ``engine_of`` says which engine a node has now, empty when it is not known; ``inputs_now`` what a run of this node would be given now."""

    replica: Replica
    own: bytes
    engine_of: Callable[[bytes], str]
    inputs_now: InputsNow | None

    def inputs(self, row: RunRow) -> RunInputs | None:
        """As they were recorded when the run began; None for a run of an older version."""
        register = self.replica.get(Kind.RUN, row.run_id, RunField.SUMMARY)
        return inputs_from(register.value) if register is not None and isinstance(register.value, Mapping) else row.inputs

    def of(self, row: RunRow, view: ItemView | None) -> list[dict[str, str]]:
        """Each with ``what``, ``recorded``, ``now`` and ``text``. Of another node's run only the item and the engine can be looked at."""
        found = [] if view is None else differences(self.inputs(row), self._now(row, view))
        now = self.engine_of(row.node)
        if row.engine and now and now != row.engine:
            found.append(Difference(ENGINE, row.engine, now))
        return [{**asdict(each), "text": each.text} for each in found]

    def shown(self, row: RunRow, view: ItemView | None, rows: Sequence[RunRow]) -> dict[str, Any]:
        """For ``runs show``: ``inputs``, ``drift``, and ``before``, the run of the same item that came before it (of ``rows``, the newest first)."""
        inputs = self.inputs(row)
        before = next((each for each in rows if each.item == row.item and each.run_id < row.run_id), None)
        return {
            "inputs": None if inputs is None else {field.name: getattr(inputs, field.name).hex() for field in fields(inputs)},
            "drift": self.of(row, view),
            "before": None if before is None else {"run_id": show_id(before.run_id), "engine": before.engine, "state": before.state.value},
        }

    def _now(self, row: RunRow, view: ItemView) -> RunInputs:
        if self.inputs_now is not None and row.node == self.own:
            return self.inputs_now(view)
        of_item = make_inputs(title=view.title, body=view.body, labels=view.labels, command="", tests="", settings={})
        return RunInputs(prompt=of_item.prompt, labels=of_item.labels)
