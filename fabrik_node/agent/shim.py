"""The small process between the node and one command: no descendant of the command outlives the node or the command.

Started by :mod:`fabrik_node.agent.child` as ``python -I -S shim.py CONTROL STATUS GRACE_S ROOM GROUP LOG AT [PLAN...] -- COMMAND...`` in a session of
its own, with the run's log as stdout and stderr. It needs nothing but the standard library and some tens of milliseconds.

- It is session and group leader; the command is its child, in its group.
- ``CONTROL`` is the reading end of a pipe whose only writer is the node. ``T``, or the end of the pipe (the node died, by
  whatever cause), ends the group: SIGTERM, ``GRACE_S`` seconds, SIGKILL. ``K`` skips the grace.
- What the command leaves behind when it exits is ended in the same way.
- On Linux it is the reaper of all its descendants (``PR_SET_CHILD_SUBREAPER``, prctl(2)), so a daemon that forked twice and made a
  session of its own is still found by walking ``/proc``. If the shim itself is killed, the command gets SIGKILL (``PR_SET_PDEATHSIG``)
  and the node ends the rest (:mod:`fabrik_node.agent.members`).
- ``GROUP`` is the folder of a control group for the command, or ``-``. The command enters it before it begins, the shim stays outside: then everything
  in it ends at once, whatever it did to its session, parents and environment.
- ``PLAN``, when there is one, is what the command sees of the home (:mod:`fabrik_node.agent.isolate`). Then two processes are between us and it, which are not counted with what it leaves behind:
  the keeper, our child, and the first one of the pid namespace, with which everything in there ends. How the command ended they tell in a pipe.
- Output is copied to the log, ``ROOM`` bytes of it: the beginning into the file that is open, the rest into files beside ``LOG`` in rotation, from the offset ``AT`` on.
- ``STATUS`` gets text lines: ``exited N``, ``signalled N`` or ``unstartable ERRNO TEXT``, and ``left N``, ``alive PIDS``, ``log TEXT``, ``group TEXT``.
- Deadlines are an interval timer, so no clock is read here.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
CHUNK_BYTES = 65_536
KILL_EVERY_S = 0.05
KILL_ROUNDS_MAX = 100
"""Five seconds of SIGKILL; what is still there then hangs in the kernel, and its pids are reported."""
PARTS_KEPT = 4
"""Of the log's rotated files."""
HANDLED = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM)
LOG_FD = 1


class ProcRow:
    """What is needed of one line of ``/proc/<pid>/stat``. (A dataclass would double the start-up time.)"""

    __slots__ = ("ended", "group", "parent", "pid", "session")

    def __init__(self, pid: int, parent: int, group: int, session: int, *, ended: bool) -> None:
        self.pid = pid
        self.parent = parent
        self.group = group
        self.session = session
        self.ended = ended


def proc_table() -> list[ProcRow]:
    """All processes of this pid namespace (proc_pid_stat(5)); empty where there is no ``/proc``."""
    if sys.platform != "linux":
        return []
    rows = []
    for name in os.listdir("/proc"):  # noqa: PTH208 - pathlib would double the start-up time of the shim
        if not name.isdecimal():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123 - as above
                stat = file.read()
        except OSError:  # it ended in between
            continue
        fields = stat[stat.rindex(b")") + 2 :].split()
        rows.append(ProcRow(int(name), int(fields[1]), int(fields[2]), int(fields[3]), ended=fields[0] in {b"Z", b"X", b"x"}))
    return rows


def descendants(table: list[ProcRow], roots: set[int]) -> list[int]:
    """Pids of running processes below ``roots``, these not included."""
    children: dict[int, list[ProcRow]] = {}
    for row in table:
        children.setdefault(row.parent, []).append(row)
    found, queue = [], list(roots)
    seen = set(roots)
    while queue:
        for row in children.get(queue.pop(), ()):
            if row.pid not in seen:
                seen.add(row.pid)
                queue.append(row.pid)
                if not row.ended:
                    found.append(row.pid)
    return found


def group_members(group: str) -> list[int]:
    """Pids in a control group, and in those below it."""
    found = []
    for folder, _, _ in os.walk(group) if group else ():
        try:
            with open(f"{folder}/cgroup.procs", "rb") as file:  # noqa: PTH123 - as above
                found += [int(pid) for pid in file.read().split()]
        except OSError:  # it was removed in between
            continue
    return found


def remove_group(group: str) -> None:
    """It is empty now. The node does the same; but it may be gone, and never come back to this home."""
    for folder, _, _ in os.walk(group, topdown=False) if group else ():
        try:
            os.rmdir(folder)  # noqa: PTH106 - as above
        except OSError:  # somebody could not be ended, or the node was quicker
            return


