"""Which runs and steps belong to which item: a question about one item does not look at those of all others.

A register's id says nothing of that for runs, and registers are kept by id. So this is counted up from the registers once, and then kept by what each merge
changes, also by that of a replica that is built anew. It holds ids alone: values are always read from the replica.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fabrik_node._core import Changes, Replica
from fabrik_node.domain.schema import Kind, RunField

__all__ = ["ByItem"]

_ITEM_BYTES = 16
"""The id of a step begins with that of its item (docs/spec/merge.md)."""


class ByItem:
    """Of one replica. Whoever merges into that replica tells :meth:`note`; of one that does not change nothing has to be told. Belongs to the event loop.

    Invariant: after :meth:`note` of the last merge, the same as a look at all rows.
    """

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._runs: dict[bytes, set[bytes]] = {}
        self._steps: dict[bytes, set[bytes]] = {}
        self._is_filled = False

    def fill(self) -> ByItem:
        """Look at all rows, which takes some microseconds for each; without it the first question does. Returns itself."""
        for run, row in self._replica.rows(Kind.RUN):
            if (item := _item_of(row.get(RunField.SUMMARY))) is not None:
                self._runs.setdefault(item, set()).add(run)
        for step, _ in self._replica.rows(Kind.STEP):
            self._steps.setdefault(step[:_ITEM_BYTES], set()).add(step)
        self._is_filled = True
        return self

    def note(self, changes: Changes) -> None:
        """What a merge changed, before anybody asks again."""
        if not self._is_filled:
            return  # whoever fills it sees them
        kinds = changes.kinds
        if Kind.RUN in kinds:
            for change in changes.of(Kind.RUN, RunField.SUMMARY):
                before, now = _item_of(change.old), _item_of(change.new)
                if before != now:
                    _move(self._runs, change.id, before, now)
        if Kind.STEP in kinds:
            for change in changes.of(Kind.STEP):
                item = change.id[:_ITEM_BYTES]
                _move(self._steps, change.id, None if change.old is None else item, None if change.new is None else item)

    def runs(self, item: bytes) -> dict[bytes, Mapping[str, Any]]:
        """The summaries of the item's runs by run, in order of their ids: oldest first."""
        registers = ((run, self._replica.get(Kind.RUN, run, RunField.SUMMARY)) for run in self._known(self._runs, item))
        return {run: register.value for run, register in registers if register is not None and _item_of(register.value) == item}

    def all_runs(self) -> list[bytes]:
        """The ids of the runs of all items, in no order."""
        if not self._is_filled:
            self.fill()
        return [run for runs in self._runs.values() for run in runs]

    def steps(self, item: bytes) -> list[bytes]:
        """The ids of the item's steps, in order."""
        return self._known(self._steps, item)

    def _known(self, index: Mapping[bytes, set[bytes]], item: bytes) -> list[bytes]:
        if not self._is_filled:
            self.fill()
        return sorted(index.get(item, ()))


def _item_of(summary: Any) -> bytes | None:
    """Any member may write anything there."""
    item = summary.get("item") if isinstance(summary, dict) else None
    return item if isinstance(item, bytes) else None


def _move(index: dict[bytes, set[bytes]], entry: bytes, before: bytes | None, now: bytes | None) -> None:
    if before is not None and (left := index.get(before)) is not None:
        left.discard(entry)
        if not left:
            del index[before]
    if now is not None:
        index.setdefault(now, set()).add(entry)
