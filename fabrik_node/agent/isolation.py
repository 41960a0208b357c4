"""Whether the commands of this node's runs can open its home, decided by ``[agent] isolation``: what each of them is shown, and whether this host can do it at all.

docs/decisions/0009-isolated-commands.md says what is held and what is not; :mod:`fabrik_node.agent.isolate` does it.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fabrik_node.agent.isolate import HIDE, READ, SCRATCH, WRITE, Plan, plain
from fabrik_node.config import AgentConfig
from fabrik_node.paths import HomePaths

__all__ = ["NOT_ISOLATED", "Isolation", "isolation_of", "other_ways_to", "trial"]

_PROGRAM = Path(__file__).with_name("isolate.py")
_TRIAL_S = 30.0
_GIT_KEEPS_STILL = {"gc.auto": "0", "maintenance.auto": "false"}
"""Housekeeping by a command would want to write to what it only sees."""
_SWITCHES = (
    ("user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"),
    ("kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
    (
        "kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "allow it to the node's program by an AppArmor profile with `userns,`, or: sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    ),
)
"""Below /proc/sys: what keeps a user from making namespaces, the value that does, and what mends it."""


@dataclass(frozen=True, slots=True)
class Isolation:
    """For all commands of one node. ``on`` False: nothing is kept from them."""

    on: bool
    paths: HomePaths
    network: bool = True

    @property
    def line(self) -> str:
        """What holds, for people."""
        if not self.on:
            return "commands can open this node's files (isolation off)"
        root = "; the node is root, which holds less" if os.geteuid() == 0 else ""
        network = "" if self.network else "; no network"
        return f"of this node's files commands see their own worktree and the commits of other runs{network} (isolation on{root})"

    def plan(self, cwd: Path, *, item: str, claim: str, run: str) -> list[str]:
        """For one command of a run, as the shim takes it; empty when isolation is off. Raises OSError when a folder that git needs can not be made.

        Shown are the worktree, the run's own folder, the node's socket, and the local repository of the worktree: to be read, but for its objects, the worktree's own record and the branches of the item.
        What decides where git looks for its settings can not be changed, so that no command tells the node's own git what to run.
        """
        if not self.on:
            return []
        home, tree = Path(os.path.realpath(self.paths.home)), Path(os.path.realpath(cwd))
        steps = [(HIDE, path) for path in (str(home), *other_ways_to(home))]
        shown = [(READ, path) for path in self._programs(home)]
        shown += [(READ, home / "runs" / run), (WRITE, tree), (READ, tree / ".git"), (READ, home / "run" / "node.sock")]
        for record in (home / "git").glob(f"git/*/worktrees/{claim}"):
            shown += [*_of_repository(record.parent.parent, record, item)]
        steps += [(what, str(path)) for what, path in shown if path.is_relative_to(home) and (what == HIDE or path.exists())]
        return Plan(steps, str(tree), network=self.network).arguments()

    def environment(self, found: Mapping[str, str]) -> dict[str, str]:
        """``found``, the environment of a command, with what git has to know."""
        if not self.on:
            return dict(found)
        given = found.get("GIT_CONFIG_COUNT", "")
        first = int(given) if given.isdecimal() else 0
        told = {"GIT_CONFIG_COUNT": str(first + len(_GIT_KEEPS_STILL))}
        for number, (key, value) in enumerate(_GIT_KEEPS_STILL.items(), first):
            told |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
        return {**found, **told}

    def hides(self, program: str) -> bool:
        """Whether a command that names this path can not see it."""
        return self.on and os.path.realpath(program).startswith(f"{os.path.realpath(self.paths.home)}{os.sep}")

    @staticmethod
    def _programs(home: Path) -> list[Path]:
        """This node's own, should somebody have installed it into the home."""
        folders = (Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parents[1])
        return [path for path in dict.fromkeys(Path(os.path.realpath(folder)) for folder in folders) if path != home]


NOT_ISOLATED = Isolation(on=False, paths=HomePaths(Path("/")))


def isolation_of(config: AgentConfig, paths: HomePaths) -> Isolation:
    """As the settings say; whether it can be done here says :func:`trial`."""
    return Isolation(config.isolation == "on", paths, config.network == "on")


