"""The one door: every use case by name, with JSON-ready arguments and answers. Raises :class:`FabrikError` only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fabrik_node import __version__
from fabrik_node.clock import iso
from fabrik_node.domain.retention import Retention
from fabrik_node.errors import InvalidOp, UsageError
from fabrik_node.node.node import Node
from fabrik_node.node.steps import NodeSteps
from fabrik_node.paths import HomePaths
from fabrik_node.ports import Arbiter, Branches
from fabrik_node.ports.steps import RunSteps
from fabrik_node.process import Peer
from fabrik_node.service.approvals import Approvals
from fabrik_node.service.asking import Asking
from fabrik_node.service.asking_people import AskingPeople
from fabrik_node.service.callers import OPERATOR, Caller, admit
from fabrik_node.service.cleaning import Cleaner
from fabrik_node.service.conflicts import Conflicts
from fabrik_node.service.control import AgentView, Controls
from fabrik_node.service.dumping import Dump
from fabrik_node.service.explaining import Explaining
from fabrik_node.service.following import event_json, run_log
from fabrik_node.service.foreign_logs import LogPages, foreign_log
from fabrik_node.service.health import node_health, node_warnings
from fabrik_node.service.incomplete import Incomplete
from fabrik_node.service.inviting import Inviter
from fabrik_node.service.keys import line_of
from fabrik_node.service.membership import MembershipWriter
from fabrik_node.service.passes import Passes
from fabrik_node.service.reading import Reader
from fabrik_node.service.recovering import KeyRecoverer
from fabrik_node.service.rehearsing import REHEARSED, rehearsed
from fabrik_node.service.requeueing import HoldEnder
from fabrik_node.service.rotating import KeyRotator
from fabrik_node.service.steps import StepOperators, StepReads, StepRunner
from fabrik_node.service.superseding import ClaimEnder
from fabrik_node.service.watching import Watching
from fabrik_node.service.whoami import WhoAmI
from fabrik_node.service.writing import ItemWriter

__all__ = ["Service"]

_STREAMS = ("ask.wait", "events", "db.dump", "runs.logs", "runs.watch")


class Service:
    """``genesis`` is the mesh's record; ``listen_url`` where peers can reach us (empty: they can not); ``config`` the settings without secrets; ``socket`` the path of the local API."""

    def __init__(
        self,
        *,
        node: Node,
        reader: Reader,
        arbiter: Arbiter | None,
        genesis: bytes,
        incarnation: str,
        home: Path,
        pid: int,
        listen_url: Callable[[], str],
        agent: AgentView,
        switch: Callable[[], None],
        config: Callable[[], Mapping[str, Any]] = dict,
        socket: str = "",
        retention: Retention = Retention(),  # noqa: B008 - immutable
        limits: Mapping[str, int] = MappingProxyType({}),
        branches: Branches | None = None,
        copied: Callable[[], Awaitable[Collection[bytes]]] | None = None,
        run_steps: RunSteps | None = None,
    ) -> None:
        self._node = node
        self._reader = reader
        self._home = home
        self._pid = pid
        self._listen_url = listen_url
        self._agent = agent
        self._config = config
        self._socket = socket
        self._started = node.clock.now()
        self.metrics_url = ""
        """Where the figures are served; empty while they are not."""
        self.cleaner = Cleaner(node, reader, HomePaths(home).runs, retention, lambda: agent.describe().get("running") or ())
        self.passes = Passes(socket, lambda item, claim_id: _holds(node, item, claim_id))
        """For the commands of runs on this node."""
        self.steps = NodeSteps(node.replica, node.by_item, node.clock, node.write)
        writer = ItemWriter(node, reader, arbiter, incarnation=incarnation)
        self._item_writes = {**writer.operations, **HoldEnder(node, reader, self.steps).operations, **ClaimEnder(node, reader, writer, branches).operations}
        members = MembershipWriter(node, reader)
        self._people = AskingPeople(node, reader, agent)
        asking = Asking(reader, node.inquiries)
        node.inquiries.answer = asking.tell
        node.inquiries.page = LogPages(reader).page
        self._operations: dict[str, Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]] = {
            **reader.operations,
            **Explaining(reader, limits, lambda: str(agent.describe().get("problem") or "")).operations,
            **Conflicts(reader).operations,
            **StepReads(reader).operations,
            **StepOperators(node, reader).operations,
            **Incomplete(reader, copied or _none_copied).operations,
            **Approvals(reader).operations,
            **self._people.operations,
            **asking.operations,
            **self._item_writes,
            **members.operations,
            **KeyRotator(node, reader, genesis, HomePaths(home), switch).operations,
            **self.cleaner.operations,
            **Controls(node, reader, writer, agent).operations,
            **KeyRecoverer(node, reader, genesis, HomePaths(home), members).operations,
            "status": self.status,
            **Inviter(node, reader, genesis=genesis, listen_url=listen_url).operations,
        }
        self._caller_operations: dict[str, Callable[[Mapping[str, Any], Caller], Awaitable[dict[str, Any]]]] = {
            **WhoAmI(reader, str(home), self._git).operations,
            **self._people.caller_operations,
            **StepRunner(node, reader, self.steps, run_steps).operations,
        }
        """Those that do different things for different callers."""

    @property
    def names(self) -> frozenset[str]:
        """Every operation and every stream."""
        return frozenset((*self._operations, *self._caller_operations, *_STREAMS))

    def _git(self) -> dict[str, Any]:
        """The remote that work is merged into, without secrets (None: this node has none), and its base branch."""
        said = self._config().get("git") or {}
        return {"remote": said.get("remote") or None, "base": said.get("base") or "main"}

    def caller(self, token: str | None, peer: Peer) -> Caller:
        """See :meth:`~fabrik_node.service.passes.Passes.caller`."""
        return self.passes.caller(token, peer)

    def run_of(self, peer: Peer) -> str:
        """See :meth:`~fabrik_node.service.passes.Passes.run_of`."""
        return self.passes.run_of(peer)

    async def call(self, op: str, args: Mapping[str, Any], caller: Caller = OPERATOR) -> dict[str, Any]:
        """One question, one answer. Raises UsageError for an unknown operation, AuthError for one that is not open to ``caller``."""
        args = admit(caller, op, args)
        dry = bool(args.get("dry_run"))
        if dry and op not in REHEARSED and op != "runs.clean" and op in self.names:  # that one has its own
            raise UsageError(f"{op} can not be tried without doing it", "leave out dry_run")
        if (of_caller := self._caller_operations.get(op)) is not None:
            return await of_caller(args, caller)
        operation = self._operations.get(op)
        if operation is None:
            raise UsageError(f"this node knows no operation {op!r}", "fabrik-node version")
        try:
            return await (rehearsed(self._reader, op, operation, args) if dry and op in REHEARSED else operation(args))
        except InvalidOp as error:
            if op in self._item_writes:
                raise UsageError(f"this can not be written: {error}", "shorten it, or leave it out") from error
            raise

    def stream(self, op: str, args: Mapping[str, Any], caller: Caller = OPERATOR) -> AsyncIterator[dict[str, Any]]:
        """Answers one after the other. Raises UsageError for an unknown stream, AuthError for one that is not open to ``caller``."""
        args = admit(caller, op, args)
        match op:
            case "ask.wait":
                return self._people.wait(args, caller)
            case "events":
                return self._events(args)
            case "db.dump":
                return Dump(self._reader, self._node.store, self._config, self.status, self._node).stream(args)
            case "runs.logs":
                return self._logs(args)
            case "runs.watch":
                return Watching(self._node, self._reader).stream(args)
            case _:
                raise UsageError(f"this node knows no stream {op!r}", "fabrik-node version")

    async def status(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """The replica's figures and the process's own."""
        said = {**await self._reader.operations["status"](args), **node_health(self._node)}
        warnings = node_warnings(self._node, said)
        if (left := HomePaths(self._home).recovery_key).exists():
            warnings.append(f"the mesh's recovery key still lies on this machine, and who has it has the mesh: move it to another medium: {left}")
        agent = dict(self._agent.describe())
        if agent.get("problem"):
            warnings.append(f"this agent can not claim work: {agent['problem']}")
        warnings += agent.pop("warnings", [])
        if halt := agent.get("halt"):
            warnings.append(f"this agent takes no work: {halt['code']}: {halt['reason']}; to go on: {halt['next']}")
            agent["halt"] = {**halt, "since": iso(halt["since_ms"])}
        return {
            **said,
            "uptime_s": self._node.clock.now() - self._started,
            "pid": self._pid,
            "home": str(self._home),
            "version": __version__,
            "listen": self._listen_url() or None,
            "metrics": self.metrics_url or None,
            "socket": self._socket or None,
            "open": [
                {"what": what, "address": at} for what, at in (("local API", self._socket), ("peers", self._listen_url()), ("metrics", self.metrics_url)) if at
            ],
            "events": self._node.stream.last,
            "agent": agent,
            "warnings": warnings,
        }

    async def _logs(self, args: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Of a run of this node from its file; of another's, asked from there."""
        row = await self._reader.find_run(str(args.get("id", "")))
        own = row.node in line_of(self._reader.replica, self._node.public)  # under a former key it was this node's run, too
        parts = run_log(self._reader, self._node.public, args) if own else foreign_log(self._reader, self._node.inquiries, row, args)
        async for part in parts:
            yield part

    async def _events(self, args: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
        after = args.get("after") or 0
        limit = args.get("limit") or 0
        if not isinstance(after, int) or after < 0 or not isinstance(limit, int) or limit < 0:
            raise UsageError("after and limit are numbers from 0", "fabrik-node events --after N")
        if not args.get("follow"):
            await self._node.stream.settled()  # whoever was told of a write finds its event
        if after > self._node.stream.last:
            raise UsageError(f"there is no event {after} yet: the newest is {self._node.stream.last}", f"fabrik-node events --after {self._node.stream.last}")
        async for event in self._node.stream.follow(after, follow=bool(args.get("follow")), limit=limit):
            yield event_json(event)


def _holds(node: Node, item: bytes, claim_id: bytes) -> bool:
    """The claim wins, is this node's, and was not given back."""
    claim = node.board.claim(item)
    return claim is not None and claim.held and claim.claim_id == claim_id and claim.node == node.public


async def _none_copied() -> Collection[bytes]:
    return ()
