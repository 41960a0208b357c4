"""The key files of a home, and those that the operator keeps elsewhere. Nothing here needs or starts a node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fabrik_node._core import SigningKey, next_key
from fabrik_node.errors import NotFound, Precondition
from fabrik_node.ids import fingerprint
from fabrik_node.node.identity import check_place, commitment_of, load_key, read_seed, sync_folder, write_seed
from fabrik_node.paths import HomePaths

__all__ = ["keep_next", "key_files", "public_of", "seed_in"]


def key_files(home: Path) -> dict[str, Any]:
    """What lies in the home besides the key itself: the next key, and a recovery key that was not moved away."""
    paths = HomePaths(home)
    commitment = commitment_of(paths.next_key)
    return {
        "next_file": str(paths.next_key) if paths.next_key.exists() else None,
        "next_commitment": commitment.hex() or None,
        "recovery_file": str(paths.recovery_key) if paths.recovery_key.exists() else None,
    }


def keep_next(home: Path, target: Path, *, move: bool, dry_run: bool = False) -> dict[str, Any]:
    """Copy the next key to ``target``, durably, and with ``move`` take it out of the home. Raises NotFound, Conflict, Precondition: the home's file is there then. ``dry_run``: only what would be refused, and the answer."""
    paths = HomePaths(home)
    if not paths.identity_key.exists():
        load_key(paths.identity_key)  # says that there is no node
    if not paths.next_key.exists():
        raise NotFound(f"there is no next key in {paths.identity}: it was moved away, or never made", "fabrik-node keys list")
    seed = read_seed(paths.next_key)
    if target.is_dir():
        raise Precondition(f"{target} is a folder", f"name the file, too: {target / 'next.key'}")
    if dry_run:
        check_place(target)
    else:
        write_seed(target, seed)
        if move:
            paths.next_key.unlink()
            sync_folder(paths.identity)
    public = public_of(seed)
    said = {"file": str(target), "moved": move, "fingerprint": fingerprint(public), "commitment": next_key(public).hex()}
    return said | ({"dry_run": True} if dry_run else {})


def seed_in(path: Path) -> str:
    """The seed in a key file as hex digits, for the running node. Raises NotFound, Precondition, UsageError."""
    return read_seed(path).hex()


def public_of(seed: bytes) -> bytes:
    """The public key of a seed."""
    return SigningKey.from_seed(seed).public
