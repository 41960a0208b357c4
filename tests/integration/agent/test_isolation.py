"""A command in namespaces of its own, on the real kernel: what it can not reach, what it can, and that its end is as certain as without."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_rig import DAEMON, AgentRig, Gate, finish_child, needs_isolation, start_child
from memory_pipeline import FAILURE_BOUND_S

from fabrik_node.agent.child import ChildExit
from fabrik_node.agent.isolation import Isolation
from fabrik_node.paths import HomePaths

ROOT = Path(__file__).parents[3]
NOBODY = 65_534
RUN = f"isolation-{os.getpid()}"
"""Not the name of a run of another test: what is left of a run is found by its name, on the whole machine, and ended."""
PROBE = """
import ctypes, json, os, socket, sys
from contextlib import suppress
from pathlib import Path
from fabrik_node.agent.isolate import Plan, enter, plain

user, home, node, plan = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4:]
libc = ctypes.CDLL(None, use_errno=True)
answer = os.dup(1)
if os.geteuid() == 0 and libc.unshare(0x20000) == 0:  # in mounts of its own: what not every host has, or not so that this user may write it
    libc.mount(None, b"/", None, ctypes.c_ulong(0x4000 | 1 << 18), None)
    if os.path.isdir("/dev/shm") and libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", ctypes.c_ulong(0), b"mode=0755") == 0:
        os.mkdir("/dev/shm/with space")
        libc.mount(b"none", b"/dev/shm/with space", b"cgroup2", ctypes.c_ulong(0), None)
        with suppress(OSError):
            os.mknod("/dev/shm/disk", 0o60666, os.makedev(7, 0))

def disks():
    return [path for folder, _, names in os.walk("/dev") for path in (f"{folder}/{name}" for name in names) if Path(path).is_block_device()]

def groups():
    rows = [line.split() for line in open("/proc/self/mountinfo")]
    points = [plain(row[4]) for row in rows if row[row.index("-", 6) + 1] in ("cgroup", "cgroup2")]
    return [point for point in points if os.path.isdir(point) and not os.statvfs(point).f_flag & os.ST_RDONLY]
here = {"a disk": bool(disks()), "a control group": bool(groups())}
if user:
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    libc.prctl(4, 1, 0, 0, 0)  # as a process that was begun by this user: it may write its own maps
quiet = os.open(os.devnull, os.O_WRONLY)
if os.fork():
    os.wait()
    os._exit(0)
if plan:
    enter(Plan.parse(plan), quiet, quiet)
else:
    os.chdir(f"{home}/work/mine")

def call(number):
    if number != 0:
        raise OSError(ctypes.get_errno(), "refused")

def connect(path):
    link = socket.socket(socket.AF_UNIX)
    link.connect(path)

def uncover_in_namespaces_of_its_own():
    libc.unshare(0x10000000 | 0x20000)  # refused, or given: then its mounts are locked
    call(libc.umount2(home.encode(), 0))
    open(f"{home}/identity/ed25519.key").read()

def read(path):
    with open(path, "rb") as file:
        file.read(1)

def write(path):
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT))

