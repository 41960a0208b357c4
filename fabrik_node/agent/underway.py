"""A run while it goes: what its steps and its end share."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from enum import StrEnum
from typing import Any

from fabrik_node import __version__
from fabrik_node.agent.folder import RunFolder
from fabrik_node.agent.patience import Patience, patient
from fabrik_node.agent.progress import Progress
from fabrik_node.agent.setup import AgentSetup
from fabrik_node.agent.stop import StopSwitch
from fabrik_node.agent.supervisor import LeaseKeeper
from fabrik_node.agent.waiting import Waiting
from fabrik_node.agent.walk import held_item
from fabrik_node.domain.claims import Claim
from fabrik_node.domain.run_inputs import engine
from fabrik_node.domain.runs import RunRow, RunState
from fabrik_node.domain.stages import Done
from fabrik_node.ids import new_id, show_id
from fabrik_node.ports import Workspace

__all__ = ["Phase", "RunUnderWay"]


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
        self.setup = replace(setup, pipeline=patient(setup.pipeline, self.patience))
        """Of its agent; what it writes waits for space on a full disk."""
        self.keeper = LeaseKeeper(
            renew=lambda progress_n: setup.pipeline.renew(item, claim, self.row.run_id, progress_n),
            mark=self._mark,
            timing=setup.timing,
            clock=setup.clock,
            switch=self.switch,
            since=since,
            name=name,
        )
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
