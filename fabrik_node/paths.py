"""Where things lie in a home: the one list of its files and folders.

Importable by every room. Imports nothing of the product and creates nothing by itself, but for :func:`private_folder`.
The layout is part of what users see; a path moves only with a migration.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from fabrik_node.errors import Precondition

__all__ = ["SOCKET_PATH_BYTES_MAX", "HomePaths", "private_folder"]

SOCKET_PATH_BYTES_MAX = 100
"""Bytes of a Unix socket's path: ``sun_path`` holds 104 on the smallest system that we run on, its end mark included (unix(4), unix(7))."""


@dataclass(frozen=True, slots=True)
class HomePaths:
    """The files and folders of one node. ``home`` is absolute (:func:`fabrik_node.config.home_path`)."""

    home: Path

    @property
    def config(self) -> Path:
        """Settings, written by the operator."""
        return self.home / "config.toml"

    @property
    def identity(self) -> Path:
        """Folder of the node's keys, 0700. Never part of a backup of the store."""
        return self.home / "identity"

    @property
    def identity_key(self) -> Path:
        """The Ed25519 seed, 0600."""
        return self.identity / "ed25519.key"

    @property
    def next_key(self) -> Path:
        """The seed of the key that will follow it, 0600; gone when the operator keeps it elsewhere."""
        return self.identity / "next.key"

    @property
    def after_key(self) -> Path:
        """The seed of the key after the next one, 0600, while a rotation is under way."""
        return self.identity / "after.key"

    @property
    def invitations_key(self) -> Path:
        """Seals the secrets of open invitations in the database, 0600; made on first need. Without it they are void."""
        return self.identity / "invitations.key"

    @property
    def former_keys(self) -> Path:
        """Seeds of keys that were rotated away, by their first hex digits: peers that have not heard of it still know this node by them."""
        return self.identity / "former"

    @property
    def recovery_key(self) -> Path:
        """Where ``init`` puts the mesh's recovery key, unless it is told another place. It does not belong here for long."""
        return self.identity / "recovery.key"

    @property
    def store(self) -> Path:
        """The SQLite file; ``-wal`` and ``-shm`` lie beside it."""
        return self.home / "store" / "fabrik.db"

    @property
    def snapshot(self) -> Path:
        """The registers as of some moment, so that a start is quick; deleting it loses nothing."""
        return self.store.with_name("state.snapshot")

    @property
    def owner_lock(self) -> Path:
        """Locked by the process that owns this home; its lines say who that is."""
        return self.home / "owner.lock"

    @property
    def events(self) -> Path:
        """The exported event stream, one JSON object per line; older files end in ``.1``, ``.2`` ..."""
        return self.home / "events.ndjson"

    @property
    def runs(self) -> Path:
        """One folder per run of this node."""
        return self.home / "runs"

    def run_folder(self, run_id: str) -> Path:
        """Logs and results of one run (``run_id`` as people write it)."""
        return self.runs / run_id

    @property
    def git(self) -> Path:
        """Bare clones of the remotes that this node works on."""
        return self.home / "git"

    @property
    def work(self) -> Path:
        """Worktrees, one per claim."""
        return self.home / "work"

    @property
    def socket(self) -> Path:
        """Where the running node listens for local calls.

        ``run/node.sock`` in the home. When that path is longer than a socket's may be: a folder of this user and this home under
        ``/tmp``. Make the folder with :func:`private_folder` before binding; it refuses one that somebody else put there.
        """
        inside = self.home / "run" / "node.sock"
        if len(os.fsencode(inside)) <= SOCKET_PATH_BYTES_MAX:
            return inside
        from hashlib import sha256  # rarely needed, and the command line counts its imports

        return Path("/tmp") / f"fabrik-node-{os.getuid()}-{sha256(os.fsencode(self.home)).hexdigest()[:16]}" / "node.sock"  # noqa: S108 - TMPDIR may be as long as the home


def private_folder(folder: Path) -> None:
    """Make ``folder`` (and its parents) with mode 0700, or check that it is ours alone.

    Raises :class:`~fabrik_node.errors.Precondition` when it exists as something else or belongs to another user.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise Precondition(f"can not make the folder {folder}: {error.strerror or error}", "choose another place with --home DIR") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise Precondition(f"{folder} is not a folder of this user", f"look at it, then remove it: ls -ld {folder}")
    if stat.S_IMODE(found.st_mode) != 0o700:
        folder.chmod(0o700)
