"""A run while it goes: what its steps and its end share."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Hashable
from contextlib import ExitStack
from dataclasses import replace
from enum import StrEnum
from typing import Any, TypeVar

from fabrik_node import __version__
from fabrik_node.agent.folder import RunFolder, one_line
from fabrik_node.agent.patience import Patience, patient
from fabrik_node.agent.progress import Progress
from fabrik_node.agent.setup import AgentSetup
from fabrik_node.agent.stage_lease import with_lease
from fabrik_node.agent.stop import StopSwitch
from fabrik_node.agent.supervisor import LeaseKeeper
from fabrik_node.agent.waiting import Waiting
from fabrik_node.agent.walk import held_item
from fabrik_node.domain.claims import Claim
from fabrik_node.domain.finished import FinishedWork
from fabrik_node.domain.run_inputs import engine
from fabrik_node.domain.runs import RunRow, RunState
from fabrik_node.domain.stages import Done
from fabrik_node.errors import Unreachable
from fabrik_node.ids import new_id, show_id
from fabrik_node.ports import Workspace

__all__ = ["Phase", "RunUnderWay"]

_log = logging.getLogger("fabrik_node.agent")
Answer = TypeVar("Answer")


class Phase(StrEnum):
    """What a run is doing; the ``phase`` of its row."""

    PREPARING = "preparing"
    CODING = "coding"
    QA = "qa"
    MERGING = "merging"
    CLOSING = "closing"


class RunUnderWay:
    """One run of one claim, with its row as it is now. ``since``: when the claim was asked for, on the setup's clock."""

    def __init__(self, setup: AgentSetup, item: bytes, claim: Claim, since: float) -> None:
        self.item = item
        self.claim = claim
        self.switch = StopSwitch()
        self.waiting = Waiting()
        self.began = setup.clock.now()
        self.workspace: Workspace | None = None
        """From when its worktree is there."""
        self.folder: RunFolder | None = None
        """From when its folder is there."""
        self.finished: FinishedWork | None = None
        """What whoever comes next need not do again: work that the command of this run, or of one before it, finished."""
        self.attempts = 0
        """Attempts at the item that were charged before this run."""
        self.command_began = self.began
        """When its last command began, or it did itself."""
        started_ms = setup.clock.wall_ms()
        self.row = RunRow(
            run_id=new_id(started_ms),
            item=item,
            claim_id=claim.claim_id,
            node=claim.node,
            agent=claim.agent,
            state=RunState.STARTING,
            phase=Phase.PREPARING,
            started_ms=started_ms,
            engine=engine(__version__),
        )
        name = show_id(self.row.run_id)
        self.patience = Patience(self.switch, setup.timing.beat_s, f"run {name}")
        claimed = setup.pipeline.item(item)
        self.keeper = LeaseKeeper(
            renew=lambda progress_n: setup.pipeline.renew(item, claim, self.row.run_id, progress_n),
            mark=self._mark,
            timing=setup.timing,
            clock=setup.clock,
            switch=self.switch,
            since=since,
            name=name,
            stage=None if claimed is None else (claim.ttl_s(claimed.stage), setup.timing.beat_in_s(claimed.stage.name)),
        )
        kept = with_lease(patient(setup.pipeline, self.patience), self.keeper, setup.timing, self.switch, self.patience)
        self.setup = replace(setup, pipeline=kept)
        """Of its agent; what it writes waits for space on a full disk, and its lease goes with it from stage to stage."""
        self._pipeline = setup.pipeline
        self._progress = Progress(setup.clock)

    async def note(self, **changes: Any) -> None:
        """Change the row, and write it down. Raises AuthError when this node may not tell the others; it is kept here all the same."""
        self.row = replace(self.row, **changes)
        await self.setup.pipeline.put_run(self.row)

    async def note_at_once(self, **changes: Any) -> None:
        """The same for somebody who waits for the answer. Raises also StoreFull, and then nothing changed."""
        row = replace(self.row, **changes)
        await self._pipeline.put_run(row)
        self.row = row

    async def reach(self, ask: Callable[[], Awaitable[Answer]], what: str) -> Answer:
        """What ``ask`` gives, once the git remote can be reached: work is not thrown away for that, and nobody else has it.

        Meanwhile the row says that the run waits with ``what``, and the time of its command stands still. Raises Unreachable when it takes longer than
        ``remote_wait_s``, or the run is in another phase by then, and Stopped.
        """
        phase, until, waits = self.row.phase, self.setup.clock.now() + self.setup.config.remote_wait_s, False
        with ExitStack() as waiting:
            while True:
                try:
                    answer = await ask()
                    break
                except Unreachable as error:
                    if self.row.phase != phase or self.setup.clock.now() >= until:
                        waiting.close()
                        await self._reached(phase, waits=waits)
                        raise
                    if not waits:
                        waits = True
                        self.waiting.enter(b"")
                        waiting.callback(self.waiting.leave, b"")
                        _log.warning("run %s waits for the git remote: %s", show_id(self.row.run_id), error)
                        await self.note(state=RunState.WAITING, reason=f"waits with {what}: {one_line(str(error))}")
                    await self.patience.pause()
        await self._reached(phase, waits=waits)
        return answer

    async def _reached(self, phase: str, *, waits: bool) -> None:
        """The row of a run that ``waits`` says so no more; one that is in another phase by now speaks for itself."""
        if waits and self.row.phase == phase:
            state = RunState.WAITING if self.waiting.is_on else RunState.RUNNING
            await self.note(state=state, reason="", asks=self.waiting.question)

    def duration_ms(self) -> int:
        """Time that really passed: added to the start, it gives an end that a corrected wall clock does not falsify."""
        return max(0, round((self.setup.clock.now() - self.began) * 1000))

    def done(self, commit: bytes) -> Done:
        """The stage of an item whose work is on the base branch as ``commit``."""
        return Done(self.setup.clock.wall_ms(), commit)

    def keep_for_stage(self) -> None:
        """From now on the lease has the TTL and the beat of the stage in which the item is. Raises NotFound, ClaimLost."""
        stage = held_item(self.setup.pipeline, self.item, self.claim).stage
        self.keeper.enter(self.claim.ttl_s(stage), self.setup.timing.beat_in_s(stage.name))

    def _mark(self) -> Hashable:
        return self._progress.mark(self.row.phase, self.folder, self.workspace, self.row.process)
