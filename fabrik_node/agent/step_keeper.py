"""What the end of a step needs of the run that it is a step of: its files kept, and the run ended when a person has to decide."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from fabrik_node.errors import ClaimLost, Unreachable
from fabrik_node.ids import show_id

if TYPE_CHECKING:
    from fabrik_node.agent.run import AgentRun
    from fabrik_node.ports import Workspace

__all__ = ["KEEP_STEP_S", "StepKeeper"]

KEEP_STEP_S = 45.0
"""For committing and pushing the files of a step: below the 60 s in which its command wants an answer."""


class StepKeeper:
    """See :class:`fabrik_node.ports.RunSteps`. ``runs``: those in progress on this node, by run id."""

    def __init__(self, runs: Callable[[], Mapping[bytes, AgentRun]]) -> None:
        self._runs = runs
        self._locks: dict[bytes, asyncio.Lock] = {}

    async def keep(self, run_id: bytes, message: str) -> bytes:
        """See :meth:`fabrik_node.ports.RunSteps.keep`. Steps of one run that end at one time are kept one after the other."""
        workspace = self._workspace(run_id)
        self._locks = {run: lock for run, lock in self._locks.items() if run in self._runs()}
        try:
            async with asyncio.timeout(KEEP_STEP_S), self._locks.setdefault(run_id, asyncio.Lock()):
                return await workspace.keep_step(message)
        except TimeoutError:
            raise Unreachable(f"the files of the step could not be committed and pushed within {KEEP_STEP_S:g} s", "fabrik-node status") from None

    async def contains(self, run_id: bytes, commit: bytes) -> bool:
        """See :meth:`fabrik_node.ports.RunSteps.contains`."""
        return await self._workspace(run_id).contains(commit)

    def hold(self, run_id: bytes, reason: str) -> None:
        """See :meth:`fabrik_node.ports.RunSteps.hold`."""
        if (run := self._runs().get(run_id)) is not None:
            run.hold(reason)

    def _workspace(self, run_id: bytes) -> Workspace:
        run = self._runs().get(run_id)
        if run is None or run.workspace is None:
            raise ClaimLost(f"run {show_id(run_id)} is over", "end the command: its node stops it")
        return run.workspace
