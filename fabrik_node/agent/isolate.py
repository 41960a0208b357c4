"""A process that goes into user, mount and pid namespaces of its own before it becomes a command: it sees of the node's home what a plan names, and no process of the node.

In the kernel's words (user_namespaces(7), mount_namespaces(7), pid_namespaces(7)): :func:`enter` is called in a process that was just forked and has one thread. That becomes the *keeper* and
stays outside of the pid namespace; its child is the first process inside, covers and mounts what :class:`Plan` says, and only waits from then on; and *its* child returns from :func:`enter`, to execute the command.

- The user namespace maps this user to itself and nobody else, so it needs no privilege where the kernel lets users make one. Other owners are shown as nobody, and set-user-id programs are not obeyed.
- All capabilities are given up inside, by the waiting process too, and can not come back: nobody can take away what covers the home, nor in namespaces of its own, where the kernel locks inherited mounts.
- When the first process inside ends, the kernel kills all others there. It ends when the last of them has, or when the keeper is gone (``PR_SET_PDEATHSIG``); the keeper ends with it, or with the shim.
- ``said`` gets ``inner PID`` once; ``ended`` the wait status of the command, as a number. A step that the kernel refuses is an OSError that names it.

Started by the shim, so it imports nothing of ours and only what is quick (see :mod:`fabrik_node.agent.shim`).
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import signal
import stat
import sys

__all__ = ["HIDE", "READ", "SCRATCH", "WRITE", "Plan", "enter", "main", "plain"]

HIDE, SCRATCH, READ, WRITE = "hide", "scratch", "read", "write"
"""What a plan does with a path: cover a folder with an empty one that nobody can write to; with one whose contents end with the command; show what is really there, to be read; to be written, too."""

_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = 0x0002_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_SLAVE = 1, 2, 4, 8, 32, 4096, 16_384, 1 << 19
_ST_KEPT = {2: _MS_NOSUID, 4: _MS_NODEV, 8: _MS_NOEXEC, 1024: 1024, 2048: 2048, 4096: 1 << 21}
"""statvfs(3) flags of a mount to mount(2) flags: a remount that leaves one of them out is refused in a user namespace."""
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 1, 24, 38, 47, 4
_CAPABILITIES_MAX = 64
_CAPABILITY_VERSION_3 = 0x2008_0522
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1
_GROUP_NAMESPACES = "/proc/sys/user/max_cgroup_namespaces"
"""Of this user namespace and those below: in a namespace of control groups of its own a command could mount its group again, to be written."""
_MEMORY = frozenset({"mem", "kmem", "port"})
"""Below /dev, besides block devices: what a file can be read from without opening it."""


class Plan:
    """``steps``: what to do with which path, in this order. ``network`` False: only a loopback device of its own. ``cwd``: where the command begins."""

    __slots__ = ("cwd", "network", "steps")

    def __init__(self, steps: list[tuple[str, str]], cwd: str, *, network: bool) -> None:
        self.steps = steps
        self.cwd = cwd
        self.network = network

    @classmethod
    def parse(cls, arguments: list[str]) -> Plan:
        """Of :meth:`arguments`."""
        network, cwd, *rest = arguments
        return cls(list(zip(rest[::2], rest[1::2], strict=True)), cwd, network=network == "on")

    def arguments(self) -> list[str]:
        """For a command line: none of them is ``--``, for every path is absolute."""
        return ["on" if self.network else "off", self.cwd, *(part for step in self.steps for part in step)]


def enter(plan: Plan, said: int, ended: int) -> None:
    """Returns in the process that is to become the command, and nowhere else. Raises OSError, which names the step, in any of the three."""
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.geteuid(), os.getegid()
    flags = _CLONE_NEWUSER | _CLONE_NEWNS | _CLONE_NEWPID | (0 if plan.network else _CLONE_NEWNET)
    _call("user, mount and pid namespaces", libc.unshare, flags)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        _write(f"/proc/self/{name}", text)
    lifeline, held = os.pipe()
    inner = os.fork()
    if inner:
        os.write(said, f"inner {inner}\n".encode())
        _keep(libc, inner, held)
    os.close(held)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if select.select([lifeline], [], [], 0)[0]:  # the keeper died before that: its end of the pipe is closed
        os._exit(1)
    os.close(lifeline)
    if not plan.network:
        _loopback_up()
    _mount_all(libc, plan)
    command = os.fork()
    _renounce(libc)
    if command:
        _wait_for_all(command, ended)


def _keep(libc: ctypes.CDLL, inner: int, held: int) -> None:
    """The keeper: outside of the pid namespace, nothing but the parent that the shim can wait for."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # these are for the command
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # again: a change of credentials may have cleared it
    _renounce(libc)
    _close_all_but(held)
    _, status = os.waitpid(inner, 0)
    if os.WIFSIGNALED(status):
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(os.WEXITSTATUS(status))


