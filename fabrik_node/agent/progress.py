"""What shows that a run moves: another phase, output, a commit; and, in their place, that its processes had to wait for a processor.

A command that says nothing because others use the machine is not stuck. While one of its threads waited in the run queue for half of the time since the last look,
the time counts as progress: so load alone never makes a run stalled, and a run that is stuck is found when the load is gone, if not before.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from pathlib import Path

from fabrik_node.agent.folder import RunFolder
from fabrik_node.agent.shim import proc_table
from fabrik_node.clock import Clock
from fabrik_node.domain.runs import ProcessId
from fabrik_node.ports import Workspace

__all__ = ["Progress", "queued_ns"]

_SHARE = 0.5
"""Of the time between two looks."""

Queued = dict[int, int]
"""Nanoseconds in the run queue, by thread id."""


def queued_ns(leader: int) -> Queued:
    """How long each thread of the processes in the session or group of ``leader`` has waited for a processor; empty where the system does not say (proc schedstat)."""
    pids = (row.pid for row in proc_table() if not row.ended and leader in {row.pid, row.group, row.session})
    return dict(_threads(pids))


def _threads(pids: Iterable[int]) -> Iterable[tuple[int, int]]:
    for pid in pids:
        try:
            for task in Path(f"/proc/{pid}/task").iterdir():
                yield int(task.name), int((task / "schedstat").read_bytes().split()[1])
        except (OSError, IndexError, ValueError):  # it ended in between, or this kernel does not count
            continue


class Progress:
    """Of one run. :meth:`mark` is called by the thread that renews the lease, once in a beat."""

    def __init__(self, clock: Clock, queued: Callable[[int], Queued] = queued_ns) -> None:
        self._clock = clock
        self._queued = queued
        self._last: tuple[float, Queued] = (clock.now(), {})
        self.waits = 0
        """Looks at which a thread had waited for a processor for half of the time or more."""

    def mark(self, phase: str, folder: RunFolder | None, workspace: Workspace | None, leader: ProcessId | None) -> Hashable:
        """Differs from the last one when the run moved since."""
        self._look(leader)
        return (phase, (0, 0) if folder is None else folder.mark(), None if workspace is None else workspace.moved(), self.waits)

    def _look(self, leader: ProcessId | None) -> None:
        then, before = self._last
        now, waited = self._clock.now(), {} if leader is None else self._queued(leader.pid)
        self._last = (now, waited)
        longest_ns = max((ns - before[thread] for thread, ns in waited.items() if thread in before), default=0)
        self.waits += now > then and longest_ns >= _SHARE * (now - then) * 1e9
