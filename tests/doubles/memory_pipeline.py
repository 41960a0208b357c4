"""The node as agents see it, in memory: one world of items, and a pipeline into it per node."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from fabrik_node.clock import Clock, SystemClock
from fabrik_node.domain.claims import Claim, ClaimState, override, stage_ttls, successor
from fabrik_node.domain.finished import FinishedWork, finished_from
from fabrik_node.domain.interruptions import Interruptions, PastRun, count_interruptions
from fabrik_node.domain.runs import RunRow
from fabrik_node.domain.stages import Archived, Backlog, Done, Merge, Stage, check_holder_move, check_in_merge
from fabrik_node.errors import AuthError, ClaimLost, NotFound, StoreFull
from fabrik_node.ids import new_id
from fabrik_node.ports import ClaimRefused, ItemView

__all__ = ["FAILURE_BOUND_S", "Finish", "MemoryPipeline", "MemoryWorld"]

FAILURE_BOUND_S = 60.0
"""How long a test waits for something that must happen. Only a broken product ever waits so long."""


@dataclass(frozen=True)
class Finish:
    """One call of ``finish``."""

    item: bytes
    claim_id: bytes
    reason: str
    outcome: Mapping[str, Any]
    charged: bool
    hold: str


@dataclass
class MemoryWorld:
    """What all nodes agree on at once. Every change wakes whoever waits in :meth:`until`."""

    items: dict[bytes, ItemView] = field(default_factory=dict)
    stages: dict[bytes, list[Stage]] = field(default_factory=dict)
    """Each stage that an item was in, in order."""
    finishes: list[Finish] = field(default_factory=list)
    lost_leases: set[bytes] = field(default_factory=set)
    """Claim ids whose lease observers take for lost."""
    pipelines: list[MemoryPipeline] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _loop: asyncio.AbstractEventLoop | None = None

    def add(self, title: str = "Do it", *, stage: Stage | None = None, attempts: int = 0, labels: Sequence[str] = (), body: str = "How.") -> bytes:
        item = new_id(1_700_000_000_000 + len(self.items))
        self.items[item] = ItemView(item, title, body, stage or Backlog(), labels, 0, (), 0, attempts, None, None, None)
        self.stages[item] = [stage or Backlog()]
        self.touch()
        return item

    def stir(self) -> None:
        """Look again at what is waited for."""
        self._changed.set()
        self._changed = asyncio.Event()

    def stir_from_thread(self) -> None:
        """The same, from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.stir)

    def touch(self) -> None:
        """The same, and tell the agents that there may be new work."""
        self.stir()
        for pipeline in self.pipelines:
            pipeline.changed()

    async def until(self, condition: Callable[[], bool]) -> None:
        self._loop = asyncio.get_running_loop()
        async with asyncio.timeout(FAILURE_BOUND_S):
            while not condition():
                await self._changed.wait()

    def claim_of(self, item: bytes) -> Claim:
        claim = self.items[item].claim
        assert claim is not None
        return claim

    def set_claim(self, item: bytes, claim: Claim) -> None:
        old = self.items[item].claim
        self.items[item] = replace(self.items[item], claim=claim)
        self.touch()
        if old is not None and old.claim_id != claim.claim_id:
            for pipeline in self.pipelines:
                pipeline.lost(old.claim_id, f"superseded by {claim.agent}")

    def supersede(self, item: bytes) -> None:
        """An operator ends the claim."""
        self.set_claim(item, override(self.claim_of(item), claim_id=new_id(0), node=b"o" * 32, incarnation="", reason="by hand"))

    def requeue(self, item: bytes) -> None:
        """An operator ends the hold; the stage stays."""
        self.items[item] = replace(self.items[item], hold=None, attempts=0)
        self.touch()

    def finish_of(self, item: bytes) -> Finish:
        """The one finish of an item."""
        [found] = [finish for finish in self.finishes if finish.item == item]
        return found


