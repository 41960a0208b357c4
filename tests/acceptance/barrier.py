"""A git remote that takes its time with a merge."""

from __future__ import annotations

from pathlib import Path

__all__ = ["Barrier"]


class Barrier:
    """The remote stops inside every push that moves the base, until it is opened (or ``bound_s`` are over); it says how many came so far.

    ``first``: only so many pushes are held, the later ones pass.
    """

    def __init__(self, remote: Path, first: int = 1_000, bound_s: int = 60) -> None:
        self._closed, self._inside = remote / "closed", remote / "inside"
        self._closed.touch()
        self._inside.touch()
        hook = remote / "hooks" / "pre-receive"
        hook.parent.mkdir(exist_ok=True)
        wait = f"while [ -e {self._closed} ] && [ $n -lt {bound_s * 10} ]; do n=$((n+1)); sleep 0.1; done"
        hook.write_text(
            f"#!/bin/sh\ngrep -q refs/heads/main || exit 0\necho >> {self._inside}\n[ $(wc -l < {self._inside}) -le {first} ] || exit 0\nn=0\n{wait}\n"
        )
        hook.chmod(0o755)

    def came(self) -> int:
        return len(self._inside.read_text())

    def open(self) -> None:
        self._closed.unlink()
