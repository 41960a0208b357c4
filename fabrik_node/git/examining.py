"""Git as ``doctor`` looks at it: the local repositories, which it only reads; and a remote, from a folder of its own, so that nothing of the node's is made or changed.

No password is written there: a look that is killed leaves the folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fabrik_node.git.names import check_base, check_remote
from fabrik_node.git.probe import RemoteProbe, probe_remote
from fabrik_node.git.remote_login import split_login
from fabrik_node.git.repository import Repository
from fabrik_node.git.runner import GitRunner, check_git
from fabrik_node.git.unreadable import to_mend, unreadable

__all__ = ["RemoteState", "RepositoryState", "examine_remote", "examine_repositories"]


@dataclass(frozen=True, slots=True)
class RemoteState:
    """What was found. ``probe`` None: it has no such base branch, and nothing more was tried."""

    shown: str
    """The remote without credentials."""
    probe: RemoteProbe | None


@dataclass(frozen=True, slots=True)
class RepositoryState:
    """A local repository. ``unreadable``: see :func:`fabrik_node.git.unreadable.unreadable`; ``mend``: what to type then."""

    directory: Path
    unreadable: str
    mend: str


async def examine_repositories(git: GitRunner, home_dir: Path) -> list[RepositoryState]:
    """Those that :meth:`Repository.open` made under ``home_dir``, by name. Raises :class:`GitFailed`."""
    found = [path for path in sorted((home_dir / "git").glob("*.git")) if path.is_dir()]
    return [RepositoryState(path, await unreadable(git, path), to_mend(path)) for path in found]


async def examine_remote(git: GitRunner, remote: str, base: str, folder: Path) -> RemoteState:
    """Reach ``remote``, look for ``base``, and try what claims and merges need (:func:`probe_remote`). ``folder``: empty, and the caller's to remove.

    Raises :class:`Unreachable`, :class:`UsageError` for a malformed remote or base, :class:`GitFailed`.
    """
    bare, login = split_login(check_remote(remote))
    settings, said = ([], {}) if login is None else login.told()
    repository = Repository(git.knowing((), said), folder / "probe.git", bare, check_base(base), await check_git(git), settings)
    tip = (await repository.remote_refs(repository.base_ref)).get(repository.base_ref)
    if tip is None:
        return RemoteState(repository.shown_remote, None)
    object_format = "sha256" if len(tip) == 64 else "sha1"
    await git.run(folder, "init", "--quiet", "--bare", f"--object-format={object_format}", "--template=", "--", str(repository.directory))
    return RemoteState(repository.shown_remote, await probe_remote(repository))
