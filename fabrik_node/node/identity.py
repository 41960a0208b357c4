"""Who this node is: one Ed25519 key in one file, outside the database and readable by its owner only. And the key that will follow it, in another.

A key file holds the 32 bytes of the seed as hex digits and a line end. Those of the home are made and read by :func:`create_key` and :func:`load_key`;
those that the operator keeps elsewhere by :func:`read_seed` and :func:`write_seed`, which leave their folder alone.
"""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from pathlib import Path

from fabrik_node._core import SigningKey, next_key
from fabrik_node.errors import BrokenStore, Conflict, NotFound, NotInitialised, Precondition, UsageError

__all__ = ["check_place", "commitment_of", "create_key", "load_key", "read_seed", "replace_key", "sync_folder", "write_seed"]

_SEED_BYTES = 32


def create_key(path: Path) -> SigningKey:
    """Make a key file, mode 0600 in a 0700 directory. An existing file is never overwritten: it is loaded instead. It is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    if path.exists():
        return load_key(path)
    seed = secrets.token_bytes(_SEED_BYTES)
    started = path.with_name(path.name + ".new")
    started.unlink(missing_ok=True)
    _write(started, seed)
    try:
        os.link(started, path)  # unlike a rename, it never replaces a key
    except FileExistsError:
        return load_key(path)
    finally:
        started.unlink()
    sync_folder(path.parent)
    return SigningKey.from_seed(seed)


def load_key(path: Path) -> SigningKey:
    """The key of this home. Raises :class:`NotInitialised` without one, :class:`BrokenStore` for a file that is no key."""
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        raise NotInitialised(f"no node in {path.parent.parent}", "fabrik-node init, or fabrik-node join TOKEN") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BrokenStore(f"the key file {path} can not be read: {error}", "restore it from your backup; a new key is a new node") from error
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
    try:
        return SigningKey.from_seed(_seed_of(text))
    except ValueError as error:
        raise BrokenStore(f"the key file {path} is damaged ({error})", "restore it from your backup; a new key is a new node") from error


def commitment_of(path: Path) -> bytes:
    """The commitment to the key in a file of the home; empty when there is no such file, or it holds no key."""
    with suppress(NotInitialised, BrokenStore):
        return next_key(load_key(path).public)
    return b""


def read_seed(path: Path) -> bytes:
    """The seed in a key file that the operator keeps. Raises :class:`NotFound`, :class:`Precondition` when it can not be read, :class:`UsageError` for what is no key."""
    try:
        return _seed_of(path.read_text(encoding="ascii"))
    except FileNotFoundError:
        raise NotFound(f"there is no key file {path}", f"ls -l {path.parent}") from None
    except OSError as error:
        raise Precondition(f"the key file {path} can not be read: {error.strerror or error}", f"ls -l {path}") from error
    except ValueError as error:
        raise UsageError(f"{path} is no key file ({error})", "a key file has one line of 64 hex digits") from error


def write_seed(path: Path, seed: bytes) -> None:
    """A key file that the operator keeps: mode 0600 where the medium knows modes, durable, read back. Raises :class:`Conflict` when there is something already, :class:`Precondition`."""
    try:
        _write(path, seed)
        sync_folder(path.parent)
        if read_seed(path) != seed:
            raise Precondition(f"{path} does not hold what was written to it", "use another medium")
    except FileExistsError:
        raise _taken(path) from None
    except OSError as error:
        raise _unwritable(path, error.strerror or str(error)) from error


def check_place(path: Path) -> None:
    """What :func:`write_seed` would refuse, as far as that is known without writing. Raises :class:`Conflict`, :class:`Precondition`."""
    if os.path.lexists(path):
        raise _taken(path)
    if not path.parent.is_dir():
        raise _unwritable(path, os.strerror(errno.ENOTDIR if path.parent.exists() else errno.ENOENT))
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise _unwritable(path, os.strerror(errno.EACCES))


def replace_key(path: Path, seed: bytes) -> None:
    """A key file of the home with this seed, whatever was there. The old file or the new one is there, whole."""
    started = path.with_name(path.name + ".new")
    started.unlink(missing_ok=True)
    _write(started, seed)
    started.replace(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make names in a folder durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _taken(path: Path) -> Conflict:
    return Conflict(f"{path} is there already: nothing was changed", "name a file that is not there yet")


def _unwritable(path: Path, why: str) -> Precondition:
    return Precondition(f"the key file {path} can not be written: {why}", "name a file in a folder that is there and can be written")


def _seed_of(text: str) -> bytes:
    """Raises ValueError."""
    seed = bytes.fromhex(text.strip())
    if len(seed) != _SEED_BYTES:
        raise ValueError(f"not {_SEED_BYTES} bytes")
    return seed


def _write(path: Path, seed: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(seed.hex().encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
