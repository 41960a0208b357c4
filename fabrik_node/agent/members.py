"""Who belongs to a run, seen from the node, and how to end them when the shim can not: it was killed, or the node starts again.

Evidence, on Linux: the run's control group where there is one (:mod:`fabrik_node.agent.cgroup`), the session, group and descendants of the run's shim while that pid is verified to be the shim, and the run's
id in the environment (``FABRIK_RUN``), which a daemon keeps however often it forks. Elsewhere: the group alone.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from fabrik_node.agent.cgroup import RunGroup
from fabrik_node.agent.shim import descendants, proc_table
from fabrik_node.domain.runs import ProcessId
from fabrik_node.process import boot_id, is_alive, process_id

__all__ = ["end_members", "find_members", "run_tag"]

_POLL_S = 0.05
_KILL_WAIT_S = 5.0
"""After SIGKILL. Who is still there then hangs in the kernel and is reported."""


def run_tag(run_id: str) -> str:
    """The environment entry that marks every process of a run."""
    return f"FABRIK_RUN={run_id}"


def find_members(leader: ProcessId | None, tag: str, group: RunGroup | None = None) -> list[int]:
    """Pids of the living processes of one run, the shim included. ``leader`` is the shim as it was recorded, None when it never was."""
    table = proc_table()
    ours = leader is not None and leader.boot_id == boot_id() and _is_still(leader)
    if sys.platform != "linux":
        return [leader.pid] if ours and leader is not None and is_alive(leader) else []
    found = {row.pid for row in table if not row.ended and _has_tag(row.pid, tag)}
    if group is not None:
        found |= set(group.members()).intersection(row.pid for row in table if not row.ended)
    if ours and leader is not None:
        found |= {row.pid for row in table if not row.ended and leader.pid in {row.group, row.session}}
        found |= set(descendants(table, {leader.pid}))
    return sorted((found | set(descendants(table, set(found)))) - {os.getpid()})


async def end_members(leader: ProcessId | None, tag: str, grace_s: float, group: RunGroup | None = None) -> list[int]:
    """SIGTERM, ``grace_s`` seconds, SIGKILL, until nobody of the run is left. Returns the pids that could not be ended."""
    members = await _look_twice(leader, tag, group)
    if members and grace_s > 0:
        _signal_all(leader, tag, group, members, signal.SIGTERM)
        members = await _until_gone(leader, tag, group, members, grace_s)
    if members:
        _signal_all(leader, tag, group, members, signal.SIGKILL)
        members = await _until_gone(leader, tag, group, members, _KILL_WAIT_S, again=signal.SIGKILL)
    return members


async def _look_twice(leader: ProcessId | None, tag: str, group: RunGroup | None) -> list[int]:
    """Nobody is there only when nobody is seen twice: in the middle of execve(2) a process shows no environment."""
    members = await asyncio.to_thread(find_members, leader, tag, group)
    if not members:
        await asyncio.sleep(_POLL_S)
        members = await asyncio.to_thread(find_members, leader, tag, group)
    return members


async def _until_gone(leader: ProcessId | None, tag: str, group: RunGroup | None, members: list[int], wait_s: float, again: int = 0) -> list[int]:
    """Whoever is left after so many seconds: ``members``, who were signalled, when no look was over by then."""
    try:
        async with asyncio.timeout(wait_s):
            while members := await _look_twice(leader, tag, group):
                if again:
                    _signal_all(leader, tag, group, members, again)
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        return members
    return []


def _signal_all(leader: ProcessId | None, tag: str, group: RunGroup | None, members: list[int], number: int) -> None:
    if group is not None and number == signal.SIGKILL:
        group.kill()
    if sys.platform != "linux" and leader is not None:
        _send_group(leader.pid, number)
        return
    held = {pid: descriptor for pid in members if (descriptor := _hold(pid)) is not None}
    try:
        for pid in set(find_members(leader, tag, group)).intersection(members):
            try:
                _send(pid, held.get(pid), number)
                if number == signal.SIGTERM:
                    _send(pid, held.get(pid), signal.SIGCONT)
            except (ProcessLookupError, PermissionError):  # gone already, or another user's: the caller is told who stays
                continue
    finally:
        for descriptor in held.values():
            os.close(descriptor)


def _hold(pid: int) -> int | None:
    """A pidfd: whoever is found to be a member while it is held is the one that is signalled, should the pid be given away in that moment
    (pidfd_open(2), Linux 5.3). None where there is none, or no such process: then the look that found it has to do.
    """
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def _send(pid: int, held: int | None, number: int) -> None:
    if held is None:
        os.kill(pid, number)
    else:
        signal.pidfd_send_signal(held, number)


def _send_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return


def _is_still(leader: ProcessId) -> bool:
    """The pid is the shim's, running or not reaped yet: then its group and session are the run's."""
    now = process_id(leader.pid)
    return now is not None and now.started == leader.started


def _has_tag(pid: int, tag: str) -> bool:
    try:
        return tag.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # ended, or another user's
        return False
