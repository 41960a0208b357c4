"""``why ID``: one answer for an item or a run, of what is known here and how old that is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, replace
from shlex import quote
from types import MappingProxyType
from typing import Any

from fabrik_node.clock import iso
from fabrik_node.domain.groups import full_limit, limited_by
from fabrik_node.domain.nearness import Nearness
from fabrik_node.domain.picking import required_labels
from fabrik_node.domain.runs import FINAL_STATES, RunRow, RunState
from fabrik_node.domain.schema import ClaimField, ItemField, Kind
from fabrik_node.domain.stages import Archived, Done
from fabrik_node.domain.why import AgentFacts, Cause, ClaimFacts, ItemFacts, Needed, why_item, why_run
from fabrik_node.errors import Conflict, NotFound
from fabrik_node.ids import show_id, show_key, show_value
from fabrik_node.node.limits import living
from fabrik_node.node.presence import Heard
from fabrik_node.ports import ItemView
from fabrik_node.service.nodes import agent_problem
from fabrik_node.service.reading import Reader, stage_json
from fabrik_node.service.views import claim_json

__all__ = ["Explaining"]

_CHANGES = 5
_RUNS = 3


class Explaining:
    """Reads through ``reader`` alone, so it works on a store that no node serves, too. ``limits``: those of this node's agent, by label.

    ``own_problem``: why that agent claims nothing now, as far as its message to the others does not say it.
    """

    def __init__(self, reader: Reader, limits: Mapping[str, int] = MappingProxyType({}), own_problem: Callable[[], str] = str) -> None:
        self._reader = reader
        self._limits = limits
        self._own_problem = own_problem

    @property
    def operations(self) -> Mapping[str, Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]]:
        """By name."""
        return {"why": self._reader.measured(self.why)}

    async def why(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """``id``: of an item or a run. Raises :class:`NotFound`, and :class:`Conflict` when it could be either."""
        text = str(args.get("id") or "")
        view, row = await self._find(text)
        ahead = 0 if view is None else await asyncio.to_thread(self._ahead, view, self._takers(view))  # looks at every item
        return self._of_item(view, await self._runs_of(view.id), ahead) if row is None and view is not None else self._of_run(row, view, ahead)

    async def _find(self, text: str) -> tuple[ItemView | None, RunRow | None]:
        try:
            view: ItemView | None = self._reader.must_item(text)
            missing: NotFound | None = None
        except NotFound as error:
            view, missing = None, error
        try:
            row = await self._reader.find_run(text)
        except NotFound:
            if missing is not None:
                deleted = "deleted" in missing.message
                raise (missing if deleted else NotFound(f"no item and no run {text!r}", "fabrik-node items list, fabrik-node runs list")) from None
            return view, None
        if view is not None:
            raise Conflict(f"{text!r} is ambiguous: item {show_id(view.id)}, run {show_id(row.run_id)}", "give more characters of the id")
        return self._reader.board.item(row.item), row

    async def _runs_of(self, item: bytes) -> list[RunRow]:
        return await self._reader.runs(item)

    # ---- items ------------------------------------------------------------------------------------

    def _of_item(self, view: ItemView, rows: list[RunRow], ahead: int) -> dict[str, Any]:
        views, run_views = self._reader.views(), self._reader.run_views()
        causes = why_item(self._facts(view, rows, ahead))
        runs = [run_views.run(row, claim=view.claim, title=view.title) for row in rows[:_RUNS]]
        causes += self._drifts(view, rows)
        return self._answer("item", show_id(view.id), causes, {"item": views.item(view), "runs": runs, "changes": self._changes(view.id)})

    def _drifts(self, view: ItemView, rows: list[RunRow]) -> list[Cause]:
        """Of runs that are not over: they work from something that is not so any more."""
        live = [row for row in rows if row.state not in FINAL_STATES and view.claim is not None and view.claim.held and row.claim_id == view.claim.claim_id]
        drift = self._reader.drift()
        return [
            Cause(
                "drift",
                f"run {show_id(row.run_id)} works from something else than there is now: {each['text']}",
                f"fabrik-node runs show {show_id(row.run_id)}",
            )
            for row in live
            for each in drift.of(row, view)
        ]

    def _facts(self, view: ItemView, rows: list[RunRow], ahead: int) -> ItemFacts:
        open_run = next((row for row in rows if view.claim is not None and row.claim_id == view.claim.claim_id), None)
        return ItemFacts(
            item=show_id(view.id),
            stage=view.stage,
            hold=None if view.hold is None else str(view.hold.get("reason", "")),
            claim=self._claim(view, open_run),
            labels=required_labels(view.labels),
            needs=[self._needed(needed) for needed in view.depends_on],
            attempts=view.attempts,
            ahead=ahead,
            agents=self._agents(),
            full=self._full(view),
            asks=None if open_run is None else self._reader.asks(open_run),
            unclear="" if (step := self._reader.steps.unclear(view.id)) is None else quote(step.name),
            is_last=view.claim is not None and view.claim.is_last,
            listens=self._reader.leases is not None,
            failure=next(((show_id(row.run_id), row.reason) for row in rows if row.state is RunState.FAILED), ("", "")),
        )

    def _claim(self, view: ItemView, row: RunRow | None) -> ClaimFacts | None:
        """``row``: the run of the claim."""
        claim, leases = view.claim, self._reader.leases
        if claim is None or not claim.held:
            return None
        holder, ttl_s = f"{self._reader.name_of(claim.node)}/{claim.agent}", claim.ttl_s(view.stage)
        run, verdict = ("", None) if row is None else (show_id(row.run_id), self._reader.run_views().verdict(row, claim))
        if leases is None:
            return ClaimFacts(holder, run, None, None, heard=False, takeover_s=0.0, verdict=verdict)
        now, lease = self._reader.now(), leases.get(claim.claim_id)
        heard, age_s = lease is not None and lease.heard, leases.age_s(claim.claim_id, now)
        return ClaimFacts(
            holder,
            run,
            leases.state(claim.claim_id, ttl_s, now),
            age_s,
            heard=heard,
            takeover_s=(age_s or 0.0) + leases.lost_in_s(claim.claim_id, ttl_s, now),
            held_back=leases.held_back,
            verdict=verdict,
        )

    def _full(self, view: ItemView) -> str:
        leases, now = self._reader.leases, self._reader.now()
        if leases is None or not limited_by(view.labels, self._limits):
            return ""
        held = living(self._reader.held_views(), self._reader.name_of, lambda claim, stage: leases.state(claim.claim_id, claim.ttl_s(stage), now))
        if view.id in {holding.item for holding in held}:
            return ""  # it is at work itself
        full = full_limit(view.id, view.labels, self._limits, held)
        return "" if full is None else full.text

    def _needed(self, item: bytes) -> Needed:
        board, found = self._reader.board, self._reader.board.item(item)
        if found is None:
            return Needed(show_id(item), "", None, deleted=self._reader.replica.tombstoned(item))
        return Needed(show_id(item), found.title, found.stage, done=board.is_done(item))

    def _takers(self, view: ItemView) -> list[frozenset[str] | None]:
        """The labels of each agent that could take it; None: it did not say which."""
        needed = required_labels(view.labels)
        return [agent.labels for agent in self._agents() if agent.is_there and not agent.problem and (agent.labels is None or needed <= agent.labels)]

    def _ahead(self, view: ItemView, takers: Sequence[frozenset[str] | None]) -> int:
        """Items that ``takers`` could take now, and that come before it in the order in which agents look."""
        board = self._reader.board
        place = (-view.priority, *board.added(view.id))
        return sum(
            1
            for other in board.items()
            if not isinstance(other.stage, Done | Archived)
            and other.hold is None
            and (other.claim is None or not other.claim.held)
            and (-other.priority, *board.added(other.id)) < place
            and any(labels is None or required_labels(other.labels) <= labels for labels in takers)
            and all(board.is_done(needed) for needed in other.depends_on)
        )

    def _agents(self) -> list[AgentFacts]:
        """Every node that said that it takes work, or why its agent takes none now."""
        near = self._reader.near()
        found = []
        for key, each in sorted(self._reader.heard().items()):
            agent = _agent(self._reader.name_of(key), near.judge(key).state, each)
            if agent.near is Nearness.SELF and not agent.problem:
                agent = replace(agent, problem=self._own_problem())
            if agent.problem or each.payload.get("accepting") is True:
                found.append(agent)
        return found

    def _changes(self, item: bytes) -> list[dict[str, Any]]:
        """The last writes that count: what each register of the item and its claim was set to, by whom and when, newest first."""
        replica, found = self._reader.replica, []
        fields = [(Kind.ITEM, field) for field in ItemField if field not in (ItemField.BODY, ItemField.CREATED_MS)]
        common = replica.get(Kind.ITEM, item, ItemField.HOLD)
        for kind, field in (*fields, (Kind.CLAIM, ClaimField.CLAIM)):
            register = replica.get(kind, item, field)
            if register is None or (isinstance(field, ItemField) and not self._reader.board.reads(item, field, register)):
                continue
            if field in (ItemField.PERSON_HOLD, ItemField.CLAIM_HOLD) and kind is Kind.ITEM and common is not None and register.digest == common.digest:
                continue  # of one op: the same word once more
            value = (
                claim_json(register.value, self._reader.name_of)
                if kind is Kind.CLAIM
                else stage_json(register.value)
                if field is ItemField.STAGE
                else show_value(register.value)
            )
            said = {"at": iso(register.wall_ms), "by": self._reader.name_of(register.author), "field": field.name.lower(), "value": value}
            found.append((register.lamport, register.digest, {**said, "op": show_key(register.digest)}))
        return [said for *_, said in sorted(found, key=lambda entry: entry[:2], reverse=True)[:_CHANGES]]

    # ---- runs ---------------------------------------------------------------------------------------

    def _of_run(self, row: RunRow | None, view: ItemView | None, ahead: int) -> dict[str, Any]:
        if row is None:
            raise NotFound("no such run", "fabrik-node runs list")
        views = self._reader.run_views()
        claim = self._reader.board.claim(row.item)
        shown, verdict = views.run(row, claim=claim, title="" if view is None else view.title), views.verdict(row, claim)
        causes = [why_run(shown["run_id"], shown["item"], verdict, own=shown["own"], asks=self._reader.asks(row))]
        if view is None:
            causes.append(Cause("deleted", f"its item {shown['item']} was deleted, or is not known here", "fabrik-node tombstones list"))
        elif row.state in FINAL_STATES:
            causes += why_item(self._facts(view, [row], ahead))
        return self._answer("run", shown["run_id"], causes, {"run": shown, "changes": [] if view is None else self._changes(view.id)})

    def _answer(self, kind: str, name: str, causes: list[Cause], more: Mapping[str, Any]) -> dict[str, Any]:
        return self._reader.stamp({"kind": kind, "id": name, "state": causes[0].code, "causes": [asdict(cause) for cause in causes], **more})


def _agent(name: str, near: Any, heard: Heard) -> AgentFacts:
    """What a node said of its agent; another version may say anything, or nothing."""
    said = heard.payload.get("agent")
    said = said if isinstance(said, Mapping) else {}
    labels = said.get("labels")
    return AgentFacts(
        name=name,
        near=near,
        labels=frozenset(label for label in labels if isinstance(label, str)) if isinstance(labels, list) else None,
        slots=_count(said.get("slots"), 1),
        busy=_count(said.get("busy"), 0),
        problem=agent_problem(heard),
    )


def _count(value: object, otherwise: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else otherwise
