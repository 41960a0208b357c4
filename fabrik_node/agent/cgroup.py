"""A control group of the kernel per run, where this process may make one: nothing leaves it, and one write ends all of it.

Only version 2, and only below the group in which the node itself is, or below one that the operator names (``[agent] cgroup``): a group that
somebody else manages is never touched. cgroups(7), and the kernel's admin-guide/cgroup-v2, "Delegation" and "Core Interface Files".
Where none can be made the process group, the session and the environment mark of :mod:`fabrik_node.agent.members` do.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from fabrik_node.config import AgentConfig

__all__ = ["NO_CGROUPS", "Cgroups", "RunGroup", "cgroups_of", "find_cgroups", "held_in"]

_PROCS = "cgroup.procs"
_KILL = "cgroup.kill"
_EMPTY_POLL_S = 0.02
_EMPTY_TRIES = 100
"""Two seconds for killed processes to be gone; a group that is not empty then stays, and the next start of the node looks again."""


class RunGroup:
    """The group of one run, at ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def members(self) -> list[int]:
        """Pids of all processes in it, and in the groups that its processes made below it. Empty when it is gone."""
        return sorted({int(pid) for folder in self._folders() for pid in _read(folder / _PROCS).split() if pid.isdecimal()})

    def kill(self) -> None:
        """SIGKILL to all of them at once, those that are just being forked included (``cgroup.kill``, Linux 5.14). Older kernels: nothing happens."""
        try:
            descriptor = os.open(self.path / _KILL, os.O_WRONLY)
        except OSError:
            return
        try:
            os.write(descriptor, b"1")
        finally:
            os.close(descriptor)

    async def end(self) -> list[int]:
        """Kill, wait until it is empty, remove it. Pids that did not end; then it stays."""
        self.kill()
        left = self.members()
        for _ in range(_EMPTY_TRIES):
            if not left:
                break
            await asyncio.sleep(_EMPTY_POLL_S)
            left = self.members()
        if not left:
            self._remove()
        return left

    def limit(self, memory_bytes: int, processes: int) -> list[str]:
        """Bound what all of it may take together; 0: not. What could not be set, one line each."""
        wanted = {"memory.max": memory_bytes, "memory.swap.max": 0} if memory_bytes else {}
        wanted |= {"pids.max": processes} if processes else {}
        missing = []
        for name, value in wanted.items():
            try:
                (self.path / name).write_text(str(value), encoding="ascii")
            except OSError as error:
                if name != "memory.swap.max":  # not there without swap accounting, and then there is nothing to bound
                    missing.append(f"{name}: {error.strerror or error}")
        return missing

    def _folders(self) -> Iterator[Path]:
        for folder, _, _ in os.walk(self.path):
            yield Path(folder)

    def _remove(self) -> None:
        for folder, _, _ in os.walk(self.path, topdown=False):
            try:
                Path(folder).rmdir()
            except OSError:  # it is not empty after all, or gone: the next start of the node looks again
                return


@dataclass(frozen=True, slots=True)
class Cgroups:
    """Where the groups of this home's runs are made. ``root`` None: nowhere, and ``why`` says why."""

    root: Path | None
    why: str = ""
    prefix: str = "fabrik-"
    memory_bytes: int = 0
    processes: int = 0
    delegated: bool = False
    """The operator named the root: it holds no process, so its controllers can be switched on."""

    def open(self, run_id: str) -> tuple[RunGroup | None, str]:
        """The group of a run, made if need be, and what is wrong with it, one line; empty when nothing is."""
        bounded = self.memory_bytes or self.processes
        if self.root is None:
            return None, f"memory and processes are not bounded: {self.why}" if bounded else ""
        if bounded and self.delegated:
            _enable(self.root)
        group = RunGroup(self.root / f"{self.prefix}{run_id}")
        try:
            group.path.mkdir(exist_ok=True)
        except OSError as error:
            return None, f"no control group {group.path}: {error.strerror or error}"
        return group, "; ".join(group.limit(self.memory_bytes, self.processes))

    def find(self, run_id: str) -> RunGroup | None:
        """The group of a run, if it is there."""
        path = None if self.root is None else self.root / f"{self.prefix}{run_id}"
        return RunGroup(path) if path is not None and path.is_dir() else None

    def left(self) -> list[RunGroup]:
        """Groups of runs of this home, whatever became of the runs."""
        return [] if self.root is None else [RunGroup(path) for path in sorted(self.root.glob(f"{self.prefix}*")) if path.is_dir()]

    @property
    def line(self) -> str:
        """What keeps the processes of a run together, for people."""
        return f"control groups in {self.root}" if self.root is not None else f"process group, session and environment ({self.why})"