def _wait_for_all(command: int, ended: int) -> None:
    """The first process inside: it reaps whoever is left to it, tells how the command ended, and ends after the last."""
    os.chdir("/")
    _close_all_but(ended)
    while True:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            os._exit(0)
        if pid == command:
            os.write(ended, f"{status}\n".encode())


def _mount_all(libc: ctypes.CDLL, plan: Plan) -> None:
    _mount(libc, "", "/", "", _MS_REC | _MS_SLAVE)
    # Opened before anything is covered; a link in the place of a folder is an error.
    sources = {path: _source(path) for path in {path for what, path in plan.steps if what in {READ, WRITE}}}
    hidden = []
    for what, path in plan.steps:
        if what == HIDE and not os.path.isdir(path):  # noqa: PTH112 - as below
            _mount(libc, "/dev/null", path, "", _MS_BIND)
            continue
        if what in {HIDE, SCRATCH}:
            _mount(libc, "tmpfs", path, "tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, "mode=0700,size=1m")
            hidden += [path] if what == HIDE else []
            continue
        source = f"/proc/self/fd/{sources[path]}"
        _make_place(path, is_folder=stat.S_ISDIR(os.stat(source).st_mode))  # noqa: PTH116 - pathlib is slow to import
        _mount(libc, source, path, "", _MS_BIND | _MS_REC)
        if what == READ:
            _read_only(libc, path)
    for path in hidden:
        _read_only(libc, path)
    for descriptor in sources.values():  # a way to the real home, which the command would see below /proc/1/fd
        os.close(descriptor)
    _guard_devices(libc)
    for path in sorted(set(_control_groups())):  # the groups of other runs belong to the same user, and so does the limit of its own
        _read_only(libc, path)
    if os.geteuid() == 0:  # root owns what decides over the whole machine, with or without capabilities
        for path in sorted(_mount_points("/sys")):
            _read_only(libc, path)
    _mount(libc, "proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    if os.path.exists(_GROUP_NAMESPACES):  # noqa: PTH110 - as above
        _write(_GROUP_NAMESPACES, "0")
    if os.geteuid() == 0:
        for path in ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus"):
            if os.path.exists(path):  # noqa: PTH110 - as above
                _mount(libc, path, path, "", _MS_BIND | _MS_REC)
                _read_only(libc, path)
    os.chdir(plan.cwd)  # again: what we were in until now is the folder outside, with the real home above it


def _source(path: str) -> int:
    source = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    if stat.S_ISLNK(os.fstat(source).st_mode):
        raise OSError(errno.ELOOP, f"{path} is a link")
    return source


def _make_place(path: str, *, is_folder: bool) -> None:
    """Something to mount on; nothing is made where something is, and it can be made in what we covered only."""
    if os.path.lexists(path):
        return
    os.makedirs(path if is_folder else os.path.dirname(path), mode=0o700, exist_ok=True)  # noqa: PTH103, PTH120 - as above
    if not is_folder:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))


