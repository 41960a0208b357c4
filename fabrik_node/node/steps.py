"""The steps of items as the replica has them now, and the writes that change them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from fabrik_node._core import Replica, step_id
from fabrik_node.clock import Clock
from fabrik_node.domain.claims import Claim
from fabrik_node.domain.schema import Kind, StepField
from fabrik_node.domain.steps import Step, StepState, decode_step, encode_step, is_typable, reopened
from fabrik_node.node.by_item import ByItem

if TYPE_CHECKING:  # names of the stub, not of the extension
    from fabrik_node._core import Write

__all__ = ["NodeSteps", "StepBook", "step_write"]


def step_write(step: Step, fence: tuple[int, int, bytes] | None) -> Write:
    """The write of a step's register."""
    return (Kind.STEP, step_id(step.item, step.name), StepField.STEP, encode_step(step), fence)


class StepBook:
    """What a replica says of steps. Those with names that nobody can type are none."""

    def __init__(self, replica: Replica, by_item: ByItem) -> None:
        self._replica = replica
        self._by_item = by_item

    def get(self, item: bytes, name: str) -> Step | None:
        """One step."""
        register = self._replica.get(Kind.STEP, step_id(item, name), StepField.STEP)
        return None if register is None or not is_typable(name) else decode_step(register.value)

    def of(self, item: bytes) -> list[Step]:
        """All steps of an item, in the order in which their last word was written."""
        return [step for _, step in sorted(self._ordered(item), key=lambda entry: entry[0])]

    def count(self, item: bytes) -> int:
        """How many steps an item has."""
        return len(self._by_item.steps(item))

    def unclear(self, item: bytes) -> Step | None:
        """See :meth:`fabrik_node.ports.StepRecords.unclear`."""
        return next((step for step in self.of(item) if step.is_unended), None)

    def newest_done(self, item: bytes) -> Step | None:
        """See :meth:`fabrik_node.ports.StepRecords.newest_done`."""
        done = [entry for entry in self._ordered(item) if entry[1].state is StepState.DONE and entry[1].commit]
        return max(done, key=lambda entry: entry[0])[1] if done else None

    def _ordered(self, item: bytes) -> list[tuple[tuple[tuple[int, int], int, bytes], Step]]:
        found = []
        for step in self._by_item.steps(item):
            register = self._replica.get(Kind.STEP, step, StepField.STEP)
            if register is not None:
                fence = (0, 0) if register.fence is None else register.fence[:2]
                found.append(((fence, register.lamport, register.digest), decode_step(register.value)))
        return [entry for entry in found if is_typable(entry[1].name)]


class NodeSteps(StepBook):
    """See :class:`fabrik_node.ports.StepRecords`. ``write`` is the node's."""

    def __init__(self, replica: Replica, by_item: ByItem, clock: Clock, write: Callable[[object, Callable[[], Sequence[Write]]], Awaitable[object]]) -> None:
        super().__init__(replica, by_item)
        self._clock = clock
        self._write = write

    async def reopen(self, item: bytes, claim: Claim) -> None:
        """See :meth:`fabrik_node.ports.StepRecords.reopen`."""
        if self.of(item):
            await self._write(item, lambda: self.reopening(item, claim.fence))

    def reopening(self, item: bytes, fence: tuple[int, int, bytes] | None) -> list[Write]:
        """The writes that let the steps of an item run again."""
        now = self._clock.wall_ms()
        return [step_write(after, fence) for step in self.of(item) if (after := reopened(step, now)) != step]
