"""What an operator says to the agent of this node: end that run, take nothing new, go on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from fabrik_node.clock import iso
from fabrik_node.domain.runs import FINAL_STATES, RunRow, RunState
from fabrik_node.domain.stages import Archived, Coding, Done, Merge, Qa, Stage
from fabrik_node.errors import Conflict, Precondition, UsageError
from fabrik_node.ids import show_id
from fabrik_node.node.holds import person_hold_writes
from fabrik_node.node.node import Node
from fabrik_node.node.rehearsal import Rehearsed, rehearsing
from fabrik_node.node.rights import check_allowed
from fabrik_node.service.bounds import REASON_BYTES_MAX, check_text
from fabrik_node.service.reading import Reader
from fabrik_node.service.writing import ItemWriter

if TYPE_CHECKING:  # names of the stub, not of the extension
    from fabrik_node._core import Write

__all__ = ["AgentView", "Controls", "RunInHand"]

_WAIT_S = 45.0
"""For the end of a cancelled run: below the 60 s in which a caller wants its answer."""
_WORD = "cancelled"


class RunInHand(Protocol):
    """A run that lives on this node, as the service sees it."""

    async def waits(self, question: bytes, *, on: bool) -> None:
        """Its command begins to wait for the answer to a question, or does so no more. Call it in pairs."""
        ...

    def unanswered(self, reason: str) -> None:
        """Nobody answered in time: hold its item when the command ends."""
        ...


class AgentView(Protocol):
    """The agent of this node, as the service sees it."""

    def describe(self) -> Mapping[str, Any]:
        """For ``status``: ``enabled``, ``slots``, ``running`` (run ids), ``claiming`` (item ids), ``draining``, ``halt`` (code, reason, since_ms, next; or None),
        ``problem``, ``warnings``.
        """
        ...

    async def cancel(self, run_id: bytes, reason: str) -> bool:
        """End a run; returns when it is over. False: the agent does not have it in hand."""
        ...

    def in_hand(self, run_id: bytes) -> RunInHand | None:
        """A run that the agent is at work on; None when it is not."""
        ...

    async def halt(self, reason: str) -> None:
        """Take nothing new, also after a restart. Raises StoreFailed when it can not be written down."""
        ...

    async def go_on(self) -> bool:
        """Lift the halt; False when there was none."""
        ...


class Controls:
    """``agent`` belongs to the same event loop as ``node``."""

    def __init__(self, node: Node, reader: Reader, writer: ItemWriter, agent: AgentView) -> None:
        self._node = node
        self._reader = reader
        self._writer = writer
        self._agent = agent

    @property
    def operations(self) -> Mapping[str, Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]]:
        """By name."""
        return {"runs.cancel": self.cancel, "drain": self.drain}

    async def drain(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Take no more work, or with ``off`` take work again. Running work goes on; the answer names it, and items whose claim is under way: those are given back."""
        if not self._agent.describe().get("enabled"):
            raise Precondition("this node takes no work: it has no agent", "fabrik-node serve --command CMD")
        if (rehearsal := rehearsing()) is not None:
            rehearsal.effects.append(self._drained(off=bool(args.get("off"))))
            raise Rehearsed
        if args.get("off"):
            changed = await self._agent.go_on()
        else:
            changed = self._agent.describe().get("halt") is None
            await self._agent.halt(check_text("the reason", args.get("reason") or "drained by an operator", REASON_BYTES_MAX))
        said = self._agent.describe()
        halt = said.get("halt")
        shown = None if halt is None else {**halt, "since": iso(halt["since_ms"])}
        at_work = {name: list(said.get(name) or []) for name in ("running", "claiming")}
        return self._reader.stamp({"draining": halt is not None, "changed": changed, "halt": shown, **at_work})

    async def cancel(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """End a run and hold its item. Of this node: answers when its processes are gone. Of another: it stops when it hears of it."""
        text = args.get("id")
        if not isinstance(text, str) or not text:
            raise UsageError("id is missing", "fabrik-node runs list")
        reason = check_text("the reason", args.get("reason") or "by an operator", REASON_BYTES_MAX)
        row = await self._reader.find_run(text)
        name = show_id(row.run_id)
        if row.state in FINAL_STATES:
            raise Precondition(f"run {name} is over already: {row.state.value}", f"fabrik-node runs show {name}")
        if row.node != self._node.public:
            return await self._cancel_elsewhere(row, reason)
        check_allowed(self._node, _hold_writes(row, reason, 0))  # before the run hears of it
        view = self._node.board.item(row.item)
        if (rehearsal := rehearsing()) is not None:
            rehearsal.effects.append(f"run {name} on this node ends with all of its processes; what it made is kept on its branch")
        held = await self._hold(row, reason)
        on_item = "its item is held" if held else "its item is left alone: another claim has it"
        try:
            async with asyncio.timeout(_WAIT_S):
                in_hand = await self._agent.cancel(row.run_id, reason)
        except TimeoutError:
            return await self._shown(row, f"it was told to stop and has not ended within {_WAIT_S:g} s; {on_item}")
        if not in_hand and (await self._reader.find_run(name)).state not in FINAL_STATES:
            why = f"{on_item}; nobody has the run in hand, and the next start of this node closes it"
            return await self._shown(row, why)
        ended = await self._reader.find_run(name)
        if ended.state is not RunState.CANCELLED:
            if held:
                await self._unhold(row, None if view is None else view.hold)
            raise self._too_late(ended)
        requeue = f"; to let agents try again: fabrik-node items requeue {show_id(row.item)}" if held else ""
        return await self._shown(row, on_item + requeue)

    def _drained(self, *, off: bool) -> str:
        said = self._agent.describe()
        halted, at_work = said.get("halt") is not None, len(said.get("running") or [])
        if off:
            return "the agent takes work again" if halted else "nothing changes: the agent takes work"
        runs = {0: "no run is under way", 1: "1 run goes on to its end"}.get(at_work, f"{at_work} runs go on to their ends")
        return f"{'nothing changes: ' if halted else ''}the agent takes nothing new, also after a restart; {runs}"

    def _too_late(self, ended: RunRow) -> Conflict:
        """A run that is not done stays as its operator wanted it: nobody begins its item again unasked. The error says so."""
        name, view = show_id(ended.run_id), self._node.board.item(ended.item)
        said = f"run {name} ended by itself before it could be cancelled: {ended.state.value}"
        hold = None if view is None else view.hold
        if hold is None or view is None or isinstance(view.stage, Done | Archived):
            return Conflict(said, f"fabrik-node runs show {name}")
        return Conflict(f"{said}; its item is held: {hold.get('reason', '')}", f"fabrik-node items requeue {show_id(ended.item)}")

    async def _cancel_elsewhere(self, row: RunRow, reason: str) -> dict[str, Any]:
        held = self._node.board.claim(row.item)
        name = show_id(row.run_id)
        if held is None or not held.held or held.claim_id != row.claim_id:
            raise Precondition(f"run {name} does not hold its item any more", f"fabrik-node runs show {name}")
        said = await self._writer.end_claim(row.item, held, f"{_WORD}: {reason}", hold=f"{_WORD}: {reason}", following=_as_it_is)
        return await self._shown(row, said["note"])

    async def _hold(self, row: RunRow, reason: str) -> bool:
        """Before the run hears of it: should this node die now, nobody begins the item again, here or elsewhere. False: it is not its item any more."""
        held = False

        def build() -> list[Write]:
            nonlocal held
            claim = self._node.board.claim(row.item)
            held = self._node.board.item(row.item) is not None and (claim is None or claim.claim_id == row.claim_id)
            if not held:
                return []
            now_ms = self._node.clock.wall_ms()
            return [*_hold_writes(row, reason, now_ms), *self._node.requests.withdrawals(row.item, f"{_WORD}: {reason}", now_ms)]

        await self._node.write(row.item, build)
        return held

    async def _unhold(self, row: RunRow, before: Mapping[str, Any] | None) -> None:
        """It was done before it could be cancelled: the hold says nothing true any more. What held it before, or holds it since, stays."""

        def build() -> list[Write]:
            now = self._node.board.item(row.item)
            if now is None or not isinstance(now.stage, Done) or not str((now.hold or {}).get("reason", "")).startswith(f"{_WORD}:"):
                return []
            return person_hold_writes(row.item, before)

        await self._node.write(row.item, build)

    async def _shown(self, row: RunRow, note: str) -> dict[str, Any]:
        return {**await self._reader.runs_show({"id": show_id(row.run_id)}), "note": note}


def _as_it_is(stage: Stage) -> Stage | None:
    """A held item stays in its stage. It is written once more under the claim that ends the run's, so that a late move of that run does not count."""
    return stage if isinstance(stage, Coding | Qa | Merge) else None


def _hold_writes(row: RunRow, reason: str, since_ms: int) -> list[Write]:
    return person_hold_writes(row.item, {"reason": f"{_WORD}: {reason}", "since_ms": since_ms})
