"""One command of a run, watched: its time, its lease, its end."""

from __future__ import annotations

import asyncio
import errno
import os
import shlex
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fabrik_node.agent.child import Child, ChildExit
from fabrik_node.agent.environment import CommandContext, command_environment
from fabrik_node.agent.folder import RunFolder
from fabrik_node.agent.members import run_tag
from fabrik_node.agent.results import Result, Verdict, judge_exit
from fabrik_node.agent.setup import AgentSetup
from fabrik_node.agent.stop import Stop, StopSwitch
from fabrik_node.agent.supervisor import LeaseKeeper
from fabrik_node.agent.waiting import Waiting
from fabrik_node.domain.interruptions import SUPERVISOR_KILLED
from fabrik_node.domain.runs import ProcessId
from fabrik_node.ids import show_id
from fabrik_node.ports import RunAccess

__all__ = ["CommandRunner"]

_FILE_ERRORS = frozenset({errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.ENOEXEC, errno.ELOOP})
"""What starting a program gives when its file is not there or is no program. Others, like a lack of memory, are the host's."""


class CommandRunner:
    """Runs commands of one run, one after the other, into its one log."""

    def __init__(self, setup: AgentSetup, folder: RunFolder, switch: StopSwitch, keeper: LeaseKeeper, waiting: Waiting) -> None:
        self._setup = setup
        self._folder = folder
        self._switch = switch
        self._keeper = keeper
        self._waiting = waiting

    async def run(
        self,
        what: str,
        command: list[str] | str,
        cwd: Path,
        context: CommandContext,
        started: Callable[[ProcessId | None], Awaitable[None]],
        *,
        of_branch: bool = False,
    ) -> Verdict:
        """Start, tell ``started`` which process it is, wait. When this returns or raises, no process of the command is left.

        A command that can not be started is ``infra_lost``: a missing program is the host's fault, not the item's. ``of_branch``: what lies in ``cwd`` is the
        item's work. Then a program that is given by a path relative to it, and is not there or is none, is ``agent_failed``: the work removed it.
        """
        arguments = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        self._folder.say(f"{what}: {shlex.join(arguments)}")
        with self._access(context) as access:
            child = await self._start(arguments, cwd, context, access)
            try:
                timeout_s = self._setup.config.timeout_in_s(context.stage)
                detach = self._switch.attach(child.stop)
                try:
                    with self._waiting.limit(timeout_s, lambda: self._time_out(what, timeout_s)):
                        await started(child.process)
                        ended = await self._watch(child)
                finally:
                    detach()
            finally:
                await child.close()
        return self._judge(what, arguments, ended, of_branch=of_branch)

    @contextmanager
    def _access(self, context: CommandContext) -> Iterator[RunAccess | None]:
        """What the command may show to its node, for as long as it runs."""
        passes, claim = self._setup.passes, context.claim
        if passes is None:
            yield None
            return
        access = passes.issue(context.view.id, claim.claim_id, context.run_id, claim.agent)
        try:
            yield access
        finally:
            passes.end(access)

    async def _start(self, arguments: list[str], cwd: Path, context: CommandContext, access: RunAccess | None) -> Child:
        config, passes, isolation = self._setup.config, self._setup.passes, self._setup.isolation
        claim, run = show_id(context.claim.claim_id), show_id(context.run_id)
        group, problem = self._setup.groups.open(run)
        if problem:
            self._folder.say(problem)
        if isolation.on:
            self._folder.say(isolation.line)
        plan = isolation.plan(cwd, item=show_id(context.view.id), claim=claim, run=run)
        log = self._folder.open_log()
        try:
            child = await Child.start(
                arguments,
                cwd=cwd,
                env=isolation.environment(command_environment(context, self._setup.git, access)),
                log=log,
                room=max(config.log_bytes_max // 4, config.log_bytes_max - self._folder.log_bytes()),
                grace_s=config.kill_grace_s,
                tag=run_tag(run),
                group=group,
                plan=plan,
            )
        finally:
            os.close(log.descriptor)
        if passes is not None and access is not None and child.process is not None:
            passes.began(access, child.process.pid)
        return child

    async def _watch(self, child: Child) -> ChildExit:
        """Wait, and look at the lease from here too: should its thread be gone, somebody must still stop in time."""
        waiting = asyncio.ensure_future(child.wait())
        try:
            while not waiting.done():
                await asyncio.wait({waiting}, timeout=self._setup.timing.beat_s)
                self._keeper.check()
            return waiting.result()
        finally:
            waiting.cancel()

    def _time_out(self, what: str, timeout_s: float) -> None:
        self._switch.throw(Stop(Result.TIMEOUT, f"{what} took longer than {timeout_s:g} s"))

    def _judge(self, what: str, arguments: list[str], ended: ChildExit, *, of_branch: bool) -> Verdict:
        if ended.left:
            self._folder.say(
                f"{what} left 1 process behind; it was ended" if ended.left == 1 else f"{what} left {ended.left} processes behind; they were ended"
            )
        if ended.group_error:
            self._folder.say(f"{what} was not in its control group: {ended.group_error}")
        if ended.log_error:
            self._folder.say(f"output is missing: {ended.log_error}")
        if ended.survivors:
            pids = ", ".join(map(str, ended.survivors))
            return Verdict(
                Result.INFRA_LOST, f"{what}: processes that SIGKILL did not end: {pids}", hold=f"processes {pids} of {what} could not be ended on this host"
            )
        stop = self._switch.stop
        if stop is not None:
            return Verdict(stop.result, stop.reason, hold=stop.hold)
        if ended.unstartable:
            hidden = " (isolation hides the node's home: keep programs elsewhere)" if self._setup.isolation.hides(arguments[0]) else ""
            reason = f"{what}: {arguments[0]!r} can not be started: {ended.unstartable}{hidden}"
            if not (of_branch and _is_in_worktree(arguments[0])):
                return Verdict(Result.INFRA_LOST, reason, unstartable=True)
            return Verdict(Result.AGENT_FAILED if ended.start_errno in _FILE_ERRORS else Result.INFRA_LOST, reason)
        if ended.status is None:
            return Verdict(Result.INFRA_LOST, f"{what}: {SUPERVISOR_KILLED}")
        return judge_exit(what, ended.status)


def _is_in_worktree(program: str) -> bool:
    """A name without a slash is looked for in PATH."""
    return "/" in program and not program.startswith("/")
