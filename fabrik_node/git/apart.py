"""Fetching into a repository of which git can not read every ref: through a git directory beside it that has its objects, and one ref.

At each fetch git goes through all refs of a repository and the HEAD of each of its worktrees, as it takes their history for complete, and ends at the
first that names no object. Beside it there is only one: what is taken for complete is a part of what git takes for complete in the repository itself, so
nothing is believed to be there that is not. No ref of the repository is read, changed or removed.

Invariant: nothing is tidied up from there, as all that other refs keep would look unused.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from fabrik_node.errors import GitFailed, Unreachable
from fabrik_node.git.file_lock import file_lock
from fabrik_node.git.runner import Answer, GitRunner

__all__ = ["fetch_apart", "move_ref"]

_OTHERS_S = 300.0
"""What one that has its turn takes besides its fetch."""
_KEEPS_STILL = ("--no-auto-maintenance", "--no-write-commit-graph")
_FORMAT = {40: "\trepositoryformatversion = 0\n", 64: "\trepositoryformatversion = 1\n[extensions]\n\tobjectFormat = sha256\n"}
"""By the length of an object id. See gitrepository-layout(5) and the document on repository versions of git."""


async def fetch_apart(git: GitRunner, directory: Path, known: tuple[str, str], fetch: Sequence[str], timeout_s: float) -> tuple[Answer, str]:
    """Bring the objects of a fetch with the arguments ``fetch`` into the bare repository ``directory``. ``known``: a ref and its object id, all of whose history is there.

    The answer of git, and at what that ref is then, which ``fetch`` may move: not in ``directory``, where no ref is written. One after the other, in all
    processes. Raises :class:`GitFailed`, also when there is no room for the directory beside it.
    """
    ref, oid = known
    objects = directory.resolve() / "objects"
    apart = objects.parent.with_name(f"{objects.parent.name}.apart")
    try:
        async with file_lock(apart.with_name(f"{apart.name}.lock"), timeout_s + _OTHERS_S):
            try:
                shutil.rmtree(apart, ignore_errors=True)  # of one that was killed
                _make(apart, ref, oid)
                # Whatever somebody set there for reaching the remote counts here, too.
                await git.run(apart, "config", "--file", str(apart / "config"), "--add", "include.path", str(objects.parent / "config"))
                env = {"GIT_DIR": str(apart), "GIT_OBJECT_DIRECTORY": str(objects)}
                answer = await git.call(apart, "fetch", *_KEEPS_STILL, *fetch, env=env, timeout_s=timeout_s)
                return answer, await git.text(apart, "rev-parse", "--verify", "--end-of-options", ref, env=env)
            finally:
                shutil.rmtree(apart, ignore_errors=True)
    except OSError as error:
        raise GitFailed(f"{apart} can not be made: {error}", f"look at the space and the permissions of {apart.parent}") from error


async def move_ref(git: GitRunner, directory: Path, ref: str, oid: str) -> None:
    """Let ``ref`` of the bare repository ``directory`` name what was fetched beside it.

    Raises :class:`Unreachable` when git can not, as for a fetch that fails: that passes (no space, another git that writes the ref), or a person mends it, and
    runs wait with what they have finished. It names the lock of the ref when that is there: git never takes one away that a killed git left.
    """
    answer = await git.call(directory, "update-ref", ref, oid)
    if answer.ok:
        return
    lock = directory / f"{ref}.lock"
    if lock.exists():
        told = f"{ref} in {directory} can not be moved to what was fetched, as {lock} is there: {answer.cause}"
        raise Unreachable(told, f"pgrep -a git; when no git is at work there, rm {shlex.quote(str(lock))}")
    raise Unreachable(f"{ref} in {directory} can not be moved to what was fetched: {answer.cause}", "try again; look at the cause that git names")


def _make(apart: Path, ref: str, oid: str) -> None:
    """By hand and not by ``git init``, which a template or a setting of the user would lead."""
    (apart / ref).parent.mkdir(parents=True)
    (apart / "objects").mkdir()  # its own stays empty: a git that somebody starts here by hand does no harm
    (apart / "HEAD").write_text("ref: refs/heads/none\n", encoding="ascii")
    (apart / "config").write_text(f"[core]\n\tbare = true\n{_FORMAT[len(oid)]}", encoding="ascii")
    (apart / ref).write_text(f"{oid}\n", encoding="ascii")
