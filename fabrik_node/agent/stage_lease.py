"""The moves of a run carry its lease from the TTL of one stage to that of the next, so that neither its holder nor its observers count a renewal by a TTL that it was not made for."""

from __future__ import annotations

from typing import Any, cast

from fabrik_node.agent.patience import Patience
from fabrik_node.agent.stop import StopSwitch
from fabrik_node.agent.supervisor import LeaseKeeper
from fabrik_node.domain.claims import Claim
from fabrik_node.domain.leases import LeaseTiming
from fabrik_node.domain.stages import Done, Stage
from fabrik_node.ports import Pipeline

__all__ = ["with_lease"]


def with_lease(pipeline: Pipeline, keeper: LeaseKeeper, timing: LeaseTiming, switch: StopSwitch, patience: Patience) -> Pipeline:
    """``pipeline``, but before a move to a stage with a shorter TTL the lease is renewed. Then ``move`` raises Stopped, too.

    A run that closes, or whose work is merged, gives its claim back with the next write and waits for nothing.
    """
    return cast("Pipeline", _WithLease(pipeline, keeper, timing, switch, patience))


class _WithLease:
    """What is not here is as of the other pipeline."""

    def __init__(self, pipeline: Pipeline, keeper: LeaseKeeper, timing: LeaseTiming, switch: StopSwitch, patience: Patience) -> None:
        self._pipeline = pipeline
        self._keeper = keeper
        self._timing = timing
        self._switch = switch
        self._patience = patience

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipeline, name)

    async def move(self, item: bytes, stage: Stage, claim: Claim) -> None:
        if self._patience.closing or isinstance(stage, Done):
            await self._pipeline.move(item, stage, claim)
            return
        ttl_s, beat_s = claim.ttl_s(stage), self._timing.beat_in_s(stage.name)
        if not await self._keeper.ready(ttl_s, beat_s):
            self._switch.check()
        await self._pipeline.move(item, stage, claim)
        self._keeper.enter(ttl_s, beat_s)
