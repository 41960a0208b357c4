"""One child process, run in a thread and ended together with everything that it started.

Not ``asyncio.create_subprocess_exec``: when a loop shuts down while a process is being started, it cancels the task that connects
the pipes and then waits for these pipes for ever (``BaseSubprocessTransport._wait``; seen with CPython 3.11.7), so the node would never exit.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path

__all__ = ["Child"]

_DEATH_TIMEOUT_S = 10.0
"""How long the end of a killed process is waited for; one that is stuck in the kernel is left to it."""


class Child:
    """Call :meth:`run` once. Its answer is ``(exit code, stdout, stderr)``; the exit code is None when the time limit ended it."""

    def __init__(self, command: Sequence[str], cwd: Path, environ: Mapping[str, str], stdin: bytes, timeout_s: float) -> None:
        self._command = command
        self._cwd = cwd
        self._environ = environ
        self._stdin = stdin
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = False

    async def run(self, threads: Executor) -> tuple[int | None, bytes, bytes]:
        """Start it, feed it, wait for it. Cancelling ends its whole process group first. Raises :class:`OSError` when it can not be started."""
        running = asyncio.get_running_loop().run_in_executor(threads, self._run)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            self._end()
            await asyncio.wait([running], timeout=_DEATH_TIMEOUT_S)
            raise

    def _run(self) -> tuple[int | None, bytes, bytes]:
        with self._lock:
            if self._ended:
                return None, b"", b""
            self._process = subprocess.Popen(
                self._command,
                cwd=self._cwd,
                env=self._environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        process = self._process
        try:
            stdout, stderr = process.communicate(self._stdin, self._timeout_s)
        except subprocess.TimeoutExpired:
            self._end()
            return None, b"", b""
        finally:
            self._settle(process)
        return process.returncode, stdout, stderr

    def _end(self) -> None:
        # The whole group: git leaves ssh or pack-objects behind when only the leader is killed.
        with self._lock:
            self._ended = True
            if self._process is not None and self._process.poll() is None:
                try:
                    os.killpg(self._process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    return

    def _settle(self, process: subprocess.Popen[bytes]) -> None:
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None and not pipe.closed:
                pipe.close()
        try:
            process.wait(_DEATH_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            # Stuck in the kernel. It is killed already; the interpreter reaps it when it goes.
            return