class Log:
    """The run's log: ``room`` bytes of this command's output. The first half goes on in the file that is open, what follows into parts of an eighth each,
    of which the newest four stay: so the beginning and the end are there, and whoever follows the log sees what comes. A full disk loses output, never the command.

    ``base`` names the parts, with the offset ``at`` of their first byte in the whole log (:mod:`fabrik_node.output_log` reads them).
    """

    def __init__(self, room: int, base: str, at: int) -> None:
        self.part_room = room // (2 * PARTS_KEPT)
        self.room = room - PARTS_KEPT * self.part_room
        self.base = base
        self.at = at
        self.file = LOG_FD
        self.parts: list[str] = []
        self.error = ""

    def write(self, data: bytes) -> None:
        """Append ``data``, in the next part when this one is full."""
        try:
            while data and not self.error:
                if self.room <= 0:
                    self._rotate()
                count = os.write(self.file, data[: self.room])
                self.at += count
                self.room -= count
                data = data[count:]
        except OSError as error:
            self.error = error.strerror or str(error)

    def _rotate(self) -> None:
        if len(self.parts) >= PARTS_KEPT:
            os.unlink(self.parts.pop(0))  # noqa: PTH108 - as above
        path = f"{self.base}.{self.at:016d}"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        if self.file != LOG_FD:
            os.close(self.file)
        self.file, self.room = file, self.part_room
        self.parts.append(path)


