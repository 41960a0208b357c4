"""Steps: what a command of a run asks before and after each part of its work, and what people may say of one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from fabrik_node.clock import iso
from fabrik_node.domain.runs import ProcessId
from fabrik_node.domain.stages import Coding
from fabrik_node.domain.steps import COMMAND_BYTES_MAX, Step, StepState, Wanted, check_name, encode_step, inputs_digest, is_cut_off, judge_begin, unclear_line
from fabrik_node.errors import ClaimLost, Conflict, NotFound, Precondition, UsageError
from fabrik_node.ids import show_id
from fabrik_node.node.node import Node
from fabrik_node.node.rehearsal import rehearsing
from fabrik_node.node.steps import StepBook, step_write
from fabrik_node.ports import ItemView
from fabrik_node.ports.steps import RunSteps
from fabrik_node.process import is_alive, process_id
from fabrik_node.service.bounds import item_id
from fabrik_node.service.callers import Caller, RunCaller, must_run
from fabrik_node.service.reading import Reader
from fabrik_node.service.step_views import goes_on, step_json, steps_json

if TYPE_CHECKING:  # names of the stub, not of the extension
    from fabrik_node._core import Write

__all__ = ["STEPS_MAX", "StepOperators", "StepReads", "StepRunner"]

_TEXTS_MAX = 1_000
STEPS_MAX = 1_000
"""Of one item, by name. Some more when many begin in one moment or on hosts that do not know of each other: no question about an item looks at more by far."""
_HINT = "fabrik-node step NAME -- COMMAND"


class StepRunner:
    """For commands of runs on this node. ``runs`` None: no agent here. Which process runs which step is in memory: a run does not outlive its node."""

    def __init__(self, node: Node, reader: Reader, steps: StepBook, runs: RunSteps | None) -> None:
        self._node = node
        self._reader = reader
        self._steps = steps
        self._runs = runs
        self._running: dict[tuple[bytes, str], tuple[RunCaller, ProcessId | None]] = {}
        self._ends: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()
        """By run: files are kept and that is written down for one step after the other, so the newest step that is done has the files of all that are."""

    @property
    def operations(self) -> Mapping[str, Callable[[Mapping[str, Any], Caller], Awaitable[dict[str, Any]]]]:
        """By name."""
        return {"step.begin": self.begin, "step.end": self.end}

    async def begin(self, args: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
        """May ``name`` begin? ``go`` false: it is done, ``step`` says by whom. ``pid``: the process that runs it.

        Raises :class:`Conflict` when another process runs it, :class:`Precondition` when it was done with other inputs or nobody knows whether it was.
        """
        run, runs = must_run(caller, "a step"), self._must_have()
        name, view = check_name(args.get("name")), self._must_code(run)
        command, inputs = _texts(args, "command"), _texts(args, "inputs")
        pid = None if args.get("pid") is None else _number(args, "pid", range(1, 2**31))
        digest = inputs_digest([view.title, view.body], command, inputs)
        now = self._node.clock.wall_ms()
        shown = _cut(" ".join(command))
        wanted = Wanted(run.item, name, digest, run.claim_id, run.run_id, now, bool(args.get("side_effects")), shown)
        process = None if pid is None else process_id(pid)
        self._forget_gone()
        after: list[Step] = []

        async def look_and_write() -> None:
            looked = self._steps.get(run.item, name)
            commit = b"" if looked is None else looked.commit
            has_files = not commit or await runs.contains(run.run_id, commit)

            def build() -> Sequence[Write]:
                fence = self._fence(run)
                known = self._steps.get(run.item, name)
                if known is not None and known.commit != commit:
                    return []  # ended meanwhile: look again for its files
                running = "" if known is None else self._who_runs(known, run)
                if known is not None and known.is_unended and not running:
                    raise _Unclear(known)
                if known is None and self._steps.count(run.item) >= STEPS_MAX:
                    raise Precondition(
                        f"item {show_id(run.item)} has {STEPS_MAX} steps, and {name!r} would be one more: each is kept on every node for as long as the item",
                        f"use names that come again in the next run; fabrik-node steps list {show_id(run.item)}",
                    )
                after.append(judge_begin(known, wanted, running=running, has_files=has_files, changed_ok=bool(args.get("changed_ok"))))
                if after[-1] == known:
                    return []
                self._running[run.item, name] = (run, process)
                return [step_write(after[-1], fence)]

            await self._node.write((run.item, name), build)

        try:
            while not after:
                await look_and_write()
        except _Unclear as unclear:
            runs.hold(run.run_id, unclear.message)
            raise
        step = after[-1]
        return self._reader.stamp({"go": step.state is StepState.STARTED, "step": step_json(step)})

    async def end(self, args: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
        """The attempt is over with ``exit_status``. With 0 its files are committed and pushed first, and then it is done. ``told_to_end``: a signal came while it ran.

        One with effects outside its files is done before: they have happened, whatever becomes of its files. One that was cut off has no end: it stays begun,
        and the run ends with its item held.
        """
        run, runs = must_run(caller, "a step"), self._must_have()
        name, attempt, status = check_name(args.get("name")), _number(args, "attempt", range(1, 2**53)), _number(args, "exit_status", range(256))
        begun = self._must_be_now(run, name, attempt, StepState.STARTED)
        key, ended = (run.item, name), [begun]
        runner = self._running.get(key)

        async def write(before: StepState, after: StepState, commit: bytes) -> None:
            def build() -> Sequence[Write]:
                fence = self._fence(run)
                known = self._must_be_now(run, name, attempt, before)
                ended.append(replace(known, state=after, commit=commit, exit_status=status, wall_ms=self._node.clock.wall_ms()))
                return [step_write(ended[-1], fence)]

            await runs.for_space(run.run_id, lambda: self._node.write(key, build))

        try:
            if is_cut_off(begun, status, told_to_end=bool(args.get("told_to_end"))):
                runs.hold(run.run_id, unclear_line(begun))
            elif status:
                await write(StepState.STARTED, StepState.FAILED, b"")
            else:
                if begun.side_effects:
                    await write(StepState.STARTED, StepState.DONE, b"")
                async with self._ends.setdefault(run.run_id, asyncio.Lock()):
                    commit = await runs.keep(run.run_id, f"Step {name}\n\nOf run {show_id(run.run_id)}, attempt {attempt}.\n")
                    await write(ended[-1].state, StepState.DONE, commit)
        finally:
            if runner is not None and self._running.get(key) is runner:
                del self._running[key]
        return self._reader.stamp({"step": step_json(ended[-1])})

    def _must_have(self) -> RunSteps:
        if self._runs is None:
            raise Precondition("this node has no agent, so no run of it has steps", "fabrik-node serve --command CMD")
        return self._runs

    def _must_code(self, run: RunCaller) -> ItemView:
        view = self._reader.must_item(show_id(run.item))
        if not isinstance(view.stage, Coding):
            raise Precondition(
                f"steps are for the work itself, and item {show_id(run.item)} is in {view.stage.name}", "tests always run whole: leave the step out"
            )
        return view

    def _must_be_now(self, run: RunCaller, name: str, attempt: int, state: StepState) -> Step:
        known = self._steps.get(run.item, name)
        if known is None or known.state is not state or (known.run_id, known.attempt) != (run.run_id, attempt):
            raise Conflict(f"attempt {attempt} of step {name!r} is not what runs now", f"fabrik-node steps list {show_id(run.item)}")
        return known

    def _fence(self, run: RunCaller) -> tuple[int, int, bytes]:
        claim = self._node.board.claim(run.item)
        if claim is None or claim.claim_id != run.claim_id or not claim.held:
            raise ClaimLost(f"run {show_id(run.run_id)} does not hold item {show_id(run.item)} any more", "end the command: its node stops it")
        return claim.fence

    def _forget_gone(self) -> None:
        """Processes that were killed before they could say that their steps ended, and runs that lost their claims meanwhile."""
        for key, (run, process) in list(self._running.items()):
            claim = self._node.board.claim(run.item)
            if _is_gone(process) or claim is None or not claim.held or claim.claim_id != run.claim_id:
                del self._running[key]

    def _who_runs(self, known: Step, run: RunCaller) -> str:
        """Who is at it now; empty when it is not begun, or its process is gone."""
        at_it, process = self._running.get((known.item, known.name), (None, None))
        if known.state is not StepState.STARTED or at_it is None or at_it.run_id != run.run_id or known.run_id != run.run_id:
            return ""
        if _is_gone(process):
            return ""
        return f"process {'?' if process is None else process.pid} of run {show_id(known.run_id)} since {iso(known.wall_ms)}"


def _is_gone(process: ProcessId | None) -> bool:
    return process is not None and is_alive(process) is False


class StepReads:
    """What people ask of steps. Reads through ``reader`` alone, so it works on a store that no node serves, too."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    @property
    def operations(self) -> Mapping[str, Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]]:
        """By name."""
        return {"steps.list": self.list}

    async def list(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """The steps of an item in the order of their last change. One that was begun by a run that is over is ``unended``."""
        view = self._reader.must_item(item_id(args))
        return self._reader.stamp({"item": show_id(view.id), "title": view.title, "steps": steps_json(self._reader.steps, view)})


class StepOperators:
    """What people say of steps, on any node with the role for it."""

    def __init__(self, node: Node, reader: Reader) -> None:
        self._node = node
        self._reader = reader

    @property
    def operations(self) -> Mapping[str, Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]]:
        """By name."""
        return {"steps.done": self.done, "steps.again": self.again}

    async def done(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Say that a step has happened: no run does it again."""
        return await self._say(args, StepState.DONE)

    async def again(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Let a step run again, with whatever inputs."""
        return await self._say(args, StepState.AGAIN)

    async def _say(self, args: Mapping[str, Any], state: StepState) -> dict[str, Any]:
        node, steps = self._node, self._reader.steps
        view, name = self._reader.must_item(item_id(args)), args.get("name")
        if not isinstance(name, str):
            raise UsageError("the name of a step is a text", f"fabrik-node steps list {show_id(view.id)}")
        item, held, said = show_id(view.id), view.hold is not None, []

        def build() -> Sequence[Write]:
            known, now = steps.get(view.id, name), node.board.item(view.id)
            if known is None:
                others = ", ".join(repr(step.name) for step in steps.of(view.id)) or "none"
                raise NotFound(f"item {item} has no step {name!r}; it has: {others}", f"fabrik-node steps list {item}")
            if now is not None and goes_on(now, known):
                raise Conflict(f"run {show_id(known.run_id)} is at step {name!r} now", f"wait for its end, or fabrik-node runs cancel {show_id(known.run_id)}")
            commit = b"" if state is StepState.AGAIN or known.state is not StepState.DONE else known.commit
            said.append(replace(known, state=state, commit=commit, wall_ms=node.clock.wall_ms()))
            if encode_step(said[-1]) | {10: known.wall_ms} == encode_step(known):
                return []
            if (rehearsal := rehearsing()) is not None:
                what = "counts as done, and no run does it" if state is StepState.DONE else "may run again, with whatever inputs"
                rehearsal.effects.append(f"step {name} of item {item} {what}" + ("; the item stays held" if held else ""))
            return [step_write(said[-1], node.replica.winning_fence(view.id))]

        await node.write((view.id, name), build)
        return self._reader.stamp({"item": item, "step": step_json(said[-1]), "next": f"fabrik-node items requeue {item}" if held else None})


class _Unclear(Precondition):
    """Of ``step`` nobody knows whether it has happened."""

    def __init__(self, step: Step) -> None:
        super().__init__(unclear_line(step), f"fabrik-node steps list {show_id(step.item)}")
        self.step = step


def _texts(args: Mapping[str, Any], name: str) -> list[str]:
    value = args.get(name) or []
    if not isinstance(value, list) or len(value) > _TEXTS_MAX or not all(isinstance(text, str) for text in value):
        raise UsageError(f"{name} must be a list of at most {_TEXTS_MAX} texts", _HINT)
    if any("\ud800" <= char <= "\udfff" for text in value for char in text):
        raise UsageError(f"{name} holds what is no Unicode text (a lone surrogate)", _HINT)
    return value


def _number(args: Mapping[str, Any], name: str, allowed: range) -> int:
    value = args.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value not in allowed:
        raise UsageError(f"{name} is a number from {allowed[0]} to {allowed[-1]}", _HINT)
    return value


def _cut(text: str) -> str:
    line = " ".join(text.split()).encode("utf-8", "replace")
    return line.decode() if len(line) <= COMMAND_BYTES_MAX else line[: COMMAND_BYTES_MAX - 4].decode("utf-8", "ignore") + " ..."