NO_CGROUPS = Cgroups(None, "none were looked for")


def cgroups_of(config: AgentConfig, home: Path) -> Cgroups:
    """As the settings of ``home`` say."""
    return find_cgroups(config.cgroup, home, memory_bytes=config.memory_bytes_max, processes=config.processes_max)


def held_in(groups: Cgroups, run_id: str) -> str:
    """What keeps the processes of a run of this node together now, for people."""
    group = groups.find(run_id)
    return f"control group {group.path}" if group is not None else "process group, session and environment"


def find_cgroups(setting: str, home: Path, *, memory_bytes: int = 0, processes: int = 0, proc: Path = Path("/proc/self")) -> Cgroups:
    """``setting``: ``auto``, ``off``, or the folder of a group that was delegated to this user. Changes nothing that stays."""
    prefix = f"fabrik-{_name_of(home)}-"

    def nowhere(why: str) -> Cgroups:
        return Cgroups(None, why, prefix, memory_bytes, processes)

    if setting == "off":
        return nowhere("[agent] cgroup is off")
    if sys.platform != "linux":
        return nowhere("control groups exist on Linux only")
    root, why = (Path(setting), "") if setting != "auto" else _own_group(proc)
    if root is None:
        return nowhere(why)
    if problem := _problem(root, prefix):
        return nowhere(problem)
    return Cgroups(root, "", prefix, memory_bytes, processes, delegated=setting != "auto")


def _name_of(home: Path) -> str:
    """Of this folder and no other: homes of two containers may have one path, and a copy another folder."""
    real = os.path.realpath(home)
    try:
        found = Path(real).stat()
        folder = f"{found.st_dev}:{found.st_ino}"
    except OSError:  # there is none yet, and so no run
        folder = ""
    return sha256(os.fsencode(real) + b"\0" + folder.encode()).hexdigest()[:12]


def _own_group(proc: Path) -> tuple[Path | None, str]:
    """The folder of the version 2 group in which this process is; None, and why not."""
    mount = next((Path(row[1]) for row in _mounts(proc) if row[2] == "cgroup2"), None)
    if mount is None:
        return None, "no cgroup file system of version 2 is mounted"
    own = next((line[3:] for line in _read(proc / "cgroup").splitlines() if line.startswith("0::")), "")
    if not own or own.startswith("/.."):
        return None, "this process is in no group of version 2 that can be seen from here"
    return mount / own.lstrip("/"), ""


def _mounts(proc: Path) -> Iterator[tuple[str, str, str]]:
    """Root, mount point and type of each file system (proc_pid_mountinfo(5))."""
    for line in _read(proc / "mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) >= 5 and kind and fields[3] == "/":
            yield fields[3], fields[4], kind[0]


def _problem(root: Path, prefix: str) -> str:
    """Why no group can be made in ``root``, by trying; empty when one can."""
    if not (root / _PROCS).exists():
        return f"{root} is no control group of version 2"
    if not os.access(root / _PROCS, os.W_OK):
        return f"{root} was not delegated to this user"
    probe = root / f"{prefix}probe-{os.getpid()}"
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        return f"{root}: {error.strerror or error}"
    return ""


def _enable(root: Path) -> None:
    """Memory and processes can be bounded below ``root`` only when it says so. Whether it took shows when a limit is set."""
    for controller in ("+memory", "+pids"):
        try:
            (root / "cgroup.subtree_control").write_text(controller, encoding="ascii")
        except OSError:  # not available, or processes are in it
            continue


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # it is not there, or went away
        return ""
