"""``runs show`` and ``runs list --ask``: the owner of a run is asked, and what it says wins over the copy here, with the difference shown."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from fabrik_node.clock import iso
from fabrik_node.domain.nearness import Nearness
from fabrik_node.domain.runs import FINAL_STATES, RunState
from fabrik_node.ids import parse_id
from fabrik_node.node.inquiries import ASKS_MAX, PAGES_MAX, Busy, Inquiries
from fabrik_node.service.reading import Read, Reader

__all__ = ["Asking"]

_TEXT_CHARS = 200
_AT_ONCE = ASKS_MAX - PAGES_MAX - 1
"""Questions of one list at once: whoever follows logs or asks for one run meanwhile has room."""
_SILENT = "its node did not answer"
_OVER = frozenset(state.value for state in FINAL_STATES)
_TEXTS = ("state", "recorded", "phase", "evidence", "degraded", "reason")
_COMPARED = {"state": "state", "recorded": "recorded_state", "phase": "phase", "reason": "reason", "exit_code": "exit_code"}
"""What an owner says of a run, and what that is called here."""


class Asking:
    """Both sides: asks the owners of foreign runs, and answers for the own ones (:meth:`tell`)."""

    def __init__(self, reader: Reader, inquiries: Inquiries) -> None:
        self._reader = reader
        self._inquiries = inquiries

    @property
    def operations(self) -> Mapping[str, Read]:
        """By name; in place of the reader's own."""
        return {"runs.show": self._reader.measured(self.runs_show), "runs.list": self._reader.measured(self.runs_list)}

    async def runs_list(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """As the reader has it. ``ask`` True: the nodes of foreign runs that are not over are asked first, all at once; one that hangs marks its own runs alone."""
        answer = await self._reader.runs_list(args)
        if args.get("ask") is not True:
            return answer
        places, hung = asyncio.Semaphore(_AT_ONCE), set[str]()
        runs = await asyncio.gather(*(self._asked(run, places, hung) for run in answer["runs"]))
        return self._reader.stamp(
            {**answer, "runs": runs, "partial": any(run.get("owner", {}).get("answered") is False for run in runs), **self._reader.stamp({})}
        )

    async def _asked(self, run: dict[str, Any], places: asyncio.Semaphore, hung: set[str]) -> dict[str, Any]:
        if run["own"] or run["recorded_state"] in _OVER or self._reader.near().judge(bytes.fromhex(run["node"])).state is not Nearness.ALIVE:
            return run
        async with places:
            try:
                said = None if run["node"] in hung else await self._inquiries.ask(bytes.fromhex(run["node"]), parse_id(run["run_id"]) or b"")
            except Busy as error:
                return {**run, "owner": _unasked(error.message), "differs": []}
        if said is None:
            hung.add(run["node"])
            return {**run, "owner": {"asked": True, "answered": False, "why": _SILENT}, "differs": []}
        merged = self._merged(run, said)
        return {**merged["run"], "owner": merged["owner"], "differs": merged["differs"]}

    async def runs_show(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """``id``; ``ask`` False: only the copy here. ``owner`` says whether its node answered, ``differs`` what it says otherwise; then its words are the ones shown."""
        answer = await self._reader.runs_show(args)
        run: dict[str, Any] = answer["run"]
        if run["own"]:
            return answer
        owner, near = bytes.fromhex(run["node"]), self._reader.near().judge(bytes.fromhex(run["node"]))
        if args.get("ask") is False:
            return {**answer, "owner": _unasked("nobody wanted that"), "differs": []}
        if near.state is not Nearness.ALIVE:
            return {**answer, "owner": _unasked("nothing shows that its node lives"), "differs": []}
        try:
            said = await self._inquiries.ask(owner, parse_id(run["run_id"]) or b"")
        except Busy as error:
            return {**answer, "owner": _unasked(error.message), "differs": []}
        if said is None:
            why = f"its node did not answer within {self._inquiries.patience_s:g} s"
            return {**await self._reader.runs_show(args), "owner": {"asked": True, "answered": False, "why": why}, "differs": []}
        return self._reader.stamp({**answer, **self._merged(run, said), **self._reader.stamp({})})

    def _merged(self, run: dict[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
        words = _read(said)
        if words is None:
            differs = [{"field": "run", "here": run["recorded_state"], "owner": "not known there"}]
            why = "its node does not know this run"
            return {"run": run, "owner": {"asked": True, "answered": True, "why": why}, "differs": differs}
        differs = [
            {"field": here, "here": run[here], "owner": words[theirs]} for theirs, here in _COMPARED.items() if theirs in words and words[theirs] != run[here]
        ]
        now = self._reader.stamp({})["as_of"]
        over = words["state"] in _OVER and bool(words.get("ended_ms"))
        shown: dict[str, Any] = {
            **run,
            **{name: words[name] for name in ("state", "phase", "reason", "degraded", "exit_code") if name in words},
            "evidence": f"its own node says: {words.get('evidence', '')}",
            "as_of": now,
            "age_s": None if over else 0.0,
            "stale": False,
            "since": None,
            "unreachable_since": None,
            "recorded_state": words.get("recorded", run["recorded_state"]),
            "ended_at": iso(words["ended_ms"]) if words.get("ended_ms") else run["ended_at"],
        }
        return {"run": shown, "owner": {"asked": True, "answered": True, "why": ""}, "differs": differs}

    async def tell(self, run_id: bytes) -> Mapping[str, Any]:
        """What this node says of a run of its own, in values that a message can hold."""
        row = await self._reader.own_run(run_id)
        if row is None:
            return {"unknown": True}
        verdict = self._reader.verdict(row)
        texts = {"evidence": verdict.evidence, "degraded": verdict.degraded, "reason": row.reason, "phase": row.phase}
        return {
            **{name: text[:_TEXT_CHARS] for name, text in texts.items()},
            "state": verdict.state.value,
            "recorded": row.state.value,
            "ended_ms": row.ended_ms,
            "exit_code": row.exit_code,
        }


def _unasked(why: str) -> dict[str, Any]:
    return {"asked": False, "answered": False, "why": f"not asked: {why}"}


def _read(said: Mapping[str, Any]) -> dict[str, Any] | None:
    """The well-formed parts of an answer; None when it does not know the run, or speaks of states that we do not know."""
    words: dict[str, Any] = {name: said[name][:_TEXT_CHARS] for name in _TEXTS if isinstance(said.get(name), str)}
    if words.get("state") not in {state.value for state in RunState}:
        return None
    exit_code, ended_ms = said.get("exit_code"), said.get("ended_ms")
    if exit_code is None or (isinstance(exit_code, int) and not isinstance(exit_code, bool)):
        words["exit_code"] = exit_code
    if isinstance(ended_ms, int) and 0 < ended_ms < 2**53:
        words["ended_ms"] = ended_ms
    return words
