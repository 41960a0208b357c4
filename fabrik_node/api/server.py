"""The Unix-socket server: accepts, limits, and stops. What is said on a connection is in :mod:`~fabrik_node.api.conversation`."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
import socket
import stat
import struct
from collections import Counter
from pathlib import Path
from typing import Any

from fabrik_node.api.conversation import CallerLeft, Conversation, Tally, refusal
from fabrik_node.api.limits import Limits
from fabrik_node.api.use_cases import UseCases
from fabrik_node.clock import Clock
from fabrik_node.errors import Precondition, Unreachable
from fabrik_node.paths import SOCKET_PATH_BYTES_MAX, private_folder
from fabrik_node.process import Peer, Standing, standing_of

__all__ = ["LocalApi"]

_BACKLOG = 128
_SO_PEERPIDFD = 77
"""Linux 6.5, asm-generic/socket.h; not among Python's names."""


class LocalApi:
    """Serves ``service`` at ``socket_path`` to this user only: the socket is 0600 in a folder that is 0700.

    Start it while holding the home's owner lock: a socket that is found at the path is then a dead node's, and is replaced.
    """

    def __init__(self, service: UseCases, socket_path: Path, clock: Clock, limits: Limits | None = None) -> None:
        self._service = service
        self._path = socket_path
        self._clock = clock
        self._limits = limits or Limits()
        self._tally = Tally()
        self._server: asyncio.Server | None = None
        self._inode: int | None = None
        self._open: dict[asyncio.Task[None], Conversation] = {}
        self._of_run: Counter[str] = Counter()
        self._stopping = False

    @property
    def counters(self) -> dict[str, Any]:
        """What happened so far: connections (now, in all, refused), calls, errors by code, the slowest call in ms."""
        return {"connections": len(self._open), **self._tally.as_dict()}

    async def start(self) -> None:
        """Listen. Raises :class:`Precondition` when the path can not be used."""
        listening = self._bind()
        try:
            self._server = await asyncio.start_unix_server(self._accept, sock=listening, limit=self._limits.request_bytes, backlog=_BACKLOG)
        except BaseException:
            listening.close()
            raise
        self._inode = self._path.lstat().st_ino

    async def stop(self) -> None:
        """Accept nothing more, let calls under way be answered, end streams with a reason, and remove the socket. Idempotent."""
        self._stopping = True
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for conversation in self._open.values():
            conversation.stop()
        tasks = list(self._open)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._limits.stop_grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await server.wait_closed()
        with contextlib.suppress(FileNotFoundError):  # newer asyncio removes it by itself
            if self._path.lstat().st_ino == self._inode:
                self._path.unlink()

    def _bind(self) -> socket.socket:
        if len(os.fsencode(self._path)) > SOCKET_PATH_BYTES_MAX:
            raise Precondition(f"the socket's path {self._path} is longer than {SOCKET_PATH_BYTES_MAX} bytes", "choose a shorter home with --home DIR")
        private_folder(self._path.parent)
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(self._path.lstat().st_mode):
                raise Precondition(f"{self._path} is there and is not a socket", f"look at it, then remove it: ls -l {self._path}")
            self._path.unlink()
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listening.bind(str(self._path))
            self._path.chmod(0o600)
        except OSError as error:
            listening.close()
            raise Precondition(f"can not listen at {self._path}: {error.strerror or error}", "choose another home with --home DIR") from error
        return listening

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        writer.transport.set_write_buffer_limits(high=self._limits.write_buffer_bytes)
        try:
            self._tally.connections_total += 1
            if task is None or self._stopping:
                writer.write(refusal(Unreachable("the node is stopping", "fabrik-node serve")))
            elif (run := self._service.run_of(peer := _peer(writer))) and self._of_run[run] >= self._limits.connections_of_run:
                self._tally.connections_refused += 1
                writer.write(
                    refusal(Unreachable(f"run {run} has {self._of_run[run]} connections open, the most that a run may", "end some of them, then try again"))
                )
            elif len(self._open) >= self._limits.connections:
                self._tally.connections_refused += 1
                busy = Unreachable(f"the node has {len(self._open)} local connections open, the most that it takes", "end some of them, then try again")
                writer.write(refusal(busy))
            else:
                conversation = Conversation(self._service, self._clock, self._limits, self._tally, reader, writer, peer)
                self._open[task] = conversation
                self._of_run[run] += 1
                try:
                    await conversation.run()
                finally:
                    del self._open[task]
                    self._of_run[run] -= 1
                    if not self._of_run[run]:
                        del self._of_run[run]
        except CallerLeft:
            self._tally.disconnects += 1
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):  # it is closed either way
                await writer.wait_closed()


def _peer(writer: asyncio.StreamWriter) -> Peer:
    """Who connected, looked at at once: a program may be gone before its question is read.

    The kernel noted the pid when it connected (SO_PEERCRED, unix(7)), 0 for one that has none here. Where it gives a descriptor of the process, too, a pid that was given to
    somebody else meanwhile is noticed.
    """
    connection = writer.get_extra_info("socket")
    if connection is None or not hasattr(socket, "SO_PEERCRED"):
        return Peer(told=False)
    pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    if pid <= 0:
        return Peer(told=True)
    try:
        return Peer(told=True, standing=_standing(connection, pid))
    except OSError:  # this process may not look, or has no descriptors left: then it can not tell, and says so
        return Peer(told=True)


def _standing(connection: socket.socket, pid: int) -> Standing | None:
    try:
        held = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError as error:  # most often: before Linux 6.5
        return None if error.errno == errno.ESRCH else standing_of(pid)
    try:
        standing = standing_of(pid)
        poll = select.poll()
        poll.register(held, select.POLLIN)
        return None if poll.poll(0) else standing  # pidfd_open(2): readable when it has ended
    finally:
        os.close(held)
