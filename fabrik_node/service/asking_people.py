"""A run asks people, waits, and goes by the first answer that it meets; people answer on any node whose role may.

What is asked, answered and taken is written down before anybody goes by it, so a kill at any point leaves a question that is open, or an answer that the
next run of the item finds. Nothing but a person's answer, or the default that the question named, ever answers it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, assert_never

from fabrik_node.domain.requests import End, EndKind, Question, Request, RequestState, is_allowed
from fabrik_node.domain.schema import Kind
from fabrik_node.errors import ClaimLost, Conflict, NotFound, Precondition, UsageError
from fabrik_node.ids import new_id, parse_id, show_id
from fabrik_node.node.node import Node
from fabrik_node.node.requests import answer_command, answer_write, end_write, question_write
from fabrik_node.service.approvals import Approvals
from fabrik_node.service.bounds import check_count, check_number, check_text
from fabrik_node.service.callers import Caller, RunCaller, must_run
from fabrik_node.service.control import AgentView
from fabrik_node.service.reading import Reader

if TYPE_CHECKING:  # names of the stub, not of the extension
    from fabrik_node._core import Write

__all__ = ["ASKED_MAX", "AskingPeople"]

_TEXT_BYTES_MAX = 4_096
_OPTION_BYTES_MAX = 200
_OPTIONS_MAX = 16
_TIMEOUT_MS_MAX = 365 * 86_400_000
_OPEN_MAX = 16
"""Questions of one item that wait at once: more would be no help to those who have to answer."""
ASKED_MAX = 100
"""Questions of one run, whatever became of them: a question is written down for good on every node, and people are to read it."""
_MEANING = frozenset({Kind.REQUEST, Kind.CLAIM, Kind.ITEM, Kind.TOMBSTONE})


class AskingPeople:
    """``agent`` belongs to the same event loop as ``node``."""

    def __init__(self, node: Node, reader: Reader, agent: AgentView) -> None:
        self._node = node
        self._reader = reader
        self._agent = agent
        self._requests = reader.requests
        self._approvals = Approvals(reader)

    @property
    def operations(self) -> Mapping[str, Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]]:
        """For operators, by name."""
        return {"approvals.answer": self.answer}

    @property
    def caller_operations(self) -> Mapping[str, Callable[[Mapping[str, Any], Caller], Awaitable[dict[str, Any]]]]:
        """For commands of runs, by name."""
        return {"ask": self.ask}

    # ---- the command of a run -----------------------------------------------------------------------

    async def ask(self, args: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
        """Ask, or meet the same question of an earlier run of this item: ``text``, ``options``, ``timeout_ms``, ``default``. Does not wait.

        Raises ClaimLost when the run does not hold its item any more.
        """
        run = must_run(caller, "ask")
        question = self._question(args, run)
        asked = b""

        def build() -> Sequence[Write]:
            nonlocal asked
            self._must_hold(run)
            met = self._requests.met(question)
            if met is not None:
                asked = met.id
                return []
            if self._requests.asked_by(run.item, run.run_id) >= ASKED_MAX:
                raise Precondition(f"this run asked {ASKED_MAX} questions already, the most that one run may", "fabrik-node approvals list --all")
            if len(self._requests.open(run.item)) >= _OPEN_MAX:
                raise Precondition(f"{_OPEN_MAX} questions of this item wait for an answer already", "fabrik-node approvals list")
            asked = new_id(self._node.clock.wall_ms())
            return [question_write(asked, question), *self._without_twins(asked, question)]

        await self._node.write(run.item, build)
        return self._shown(self._must_get(asked))

    async def wait(self, args: Mapping[str, Any], caller: Caller) -> AsyncIterator[dict[str, Any]]:
        """``id``: of a question of this run's item. One line when it waits, the last one with the ``answer``.

        The question's timeout counts from here, on this node's clock. Raises Precondition when it is over and there is no default (the item is held when
        the command ends), Conflict when the question was withdrawn, ClaimLost when the run does not hold its item any more.
        """
        run = must_run(caller, "ask")
        request = self._own(args, run)
        moved = asyncio.Event()
        unsubscribe = self._node.on_changes(lambda changes: moved.set() if changes.kinds & _MEANING else None)
        over_s = None if request.question.timeout_ms is None else self._node.clock.now() + request.question.timeout_ms / 1000
        in_hand = self._agent.in_hand(run.run_id)
        is_waiting = False
        try:
            while True:
                moved.clear()
                left_s = None if over_s is None else over_s - self._node.clock.now()
                said = await self._settle(run, request, is_over=left_s is not None and left_s <= 0)
                if said is not None:
                    yield {"end": True, "answer": said, **self._shown(self._must_get(request.id))}
                    return
                if not is_waiting:
                    is_waiting = True
                    if in_hand is not None:
                        await in_hand.waits(request.id, on=True)
                    yield {"waiting": True, **self._shown(request)}
                await _until(moved, left_s)
        finally:
            unsubscribe()
            if is_waiting and in_hand is not None:
                await in_hand.waits(request.id, on=False)

    async def _settle(self, run: RunCaller, asked: Request, *, is_over: bool) -> str | None:
        """What the run goes by, written down; None while there is no answer."""
        request = asked.id
        now = self._must_be_unchanged(asked).as_seen_by(self._node.public)
        self._must_hold(run)
        if self._requests.is_open(now) and not is_over:
            return None
        await self._node.write(run.item, lambda: self._ending(run, asked))
        ended = self._must_get(request).as_seen_by(self._node.public)
        shown, item = show_id(request), show_id(run.item)
        match self._requests.state(ended), ended.end:
            case RequestState.TAKEN, End() as end:
                return end.said
            case RequestState.TIMED_OUT, End() as end if end.by == self._node.public:
                if end.said:
                    return end.said
                waited_s = (ended.question.timeout_ms or 0) / 1000
                reason = f"nobody answered within {waited_s:g} s: {ended.question.text}"
                if (in_hand := self._agent.in_hand(run.run_id)) is not None:
                    in_hand.unanswered(reason)
                raise Precondition(f"{reason}; the item is held when this command ends", f"fabrik-node items requeue {item}")
            case _, end:
                by = f" by {self._node.name_of(end.by)}" if end is not None else ""
                why = f": {end.reason}" if end is not None and end.reason else ""
                raise Conflict(f"question {shown} was withdrawn{by}{why}", f"fabrik-node approvals show {shown}")

    def _ending(self, run: RunCaller, asked: Request) -> list[Write]:
        """In the writer, so of the newest state: an answer that came in the last moment counts."""
        self._must_hold(run)
        now, at_ms = self._must_be_unchanged(asked).as_seen_by(self._node.public), self._node.clock.wall_ms()
        state = self._requests.state(now)
        match state:
            case RequestState.ANSWERED if now.answer is not None:
                end = End(EndKind.TAKEN, at_ms, now.answer.said, run_id=run.run_id, answered_by=now.answer.by)
            case RequestState.OPEN:
                end = End(EndKind.TIMEOUT, at_ms, now.question.default or "", run_id=run.run_id)
            case RequestState.ANSWERED | RequestState.TAKEN | RequestState.TIMED_OUT | RequestState.WITHDRAWN:
                return []
            case _:
                assert_never(state)
        return [end_write(now.id, end), *self._without_twins(now.id, now.question)]

    def _without_twins(self, request: bytes, question: Question) -> list[Write]:
        end = End(EndKind.WITHDRAWN, self._node.clock.wall_ms(), reason=f"the same is asked as {show_id(request)}")
        return [end_write(twin.id, end) for twin in self._requests.twins(request, question)]

    def _must_be_unchanged(self, asked: Request) -> Request:
        """A question is its asker's: whoever else writes over it answers nothing by that."""
        now = self._must_get(asked.id)
        if now.question != asked.question:
            raise Conflict(f"question {show_id(asked.id)} was changed by {self._node.name_of(now.asked_by)}", f"fabrik-node approvals show {show_id(asked.id)}")
        return now

    def _question(self, args: Mapping[str, Any], run: RunCaller) -> Question:
        text = check_text("the question", args.get("text"), _TEXT_BYTES_MAX).strip()
        if not text:
            raise UsageError("a question needs a text", "fabrik-node ask TEXT")
        options = [check_text("an option", option, _OPTION_BYTES_MAX) for option in check_count("options", args.get("options") or [], _OPTIONS_MAX)]
        if len(set(options)) != len(options) or not all(option.strip() and option.isprintable() for option in options):
            raise UsageError("an option is empty, there twice, or more than one line", "--option yes --option no")
        timeout_ms, default = args.get("timeout_ms"), args.get("default")
        if timeout_ms is not None:
            check_number("the timeout", timeout_ms, 1, _TIMEOUT_MS_MAX)
        question = Question(run.item, run.run_id, run.claim_id, text, tuple(options), timeout_ms, default, self._node.clock.wall_ms())
        if default is None:
            return question
        if timeout_ms is None:
            raise UsageError("a default is the answer after a timeout, and there is none", "--timeout 1h")
        if not is_allowed(question, check_text("the default", default, _OPTION_BYTES_MAX)):
            raise UsageError(f"the default {default!r} is none of the options", f"--default {options[0]}" if options else "--default TEXT")
        return question

    def _own(self, args: Mapping[str, Any], run: RunCaller) -> Request:
        """A question of another item is none of this run's business."""
        request = self._must_get(parse_id(str(args.get("id") or "")) or b"")
        if request.question.item != run.item:
            raise NotFound(f"item {show_id(run.item)} has no question {args.get('id')!r}", "fabrik-node ask TEXT")
        return request

    def _must_hold(self, run: RunCaller) -> None:
        claim = self._node.board.claim(run.item)
        if claim is None or not claim.held or claim.claim_id != run.claim_id:
            raise ClaimLost(f"run {show_id(run.run_id)} does not hold item {show_id(run.item)} any more", f"fabrik-node claims show {show_id(run.item)}")

    def _must_get(self, request: bytes) -> Request:
        found = self._requests.get(request)
        if found is None:
            raise NotFound("no such question", "fabrik-node approvals list --all")
        return found

    # ---- people -------------------------------------------------------------------------------------

    async def answer(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """``id``, ``answer``, ``note``. Raises UsageError for what is none of the options, Conflict when it comes too late, AuthError on a node whose role may not."""
        request = self._approvals.find(args)
        said = check_text("the answer", args.get("answer"), _TEXT_BYTES_MAX)
        note = check_text("the note", args.get("note") or "", _TEXT_BYTES_MAX)
        if not is_allowed(request.question, said):
            options = request.question.options
            raise UsageError(f"{said!r} is none of the answers: {', '.join(options)}" if options else "an answer needs a text", answer_command(request))

        def build() -> Sequence[Write]:
            self._must_be_open(self._must_be_unchanged(request))
            return [answer_write(request, said, self._node.clock.wall_ms(), note)]

        await self._node.write(request.question.item, build)
        return self._shown(self._must_get(request.id))

    def _must_be_open(self, now: Request) -> None:
        name, end = show_id(now.id), now.end
        state = self._requests.state(now)
        match state:
            case RequestState.OPEN:
                return
            case RequestState.ANSWERED | RequestState.TAKEN:
                why = "" if now.answer is None else f"{self._node.name_of(now.answer.by)} answered {now.answer.said!r} before"
                if end is not None:
                    why += f", and {self._node.name_of(end.by)} says that its run goes by {end.said!r}"
            case RequestState.TIMED_OUT:
                why = "nobody answered in time" + (f", and the run went by its default {end.said!r}" if end is not None and end.said else "")
            case RequestState.WITHDRAWN:
                why = end.reason if end is not None and end.reason else "its item is over, or was deleted"
            case _:
                assert_never(state)
        raise Conflict(f"too late: question {name} is {state.value}: {why}", f"fabrik-node approvals show {name}")

    def _shown(self, request: Request) -> dict[str, Any]:
        self._reader.views()
        return self._reader.stamp({"request": self._approvals.shown(request)})


async def _until(moved: asyncio.Event, left_s: float | None) -> None:
    """Until something moved, or the time is over."""
    try:
        async with asyncio.timeout(left_s):
            await moved.wait()
    except TimeoutError:
        return