repository = f"{home}/git/git/r.git"
TRIES = {
    "the key": lambda: read(f"{home}/identity/ed25519.key"),
    "the database": lambda: read(f"{home}/store/fabrik.db"),
    "the settings": lambda: read(f"{home}/config.toml"),
    "the folder above": lambda: read("../../identity/ed25519.key"),
    "the worktree of another run": lambda: os.listdir(f"{home}/work/other"),
    "the output of another run": lambda: os.listdir(f"{home}/runs/other"),
    "the record of another worktree": lambda: read(f"{repository}/worktrees/other/HEAD"),
    "an index that the node works on": lambda: read(f"{repository}/fabrik-aside/other.index"),
    "the login of the remote": lambda: read(f"{home}/git/git/r.login"),
    "a new file in the home": lambda: write(f"{home}/new"),
    "its own settings of git": lambda: write(f"{repository}/config"),
    "a hook": lambda: write(f"{repository}/hook"),
    "the branch of another run": lambda: write(f"{repository}/refs/heads/fabrik/theirs/x"),
    "its prompt": lambda: write(f"{home}/runs/mine/prompt.md"),
    "where git looks for its settings": lambda: write(f"{home}/work/mine/.git"),
    "another file in its place": lambda: os.unlink(f"{home}/work/mine/.git"),
    "the same by the record": lambda: os.rename(f"{repository}/worktrees/mine/commondir", f"{repository}/worktrees/mine/gone"),
    "where git finds objects of others": lambda: write(f"{repository}/objects/info/alternates"),
    "settings of its worktree alone": lambda: write(f"{repository}/worktrees/mine/config.worktree"),
    "the lock of the repository": lambda: read(f"{repository}/fabrik.lock") or os.stat(f"{repository}/fabrik.lock").st_mode & 0o100000 or call(1),
    "uncovering the home": lambda: call(libc.umount2(home.encode(), 2)),
    "the environment of the node": lambda: read(f"/proc/{node}/environ"),
    "the memory of the node": lambda: os.close(os.open(f"/proc/{node}/mem", os.O_RDONLY)),
    "the root of the node": lambda: os.listdir(f"/proc/{node}/root{home}"),
    "the files of the node": lambda: os.listdir(f"/proc/{node}/fd"),
    "a signal to the node": lambda: os.kill(node, 0),
    "the node as a debugger": lambda: call(libc.ptrace(16, node, None, None)),
    "the settings of the kernel": lambda: write("/proc/sys/kernel/core_pattern"),
    "a disk": lambda: disks()[0],
    "a control group": lambda: groups()[0],
    "what is beside its worktree, by a file that is open": lambda: [fd for fd in os.listdir("/proc/self/fd") if os.path.isdir(f"/proc/self/fd/{fd}/../other")][0],
    "OK its worktree": lambda: write("new"),
    "OK its prompt": lambda: read(f"{home}/runs/mine/prompt.md"),
    "OK the settings of git": lambda: read(f"{repository}/config"),
    "OK its record": lambda: write(f"{repository}/worktrees/mine/index.lock"),
    "OK its branch": lambda: write(f"{repository}/refs/heads/fabrik/item/mine.lock"),
    "OK a log of its branch": lambda: write(f"{repository}/logs/refs/heads/fabrik/item/mine"),
    "OK an object": lambda: write(f"{repository}/objects/new"),
    "OK the socket": lambda: connect(f"{home}/run/node.sock"),
    "a control group by a namespace of its own": lambda: call(libc.unshare(0x10000000 | 0x02000000)),
    "uncovering it elsewhere": uncover_in_namespaces_of_its_own,  # last, for it has less power afterwards
}
done = []
for name, attempt in TRIES.items():
    with suppress(OSError, IndexError):
        attempt()
        done.append(name)
os.write(answer, json.dumps([done, [name for name in TRIES if here.get(name, True)]]).encode())
os._exit(0)
"""


class Host:
    """A home as a node leaves it, of ``user``."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        repository = self.home / "git/git/r.git"
        for name in ("identity", "store", "run", "runs/mine", "runs/other", "work/mine", "work/other"):
            (self.home / name).mkdir(parents=True)
        for name in ("worktrees/mine", "worktrees/other", "objects", "fabrik-aside", "refs/heads/fabrik/item", "refs/heads/fabrik/theirs"):
            (repository / name).mkdir(parents=True)
        for name in ("identity/ed25519.key", "store/fabrik.db", "config.toml", "runs/mine/prompt.md", "work/mine/.git", "git/git/r.login"):
            (self.home / name).write_text("secret")
        for name in ("config", "worktrees/mine/commondir", "worktrees/mine/gitdir", "worktrees/other/HEAD", "fabrik-aside/other.index"):
            (repository / name).write_text("x")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.home / "run/node.sock"))
        self.listener.listen()

    def plan(self, **settings: bool) -> list[str]:
        return Isolation(on=True, paths=HomePaths(self.home), **settings).plan(self.home / "work/mine", item="item", claim="mine", run="mine")

    def give_to(self, user: int) -> None:
        for path in (self.home.parent, *self.home.parent.rglob("*")):
            os.chown(path, user, user)


@pytest.fixture
def host() -> Iterator[Host]:
    folder = Path(tempfile.mkdtemp(prefix="iso-"))  # pytest's own is closed to other users
    made = Host(folder)
    yield made
    made.listener.close()
    shutil.rmtree(folder)


def tried(host: Host, user: int, plan: list[str]) -> tuple[set[str], set[str]]:
    """What was reached, and all that was tried. A process of the same user stands for the node."""
    node = subprocess.Popen(["/bin/sleep", "1000"], user=user or None)
    try:
        arguments = [sys.executable, "-c", PROBE, str(user), str(host.home), str(node.pid), *plan]
        done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=FAILURE_BOUND_S, check=False)
    finally:
        node.kill()
        node.wait()
    assert done.stdout, done.stderr
    reached, everything = json.loads(done.stdout)
    return set(reached), set(everything)


@pytest.mark.promise("A8")
@pytest.mark.parametrize("user", [0, NOBODY], ids=["as-we-are", "without-root"])
def test_a_command_reaches_its_own_and_nothing_else_of_the_home(host: Host, user: int) -> None:
    needs_isolation(host.home)
    if user and os.geteuid() != 0:
        pytest.skip("we are not root, so the other case is this one")
    plan = host.plan()
    if user:
        host.give_to(user)
    reached, everything = tried(host, user, plan)
    assert reached == {name for name in everything if name.startswith("OK ")}
    assert [path.name for path in (host.home / "git/git/r.git/logs/refs/heads/fabrik/item").iterdir()] == [".fabrik"], "that log was its own"


