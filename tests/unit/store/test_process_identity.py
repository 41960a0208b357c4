"""A process is pid, start time and boot: nothing else with the same pid is taken for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from fabrik_node import process
from fabrik_node.domain.runs import ProcessId


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives until its stdin is closed."""
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as running:
        yield running
        running.kill()


def test_own_process_is_alive() -> None:
    own = process.process_id(os.getpid())
    assert own is not None
    assert own.pid == os.getpid()
    assert own.boot_id == process.boot_id() != ""
    assert process.is_alive(own) is True
    assert process.process_id(os.getpid()) == own


def test_killed_process_is_dead_before_and_after_reaping(child: subprocess.Popen[bytes]) -> None:
    identity = process.process_id(child.pid)
    assert identity is not None
    assert process.is_alive(identity) is True
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process.process_id(child.pid) == identity  # a zombie still has its name ...
    assert process.is_alive(identity) is False  # ... but is dead
    child.wait()
    assert process.process_id(child.pid) is None
    assert process.is_alive(identity) is False


def test_a_process_that_a_signal_holds_is_alive_and_stopped(child: subprocess.Popen[bytes]) -> None:
    identity = process.process_id(child.pid)
    assert identity is not None
    assert process.is_stopped(child.pid) is False
    child.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    assert (process.is_alive(identity), process.is_stopped(child.pid)) == (True, True)
    child.kill()
    child.wait()
    assert process.is_stopped(child.pid) is False


@pytest.mark.promise("C2")
def test_reused_pid_is_not_alive(child: subprocess.Popen[bytes]) -> None:
    identity = process.process_id(child.pid)
    assert identity is not None
    assert process.is_alive(replace(identity, started=identity.started + "1")) is False
    assert process.is_alive(replace(identity, boot_id="00000000-0000-0000-0000-000000000000")) is False


def test_incomplete_identity_is_unknown() -> None:
    assert process.is_alive(ProcessId(os.getpid(), "", process.boot_id())) is None
    assert process.is_alive(ProcessId(os.getpid(), "1", "")) is None


@pytest.mark.parametrize("pid", [-1, 0, 2**31, 2**70])
def test_impossible_pids_are_nobody(pid: int) -> None:
    assert process.process_id(pid) is None


def test_hidden_process_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    own = process.process_id(os.getpid())
    assert own is not None

    def hidden(pid: int) -> tuple[str, bool] | None:
        raise PermissionError(f"process {pid} is hidden")

    monkeypatch.setattr(process, "_look", hidden)
    assert process.is_alive(own) is None
    assert process.process_id(os.getpid()) is None


def test_portable_look_agrees(monkeypatch: pytest.MonkeyPatch, child: subprocess.Popen[bytes]) -> None:
    """The way of systems without /proc, run here."""
    monkeypatch.setattr(process, "_look", process._look_psutil)
    identity = process.process_id(child.pid)
    assert identity is not None
    assert process.is_alive(identity) is True
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process.is_alive(identity) is False
    child.wait()
    assert process.is_alive(identity) is False


def test_boot_known_by_time_allows_for_clock_corrections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "boot_id", lambda: "t1000000")
    own = process.process_id(os.getpid())
    assert own is not None
    assert process.is_alive(replace(own, boot_id="t1000060")) is True
    assert process.is_alive(replace(own, boot_id="t1000500")) is False
