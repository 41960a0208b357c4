"""A secret on the command line: better from stdin or a file, because arguments show in the list of processes."""

from __future__ import annotations

import sys
from pathlib import Path

from fabrik_node.errors import UsageError

__all__ = ["secret_text"]

_CHARS_MAX = 65_536


def secret_text(argument: str) -> str:
    """What ``-`` (stdin), ``@PATH`` (a file) or the text itself says, without surrounding space. Raises :class:`UsageError`."""
    if argument == "-":
        text, where = sys.stdin.read(_CHARS_MAX), "stdin"
    elif argument.startswith("@"):
        path = Path(argument[1:])
        try:
            with path.open(encoding="utf-8") as file:
                text = file.read(_CHARS_MAX)
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"{path} can not be read: {getattr(error, 'strerror', None) or error}", "@FILE is a file with a token in it, and - is stdin"
            ) from error
        where = str(path)
    else:
        return argument
    if not text.strip():
        raise UsageError(f"there is no token in {where}", "fabrik-node invite prints one")
    return text.strip()
