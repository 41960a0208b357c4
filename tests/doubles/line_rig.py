"""Two nodes that hear each other through a third alone, with a run on one of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from node_rig import NodeRig, Rigs, sync

from fabrik_node.domain.claims import Claim
from fabrik_node.domain.leases import LeaseTiming
from fabrik_node.domain.runs import RunRow, RunState
from fabrik_node.ids import new_id, parse_id, show_id

__all__ = ["Line", "a_line"]


@dataclass
class Line:
    """``asker`` and ``owner``, who hear each other through ``relay`` alone. ``run`` is the owner's."""

    asker: NodeRig
    relay: NodeRig
    owner: NodeRig
    row: RunRow
    claim: Claim

    async def show(self, **args: Any) -> dict[str, Any]:
        return await self.asker.call("runs.show", id=show_id(self.row.run_id), **args)

    def beat(self) -> None:
        """Two heartbeats: the owner is seen to live."""
        for _ in range(2):
            self.owner.pipeline.renew(self.row.item, self.claim, self.row.run_id, 1)
            self.owner.node.presence.publish({})


def join(one: NodeRig, other: NodeRig) -> None:
    """Presence goes both ways between these, as a session carries it: also of others."""
    for near, far in ((one, other), (other, one)):
        near.node.presence.subscribe(lambda author, _, message, far=far: None if author == far.node.public else far.node.ephemeral_in(message))  # type: ignore[misc]


@asynccontextmanager
async def a_line() -> AsyncIterator[Line]:
    rigs = Rigs(timing=LeaseTiming(beat_s=10.0, ttl_s=90.0, settle_s=0.0))
    asker, relay, owner = [await rigs.open(number) for number in range(3)]
    item = parse_id(await asker.add()) or b""
    await sync(asker, relay, owner)
    claim = await owner.pipeline.claim(item, "agent")
    assert isinstance(claim, Claim)
    row = RunRow(new_id(1), item, claim.claim_id, owner.node.public, "agent", RunState.RUNNING, "coding", 1_700_000_000_000)
    await owner.pipeline.put_run(row)
    await sync(asker, relay, owner)
    join(asker, relay)
    join(relay, owner)
    for rig in (asker, relay, owner):
        rig.node.inquiries.patience_s = 20.0
    made = Line(asker, relay, owner, row, claim)
    made.beat()
    try:
        yield made
    finally:
        await rigs.close()
