"""Which process is this, and is it still alive: the one place that answers both.

A pid alone says nothing: the kernel gives it out again. A process is named by pid, start time and boot, so that another
program with the same pid, or a pid of an earlier boot, is never taken for alive.

Importable by every room (beside ``clock``); imports only the value type :class:`~fabrik_node.domain.runs.ProcessId`.
A process id means something only on the host (and in the pid namespace) where it was taken: callers compare the host first.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

from fabrik_node.domain.runs import ProcessId

__all__ = ["Peer", "Standing", "boot_id", "is_alive", "is_stopped", "process_id", "standing_of"]

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_MAX = 2**31 - 1
_LOOKS_MAX = 5
"""At a line of processes that changes under the eyes; who keeps changing it is not found."""
_DEPTH_MAX = 1_024
"""Of processes above one: no tree is that deep on purpose."""
_BOOT_SLACK_S = 120
"""Where the boot is known by its time only, that time moves with corrections of the clock."""


def process_id(pid: int) -> ProcessId | None:
    """The identity of the process that has this pid now (an unreaped one included); None when there is none or it can not be looked at."""
    try:
        seen = _look(pid)
    except PermissionError:
        return None
    return None if seen is None else ProcessId(pid, seen[0], boot_id())


def is_alive(process: ProcessId) -> bool | None:
    """Whether exactly this process runs. False: gone, ended but not reaped, replaced by another program, or of an earlier boot. None: can not be known."""
    if not process.boot_id or not process.started:
        return None
    if not _same_boot(process.boot_id, boot_id()):
        return False
    try:
        seen = _look(process.pid)
    except PermissionError:
        return None
    return seen is not None and seen[0] == process.started and not seen[1]


def is_stopped(pid: int) -> bool:
    """Whether a signal or a debugger holds it: it lives, and does nothing. False for one that can not be looked at."""
    try:
        return psutil.Process(pid).status() in {psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP}
    except psutil.Error:
        return False


@cache
def boot_id() -> str:
    """Names this boot of this machine: the kernel's own id on Linux, ``t<unix seconds of the boot>`` elsewhere."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return f"t{int(psutil.boot_time())}"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a process stands: itself and those above it, nearest first, and the marks that a run leaves on its processes, however they hide from that line."""

    above: tuple[int, ...]
    environment: bytes = b""
    """As it was when the program began; empty when it can not be read."""
    groups: str = ""
    """Its control groups, as /proc names them; empty where there are none."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who connected to a socket. ``told`` False: this system does not say. ``standing`` None: it does, and nobody can be found by it any more."""

    told: bool
    standing: Standing | None = None


def standing_of(pid: int) -> Standing | None:
    """None when the process is gone, or goes while it is looked at. A line that ends at another user's hidden process ends there. Raises OSError when nothing can be looked at."""
    for _ in range(_LOOKS_MAX):
        line = _line_above(pid)
        if line is None and not _exists(pid):
            return None
        if line is not None:  # else somebody above it ended in this moment, and it has another parent now
            return Standing(tuple(line), _read(f"/proc/{pid}/environ"), _read(f"/proc/{pid}/cgroup").decode("utf-8", "replace"))
    return None


def _line_above(pid: int) -> list[int] | None:
    """Up to the first process of all; None when one of the line ended meanwhile."""
    line: list[int] = []
    while pid > 0 and pid not in line and len(line) < _DEPTH_MAX:
        line.append(pid)
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except PermissionError:
            return line
        except (FileNotFoundError, ProcessLookupError):
            return line if _exists(pid) else None  # hidden, or gone
        pid = int(stat[stat.rindex(")") + 2 :].split()[1])  # proc_pid_stat(5), field 4
    return line


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:  # another user's, or gone
        return b""


def _same_boot(one: str, other: str) -> bool:
    if one == other:
        return True
    times = [text[1:] for text in (one, other) if text.startswith("t") and text[1:].isdecimal()]
    return len(times) == 2 and abs(int(times[0]) - int(times[1])) <= _BOOT_SLACK_S


def _look(pid: int) -> tuple[str, bool] | None:
    """``(start time, ended but not reaped)``, None when there is no such process. Raises PermissionError when it exists and is hidden."""
    if not 0 < pid <= _PID_MAX:
        return None
    return _look_proc(pid) if sys.platform == "linux" else _look_psutil(pid)


def _look_proc(pid: int) -> tuple[str, bool] | None:
    """Start time in ticks since boot (proc_pid_stat(5), field 22): unlike a wall time it does not move when the clock is set."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        if _exists(pid):  # /proc mounted with hidepid
            raise PermissionError(f"process {pid} is hidden") from None
        return None
    fields = stat[stat.rindex(")") + 2 :].split()  # the name before it may hold anything, spaces and brackets included
    return fields[19], fields[0] in "ZXx"


def _look_psutil(pid: int) -> tuple[str, bool] | None:
    try:
        process = psutil.Process(pid)
        return f"{process.create_time():.2f}", process.status() in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied as error:
        raise PermissionError(f"process {pid} is hidden") from error


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # Ours to signal, so ours to see: it came into being or ended between the two looks.
    return Path(f"/proc/{pid}").exists()
