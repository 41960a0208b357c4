"""One process owns a home: a lock of the kernel, and a record beside it that says who has it.

The lock (``flock`` on ``owner.lock``) decides; it ends with the process, however that ends. The record (``key=value`` lines in the same file) is
for people and for the next owner: a clean release empties it, so what is found after taking the lock tells of an owner that died.
Children do not inherit the lock: the file is opened close-on-exec. A record also says of which home and lock file it is: one that was copied with
its home is of no owner here.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from fabrik_node.clock import Clock, iso
from fabrik_node.domain.runs import ProcessId
from fabrik_node.errors import Internal, OwnedElsewhere, StoreFailed
from fabrik_node.process import boot_id, is_alive, process_id

__all__ = ["LOCK_NAME", "LOOP_S", "Owner", "OwnerLock", "check_free", "clear_owner", "read_owner"]

LOCK_NAME = "owner.lock"
_RECORD_BYTES_MAX = 4096
_STATUS = "fabrik-node status"
_CLEAR = "when that process is surely gone: fabrik-node lock clear"
_HOME = "home"
_INODE = "inode"
"""Of the lock file itself, so that a copied record shows."""
_DEATHS = "deaths"
_UP = "up"
LOOP_S = 600.0
"""An owner that dies within so many seconds of its start, after another that did, is one more of a loop."""
_FIXED = ("pid", "process_started", "boot_id", "host", "started")


@dataclass(frozen=True, slots=True)
class Owner:
    """Who took a home. ``started`` is when, in ISO 8601; ``info`` holds what the owner said of itself (``socket``: where it listens)."""

    process: ProcessId
    host: str
    started: str
    info: Mapping[str, str] = field(default_factory=dict)

    @property
    def socket(self) -> str:
        """The path of the owner's Unix socket, empty when it did not say."""
        return self.info.get("socket", "")

    def __str__(self) -> str:
        return f"process {self.process.pid} on {self.host}, started {self.started}"


class OwnerLock:
    """The home is ours until :meth:`release` or the end of the process. Made by :meth:`acquire`."""

    def __init__(self, descriptor: int, owner: Owner, previous: Owner | None, copied: Owner | None = None) -> None:
        self.owner = owner
        """We."""
        self.previous = previous
        """The owner before us, if it died without a release; None after a clean one."""
        self.copied = copied
        """Whom the record named when it was another home's: it came with a copy, and says nothing of this one."""
        self.deaths = int(owner.info.get(_DEATHS, "0"))
        """How many owners before us died in a row, each within :data:`LOOP_S` of the start of the one before. A clean release ends the row."""
        self._descriptor: int | None = descriptor

    @classmethod
    def acquire(cls, home: Path, clock: Clock, info: Mapping[str, str] | None = None) -> OwnerLock:
        """Take ``home`` (an existing directory) for this process, without waiting.

        Raises :class:`OwnedElsewhere` while another process has it, and for a record of another host that was never released: from here
        nobody can tell whether that owner lives. Raises :class:`StoreFailed` when the file system gives no lock.
        """
        own = process_id(os.getpid())
        if own is None:
            raise Internal("this process can not look at itself")
        descriptor = _open(home)
        try:
            place = {_HOME: os.path.realpath(home), _INODE: str(os.fstat(descriptor).st_ino)}
            previous, copied = _take(descriptor, home), None
            if previous is not None and _is_copied(previous, descriptor):
                previous, copied = None, previous
            if previous is not None:
                _check_gone(previous, home)
            now = clock.now()
            row = {_DEATHS: str(_deaths(previous, own.boot_id, now)), _UP: str(int(now))}
            owner = Owner(own, socket.gethostname(), iso(clock.wall_ms()), {**(info or {}), **place, **row})
            record = _render(owner)
            _write(descriptor, record, home)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor, owner, previous, copied)

    def release(self) -> None:
        """Give the home back, leaving no record. Releasing twice is allowed."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        try:
            os.ftruncate(descriptor, 0)
            os.fsync(descriptor)
        except OSError as error:
            raise StoreFailed(f"{LOCK_NAME} can not be emptied: {error.strerror}", _STATUS) from error
        finally:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def read_owner(home: Path) -> Owner | None:
    """What the record says: an owner that runs or that died without a release; None when there is none, or another home's. Does not touch the lock."""
    try:
        with (home / LOCK_NAME).open("rb") as file:
            owner = _parse(file.read(_RECORD_BYTES_MAX))
            return None if owner is None or _is_copied(owner, file.fileno()) else owner
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreFailed(f"{home / LOCK_NAME} can not be read: {error.strerror}", f"ls -l {home / LOCK_NAME}") from error


def check_free(home: Path) -> None:
    """Raises what :meth:`OwnerLock.acquire` would raise now, and leaves the home as it is."""
    if not (home / LOCK_NAME).exists():
        return
    descriptor = _open(home)
    try:
        previous = _take(descriptor, home)
        if previous is not None and not _is_copied(previous, descriptor):
            _check_gone(previous, home)
    finally:
        os.close(descriptor)


