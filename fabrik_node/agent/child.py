"""One command in a process group of its own, under the shim, and the certain end of it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fabrik_node.agent.cgroup import RunGroup
from fabrik_node.agent.members import end_members
from fabrik_node.domain.runs import ProcessId
from fabrik_node.process import process_id

__all__ = ["SHIM_MARGIN_S", "Child", "ChildExit", "RunLog"]

SHIM_MARGIN_S = 6.0
"""What the shim gets beyond the grace before we end it ourselves: it repeats SIGKILL for 5 s before it gives up on a process."""
_SHIM = Path(__file__).with_name("shim.py")
_STATUS_BYTES_MAX = 65_536


@dataclass(frozen=True, slots=True)
class RunLog:
    """An open log: output goes on at its ``descriptor``, whose next byte has the offset ``at`` in the whole, and then in files beside ``base``."""

    descriptor: int
    base: Path
    at: int = 0


@dataclass(frozen=True, slots=True)
class ChildExit:
    """How a command ended. ``status`` is its exit code or minus its signal; None when it could not be started or its shim was killed.

    ``unstartable``: why it could not be started, empty when it could; ``start_errno``: the number of that error.
    ``left`` counts processes that it left behind (they were ended), ``survivors`` are pids that could not be ended.
    """

    status: int | None
    unstartable: str = ""
    left: int = 0
    survivors: tuple[int, ...] = ()
    log_error: str = ""
    start_errno: int = 0
    group_error: str = ""
    """Why it was not in its control group; empty when it was, or has none."""


class Child:
    """Make it with :meth:`start`, then await :meth:`wait` once, then :meth:`close` in any case. :meth:`stop` at any time, from any thread."""

    def __init__(self, process: asyncio.subprocess.Process, control: int, status: int, grace_s: float, tag: str, group: RunGroup | None) -> None:
        self._group = group
        self._process = process
        self._control = control
        self._status = status
        self._grace_s = grace_s
        self._tag = tag
        self._lock = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self.process: ProcessId | None = process_id(process.pid)
        """The shim: leader of the session and the group. None when it was gone before we could look."""

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        log: RunLog,
        room: int,
        grace_s: float,
        tag: str,
        group: RunGroup | None = None,
        plan: Sequence[str] = (),
    ) -> Child:
        """Start ``command`` in ``cwd``, and in ``group`` if there is one. ``log``: where its output goes, of which ``room`` bytes are kept. Raises OSError.

        ``plan``: what it sees of the node's home (:mod:`fabrik_node.agent.isolation`); empty for everything.
        """
        control_read, control = os.pipe()
        status, status_write = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-S",
                str(_SHIM),
                str(control_read),
                str(status_write),
                str(grace_s),
                str(room),
                "-" if group is None else str(group.path),
                str(log.base),
                str(log.at),
                *plan,
                "--",
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log.descriptor,
                stderr=log.descriptor,
                cwd=cwd,
                env=env,
                pass_fds=(control_read, status_write),
                start_new_session=True,
            )
        except BaseException:
            os.close(control)
            os.close(status)
            raise
        finally:
            os.close(control_read)
            os.close(status_write)
        return cls(process, control, status, grace_s, tag, group)

    def stop(self) -> None:
        """Ask the shim to end the group: SIGTERM, grace, SIGKILL. Returns at once; :meth:`wait` tells when it is done."""
        self._order(b"T")
        try:
            self._loop.call_soon_threadsafe(self._stopping.set)
        except RuntimeError:  # the loop is closed: the end of the pipe does the same
            return

    async def wait(self) -> ChildExit:
        """Until the command and everything that it started are gone. A shim that does not end them in time is ended with them."""
        exited = asyncio.ensure_future(self._process.wait())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({exited, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not exited.done():
                await asyncio.wait({exited}, timeout=self._grace_s + SHIM_MARGIN_S)
            if not exited.done():
                self._kill_group()
            await exited
        finally:
            exited.cancel()
            stopping.cancel()
        report = self._report()
        if report.status is not None or report.unstartable:
            return report
        survivors = await end_members(self.process, self._tag, 0, self._group)
        return replace(report, survivors=tuple(survivors))

    async def close(self) -> None:
        """Kill what is left without grace and free the pipes. Harmless after :meth:`wait`, needed when that was cancelled."""
        if self._process.returncode is None:
            self._order(b"K")
            with self._lock:
                os.close(self._control)
                self._control = -1
            try:
                async with asyncio.timeout(SHIM_MARGIN_S):
                    await self._process.wait()
            except TimeoutError:
                self._kill_group()
                await self._process.wait()
                await end_members(self.process, self._tag, 0, self._group)
        if self._group is not None:
            await self._group.end()
        with self._lock:
            for descriptor in (self._control, self._status):
                if descriptor >= 0:
                    os.close(descriptor)
            self._control = self._status = -1

    def _order(self, order: bytes) -> None:
        with self._lock:
            if self._control >= 0:
                try:
                    os.write(self._control, order)
                except BrokenPipeError:  # it has ended already
                    return

    def _kill_group(self) -> None:
        """The pid is ours until it is waited for, so the group can not be somebody else's."""
        if self._process.returncode is None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:  # it ended in between
                return

    def _report(self) -> ChildExit:
        os.set_blocking(self._status, False)
        try:
            text = os.read(self._status, _STATUS_BYTES_MAX).decode(errors="replace")
        except BlockingIOError:
            text = ""
        status: int | None = None
        unstartable, log_error, group_error, left, start_errno = "", "", "", 0, 0
        survivors: tuple[int, ...] = ()
        for line in text.splitlines():
            word, _, rest = line.partition(" ")
            match word:
                case "exited":
                    status = int(rest)
                case "signalled":
                    status = -int(rest)
                case "unstartable":
                    number, _, text = rest.partition(" ")
                    unstartable, start_errno = text or rest, int(number) if number.isdigit() else 0
                case "left":
                    left = int(rest)
                case "alive":
                    survivors = tuple(int(pid) for pid in rest.split(","))
                case "log":
                    log_error = rest
                case "group":
                    group_error = rest
                case _:
                    continue
        return ChildExit(status, unstartable, left, survivors, log_error, start_errno, group_error)
