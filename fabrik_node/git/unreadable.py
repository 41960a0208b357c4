"""What of a repository git can not read, in words for the people who have to mend it. Nothing is mended here: what git calls missing may only be unreadable for the moment."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from fabrik_node.git.runner import GitRunner

__all__ = ["has_ref", "to_mend", "unreadable"]

_NAMED_MAX = 4
_HEAD_BYTES_MAX = 64


async def unreadable(git: GitRunner, directory: Path) -> str:
    """At what of all refs and worktrees of the bare repository ``directory`` git stops, in its words, and which of them name objects that it can not read; empty when it can read all. Raises :class:`GitFailed`."""
    whole = await git.call(directory, "rev-list", "--quiet", "--stdin", "--not", "--all")
    if whole.exit_code is None or whole.ok:
        return ""
    names = [name for name in await _naming_nothing(git, directory) if name not in whole.cause]
    more = f" and {len(names) - _NAMED_MAX} more" if len(names) > _NAMED_MAX else ""
    return whole.cause + (f" (see {', '.join(names[:_NAMED_MAX])}{more})" if names else "")


def to_mend(directory: Path) -> str:
    """What to type then."""
    return f"git -C {shlex.quote(str(directory))} fsck --connectivity-only, and mend what it names"


async def has_ref(git: GitRunner, directory: Path, ref: str) -> bool:
    """Is there a ref of this name, whatever it names? Raises :class:`GitFailed`."""
    listed = await git.text(directory, "for-each-ref", "--format=%(refname)", "--", ref)
    file = directory / ref  # git does not list one in which there is no object id; a folder only holds refs of longer names
    return ref in listed.splitlines() or (os.path.lexists(file) and not file.is_dir())


async def _naming_nothing(git: GitRunner, directory: Path) -> list[str]:
    """The refs, and heads of worktrees, whose objects git does not find. Those without an object id are not among them: git names them itself."""
    listed = await git.call(directory, "for-each-ref", "--format=%(objectname) %(refname)")
    rows = [line.partition(" ")[::2] for line in listed.stdout.decode("utf-8", "replace").splitlines()]
    rows += [(_detached(path), f"worktrees/{path.parent.name}/HEAD") for path in sorted(directory.glob("worktrees/*/HEAD"))]
    named = [(oid, name) for oid, name in rows if oid]
    looked = await git.call(directory, "cat-file", "--batch-check", stdin="".join(f"{oid}\n" for oid, _ in named).encode())
    missing = {line.removesuffix(" missing") for line in looked.stdout.decode("ascii", "replace").splitlines() if line.endswith(" missing")}
    return [name for oid, name in named if oid in missing]


def _detached(head: Path) -> str:
    """The object id in a HEAD; empty when it names a branch, or can not be read."""
    try:
        with head.open("rb") as file:
            said = file.read(_HEAD_BYTES_MAX + 1).decode("ascii", "replace").strip()
    except OSError:
        return ""
    return said if said and not said.strip("0123456789abcdef") else ""