def clear_owner(home: Path) -> Owner | None:
    """Forget the record of an owner that is gone; returns it, None when there was none. For an operator who knows that it is.

    Raises :class:`OwnedElsewhere` while the lock is held or the owner is seen alive on this host.
    """
    if not (home / LOCK_NAME).exists():
        return None
    descriptor = _open(home)
    try:
        owner = _take(descriptor, home)
        if owner is not None and not _is_copied(owner, descriptor) and _is_here(owner) and is_alive(owner.process):
            raise OwnedElsewhere(f"{home} is owned by {owner}, which is alive", f"kill {owner.process.pid}")
        _write(descriptor, b"", home)
        return owner
    finally:
        os.close(descriptor)


def _open(home: Path) -> int:
    path = home / LOCK_NAME
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreFailed(f"{path} can not be opened: {error.strerror}", f"ls -ld {home}") from error


def _take(descriptor: int, home: Path) -> Owner | None:
    """Lock the file; returns its record."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = _parse(os.pread(descriptor, _RECORD_BYTES_MAX, 0))
        raise OwnedElsewhere(f"{home} is owned by {owner or 'another process that is just starting'}", _STATUS) from None
    except OSError as error:
        raise StoreFailed(f"the file system of {home} gives no locks: {error.strerror}", "choose a home on a local disk: fabrik-node --home DIR ...") from error
    return _parse(os.pread(descriptor, _RECORD_BYTES_MAX, 0))


def _is_copied(owner: Owner, descriptor: int) -> bool:
    """The record was written into another file. The path decides nothing: a home that was moved, or is mounted elsewhere, keeps its owner.

    A record of an older version does not say; it is taken for this file's.
    """
    return owner.info.get(_INODE, "") not in ("", str(os.fstat(descriptor).st_ino))


def _check_gone(previous: Owner, home: Path) -> None:
    """We hold the lock. On one kernel that proves that the owner is gone; across hosts it does not."""
    if not _is_here(previous):
        raise OwnedElsewhere(f"{home} is owned by {previous}; it was not released, and from this host it can not be checked", _CLEAR)
    if is_alive(previous.process):
        raise OwnedElsewhere(f"{home} is owned by {previous}; it is alive although its lock is free: the file system does not keep locks", _STATUS)


def _deaths(previous: Owner | None, boot: str, now: float) -> int:
    """Times are seconds of one boot: after another boot, or for a record of an older version, the row begins anew."""
    if previous is None:
        return 0
    before, up = previous.info.get(_DEATHS, ""), previous.info.get(_UP, "")
    in_row = previous.process.boot_id == boot and before.isdecimal() and up.isdecimal() and 0 <= now - float(up) <= LOOP_S
    return int(before) + 1 if in_row else 1


def _is_here(owner: Owner) -> bool:
    """The owner ran on this kernel now (also in another container), or on an earlier boot of this host."""
    return owner.process.boot_id == boot_id() or owner.host == socket.gethostname()


def _render(owner: Owner) -> bytes:
    fixed = (str(owner.process.pid), owner.process.started, owner.process.boot_id, owner.host, owner.started)
    pairs = [*zip(_FIXED, fixed, strict=True), *((key, value) for key, value in owner.info.items() if key not in _FIXED)]
    for key, value in pairs:
        if "=" in key or "\n" in key or "\n" in value:
            raise Internal(f"{key!r} has no place in the owner's record")
    record = "".join(f"{key}={value}\n" for key, value in pairs).encode("utf-8", "surrogateescape")
    if len(record) > _RECORD_BYTES_MAX:
        raise Internal(f"the owner's record is longer than {_RECORD_BYTES_MAX} bytes")
    return record


def _parse(raw: bytes) -> Owner | None:
    """None for an empty record, and for one that its writer did not finish (it then never came to serve)."""
    lines = raw.decode("utf-8", "surrogateescape").split("\n")
    pairs = dict(line.split("=", 1) for line in lines[:-1] if "=" in line)
    if not all(key in pairs for key in _FIXED) or not pairs["pid"].isdecimal():
        return None
    process = ProcessId(int(pairs["pid"]), pairs["process_started"], pairs["boot_id"])
    return Owner(process, pairs["host"], pairs["started"], {key: value for key, value in pairs.items() if key not in _FIXED})


def _write(descriptor: int, record: bytes, home: Path) -> None:
    try:
        os.ftruncate(descriptor, 0)
        if record and os.pwrite(descriptor, record, 0) != len(record):
            raise StoreFailed(f"{home / LOCK_NAME} could not be written whole", f"df {home}")
        os.fsync(descriptor)
    except OSError as error:
        raise StoreFailed(f"{home / LOCK_NAME} can not be written: {error.strerror}", f"df {home}") from error