def test_without_isolation_it_reaches_the_home(host: Host) -> None:
    reached, everything = tried(host, 0, [])  # a host may have no disk and no control group
    real = everything & {"a disk", "a control group"}
    real |= {"the key", "the database", "the folder above", "the worktree of another run", "a hook", "the environment of the node", "a signal to the node"}
    assert real <= reached, "the attempts above are real ones"


async def test_its_network_is_its_own(rig: AgentRig) -> None:
    needs_isolation(rig.folder)
    item = rig.world.add()
    row = await rig.work(item, command="cat /proc/net/dev; touch commit-1", isolation="on", network="off")
    devices = [line.split(":")[0].strip() for line in rig.log(row).splitlines() if line.strip().startswith(("lo:", "eth", "en", "docker", "wl"))]
    assert devices == ["lo"]
    assert "no network (isolation on" in rig.log(row)


def isolated(rig: AgentRig) -> list[str]:
    """For a command with a worktree of its own in the home of ``rig``."""
    needs_isolation(rig.folder)
    tree = rig.paths.work / "mine"
    tree.mkdir(parents=True)
    return Isolation(on=True, paths=rig.paths).plan(tree, item="item", claim="mine", run="mine")


class Hold:
    """A FIFO that every process of a command holds open: its end is that of the last of them. Pids inside say nothing outside."""

    def __init__(self, gate: Gate) -> None:
        self.reader = os.open(gate.path.with_name("hold"), os.O_RDONLY | os.O_NONBLOCK)

    async def over(self) -> None:
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self.reader, lambda: over.set() if not os.read(self.reader, 99) else None)
        try:
            await asyncio.wait_for(over.wait(), FAILURE_BOUND_S)
        finally:
            loop.remove_reader(self.reader)
            os.close(self.reader)


def hold(gate: Gate) -> Hold:
    os.mkfifo(gate.path.with_name("hold"))
    return Hold(gate)


@pytest.mark.parametrize(
    ("command", "exit_"),
    [
        ("exit 3", ChildExit(3)),
        ("kill -9 $$", ChildExit(-signal.SIGKILL)),
        ("exec /no/such/program", ChildExit(127)),
        ("test $(pwd) = $(pwd -P) && test -w . && ! test -e ../../identity", ChildExit(0)),
    ],
    ids=["code", "signal", "shell", "begins-in-its-worktree"],
)
async def test_how_a_command_ends_is_told_as_without(rig: AgentRig, command: str, exit_: ChildExit) -> None:
    child = await start_child(rig, command, rig.gate(), run=RUN, plan=isolated(rig))
    assert await finish_child(child) == exit_


async def test_a_home_that_can_not_be_covered_starts_nothing(rig: AgentRig) -> None:
    plan = isolated(rig)
    shutil.rmtree(rig.paths.work)
    ended = await finish_child(await start_child(rig, f"touch {rig.folder}/began", rig.gate(), run=RUN, plan=plan))
    assert ended.status is None or ended.unstartable
    assert "No such file" in ended.unstartable
    assert not (rig.folder / "began").exists()


async def test_what_it_leaves_behind_is_counted_and_ended(rig: AgentRig) -> None:
    gate = rig.gate()
    held = hold(gate)
    child = await start_child(rig, f"exec 9> {gate.path.with_name('hold')}; sleep 1000 & exit 0", gate, run=RUN, plan=isolated(rig))
    assert await finish_child(child) == ChildExit(0, left=1)
    await held.over()


async def test_a_stop_reaches_the_command_and_leaves_it_its_grace(rig: AgentRig) -> None:
    gate = rig.gate()
    polite = "trap 'echo bye; exit 7' TERM; echo ready > $GATE; while :; do sleep 0.01; done"
    child = await start_child(rig, polite, gate, run=RUN, grace_s=FAILURE_BOUND_S, plan=isolated(rig))
    await gate.line()
    child.stop()
    assert (await finish_child(child)).status == 7


async def test_with_its_shim_everything_inside_ends(rig: AgentRig) -> None:
    gate = rig.gate()
    held = hold(gate)
    program = rig.script("daemon.py", DAEMON)
    child = await start_child(rig, f"exec 9> {gate.path.with_name('hold')}; {program} $GATE; sleep 1000", gate, run=RUN, marked=False, plan=isolated(rig))
    await gate.line()
    assert child.process is not None
    os.kill(child.process.pid, signal.SIGKILL)
    assert (await finish_child(child)).status is None
    await held.over()
