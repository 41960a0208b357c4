"""One process per home: the second is told who has it, a dead one is told of, a clear exists."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from store_children import CHILD, child_environment
from store_doubles import HandClock

from fabrik_node.errors import Internal, OwnedElsewhere, StoreFailed
from fabrik_node.process import boot_id, process_id
from fabrik_node.store.owner import LOCK_NAME, LOOP_S, OwnerLock, clear_owner, read_owner

CLOCK = HandClock()


class Holder:
    """A child that took (or was refused) the home."""

    def __init__(self, home: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(CHILD), "own", str(home)], env=child_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.said: dict[str, Any] = json.loads(self.process.stdout.readline())

    def end(self, how: str) -> None:
        if how == "kill":
            self.process.kill()
        self.process.communicate("release" if how == "release" else "", timeout=30)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Holder]:
    child = Holder(tmp_path)
    yield child
    child.end("kill")


def _edit(home: Path, **fields: str) -> None:
    path = home / "owner.lock"
    pairs = dict(line.split("=", 1) for line in path.read_text().splitlines()) | fields
    path.write_text("".join(f"{key}={value}\n" for key, value in pairs.items()))


@pytest.mark.promise("C16")
def test_a_second_owner_is_refused_and_told_who_has_it(tmp_path: Path, holder: Holder) -> None:
    pid = holder.process.pid
    assert holder.said == {"owned": pid, "previous": None}
    owner = read_owner(tmp_path)
    assert owner is not None
    assert owner.process == process_id(pid)
    assert (owner.host, owner.socket) == (socket.gethostname(), str(tmp_path / "run" / "node.sock"))
    record = (tmp_path / "owner.lock").read_bytes()
    expected = f"{tmp_path} is owned by process {pid} on {socket.gethostname()}, started {owner.started}"
    with pytest.raises(OwnedElsewhere) as caught:
        OwnerLock.acquire(tmp_path, CLOCK)
    assert (str(caught.value), caught.value.hint) == (expected, "fabrik-node status")
    second = Holder(tmp_path)
    assert second.said == {"code": "owned", "message": expected, "hint": "fabrik-node status"}
    second.end("")
    with pytest.raises(OwnedElsewhere):
        clear_owner(tmp_path)
    assert (tmp_path / "owner.lock").read_bytes() == record
    holder.end("release")
    assert read_owner(tmp_path) is None
    with OwnerLock.acquire(tmp_path, CLOCK) as lock:
        assert lock.previous is None


@pytest.mark.promise("C16")
def test_an_owner_that_was_killed_is_told_of(tmp_path: Path, holder: Holder) -> None:
    identity = process_id(holder.process.pid)
    holder.end("kill")
    assert read_owner(tmp_path) is not None
    with OwnerLock.acquire(tmp_path, CLOCK) as lock:
        assert lock.previous is not None
        assert lock.previous.process == identity
        assert lock.owner == read_owner(tmp_path)
    with OwnerLock.acquire(tmp_path, CLOCK) as lock:
        assert lock.previous is None, "after a clean release there is nothing to tell"


def test_a_stopped_owner_still_owns(tmp_path: Path, holder: Holder) -> None:
    os.kill(holder.process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(OwnedElsewhere):
            OwnerLock.acquire(tmp_path, CLOCK)
    finally:
        os.kill(holder.process.pid, signal.SIGCONT)


@pytest.mark.promise("C16")
def test_a_record_of_another_host_is_refused_until_cleared(tmp_path: Path, holder: Holder) -> None:
    holder.end("kill")
    _edit(tmp_path, host="elsewhere", boot_id="00000000-0000-0000-0000-000000000000")
    record = (tmp_path / "owner.lock").read_bytes()
    for _ in range(2):
        with pytest.raises(OwnedElsewhere, match="on elsewhere, started .* can not be checked") as caught:
            OwnerLock.acquire(tmp_path, CLOCK)
        assert "fabrik-node lock clear" in caught.value.hint
        assert (tmp_path / "owner.lock").read_bytes() == record
    cleared = clear_owner(tmp_path)
    assert cleared is not None
    assert cleared.host == "elsewhere"
    assert clear_owner(tmp_path) is None
    with OwnerLock.acquire(tmp_path, CLOCK) as lock:
        assert lock.previous is None


@pytest.mark.promise("C16")
@pytest.mark.parametrize("host", ["", "elsewhere"])
def test_a_record_that_came_with_a_copy_names_nobody_here(tmp_path: Path, holder: Holder, host: str) -> None:
    copy = tmp_path / "copy"
    for take in (True, False):
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        shutil.copy2(tmp_path / "owner.lock", copy)
        if host:
            _edit(copy, host=host, boot_id="00000000-0000-0000-0000-000000000000")
        assert read_owner(copy) is None
        if not take:
            assert clear_owner(copy) is not None
            assert (copy / "owner.lock").read_bytes() == b""
            continue
        with OwnerLock.acquire(copy, CLOCK) as lock:
            assert lock.previous is None
            assert lock.copied is not None
            assert lock.copied.process.pid == holder.process.pid
            assert read_owner(copy) == lock.owner
    moved = read_owner(tmp_path)
    assert moved is not None
    assert moved.info["home"] == os.path.realpath(tmp_path)


def test_an_owner_of_an_earlier_boot_is_gone(tmp_path: Path, holder: Holder) -> None:
    holder.end("kill")
    _edit(tmp_path, boot_id="00000000-0000-0000-0000-000000000000", pid="1")
    with OwnerLock.acquire(tmp_path, CLOCK) as lock:
        assert lock.previous is not None
        assert lock.previous.process.pid == 1


def test_a_renamed_host_still_knows_its_own_dead(tmp_path: Path, holder: Holder) -> None:
    holder.end("kill")
    _edit(tmp_path, host="old-name")
    with OwnerLock.acquire(tmp_path, CLOCK) as lock:
        assert lock.previous is not None


def test_a_file_system_that_forgets_locks_is_noticed(tmp_path: Path) -> None:
    """The record names a live process of this host, but the lock is free."""
    own = process_id(os.getppid())
    assert own is not None
    (tmp_path / "owner.lock").write_text(f"pid={own.pid}\nprocess_started={own.started}\nboot_id={boot_id()}\nhost={socket.gethostname()}\nstarted=then\n")
    with pytest.raises(OwnedElsewhere, match="it is alive although its lock is free"):
        OwnerLock.acquire(tmp_path, CLOCK)
    with pytest.raises(OwnedElsewhere, match="which is alive"):
        clear_owner(tmp_path)


@pytest.mark.parametrize("record", ["", "pid=12\nprocess_sta", "\x00" * 40, "pid=x\nprocess_started=1\nboot_id=b\nhost=h\nstarted=s\n"])
def test_a_record_that_was_never_finished_stops_nobody(tmp_path: Path, record: str) -> None:
    (tmp_path / "owner.lock").write_text(record)
    assert read_owner(tmp_path) is None
    with OwnerLock.acquire(tmp_path, CLOCK) as lock:
        assert lock.previous is None
        assert read_owner(tmp_path) == lock.owner


def test_children_do_not_inherit_the_lock(tmp_path: Path) -> None:
    lock = OwnerLock.acquire(tmp_path, CLOCK)
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, close_fds=False) as child:
        lock.release()
        lock.release()
        OwnerLock.acquire(tmp_path, CLOCK).release()
        child.kill()


def test_homes_that_can_not_be_locked(tmp_path: Path) -> None:
    assert read_owner(tmp_path) is None
    assert clear_owner(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StoreFailed, match="can not be opened"):
        OwnerLock.acquire(tmp_path / "none", CLOCK)
    (tmp_path / "owner.lock").mkdir()
    with pytest.raises(StoreFailed, match="can not be read"):
        read_owner(tmp_path)


@pytest.mark.parametrize("info", [{"a=b": "c"}, {"a": "b\nc"}, {"a": "x" * 5000}])
def test_what_has_no_place_in_the_record(tmp_path: Path, info: dict[str, str]) -> None:
    with pytest.raises(Internal):
        OwnerLock.acquire(tmp_path, CLOCK, info)
    assert read_owner(tmp_path) is None
    OwnerLock.acquire(tmp_path, CLOCK, {"socket": "/caf\udce9", "text": "a=b"}).release()


@pytest.mark.promise("C20")
def test_owners_that_die_soon_after_their_start_are_counted_until_one_stops_or_lives(tmp_path: Path) -> None:
    clock = HandClock()

    def died(after_s: float) -> int:
        """One more owner, which takes the home, lives so long and dies; how many it counted before it."""
        lock = OwnerLock.acquire(tmp_path, clock)
        record = (tmp_path / LOCK_NAME).read_bytes()
        lock.release()
        # The record of a process that is gone: as a kill leaves it.
        (tmp_path / LOCK_NAME).write_bytes(re.sub(rb"process_started=\d+", b"process_started=1", record))
        clock.advance(after_s)
        return lock.deaths

    assert [died(5.0) for _ in range(4)] == [0, 1, 2, 3]
    assert died(LOOP_S + 1) == 4
    assert died(1.0) == 1, "the one before it lived long"
    lock = OwnerLock.acquire(tmp_path, clock)
    assert lock.deaths == 2
    lock.release()
    assert died(0.0) == 0, "a stop ends the row"
    clock.seconds = 1.0
    assert died(0.0) == 1, "a clock that went back is another boot's"
    clock.seconds = 100.6
    assert [died(0.1) for _ in range(3)] == [2, 3, 4], "within the same second"
