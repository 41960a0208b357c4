"""Who this node is: one Ed25519 key in one file, outside the database and readable by its owner only."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from fabrik_node._core import SigningKey
from fabrik_node.errors import BrokenStore, NotInitialised

__all__ = ["create_key", "load_key"]


def create_key(path: Path) -> SigningKey:
    """Make a key file, mode 0600 in a 0700 directory. An existing file is never overwritten: it is loaded instead. It is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    if path.exists():
        return load_key(path)
    seed = secrets.token_bytes(32)
    started = path.with_name(path.name + ".new")
    started.unlink(missing_ok=True)
    handle = os.open(started, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(seed.hex().encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(started, path)  # unlike a rename, it never replaces a key
    except FileExistsError:
        return load_key(path)
    finally:
        started.unlink()
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return SigningKey.from_seed(seed)


def load_key(path: Path) -> SigningKey:
    """The key of this home. Raises :class:`NotInitialised` without one, :class:`BrokenStore` for a file that is no key."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        raise NotInitialised(f"no node in {path.parent.parent}", "fabrik-node init, or fabrik-node join TOKEN") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BrokenStore(f"the key file {path} can not be read: {error}", "restore it from your backup; a new key is a new node") from error
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
    try:
        seed = bytes.fromhex(text)
        if len(seed) != 32:
            raise ValueError("not 32 bytes")
    except ValueError as error:
        raise BrokenStore(f"the key file {path} is damaged ({error})", "restore it from your backup; a new key is a new node") from error
    return SigningKey.from_seed(seed)
