"""The user and the password in the URL of a remote: git gets them from a private file, or from its environment for a single look, never as an argument.

Arguments show in the list of processes, and git passes the URL on to its helper programs. So every command gets the URL without its login, and a
credential helper (gitcredentials(7)) of this one URL that prints the file. The agents' git reads the same helper from the configuration of the repository.
"""

from __future__ import annotations

import os
import secrets
import shlex
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit, urlunsplit

from fabrik_node.errors import UsageError
from fabrik_node.paths import private_folder

__all__ = ["RemoteLogin", "split_login"]

_VARIABLE = "FABRIK_REMOTE_LOGIN"
_ASKED = ("http", "https")
"""Schemes for which git asks a credential helper."""


@dataclass(frozen=True, slots=True)
class RemoteLogin:
    """``said`` is what the helper answers (git-credential(1)); ``scope`` the URL for which it does."""

    scope: str
    said: bytes

    def __repr__(self) -> str:
        """Without the password."""
        return f"RemoteLogin({self.scope})"

    def keep(self, path: Path) -> list[tuple[str, str]]:
        """Write it to ``path``, 0600 in a 0700 folder, whole or not at all; the settings with which git reads it there, and asks nobody else."""
        private_folder(path.parent)
        if not path.exists() or path.read_bytes() != self.said:
            started = path.with_name(f"{path.name}.new-{secrets.token_hex(4)}")
            with os.fdopen(os.open(started, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(self.said)
            started.replace(path)
        return self._asking(f"cat {shlex.quote(str(path))}")

    def told(self) -> tuple[list[tuple[str, str]], dict[str, str]]:
        """For a look that leaves nothing: the settings with which git reads it from its environment, which other users can not see, and what that has more. No file is written."""
        return self._asking(f'printf %s "${_VARIABLE}"'), {_VARIABLE: os.fsdecode(self.said)}

    def _asking(self, say: str) -> list[tuple[str, str]]:
        key = f"credential.{self.scope}.helper"
        return [(key, ""), (key, f'!f() {{ test "$1" != get || {say}; }}; f')]


def split_login(remote: str) -> tuple[str, RemoteLogin | None]:
    """The remote as git may be told it, and the login that was in it. Raises :class:`UsageError` for one with control characters.

    A user alone stays: git needs it to find the password elsewhere. Other schemes than HTTP take no password from a URL; it is left out.
    """
    if "://" not in remote:
        return remote, None
    hint = "write the URL in [git] of config.toml with the user's and the password's special characters as %XX"
    try:
        parts = urlsplit(remote)
    except ValueError as error:
        raise UsageError(f"the git remote is not a URL: {error}", hint) from None
    login, _, host = parts.netloc.rpartition("@")
    user, colon, password = login.partition(":")
    if not colon:
        return remote, None
    if parts.scheme.lower() not in _ASKED:
        return urlunsplit(parts._replace(netloc=f"{user}@{host}")), None
    fields = {b"username": unquote_to_bytes(user), b"password": unquote_to_bytes(password)}
    if any(byte < 0x20 for value in fields.values() for byte in value):
        raise UsageError("the user or the password in the URL of the git remote has control characters", hint)
    bare = urlunsplit(parts._replace(netloc=host))
    scope = bare if not parts.query and not parts.fragment else f"{parts.scheme}://{host}"  # git compares the path as a whole, and knows no query
    return bare, RemoteLogin(scope, b"".join(name + b"=" + value + b"\n" for name, value in fields.items()))