class Shim:
    """One command from its start until nothing of it is left. :meth:`run` returns the lines for ``STATUS``."""

    def __init__(self, control: int, grace_s: float, log: Log, group: str = "", plan: list[str] | None = None) -> None:
        self.group = group
        self.plan = plan or []
        self.inner = -1
        self.ended = -1
        self.is_reaped = False
        self.group_error = ""
        self.control = control
        self.grace_s = grace_s
        self.log = log
        self.output = -1
        self.main = -1
        self.main_status: int | None = None
        self.ending = False
        self.left = 0
        self.kills = 0
        self.survivors: list[int] = []
        self.poller = select.poll()

    def run(self, command: list[str]) -> list[str]:
        """Start, watch, end, report."""
        wake = self._listen()
        error = self._start(command)
        for descriptor in (self.control, self.output, wake, *([self.ended] if self.plan else [])):
            self.poller.register(descriptor, select.POLLIN)
        while not self._is_over():
            for descriptor, _ in self.poller.poll():
                if descriptor == self.control:
                    self._on_control()
                elif descriptor == self.output:
                    self._on_output()
                elif descriptor == self.ended:
                    self.poller.unregister(self.ended)
                    self._hear_end()
                else:
                    self._on_signals(os.read(wake, 1024))
        self._drain()
        return self._report(error)

    def _listen(self) -> int:
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in HANDLED:
            signal.signal(number, lambda *_: None)
        return reader

    def _start(self, command: list[str]) -> str:
        """Fork and execute; the error line when that is not possible."""
        libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
        if libc is not None:
            libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.output, writer = os.pipe()
        verdict, failed = os.pipe()
        self.ended, ended = os.pipe()
        os.set_blocking(self.ended, False)
        self.main = os.fork()
        if self.main == 0:
            try:
                signal.set_wakeup_fd(-1)
                for number in (*HANDLED, signal.SIGPIPE, signal.SIGXFSZ):
                    signal.signal(number, signal.SIG_DFL)
                if libc is not None:
                    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                self._enter_group(failed)
                if self.plan:
                    self._enter_namespaces(failed, ended)
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(writer, 1)
                os.dup2(writer, 2)
                os.execvp(command[0], command)  # noqa: S606 - running it is the job
            except OSError as error:
                os.write(failed, f"unstartable {error.errno} {error.strerror}".encode())
            finally:
                os._exit(127)
        for descriptor in (writer, failed, ended):
            os.close(descriptor)
        unstartable = ""
        with open(verdict, "rb") as said:  # noqa: PTH123 - as above
            for line in said.read().decode(errors="replace").splitlines():
                if line.startswith("group "):
                    self.group_error, self.group = line, ""
                elif line.startswith("inner "):
                    self.inner = int(line[6:])
                else:
                    unstartable = line
        return unstartable

    def _enter_group(self, failed: int) -> None:
        """In the child. Without its group it runs all the same, and that is said."""
        if not self.group:
            return
        try:
            procs = os.open(f"{self.group}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
            os.write(procs, b"0")
        except OSError as error:
            os.write(failed, f"group {self.group}: {error.strerror}\n".encode())

    def _enter_namespaces(self, failed: int, ended: int) -> None:
        """In the child, which then waits; it returns in a grandchild."""
        sys.path.append(__file__.rpartition("/fabrik_node/agent/")[0])  # last, and here alone: nothing else is looked for in it
        from fabrik_node.agent.isolate import Plan, enter

        enter(Plan.parse(self.plan), failed, ended)

    def _on_control(self) -> None:
        order = os.read(self.control, 64)
        if not order:
            self.poller.unregister(self.control)
        self._end(at_once=b"K" in order)

    def _on_output(self) -> None:
        data = os.read(self.output, CHUNK_BYTES)
        if data:
            self.log.write(data)
        else:
            self.poller.unregister(self.output)

    def _on_signals(self, numbers: bytes) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if pid == self.main:
                self.is_reaped = True
                self._hear_end()
                self.main_status = status if self.main_status is None else self.main_status
        if signal.SIGALRM in numbers:
            self._kill()
        if not self.ending and set(numbers) & {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}:
            self._end(at_once=False)

    def _hear_end(self) -> None:
        """Of a command in namespaces; of others nothing is ever said there."""
        try:
            said = os.read(self.ended, 64)
        except BlockingIOError:  # the keeper was killed, and the one inside is about to be
            return
        if said:
            self.main_status = int(said)

    def _is_over(self) -> bool:
        if self.main_status is None or self.survivors:
            return bool(self.survivors)
        left = self._left()
        if left and not self.ending:
            self.left = len(left)
            self._end(at_once=False)
        return not left and self.is_reaped

    def _end(self, *, at_once: bool) -> None:
        """SIGTERM to everybody and set the timer, or kill."""
        if at_once or self.grace_s <= 0:
            self.ending = True
            self._kill()
        elif not self.ending:
            self.ending = True
            signal.setitimer(signal.ITIMER_REAL, self.grace_s)
            os.killpg(os.getpgrp(), signal.SIGTERM)  # in one step, so nobody escapes by forking; we only note it
            os.killpg(os.getpgrp(), signal.SIGCONT)  # a stopped process could not act on it
            table = proc_table()
            inside = {row.pid for row in table if row.group == os.getpgrp()}
            for pid in set(self._left(table)) - inside:
                _send(pid, signal.SIGTERM)
                _send(pid, signal.SIGCONT)

    def _kill(self) -> None:
        """SIGKILL to everybody but us, and again until nobody is left: some may fork in between."""
        if self.group:
            try:
                with open(f"{self.group}/cgroup.kill", "wb", buffering=0) as file:  # noqa: PTH123 - as above
                    file.write(b"1")
            except OSError:  # a kernel before 5.14: one by one, as without a group
                self.group_error = self.group_error or "group it can not be ended at once"
        table = proc_table()
        left = self._left(table) or ([self.main] if not self.is_reaped else [])
        inner = [self.inner] if self.inner in descendants(table, {os.getpid()}) else []  # with it everything inside ends at once
        for pid in [*inner, *left]:
            _send(pid, signal.SIGKILL)
        self.kills += 1
        if left and self.kills > KILL_ROUNDS_MAX:
            self.survivors = left
        signal.setitimer(signal.ITIMER_REAL, KILL_EVERY_S)

    def _left(self, table: list[ProcRow] | None = None) -> list[int]:
        """Everybody of the command that lives: below us, and in the group. Not the two that stand between us and its namespaces."""
        table = proc_table() if table is None else table
        out = {row.pid for row in table if row.ended} | ({self.main, self.inner} if self.inner > 0 else set())
        return [pid for pid in dict.fromkeys([*descendants(table, {os.getpid()}), *group_members(self.group)]) if pid not in out]

    def _drain(self) -> None:
        """What is still in the pipe. Its writers are gone, but for those that nobody could end."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.set_blocking(self.output, False)
        try:
            while data := os.read(self.output, CHUNK_BYTES):
                self.log.write(data)
        except BlockingIOError:
            return

    def _report(self, error: str) -> list[str]:
        lines = [error] if error else []
        if not error and self.main_status is not None:
            code = os.waitstatus_to_exitcode(self.main_status)
            lines.append(f"exited {code}" if code >= 0 else f"signalled {-code}")
        if self.left:
            lines.append(f"left {self.left}")
        if self.survivors:
            lines.append("alive " + ",".join(map(str, self.survivors)))
        if self.log.error:
            lines.append(f"log {self.log.error}")
        if self.group_error:
            lines.append(self.group_error)
        return lines


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):  # gone, or another user's: the report names it if it stays
        return


def _tell(status: int, lines: list[str]) -> None:
    try:
        os.write(status, "".join(f"{line}\n" for line in lines).encode())
    except BrokenPipeError:  # the node died: nobody wants to know
        return


def main(arguments: list[str]) -> int:
    """The shim's exit status is the command's, 128 + N for signal N."""
    control, status = int(arguments[0]), int(arguments[1])
    os.set_inheritable(control, False)
    os.set_inheritable(status, False)
    if os.getpid() != os.getsid(0):
        os.setsid()
    log = Log(int(arguments[3]), arguments[5], int(arguments[6]))
    end = arguments.index("--")
    shim = Shim(control, float(arguments[2]), log, "" if arguments[4] == "-" else arguments[4], arguments[7:end])
    _tell(status, shim.run(arguments[end + 1 :]))
    remove_group(shim.group)
    if sys.platform != "linux":  # no walk over /proc: end the group as a whole, ourselves included
        os.killpg(os.getpgrp(), signal.SIGKILL)
    code = 127 if shim.main_status is None else os.waitstatus_to_exitcode(shim.main_status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
