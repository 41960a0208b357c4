"""What ``doctor`` looks at on this host: the home and what lies in it. Every look reads only."""

from __future__ import annotations

import os
import resource
import shlex
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fabrik_node._core import mesh_id
from fabrik_node.agent.cgroup import cgroups_of
from fabrik_node.agent.isolation import isolation_of, trial
from fabrik_node.app.opening import load_genesis, load_mesh
from fabrik_node.app.setup import lock_show
from fabrik_node.cli.hooks import NodeAnswer
from fabrik_node.clock import Clock, iso
from fabrik_node.config import AgentConfig, Config, load_config, user_paths
from fabrik_node.errors import FabrikError
from fabrik_node.ids import fingerprint
from fabrik_node.paths import SOCKET_PATH_BYTES_MAX, HomePaths
from fabrik_node.store.readonly import open_readonly

__all__ = ["Check", "examine_agent", "examine_files", "examine_home", "examine_identity", "examine_owner", "examine_settings", "examine_store"]

_FREE_FAIL = 67_108_864
"""Bytes: a commit and its log still fit."""
_FREE_WARN = 1_073_741_824
_FILES_MIN = 1024
_CLOCK_SLACK_MS = 60_000
_YEAR_2025_MS = 1_735_689_600_000
_YEAR_2100_MS = 4_102_444_800_000


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report. ``next`` is what to do; it is there for everything that is not ``ok``."""

    check: str
    state: Literal["ok", "warn", "fail"]
    said: str
    next: str = ""


def examine_home(paths: HomePaths) -> Iterator[Check]:
    """The folder, who may write to it, the space there is, and what the process may open."""
    home = paths.home
    try:
        found = home.stat()
    except OSError as error:
        yield Check("home", "fail", f"{home}: {error.strerror or error}", f"fabrik-node --home {home} init, or --home DIR for another one")
        return
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISDIR(found.st_mode):
        yield Check("home", "fail", f"{home} is no folder", "--home DIR for another one")
        return
    if found.st_uid != os.getuid():
        yield Check("home", "fail", f"{home} belongs to another user ({found.st_uid})", f"run this as that user, or: chown -R {os.getuid()} {home}")
    elif mode & 0o022:
        yield Check("home", "fail", f"{home} can be written to by others (mode {mode:o})", f"chmod go-w {home}")
    elif not os.access(home, os.W_OK | os.X_OK):
        yield Check("home", "fail", f"{home} can not be written to", f"chmod u+rwx {home}; is the file system mounted read-only?")
    else:
        yield Check("home", "ok", f"{home}, mode {mode:o}")
    yield _disk(home)
    if len(os.fsencode(paths.home / "run" / "node.sock")) > SOCKET_PATH_BYTES_MAX:
        yield Check("socket", "ok", f"the path of the home is long, so the local API is at {paths.socket}")


def _disk(home: Path) -> Check:
    space = shutil.disk_usage(home)
    said = f"{space.free // 1_048_576} MiB of {space.total // 1_048_576} MiB are free at {home}"
    if space.free < _FREE_FAIL:
        return Check("disk", "fail", said, "make room: fabrik-node runs clean --dry-run shows what may go; a node on a full disk writes nothing")
    return (
        Check("disk", "warn", said, "make room before it is full: fabrik-node runs clean --dry-run") if space.free < _FREE_WARN else Check("disk", "ok", said)
    )


def examine_files(pid: int | None) -> Check:
    """How many files the node ``pid`` may open; without one, a node that this shell would start."""
    try:
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if pid is None else resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]
    except (AttributeError, OSError) as error:  # not Linux, or another user's process
        return Check("open files", "ok", f"how many files process {pid} may open is not told here: {error}")
    who = "a node that this shell starts" if pid is None else f"process {pid}"
    if files != resource.RLIM_INFINITY and files < _FILES_MIN:
        return Check("open files", "warn", f"{who} may open {files} files at most", f"ulimit -n {_FILES_MIN} in the shell or service that starts the node")
    return Check("open files", "ok", f"{who} may open {'any number of' if files == resource.RLIM_INFINITY else files} files")


def examine_settings(paths: HomePaths) -> tuple[Check, Config | None]:
    """The configuration, and it itself when it can be read."""
    try:
        config = load_config(paths.config)
    except FabrikError as error:
        return Check("config", "fail", str(error), error.hint), None
    if config.agent.command and not config.git.remote:
        return Check("config", "fail", "[agent] has a command and [git] no remote, so this agent could merge nothing", "remote in [git] of config.toml"), config
    there = f"{paths.config} is sound" if paths.config.exists() else f"there is no {paths.config}: the defaults hold"
    return Check("config", "ok", there), config


def examine_identity(paths: HomePaths) -> Iterator[Check]:
    """The key, its mesh, and who may read it."""
    open_to = [
        path
        for path in (paths.identity_key, paths.next_key, paths.recovery_key, paths.invitations_key)
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    if open_to:
        named = " ".join(shlex.quote(str(path)) for path in open_to)
        yield Check("identity", "fail", f"others may read {named}", f"chmod 600 {named}; if somebody did: fabrik-node keys rotate")
    else:  # loading a key mends who may read it
        yield _key(paths)
    if paths.recovery_key.exists():
        moved = f"mv {shlex.quote(str(paths.recovery_key))} /media/STICK/, which is kept elsewhere"
        yield Check("recovery key", "warn", f"the mesh's recovery key still lies on this machine: {paths.recovery_key}", moved)


def _key(paths: HomePaths) -> Check:
    try:
        mesh = load_mesh(paths)
    except FabrikError as error:
        return Check("identity", "fail", str(error), error.hint)
    return Check("identity", "ok", f"key {fingerprint(mesh.key.public)} of mesh {mesh.record.name!r}")


async def examine_store(paths: HomePaths, clock: Clock) -> Iterator[Check]:
    """The database, and the clock by what was written last."""
    checks: list[Check] = []
    last_ms = 0
    try:
        async with await open_readonly(paths.store, mesh_id=mesh_id(load_genesis(paths))) as store:
            last_ms = await store.last_op_ms() or 0
            figures = await store.stats()
        checks.append(Check("store", "ok", f"{figures['ops']} ops in {paths.store}; fabrik-node ops check reads all of them again"))
    except FabrikError as error:
        checks.append(Check("store", "fail", str(error), error.hint))
    checks.append(_clock(clock.wall_ms(), last_ms))
    return iter(checks)


def _clock(now_ms: int, last_ms: int) -> Check:
    mend = "set the clock of this host (timedatectl); nothing is decided by it, but every time that people read is wrong"
    if not _YEAR_2025_MS < now_ms < _YEAR_2100_MS:
        return Check("clock", "warn", f"it says {iso(now_ms)}", mend)
    if now_ms < last_ms - _CLOCK_SLACK_MS:
        return Check("clock", "warn", f"it says {iso(now_ms)}, and the newest op is of {iso(last_ms)}: it is behind, or was ahead then", mend)
    return Check("clock", "ok", f"it says {iso(now_ms)}")


def examine_owner(paths: HomePaths, answer: NodeAnswer) -> Check:
    """Who owns the home, and whether it speaks."""
    shown: dict[str, Any] = lock_show(paths.home) if paths.home.is_dir() else {"owned": False}
    owner: dict[str, Any] = shown.get("owner") or {}
    pid = owner.get("pid")
    if answer.status is not None:
        return Check("node", "ok", f"process {pid} serves this home since {owner.get('started')}")
    if answer.refused:  # it lives, and works on
        return Check(
            "node", "warn", f"process {pid} serves this home, and does not tell this caller how it is: {answer.error}", answer.hint or "fabrik-node whoami"
        )
    if shown.get("stopped"):
        return Check("node", "fail", f"process {pid} owns this home and is stopped, by a signal or a debugger", shown["to go on"])
    if shown.get("alive"):
        look = f"look at it, and at its own log: ps -o pid,stat,etime,args {pid}; it may only be busy, and whoever ends it ends what it has at work"
        return Check("node", "fail", f"process {pid} owns this home and gave no answer: {answer.error or 'its socket is gone'}", look)
    if shown["owned"] and shown.get("alive") is None:
        gone = "when it is surely gone: fabrik-node lock clear"
        return Check("node", "warn", f"a process {pid} on host {owner.get('host')} owned this home and never released it", gone)
    if shown["owned"]:
        mends = "fabrik-node serve, which mends what it left; fabrik-node runs recovery lists it"
        return Check("node", "warn", f"no node runs here; process {pid} died without releasing the home", mends)
    return Check("node", "ok", "no node runs here")


def examine_agent(config: AgentConfig, paths: HomePaths, contained: str | None) -> Iterator[Check]:
    """The commands of the agent, as this shell finds them, and what keeps their processes together: ``contained`` is what the running node says of that."""
    if not config.command:
        return
    for name, command in (("command", config.command), ("qa", config.qa)):
        program = command[0] if isinstance(command, list) and command else ""
        if program.startswith("/") and not os.access(program, os.X_OK):
            yield Check("agent", "fail", f"{name} in [agent]: {program} is not there, or is no program", f"mend {name} in [agent] of {paths.config}")
        elif program and "/" not in program and shutil.which(program) is None:
            yield Check(
                "agent",
                "fail",
                f"{name} in [agent]: no {program} in the PATH of this shell ({user_paths()})",
                f"mend {name} in [agent] of {paths.config}, or the PATH of the node",
            )
        elif command:
            yield Check("agent", "ok", f"{name} in [agent] can be started" if program and "/" in program[:1] else f"{name} in [agent] is set")
    yield _isolation(config, paths)
    groups = cgroups_of(config, paths.home)
    limited = bool(config.memory_bytes_max or config.processes_max)
    if contained is not None and not limited:
        yield Check("runs in", "ok", contained)
    elif groups.root is None and limited:
        yield Check(
            "runs in",
            "warn",
            f"memory_bytes_max and processes_max have no effect: {groups.why}",
            "start the node under systemd with Delegate=yes, or name a delegated group: cgroup in [agent]",
        )
    else:
        yield Check("runs in", "ok", groups.line)


def _isolation(config: AgentConfig, paths: HomePaths) -> Check:
    """Whether commands can open the home, and when they shall not: whether this host can keep them from it. This shell tries it; the running node says itself what it met."""
    isolation = isolation_of(config, paths)
    if problem := trial(isolation):
        return Check("isolation", "fail", problem, f"mend that, or set isolation in [agent] of {paths.config}; until then this node takes no work")
    return Check("isolation", "ok", isolation.line)