def _guard_devices(libc: ctypes.CDLL) -> None:
    """No file system is read from below: block devices are covered, whoever may open them."""
    for folder, _, names in os.walk("/dev"):
        for name in names:
            path = f"{folder}/{name}"
            try:
                is_block = stat.S_ISBLK(os.lstat(path).st_mode)
            except OSError:  # it went away
                continue
            if is_block or (folder == "/dev" and name in _MEMORY):
                _mount(libc, "/dev/null", path, "", _MS_BIND)


def _mount_points(below: str) -> list[str]:
    return [point for point, _, _ in _mounts() if point == below or point.startswith(f"{below}/")]


def _control_groups() -> list[str]:
    """Where somebody could write to a control group. A mount that another one covers is not there any more."""
    found = []
    for point, device, kind in _mounts():
        if kind in {"cgroup", "cgroup2"}:
            try:
                number = os.stat(point).st_dev  # noqa: PTH116 - as above
            except OSError:  # covered, or in a folder that is closed to the command as well
                continue
            found += [point] if device == f"{os.major(number)}:{os.minor(number)}" else []
    return found


def _mounts() -> list[tuple[str, str, str]]:
    """The point, the device and the kind of each (proc_pid_mountinfo(5))."""
    with open("/proc/self/mountinfo", "rb") as file:  # noqa: PTH123 - as above
        rows = [os.fsdecode(line).split() for line in file]
    return [(plain(row[4]), row[2], row[row.index("-", 6) + 1]) for row in rows]


def plain(text: str) -> str:
    """A path as mountinfo writes it, in which some characters are numbers."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text


def _read_only(libc: ctypes.CDLL, path: str) -> None:
    found = os.statvfs(path).f_flag
    kept = sum(flag for bit, flag in _ST_KEPT.items() if found & bit)
    _mount(libc, "", path, "", _MS_REMOUNT | _MS_BIND | _MS_RDONLY | kept)


def _renounce(libc: ctypes.CDLL) -> None:
    """No capability is left, and none comes back by executing anything (capabilities(7))."""
    for number in range(_CAPABILITIES_MAX):
        libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)  # EINVAL beyond the last one
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    _call("no new privileges", libc.prctl, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    head, none = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    _call("giving up capabilities", libc.capset, ctypes.byref(head), ctypes.byref(none))


def _loopback_up() -> None:
    import fcntl
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, b"lo".ljust(16, b"\0") + _IFF_UP.to_bytes(2, sys.byteorder) + bytes(22))


def _mount(libc: ctypes.CDLL, source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    texts = [os.fsencode(text) or None for text in (source, target, kind)]
    _call(f"mount {target}", libc.mount, *texts, ctypes.c_ulong(flags), data.encode() or None)


def _write(path: str, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise OSError(error.errno, f"{path}: {error.strerror}") from error


def _call(what: str, function: ctypes._FuncPointer, *arguments: object) -> None:  # type: ignore[name-defined,unused-ignore]
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _close_all_but(kept: int) -> None:
    os.closerange(0, kept)
    os.closerange(kept + 1, 65_536)


def main(arguments: list[str]) -> int:
    """A trial: enter as the plan before ``--`` says and look for the paths after it. Prints ``ok``, or what is wrong in one line."""
    said, ended = os.open(os.devnull, os.O_WRONLY), os.open(os.devnull, os.O_WRONLY)
    trial = os.fork()
    if trial:
        os.waitpid(trial, 0)
        return 0
    try:
        end = arguments.index("--")
        enter(Plan.parse(arguments[:end]), said, ended)
        left = [path for path in arguments[end + 1 :] if os.path.lexists(path)]
        answer = f"still to be seen: {left[0]}" if left else "ok"
    except OSError as error:
        answer = str(error.strerror)
    os.write(1, f"{answer}\n".encode())
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
