"""Claims, fenced stage moves and results: the node as an agent sees it (:class:`fabrik_node.ports.Pipeline`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from fabrik_node._core import Change, Changes
from fabrik_node.domain.claiming import RemoteVerdict, closing, is_free, judge_remote, may_settle, may_state
from fabrik_node.domain.claims import ATTEMPTS_MAX, Claim, ClaimState, encode_claim, stage_ttls, successor
from fabrik_node.domain.finished import FinishedWork
from fabrik_node.domain.interruptions import Interruptions
from fabrik_node.domain.leases import LeaseState
from fabrik_node.domain.run_inputs import inputs_summary
from fabrik_node.domain.runs import RunRow
from fabrik_node.domain.schema import ClaimField, ItemField, Kind, Role, RunField
from fabrik_node.domain.stages import Archived, Done, Merge, Stage, check_holder_move, check_in_merge, encode_stage
from fabrik_node.errors import ClaimLost, Conflict, NotFound
from fabrik_node.ids import new_id, parse_id, show_id, show_key
from fabrik_node.node.finished import finished_under
from fabrik_node.node.holds import claim_hold_writes
from fabrik_node.node.inheriting import first_statement
from fabrik_node.node.limits import ClaimLimits
from fabrik_node.node.node import Node
from fabrik_node.node.open_items import OpenItem, OpenItems
from fabrik_node.node.past_runs import interruptions_of
from fabrik_node.node.rights import check_allowed
from fabrik_node.node.turns import Turns
from fabrik_node.ports import CONNECTED, Arbiter, ArbiterTaken, ClaimIntent, ClaimRefused, ItemView

if TYPE_CHECKING:  # names of the stub, not of the extension
    from fabrik_node._core import Write

__all__ = ["NodePipeline", "claim_write", "run_summary", "stage_write"]

_BACKOFF_S_MAX = 900.0


def claim_write(item: bytes, claim: Claim) -> Write:
    """The write of a claim register."""
    return (Kind.CLAIM, item, ClaimField.CLAIM, encode_claim(claim), None)


def stage_write(item: bytes, stage: Stage, fence: tuple[int, int, bytes] | None) -> Write:
    """The write of a stage register."""
    return (Kind.ITEM, item, ItemField.STAGE, encode_stage(stage), fence)


class NodePipeline:
    """``arbiter`` None: claims are confirmed by the settle delay alone. ``dials``: this node has peers that it must reach to renew."""

    def __init__(
        self,
        node: Node,
        arbiter: Arbiter | None,
        *,
        incarnation: str,
        backoff_s: float,
        dials: Callable[[], bool],
        limits: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self._node = node
        self._arbiter = arbiter
        self._incarnation = incarnation
        self._backoff_s = backoff_s
        self._dials = dials
        self._claim_s = 0.0
        self.items = OpenItems(node.replica, node.board)
        """What looks of the agent read."""
        self._limits = ClaimLimits(limits, self.items.views, node.name_of, lambda claim, stage: self._lease(claim.claim_id, claim.ttl_s(stage)))
        self.turns = Turns(node.public, node.timing, node.clock, self._claimers, tell=node.beat_now, withdrawn=self._withdrawn)
        """What the agents of other nodes say of themselves."""
        self._loop = asyncio.get_running_loop()
        self._failed_at: dict[bytes, float] = {}
        self._lost: dict[bytes, list[Callable[[str], None]]] = {}
        self._changed: list[Callable[[], None]] = []
        node.lease_watch.listens = self._listens
        node.on_changes(self._on_changes)
        node.presence.subscribe(lambda author, _counter, _message: self.turns.hear(node.presence.heard()[author]))

    # ---- reading --------------------------------------------------------------------------------

    def candidates(self, labels: Sequence[str]) -> list[ItemView]:
        """See :meth:`fabrik_node.ports.Pipeline.candidates`. Best is the highest priority, then the oldest."""
        if self._node.upkeep.full is not None:
            return []
        self._node.lease_watch.look()
        offered, now = set(labels), self._node.clock.now()
        items = self.items.all()
        taken = self._limits.taken(each.view for each in items)
        found = [each for each in items if self._is_ready(each, offered, now) and not taken.is_full(each.view.id, each.view.labels)]
        found.sort(key=lambda each: (-each.view.priority, not each.preferred <= offered, each.added))
        return [each.view for each in found]

    def is_candidate(self, item: bytes, labels: Sequence[str]) -> bool:
        """See :meth:`fabrik_node.ports.Pipeline.is_candidate`."""
        if self._node.upkeep.full is not None:
            return False
        self._node.lease_watch.look()
        found = self.items.get(item)
        return (
            found is not None
            and self._is_ready(found, set(labels), self._node.clock.now())
            and self._limits.full(found.view) is None
            and not self.turns.is_asked_by_others(found.view, labels)
        )

    async def prepare(self) -> None:
        """See :meth:`fabrik_node.ports.Pipeline.prepare`."""
        await self.items.freshen()

    def choose(self, views: Sequence[ItemView], labels: Sequence[str], room: int) -> list[tuple[bytes, float]]:
        """See :meth:`fabrik_node.ports.turns.Turns.choose`."""
        return self.turns.choose(self._limits.fitting(views, self.turns.asked() | self.turns.asking), labels, room, self._claim_s)

    def intent(self, item: bytes) -> AbstractContextManager[float]:
        """See :meth:`fabrik_node.ports.turns.Turns.intent`."""
        return self.turns.intent(item, self._claim_s)

    def say_now(self) -> None:
        """See :meth:`fabrik_node.ports.turns.Turns.say_now`."""
        self.turns.say()

    def item(self, item: bytes) -> ItemView | None:
        """The item as it is now."""
        return self._node.board.item(item)

    def is_winning(self, item: bytes, claim_id: bytes) -> bool:
        """True while the claim is the winning one and not released."""
        claim = self._node.board.claim(item)
        return claim is not None and claim.claim_id == claim_id and claim.held

    # ---- claiming -------------------------------------------------------------------------------

    async def claim(self, item: bytes, agent: str) -> Claim | ClaimRefused:
        """See :meth:`fabrik_node.ports.Pipeline.claim`."""
        self._node.check_writable()  # before the arbiter grants what could not be written down
        self._node.lease_watch.look()
        view = self.item(item)
        if view is None or not self._is_free(view):
            return ClaimRefused("it is not free any more")
        if view.hold is not None:
            return ClaimRefused("it is held")
        if full := self._limits.full(view):
            return ClaimRefused(full.text)
        with self._limits.asking(view):
            return await self._claim_free(view, agent)

    async def _claim_free(self, view: ItemView, agent: str) -> Claim | ClaimRefused:
        timing = self._node.timing
        wanted = successor(
            view.claim,
            claim_id=new_id(self._node.clock.wall_ms()),
            node=self._node.public,
            agent=agent,
            ttl_ms=round(timing.ttl_s * 1000),
            incarnation=self._incarnation,
            ttls=stage_ttls(timing.stage_ttl_s),
        )
        check_allowed(self._node, [claim_write(view.id, wanted)])  # before the arbiter grants what this node may not write down
        if self._arbiter is None:
            return await self._claim_by_settling(view, wanted)
        asked_at = self._node.clock.now()
        try:
            return await self._claim_by_arbiter(self._arbiter, view, wanted)
        finally:  # of both halves of the way there may be only one: the newest answers say most
            self._claim_s = (self._claim_s + self._node.clock.now() - asked_at) / (2 if self._claim_s else 1)

    async def _claim_by_settling(self, view: ItemView, wanted: Claim) -> Claim | ClaimRefused:
        if not may_settle(view.claim):
            return ClaimRefused("its last claim was granted by a git remote, and this node has none: set [git] remote")
        stated = await self._write_claim(view, wanted)
        if stated is None:
            return ClaimRefused("somebody else was faster")
        lost = asyncio.Event()
        unsubscribe = self.on_claim_lost(wanted.claim_id, lambda _: lost.set())
        confirmed, won, full = stated.confirmed(), False, None
        try:
            self.renew(view.id, wanted, b"", 0)
            try:
                async with asyncio.timeout(self._node.timing.settle_s):
                    await lost.wait()
            except TimeoutError:
                full = self._limits.without_room(view, wanted)
                won = await self._state_claim(view.id, confirmed if full is None else stated.released(full.text)) and full is None
        finally:
            unsubscribe()
            if not won:
                self.stop_renewing(wanted.claim_id)
        if full is not None:
            return ClaimRefused(full.text)
        return confirmed if won else ClaimRefused("a better claim arrived while ours was settling")

    async def _claim_by_arbiter(self, arbiter: Arbiter, view: ItemView, wanted: Claim) -> Claim | ClaimRefused:
        name = show_id(view.id)
        known = await arbiter.current(name)
        if known is not None:
            if known.merged:
                return await self._claim_to_close(view, wanted, known)
            refused = self._still_held(view, known)
            if refused:
                return ClaimRefused(refused)
        intent = ClaimIntent(name, show_id(wanted.claim_id), wanted.epoch, show_key(wanted.node), wanted.ttl_ms_max)
        answer = await arbiter.cas(b"" if known is None else known.oid, intent)
        if isinstance(answer, ArbiterTaken):
            if answer.merged:
                return await self._claim_to_close(view, wanted, answer)
            return ClaimRefused(f"the remote granted it to {answer.node[:8]}")
        return await self._granted(view, wanted.confirmed(answer.number, answer.oid))

    async def _claim_to_close(self, view: ItemView, wanted: Claim, known: ArbiterTaken) -> Claim | ClaimRefused:
        """It is merged, and whoever merged it is gone before it could say so: claim it above that claim, only to write Done.

        Nothing is asked of the arbiter: its chain is over, and nothing more can be merged under it. Of several that do this, one wins.
        """
        return await self._granted(view, closing(wanted, known))

    async def _granted(self, view: ItemView, claim: Claim) -> Claim | ClaimRefused:
        stated = await self._write_claim(view, claim)
        if stated is None:
            return ClaimRefused("a better claim arrived meanwhile")
        self.renew(view.id, stated, b"", 0)
        return stated

    def _still_held(self, view: ItemView, known: ArbiterTaken) -> str:
        """Why the arbiter's present claim must be respected; empty when it may be followed."""
        verdict = judge_remote(view.claim, known, free=self._is_free(view))
        refused = self._stranger(view.id, known) if verdict is RemoteVerdict.STRANGER else ""
        if verdict is not RemoteVerdict.STRANGER or not refused:
            self._node.lease_watch.strays.pop(view.id, None)
        return "its claim is held" if verdict is RemoteVerdict.HELD else refused

    def _stranger(self, item: bytes, known: ArbiterTaken) -> str:
        """Granted, but its op has not reached us, or its holder died in between: watched like any other claim, from now on."""
        claim_id = parse_id(known.claim_id) or known.claim_id.encode()
        watch, stray = self._node.lease_watch, (claim_id, known.ttl_ms / 1000)
        if watch.strays.get(item) != stray:
            watch.strays[item] = stray
            self._node.leases.first_seen(claim_id, self._node.clock.now())
            watch.look()
        if self._lease(claim_id, known.ttl_ms / 1000) is not LeaseState.LOST:
            return f"the remote granted it to {known.node[:8]}, of whom nothing is known here yet"
        return ""

    async def _write_claim(self, view: ItemView, claim: Claim) -> Claim | None:
        """Write a first statement of ``claim``, if the item's claim is still the one that it follows; as it was stated when it wins, else None."""
        stated = claim

        def build() -> Sequence[Write]:
            nonlocal stated
            if not may_state(self._node.board.claim(view.id), view.claim, claim):
                return []
            if not claim.receipt and isinstance(self._node.board.stage(view.id), Done | Archived):
                return []  # in this moment; of a claim that the arbiter granted all must learn
            stated, writes = first_statement(self._node.board, view.id, claim)
            return writes

        await self._node.write(view.id, build)
        return stated if self.is_winning(view.id, claim.claim_id) else None

    async def _state_claim(self, item: bytes, claim: Claim) -> bool:
        """Write a later statement of a claim that must be winning."""
        await self._node.write(item, lambda: [claim_write(item, claim)] if self.is_winning(item, claim.claim_id) else [])
        return self.is_winning(item, claim.claim_id)

    # ---- working --------------------------------------------------------------------------------

    async def move(self, item: bytes, stage: Stage, claim: Claim) -> None:
        """See :meth:`fabrik_node.ports.Pipeline.move`."""

        def build() -> Sequence[Write]:
            self._must_win(item, claim)
            check_holder_move(self._node.board.stage(item), stage)
            return [stage_write(item, stage, claim.fence)]

        await self._node.write(item, build)
        self._must_be_in(item, stage, claim)

    def _must_be_in(self, item: bytes, stage: Stage, claim: Claim) -> None:
        """Where the run has just moved the item. Else raises ClaimLost, or Conflict when somebody's word counts for more: who goes on as if it was there would write without end."""
        now = self._node.board.stage(item)
        if now != stage:
            self._must_win(item, claim)
            raise Conflict(
                f"item {show_id(item)} is in {now.name}, and not in {stage.name}, where this run moved it: somebody else's word counts for more",
                f"fabrik-node items history {show_id(item)}",
            )

    async def change_branch(self, item: bytes, merge: Merge, claim: Claim) -> None:
        """See :meth:`fabrik_node.ports.Pipeline.change_branch`."""

        def build() -> Sequence[Write]:
            self._must_win(item, claim)
            check_in_merge(self._node.board.stage(item))
            return [stage_write(item, merge, claim.fence)]

        await self._node.write(item, build)
        self._must_be_in(item, merge, claim)

    async def finish(self, item: bytes, claim: Claim, reason: str, outcome: Mapping[str, Any], *, charge_attempt: bool, hold: str = "") -> None:
        """See :meth:`fabrik_node.ports.Pipeline.finish`."""

        def build() -> Sequence[Write]:
            self._must_win(item, claim)
            view = self._node.board.item(item)
            if view is None:
                raise NotFound(f"item {show_id(item)} is deleted", "fabrik-node tombstones list")
            writes: list[Write] = [
                (Kind.ITEM, item, ItemField.OUTCOME, dict(outcome), claim.fence),
                claim_write(item, claim.released(reason)),
            ]
            if charge_attempt:
                writes.append((Kind.ITEM, item, ItemField.ATTEMPTS, min(view.attempts + 1, ATTEMPTS_MAX), claim.fence))
            if hold:
                writes += claim_hold_writes(item, claim, hold, self._node.clock.wall_ms())
            return writes

        await self._node.write(item, build)
        self.stop_renewing(claim.claim_id)

    def check_may_end(self, item: bytes, claim: Claim) -> None:
        """See :meth:`fabrik_node.ports.Pipeline.check_may_end`."""
        check_allowed(self._node, [claim_write(item, claim.released(""))])

    async def interruptions(self, item: bytes, claim: Claim) -> Interruptions:
        """See :meth:`fabrik_node.ports.Pipeline.interruptions`."""
        return interruptions_of(self._node.replica, self._node.by_item, item, claim.claim_id)

    def finished(self, item: bytes, claim: Claim) -> FinishedWork | None:
        """See :meth:`fabrik_node.ports.finished.FinishedRecords.finished`."""
        return finished_under(self._node.replica, item, claim.follows if claim.found is None else claim.claim_id)  # which said again what it found

    async def put_run(self, row: RunRow) -> None:
        """See :meth:`fabrik_node.ports.Pipeline.put_run`."""
        await self._node.store.put_run(row)
        known = self._node.replica.get(Kind.RUN, row.run_id, RunField.SUMMARY)
        said = None if known is None else known.value
        summary = run_summary(row) | self._claim_of_run(row, said) | inputs_summary(row.inputs, said)
        if known is None or known.value != summary:
            await self._node.write(row.run_id, lambda: [(Kind.RUN, row.run_id, RunField.SUMMARY, summary, None)])

    def _claim_of_run(self, row: RunRow, known: Any) -> dict[str, Any]:
        """What its claim was, for who lists conflicts: the claim register forgets all but the winner."""
        claim = self._node.board.claim(row.item)
        if claim is not None and claim.claim_id == row.claim_id:
            return {"claim_epoch": claim.epoch, "claim_receipt": claim.receipt, "claim_follows": claim.follows}
        return {} if not isinstance(known, dict) else {name: value for name, value in known.items() if str(name).startswith("claim_")}

    # ---- leases ---------------------------------------------------------------------------------

    def renew(self, item: bytes, claim: Claim, run_id: bytes, progress_n: int) -> bool:
        """See :meth:`fabrik_node.ports.Pipeline.renew`. A node that dials nobody has nobody whom it must reach."""
        self._node.presence.renew(claim.claim_id, item, run_id, progress_n)
        self._loop.call_soon_threadsafe(self._node.beat_now)
        return self._listens()

    def stop_renewing(self, claim_id: bytes) -> None:
        """See :meth:`fabrik_node.ports.Pipeline.stop_renewing`."""
        self._node.presence.forget(claim_id)

    # ---- hearing --------------------------------------------------------------------------------

    def on_claim_lost(self, claim_id: bytes, callback: Callable[[str], None]) -> Callable[[], None]:
        """See :meth:`fabrik_node.ports.Pipeline.on_claim_lost`."""
        callbacks = self._lost.setdefault(claim_id, [])
        callbacks.append(callback)

        def unsubscribe() -> None:
            if callback in callbacks:
                callbacks.remove(callback)
            if not callbacks:
                self._lost.pop(claim_id, None)

        return unsubscribe

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        """See :meth:`fabrik_node.ports.Pipeline.on_change`."""
        self._changed.append(callback)
        return lambda: self._changed.remove(callback)

    async def wait_connected(self) -> None:
        """See :meth:`fabrik_node.ports.Pipeline.wait_connected`."""
        while self.waits_for_company():
            await self._node.peers_moved()

    def waits_for_company(self) -> bool:
        """Peers are expected, and it has caught up with none that is connected: nothing is claimed then."""
        return self._dials() and not any(peer.state == "connected" for peer in self._node.peers())

    def is_cut_off(self) -> bool:
        """Peers are expected, and none is connected, not even one with which it still catches up."""
        return self._dials() and not any(peer.state in CONNECTED for peer in self._node.peers())

    # ---- inside ---------------------------------------------------------------------------------

    def _is_ready(self, found: OpenItem, offered: AbstractSet[str], now: float) -> bool:
        """As far as no other claim has a part in it."""
        view = found.view
        return (
            view.hold is None
            and found.required <= offered
            and all(map(self.items.is_finished, view.depends_on))
            and self._is_free(view)
            and (not view.attempts or now >= self._not_before(view))
        )

    def _is_free(self, view: ItemView) -> bool:
        claim = view.claim
        lease = LeaseState.FRESH if claim is None else self._lease(claim.claim_id, claim.ttl_s(view.stage))
        held_back = lease is LeaseState.LOST and self._node.leases.held_back
        return is_free(view.stage, claim, LeaseState.UNREACHABLE if held_back else lease)

    def _lease(self, claim_id: bytes, ttl_s: float) -> LeaseState:
        return self._node.leases.state(claim_id, ttl_s, self._node.clock.now())

    def _listens(self) -> bool:
        """Whether anybody hears us and we hear anybody, as far as one is expected. Thread-safe."""
        return not self._dials() or self._node.connected() > 0

    def _not_before(self, view: ItemView) -> float:
        failed = self._failed_at.get(view.id)
        if failed is None or view.attempts == 0:
            return 0.0
        return failed + min(self._backoff_s * 2.0 ** min(view.attempts - 1, 16), _BACKOFF_S_MAX)

    def _must_win(self, item: bytes, claim: Claim) -> None:
        now = self._node.board.claim(item)
        if now is None or now.claim_id != claim.claim_id:
            holder = "nobody" if now is None else f"{self._node.name_of(now.node)} ({now.agent})"
            raise ClaimLost(f"the claim on item {show_id(item)} is lost to {holder}", f"fabrik-node claims show {show_id(item)}")
        if now.state is ClaimState.RELEASED:
            raise ClaimLost(f"the claim on item {show_id(item)} was released: {now.reason}", f"fabrik-node claims show {show_id(item)}")

    def _on_changes(self, changes: Changes) -> None:
        self.items.note(changes)
        for change in changes.of(Kind.CLAIM):
            self._claim_changed(change)
        for change in changes.of(Kind.ITEM, ItemField.ATTEMPTS):
            if change.new:
                self._failed_at[change.id] = self._node.clock.now()
        if changes.kinds & {Kind.CLAIM, Kind.ITEM, Kind.TOMBSTONE}:
            self._tell_changed()

    def _claimers(self) -> list[bytes]:
        """Other nodes that are seen to live and whose claims would count: nobody gives way to who may not claim."""
        members = {key: self._node.replica.member(key) for key in self._node.lease_watch.others()[1]}
        return [key for key, member in members.items() if member.role >= Role.AGENT and not member.revoked]

    def _withdrawn(self, item: bytes) -> None:
        """Nobody was granted it, as far as is known: others may look at it again."""
        if self._changed and (found := self.items.get(item)) is not None and self._is_free(found.view):
            self._tell_changed()

    def _tell_changed(self) -> None:
        for told in tuple(self._changed):
            told()

    def _claim_changed(self, change: Change) -> None:
        old_id = None if change.old is None else change.old[1]
        if old_id is None or old_id not in self._lost:
            return
        if change.new is None:
            reason = "its item was deleted"
        elif change.new[1] != old_id:
            reason = f"superseded by {self._node.name_of(change.new[5])} ({change.new[6]})" + (f": {change.new[9]}" if change.new.get(9) else "")
        else:
            return
        for callback in tuple(self._lost.get(old_id, ())):
            callback(reason)


def run_summary(row: RunRow) -> dict[str, Any]:
    """The replicated summary of a run: what other nodes may know of it."""
    summary: dict[str, Any] = {
        "node": row.node,
        "item": row.item,
        "claim": row.claim_id,
        "agent": row.agent,
        "state": row.state.value,
        "phase": row.phase,
        "started_ms": row.started_ms,
        "ended_ms": row.ended_ms,
        "exit_code": row.exit_code,
        "reason": row.reason[:500],
        "branch": row.branch,
        "engine": row.engine,
        **({"asks": row.asks} if row.asks else {}),
    }
    return summary