class MemoryPipeline:
    """Fills :class:`fabrik_node.ports.Pipeline` for one node. ``reachable`` False: renewals reach nobody."""

    def __init__(self, world: MemoryWorld, node: bytes = b"a" * 32, clock: Clock | None = None, receipts: bool = True) -> None:
        self.world = world
        self.node = node
        self.clock = clock or SystemClock()
        self.reachable = True
        self.forbidden: AuthError | None = None
        """What every write raises: this node lost its role. Rows are kept here all the same."""
        self.full: StoreFull | None = None
        """What every write and every claim raises: the disk is full."""
        self.refused_full = 0
        self.on_renew: Callable[[], None] = lambda: None
        self.renewals: list[tuple[bytes, bytes, int]] = []
        self.forgotten: list[bytes] = []
        self.rows: dict[bytes, list[RunRow]] = {}
        self.refuse: Callable[[bytes], ClaimRefused | None] = lambda _: None
        self.claims_asked: list[bytes] = []
        self.stage_ttl_s: dict[str, float] = {}
        self.looks = 0
        """How often candidates were asked for."""
        self.turns = 0
        """How often an agent came round: each time it asks for company first."""
        self.claim_delay: Callable[[], Any] | None = None
        self.connected = asyncio.Event()
        self.connected.set()
        self._receipts = receipts
        self._lost: dict[bytes, list[Callable[[str], None]]] = {}
        self._listeners: list[Callable[[], None]] = []
        world.pipelines.append(self)

    # ---- the port ---------------------------------------------------------------------------------

    def candidates(self, labels: Sequence[str]) -> list[ItemView]:
        self.looks += 1
        self.world.stir()
        found = [
            view
            for view in self.world.items.values()
            if view.hold is None and set(view.labels) <= set(labels) and not isinstance(view.stage, Done | Archived) and self._is_free(view)
        ]
        return sorted(found, key=lambda view: view.attempts)  # a node keeps an item back after a failed attempt: here it comes last

    def is_candidate(self, item: bytes, labels: Sequence[str]) -> bool:
        looks = self.looks
        found = any(view.id == item for view in self.candidates(labels))
        self.looks = looks
        return found

    async def prepare(self) -> None:
        return

    def item(self, item: bytes) -> ItemView | None:
        return self.world.items.get(item)

    def is_winning(self, item: bytes, claim_id: bytes) -> bool:
        view = self.item(item)
        return view is not None and view.claim is not None and view.claim.claim_id == claim_id and view.claim.held

    def choose(self, views: Sequence[ItemView], labels: Sequence[str], room: int) -> list[tuple[bytes, float]]:
        return [(view.id, 0.0) for view in views[:room]]

    def intent(self, item: bytes) -> AbstractContextManager[float]:
        return nullcontext(0.0)

    def say_now(self) -> None:
        return

    async def claim(self, item: bytes, agent: str) -> Claim | ClaimRefused:
        self.claims_asked.append(item)
        self._check_space()
        if self.claim_delay is not None:
            await self.claim_delay()
        await asyncio.sleep(0)
        refused = self.refuse(item)
        if refused is not None:
            return refused
        view = self.item(item)
        if view is None or not self._is_free(view):
            return ClaimRefused("somebody else was faster")
        wanted = successor(
            view.claim, claim_id=new_id(self.clock.wall_ms()), node=self.node, agent=agent, ttl_ms=90_000, incarnation="test", ttls=stage_ttls(self.stage_ttl_s)
        )
        claim = wanted.confirmed(wanted.epoch, b"o" * 20) if self._receipts else wanted.confirmed()
        self.world.set_claim(item, claim)
        return claim

    async def move(self, item: bytes, stage: Stage, claim: Claim) -> None:
        view = self._must_win(item, claim)
        check_holder_move(view.stage, stage)
        self._set_stage(view, stage)

    async def change_branch(self, item: bytes, merge: Merge, claim: Claim) -> None:
        view = self._must_win(item, claim)
        check_in_merge(view.stage)
        self._set_stage(view, merge)

    async def finish(self, item: bytes, claim: Claim, reason: str, outcome: Mapping[str, Any], *, charge_attempt: bool, hold: str = "") -> None:
        view = self._must_win(item, claim)
        self.world.items[item] = replace(
            view,
            outcome=outcome,
            attempts=view.attempts + charge_attempt,
            hold={"reason": hold} if hold else view.hold,
            claim=replace(claim, state=ClaimState.RELEASED, reason=reason),
        )
        self.world.finishes.append(Finish(item, claim.claim_id, reason, outcome, charge_attempt, hold))
        self.world.touch()

    def check_may_end(self, item: bytes, claim: Claim) -> None:
        self._check_allowed()

    async def interruptions(self, item: bytes, claim: Claim) -> Interruptions:
        ends = [row for row in self.last_rows() if row.item == item and row.claim_id != claim.claim_id]
        return count_interruptions(PastRun(number, row.state, row.reason) for number, row in enumerate(ends))

    def finished(self, item: bytes, claim: Claim) -> FinishedWork | None:
        last = [finish for finish in self.world.finishes if finish.item == item][-1:]
        return finished_from(last[0].outcome) if last and last[0].claim_id == claim.follows else None

    async def put_run(self, row: RunRow) -> None:
        self._check_space()
        self.rows.setdefault(row.run_id, []).append(row)
        self.world.touch()
        self._check_allowed()

    def renew(self, item: bytes, claim: Claim, run_id: bytes, progress_n: int) -> bool:
        self.on_renew()
        self.renewals.append((claim.claim_id, run_id, progress_n))
        return self.reachable

    def stop_renewing(self, claim_id: bytes) -> None:
        self.forgotten.append(claim_id)

    def on_claim_lost(self, claim_id: bytes, callback: Callable[[str], None]) -> Callable[[], None]:
        self._lost.setdefault(claim_id, []).append(callback)
        return lambda: self._lost[claim_id].remove(callback)

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)

    async def wait_connected(self) -> None:
        self.turns += 1
        self.world.stir()
        await self.connected.wait()

    # ---- for tests ----------------------------------------------------------------------------------

    def changed(self) -> None:
        for callback in tuple(self._listeners):
            callback()

    def lost(self, claim_id: bytes, reason: str) -> None:
        for callback in tuple(self._lost.get(claim_id, ())):
            callback(reason)

    def last_rows(self) -> list[RunRow]:
        """The newest row of each run."""
        return [rows[-1] for rows in self.rows.values()]

    def _set_stage(self, view: ItemView, stage: Stage) -> None:
        self.world.items[view.id] = replace(view, stage=stage)
        self.world.stages[view.id].append(stage)
        self.world.touch()

    def _is_free(self, view: ItemView) -> bool:
        return view.claim is None or not view.claim.held or view.claim.claim_id in self.world.lost_leases

    def _must_win(self, item: bytes, claim: Claim) -> ItemView:
        self._check_space()
        view = self.item(item)
        if view is None:
            raise NotFound("the item is deleted")
        if not self.is_winning(item, claim.claim_id):
            raise ClaimLost("the claim is lost")
        self._check_allowed()
        return view

    def _check_space(self) -> None:
        if self.full is not None:
            self.refused_full += 1
            self.world.touch()
            raise self.full

    def _check_allowed(self) -> None:
        if self.forbidden is not None:
            raise self.forbidden
