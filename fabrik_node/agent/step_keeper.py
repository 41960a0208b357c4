"""What the end of a step needs of the run that it is a step of: its files kept, and the run ended when a person has to decide."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from fabrik_node.agent.stop import Stopped
from fabrik_node.agent.underway import Phase, RunUnderWay
from fabrik_node.errors import ClaimLost, Unreachable
from fabrik_node.ids import show_id

if TYPE_CHECKING:
    from fabrik_node.agent.run import AgentRun
    from fabrik_node.ports import Workspace

__all__ = ["KEEP_STEP_S", "StepKeeper"]

KEEP_STEP_S = 45.0
"""For one try to commit and push the files of a step."""
_FILES = "the files of a step"


class StepKeeper:
    """See :class:`fabrik_node.ports.RunSteps`. ``runs``: those in progress on this node, by run id."""

    def __init__(self, runs: Callable[[], Mapping[bytes, AgentRun]]) -> None:
        self._runs = runs
        self._locks: dict[bytes, asyncio.Lock] = {}

    async def keep(self, run_id: bytes, message: str) -> bytes:
        """See :meth:`fabrik_node.ports.RunSteps.keep`. Steps of one run that end at one time are kept one after the other."""
        self._locks = {run: lock for run, lock in self._locks.items() if run in self._runs()}
        try:
            return await self._under_way(run_id).reach(lambda: self._keep_once(run_id, message), _FILES)
        except Stopped as stopped:
            raise _over(run_id) from stopped

    async def for_space(self, run_id: bytes, write: Callable[[], Awaitable[object]]) -> None:
        """See :meth:`fabrik_node.ports.RunSteps.for_space`."""
        try:
            await self._under_way(run_id).patience.for_space(write)
        except Stopped as stopped:
            raise _over(run_id) from stopped

    async def contains(self, run_id: bytes, commit: bytes) -> bool:
        """See :meth:`fabrik_node.ports.RunSteps.contains`."""
        return await self._workspace(run_id).contains(commit)

    def hold(self, run_id: bytes, reason: str) -> None:
        """See :meth:`fabrik_node.ports.RunSteps.hold`."""
        if (run := self._runs().get(run_id)) is not None:
            run.hold(reason)

    async def _keep_once(self, run_id: bytes, message: str) -> bytes:
        if self._under_way(run_id).row.phase != Phase.CODING:  # its command is over: what lies in the worktree now is not of this step
            raise _over(run_id)
        try:
            async with asyncio.timeout(KEEP_STEP_S), self._locks.setdefault(run_id, asyncio.Lock()):
                return await self._workspace(run_id).keep_step(message)
        except TimeoutError:
            raise Unreachable(f"the files of the step could not be committed and pushed within {KEEP_STEP_S:g} s", "fabrik-node status") from None

    def _under_way(self, run_id: bytes) -> RunUnderWay:
        run = self._runs().get(run_id)
        if run is None:
            raise _over(run_id)
        return run.under_way

    def _workspace(self, run_id: bytes) -> Workspace:
        workspace = self._under_way(run_id).workspace
        if workspace is None:
            raise _over(run_id)
        return workspace


def _over(run_id: bytes) -> ClaimLost:
    return ClaimLost(f"the command of run {show_id(run_id)} is over", "end it: its node stops it")
