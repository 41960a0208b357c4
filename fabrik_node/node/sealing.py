"""Secrets of open invitations as the database holds them: sealed with a key that lies in a file outside of it.

So a copy of the database, or of what is dumped or backed up from it, lets nobody in. XChaCha20-Poly1305 of libsodium; the id of the invitation is
authenticated with its secret, so that sealed bytes can not be put to another one.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from nacl.exceptions import CryptoError
from nacl.secret import Aead

from fabrik_node.errors import FabrikError, Precondition
from fabrik_node.node.identity import create_key, read_seed

__all__ = ["PLAIN_BYTES", "SealKey", "is_plain"]

PLAIN_BYTES = 32
"""Of a secret as builds before sealing stored it. A sealed one is longer by a nonce and a tag (40 bytes)."""


def is_plain(stored: bytes) -> bool:
    """Whether these stored bytes are the secret itself."""
    return len(stored) == PLAIN_BYTES


class SealKey:
    """The key in ``path``: made on first need, 0600 in a 0700 folder, and read at each use, so what is gone is gone at once.

    None is a key that lives as long as this object: what it sealed opens nothing afterwards.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._own = secrets.token_bytes(Aead.KEY_SIZE) if path is None else b""

    def __repr__(self) -> str:
        """Without the key."""
        return f"SealKey({self._path})"

    def seal(self, token_id: bytes, secret: bytes) -> bytes:
        """What the database may hold. Raises :class:`Precondition` when the file can not be made or read; it blocks for a moment while it is made."""
        return bytes(Aead(self._made()).encrypt(secret, token_id))

    def check(self) -> None:
        """What :meth:`seal` would refuse now, without making the file. Raises :class:`Precondition`."""
        if self._path is not None and self._path.exists():
            self._usable()

    def open(self, token_id: bytes, stored: bytes) -> bytes | None:
        """The secret; None when it was not sealed with this key for this invitation, or the key is gone."""
        try:
            return Aead(self._read()).decrypt(stored, token_id)
        except (CryptoError, FabrikError, ValueError):  # ValueError: shorter than a nonce
            return None

    def _made(self) -> bytes:
        if self._path is not None and not self._path.exists():
            try:
                create_key(self._path)
            except OSError as error:
                raise Precondition(f"the key file {self._path} can not be made: {error.strerror or error}", f"ls -ld {self._path.parent}") from error
        return self._usable()

    def _usable(self) -> bytes:
        try:
            return self._read()
        except FabrikError as error:
            hint = f"remove it: the next invitation makes a new one, and those that are open are void: rm {self._path}"
            raise Precondition(f"the key of the invitations can not be used: {error.message}", hint) from error

    def _read(self) -> bytes:
        if self._path is None:
            return self._own
        if self._path.exists() and self._path.stat().st_mode & 0o077:
            self._path.chmod(0o600)
        return read_seed(self._path)
