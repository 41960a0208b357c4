"""How much each author has written. Ops of members are never refused for their number: equal sets are worth more than a full disk, which has its own
answer. But who writes without end is named, and an admin can put it out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fabrik_node._core import Chained, Head
from fabrik_node.ids import show_key

__all__ = ["LOGS_MAX", "OPS_MAX", "Quotas", "Written", "quota_warning"]

OPS_MAX = 5_000_000
"""Ops of one author, about a gigabyte of store: what a busy node writes in years."""
LOGS_MAX = 256
"""Logs of one author: a node begins one when it doubts the one before."""


@dataclass(slots=True)
class Written:
    """By one author, as far as it is held here."""

    ops: int = 0
    epochs: set[int] = field(default_factory=set)


class Quotas:
    """Give it the heads of a start, then each commit. From the event loop only."""

    ops_max = OPS_MAX
    logs_max = LOGS_MAX

    def __init__(self, heads: Iterable[Head], tell: Callable[[str, Mapping[str, Any]], None], name_of: Callable[[bytes], str]) -> None:
        self._tell = tell
        self._name_of = name_of
        self._written: dict[bytes, Written] = {}
        self.over: dict[bytes, Written] = {}
        """Authors beyond one of the two numbers."""
        self.passed = {"ops_of_an_author": 0, "logs_of_an_author": 0}
        """How often an author went beyond each since the start."""
        for head in heads:
            self._add(head.author, head.epoch, head.seq - (head.base[1] if head.base else 0))
        self.over = {author: written for author, written in self._written.items() if written.ops > self.ops_max or len(written.epochs) > self.logs_max}

    def note(self, chained: Iterable[Chained]) -> None:
        """These are durable and merged."""
        for each in chained:
            before = self._written.get(each.author) or Written()
            ops, logs = before.ops > self.ops_max, len(before.epochs) > self.logs_max
            written = self._add(each.author, each.epoch, each.ops)
            more_ops, more_logs = written.ops > self.ops_max and not ops, len(written.epochs) > self.logs_max and not logs
            self.passed["ops_of_an_author"] += more_ops
            self.passed["logs_of_an_author"] += more_logs
            if more_ops or more_logs:
                self.over[each.author] = written
                self._tell("author.over_quota", self.line(each.author))

    def line(self, author: bytes) -> dict[str, Any]:
        """What is said of one author."""
        written = self._written.get(author) or Written()
        return {"author": show_key(author), "name": self._name_of(author), "ops": written.ops, "logs": len(written.epochs)}

    def _add(self, author: bytes, epoch: int, ops: int) -> Written:
        written = self._written.setdefault(author, Written())
        written.ops += ops
        written.epochs.add(epoch)
        return written


def quota_warning(line: Mapping[str, Any], *, own: bool) -> str:
    """What an operator is told of one author."""
    said = f"{line['name']} has written {line['ops']:,} ops in {line['logs']:,} logs, more than {OPS_MAX:,} or {LOGS_MAX:,} that are expected of one node"
    todo = "find out what writes here without end" if own else f"if it should not, an admin puts it out: fabrik-node nodes revoke {line['author']}"
    return f"{said}: {todo}"