def trial(isolation: Isolation) -> str:
    """Why commands can not be isolated on this host, and what to do, in one line; empty when they can, or need not. Tries it, so it takes some 50 ms."""
    if not isolation.on:
        return ""
    if sys.platform != "linux":
        return 'isolation needs Linux: run the node in a virtual machine or as a user of its own, and set isolation = "off" in [agent]'
    hidden = [str(path) for path in (isolation.paths.identity, isolation.paths.store, isolation.paths.config, isolation.paths.work)]
    try:
        home = os.path.realpath(isolation.paths.home)
        plan = Plan([(HIDE, path) for path in (home, *other_ways_to(Path(home)))], "/", network=isolation.network)
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(_PROGRAM), *plan.arguments(), "--", *hidden],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_TRIAL_S,
            check=False,
        )
        said = done.stdout.decode("utf-8", "replace").strip() or "the trial ended without a word"
    except (OSError, subprocess.TimeoutExpired) as error:
        said = str(error)
    if said == "ok":
        return ""
    return f'this host can not isolate commands: {said}; {_mend()}, or set isolation = "off" in [agent], and start the node again'


def other_ways_to(home: Path, mountinfo: str | None = None) -> list[str]:
    """Folders through which the same files can be reached, because their file system is mounted more than once (proc_pid_mountinfo(5)), or a part of it."""
    if mountinfo is None:
        mountinfo = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    mounts = [_Mount(*_fields(line)) for line in mountinfo.splitlines()]
    holding = [mount for mount in mounts if home.is_relative_to(mount.point)]
    if not holding:
        return []
    deepest = max(len(mount.point.parts) for mount in holding)
    over = [mount for mount in holding if len(mount.point.parts) == deepest][-1]  # the last one is on top
    inside = [mount for mount in mounts if mount.point != home and mount.point.is_relative_to(home)]
    wanted = [(over.device, over.root / home.relative_to(over.point))] + [(mount.device, mount.root) for mount in inside]
    found = [path for device, root in wanted for mount in mounts if mount.device == device for path in mount.shows(root)]
    return sorted({str(path) for path in found if not path.is_relative_to(home) and os.path.lexists(path)})


@dataclass(frozen=True, slots=True)
class _Mount:
    device: str
    root: Path
    point: Path

    def shows(self, path: Path) -> Iterator[Path]:
        """Where this mount shows ``path`` of its file system, or the part of it that it has."""
        if path.is_relative_to(self.root):
            yield self.point / path.relative_to(self.root)
        elif self.root.is_relative_to(path):
            yield self.point


def _fields(line: str) -> tuple[str, Path, Path]:
    device, root, point = line.split()[2:5]
    return device, Path(plain(root)), Path(plain(point))


def _of_repository(repository: Path, record: Path, item: str) -> Iterator[tuple[str, Path]]:
    """``record``: what it knows of the worktree, beside those of others."""
    branches, logs = (repository / folder / "refs/heads/fabrik" / item for folder in ("", "logs"))
    alternates, aside, lock = repository / "objects/info", repository / "fabrik-aside", repository / "fabrik.lock"
    for folder in (branches, logs, alternates, aside):
        _make_folder(repository, folder)
    # Git takes no name with such a beginning for a branch, and does not remove the folder when it packs the last one: what is mounted there would go with it.
    for file in (branches / ".fabrik", logs / ".fabrik", record / "config.worktree", lock):
        _make_file(file)
    yield READ, repository
    yield from ((HIDE, path) for path in (record.parent, lock, aside))
    yield from ((WRITE, path) for path in (record, repository / "objects", branches))
    yield SCRATCH, logs  # the node's own git would follow a link in the place of a log
    yield READ, alternates
    yield from ((READ, record / name) for name in ("commondir", "gitdir", "config.worktree"))


def _make_folder(repository: Path, path: Path) -> None:
    """Nothing is made, nor mounted, where a link leads that a command left in the way."""
    if Path(os.path.realpath(path)) != Path(os.path.realpath(repository), path.relative_to(repository)):
        raise OSError(errno.ELOOP, "a link is in the way", str(path))
    path.mkdir(parents=True, exist_ok=True)


def _make_file(path: Path) -> None:
    """Empty, if nothing is there. A link that a command left there is removed, and never followed."""
    if path.is_symlink():
        path.unlink(missing_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _mend() -> str:
    for name, bad, mend in _SWITCHES:
        try:
            if Path("/proc/sys", name).read_text(encoding="ascii").strip() == bad:
                return mend
        except OSError:  # this kernel has no such switch
            continue
    return "let this user make user, mount and pid namespaces (in a container: its seccomp profile)"
