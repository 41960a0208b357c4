"""The local bare repository of one remote: what was fetched from it, and what is made here to be pushed to it."""

from __future__ import annotations

import logging
import secrets
import shlex
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from fabrik_node.errors import GitFailed, Precondition, Unreachable
from fabrik_node.git.apart import fetch_apart, move_ref
from fabrik_node.git.file_lock import file_lock
from fabrik_node.git.names import check_base, check_remote, repository_name
from fabrik_node.git.remote_login import split_login
from fabrik_node.git.runner import Answer, GitRunner, check_git, failed, redacted
from fabrik_node.git.unreadable import has_ref, to_mend, unreadable

__all__ = ["Repository"]

_log = logging.getLogger("fabrik_node.git")

_LOCK_TIMEOUT_S = 300.0
_FETCH_TRIES = 3
_LS_TIMEOUT_S = 60.0
_DURABLE = (("core.fsync", "loose-object,reference"), ("core.fsyncMethod", "batch"))
"""On the disk before it is named: after a power cut, a base whose commit is empty would stop all work (git-config(1); git 2.36, older ones do not know it)."""
_FETCH_TIMEOUT_S = 600.0
_TURN_TIMEOUT_S = 4 * _FETCH_TIMEOUT_S
"""Longer than a fetch takes at most, with the one beside and its wait for others there: nobody whose turn only comes late is told that a fetch failed."""
_CLONE_TIMEOUT_S = 3600.0


class Repository:
    """A bare repository under the node's home that follows one branch, ``base``, of one remote.

    All worktrees of the node hang on it. Objects are shared, refs are not: the base is ``refs/remotes/origin/<base>``, work is
    ``refs/heads/fabrik/<item>/<claim>``, and claim refs exist on the remote only (their objects are fetched when they are read).
    Use :meth:`open`, not the constructor.
    """

    def __init__(self, git: GitRunner, directory: Path, remote: str, base: str, git_version: tuple[int, ...], login: Sequence[tuple[str, str]] = ()) -> None:
        self.git = git.knowing(login)
        self._fetching = git.knowing([*login, *_DURABLE])
        self.directory = directory
        self.remote = remote
        """Without a password: see :mod:`fabrik_node.git.remote_login`."""
        self._login = login
        self.base = base
        self.git_version = git_version
        self._told = ""

    @classmethod
    async def open(cls, git: GitRunner, home_dir: Path, remote: str, base: str) -> Repository:
        """The repository of ``remote`` under ``home_dir``/git. Made and fetched if it is not there yet; otherwise the network is not touched.

        Raises :class:`UsageError` for a malformed remote or base, :class:`GitFailed` without a usable git, and for a new one
        :class:`Unreachable` or :class:`Precondition` (the remote has no such branch); then nothing is left behind.
        """
        check_remote(remote)
        check_base(base)
        version = await check_git(git)
        root = home_dir / "git"
        root.mkdir(parents=True, exist_ok=True)
        bare, login = split_login(remote)
        name, earlier = repository_name(bare), repository_name(remote)  # another password is no other remote; earlier builds took it for one
        directory = root / (earlier if (root / earlier).is_dir() else name)
        kept = root / f"{name}.login"
        settings = [] if login is None else login.keep(kept)
        repository = cls(git, directory, bare, base, version, settings)
        async with file_lock(root / f"{repository.directory.name}.lock", _LOCK_TIMEOUT_S):
            if not repository.directory.is_dir():
                await repository._create()
            else:
                await repository._forget_login(repository.directory, kept)
                await repository._tell_login(repository.directory)
            if login is None:
                kept.unlink(missing_ok=True)  # last: as long as it is there, a start that was cut off is followed by one that forgets it
        if not await repository._has_base():
            await repository.fetch()
        return repository

    @property
    def base_ref(self) -> str:
        """The full name of the base branch on the remote."""
        return f"refs/heads/{self.base}"

    @property
    def shown_remote(self) -> str:
        """The remote without credentials, for messages."""
        return redacted(self.remote)

    async def fetch(self) -> str:
        """Bring the base up to date with the remote; its object id. Concurrent fetches wait for each other, in this process and in others.

        Raises :class:`Unreachable`, or :class:`Precondition` when the remote has no such branch.
        """
        async with self._lock():
            refspec = f"+{self.base_ref}:{self._tracking_ref}"
            answer = await self._fetch(refspec)
            if not answer.ok:
                # Which of them it was is asked, not read out of the message.
                if self.base_ref not in await self.remote_refs(self.base_ref):
                    raise self._no_base()
                base = await self._fetch_in_spite(refspec, answer)
                await move_ref(self._fetching, self.directory, self._tracking_ref, base)
        return await self.base_oid()

    async def base_oid(self) -> str:
        """The base as of the last fetch. Raises :class:`GitFailed` when it was never fetched."""
        return await self.text("rev-parse", "--verify", "--quiet", "--end-of-options", f"{self._tracking_ref}^{{commit}}")

    async def remote_refs(self, *refs: str) -> dict[str, str]:
        """The object ids that these refs have on the remote right now; absent ones are left out. Raises :class:`Unreachable`."""
        found = await self._ls_remote(*refs)
        # ls-remote matches the tail of a name, so "x/refs/heads/main" would come too.
        return {ref: oid for ref, oid in found.items() if ref in refs}

    async def refs_under(self, prefix: str, *refs: str) -> dict[str, str]:
        """The same of all refs whose names begin with ``prefix``, and of ``refs``: one question for both. Raises :class:`Unreachable`."""
        found = await self._ls_remote(f"{prefix}*", *refs)
        return {ref: oid for ref, oid in found.items() if ref in refs or ref.startswith(prefix)}

    async def _ls_remote(self, *patterns: str) -> dict[str, str]:
        cwd = self.directory if self.directory.is_dir() else self.directory.parent
        answer = await self.git.call(cwd, "ls-remote", "--quiet", "--", self.remote, *patterns, timeout_s=_LS_TIMEOUT_S)
        if not answer.ok:
            raise self.unreachable(answer)
        rows = (line.partition("\t") for line in answer.stdout.decode("utf-8", "replace").splitlines())
        return {ref: oid for oid, _, ref in rows}

    async def fetch_ref(self, ref: str) -> str | None:
        """The object id of ``ref`` on the remote, with all its objects here; None when the remote has no such ref. Raises :class:`Unreachable`.

        No local ref is written, so any number may run at once.
        """
        for _ in range(_FETCH_TRIES):
            oid = (await self.remote_refs(ref)).get(ref)
            if oid is None or await self.has_object(oid):
                return oid
            answer = await self._fetch(ref)
            if not answer.ok and await self.remote_refs(ref):
                await self._fetch_in_spite(ref, answer)
            if await self.has_object(oid):
                return oid
        raise Unreachable(f"{ref} on {self.shown_remote} moves faster than it can be fetched", "try again")

    async def has_object(self, oid: str) -> bool:
        """Is this commit here, as an object?"""
        return (await self.git.call(self.directory, "cat-file", "-e", f"{oid}^{{commit}}")).ok

    async def branch_tip(self, branch: str) -> str | None:
        """The commit of a branch here; None when there is no such branch. Raises :class:`GitFailed` for one that names no commit that git can read: it is not gone."""
        tip = await self.readable_tip(branch)
        if tip is None and await has_ref(self.git, self.directory, f"refs/heads/{branch}"):
            raise GitFailed(f"branch {branch} in {self.directory} names no commit that git can read", to_mend(self.directory))
        return tip

    async def readable_tip(self, branch: str) -> str | None:
        """The commit of a branch here; None also when it can not be read."""
        answer = await self.git.call(self.directory, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}^{{commit}}")
        return answer.stdout.decode().strip() if answer.ok else None

    async def commits_ahead(self, oid: str, base_oid: str) -> int:
        """How many commits ``oid`` has that ``base_oid`` has not."""
        return int(await self.text("rev-list", "--count", oid, f"^{base_oid}"))

    async def make_commit(self, tree: str, parents: list[str], message: str) -> str:
        """A commit object, reachable from nothing yet; its id."""
        named = [part for parent in parents for part in ("-p", parent)]
        return await self.text("commit-tree", tree, *named, "-F", "-", stdin=message.encode())

    async def empty_tree(self) -> str:
        """The id of the tree without entries, which is made if it is not there."""
        return await self.text("mktree")

    async def text(self, *args: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> str:
        """stdout of a git command in this repository. Raises :class:`GitFailed`."""
        return await self.git.text(self.directory, *args, stdin=stdin, env=env)

    def unreachable(self, answer: Answer) -> Unreachable:
        """The error for a network command that failed."""
        return Unreachable(f"git remote {self.shown_remote} can not be reached: {answer.cause}", f"git ls-remote {self.shown_remote}")

    @property
    def _tracking_ref(self) -> str:
        return f"refs/remotes/origin/{self.base}"

    async def _has_base(self) -> bool:
        return (await self.git.call(self.directory, "show-ref", "--verify", "--quiet", "--", self._tracking_ref)).ok

    def _lock(self) -> AbstractAsyncContextManager[None]:
        return file_lock(self.directory / "fabrik.lock", _TURN_TIMEOUT_S)

    def _no_base(self) -> Precondition:
        return Precondition(
            f"git remote {self.shown_remote} has no branch {self.base!r}", f"push a first commit to {self.base!r}, or set base in [git] of config.toml"
        )

    async def _fetch(self, refspec: str) -> Answer:
        return await self._fetch_into(self.directory, refspec, _FETCH_TIMEOUT_S)

    async def _fetch_in_spite(self, refspec: str, answer: Answer) -> str:
        """After a fetch that failed with ``answer`` though the remote answers: once more in spite of what git can not read here of other work; the base then.

        Raises :class:`Unreachable`. That passes, or a person mends it: so runs wait with what they have finished, as for a remote that is away. Nothing is mended here: what git calls
        missing may be there, and only be unreadable for the moment. Where the base can not be read either, that is so of all, and all wait.
        """
        found = await self.git.call(self.directory, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{self._tracking_ref}^{{commit}}")
        if answer.exit_code is None or not found.ok:
            raise await self._not_fetched(answer)
        known = (self._tracking_ref, found.stdout.decode().strip())
        try:
            again, base = await fetch_apart(self._fetching, self.directory, known, self._fetch_args(refspec), _FETCH_TIMEOUT_S)
        except GitFailed as error:
            raise await self._not_fetched(answer, str(error)) from error
        if not again.ok:
            raise await self._not_fetched(answer, again.cause)
        self._tell(await unreadable(self.git, self.directory))
        return base

    def _tell(self, cause: str) -> None:
        """Into the log, once for each cause."""
        if cause and cause != self._told:
            told = "git can not read all of %s: %s; fetched in spite of it, but git tidies nothing up there until it is mended: %s"
            _log.warning(told, self.directory, cause, to_mend(self.directory))
        self._told = cause

    async def _not_fetched(self, answer: Answer, beside: str = "") -> Unreachable:
        """The error for a fetch that failed though the remote answers. ``beside``: why the one in spite of what can not be read failed, too."""
        cause = await unreadable(self.git, self.directory)
        more = f"; nor beside it: {beside}" if beside not in ("", answer.cause) else ""
        if not cause:
            told = f"git remote {self.shown_remote} answers, but nothing could be fetched from it: {answer.cause}{more}"
            return Unreachable(told, "try again; look at the cause that git names")
        return Unreachable(f"git can not read all of {self.directory}, so nothing can be fetched into it: {cause}{more}", to_mend(self.directory))

    def _fetch_args(self, refspec: str) -> tuple[str, ...]:
        return ("--quiet", "--no-tags", "--no-write-fetch-head", "--", self.remote, refspec)

    async def _fetch_into(self, directory: Path, refspec: str, timeout_s: float) -> Answer:
        return await self._fetching.call(directory, "fetch", *self._fetch_args(refspec), timeout_s=timeout_s)

    async def _create(self) -> None:
        tip = (await self.remote_refs(self.base_ref)).get(self.base_ref)
        if tip is None:
            raise self._no_base()
        for left in self.directory.parent.glob(f"{self.directory.name}.new-*"):
            shutil.rmtree(left, ignore_errors=True)
        # Built beside its place and renamed, so a killed process leaves no half repository under the real name.
        building = self.directory.with_name(f"{self.directory.name}.new-{secrets.token_hex(4)}")
        try:
            object_format = "sha256" if len(tip) == 64 else "sha1"
            await self.git.run(building.parent, "init", "--quiet", "--bare", f"--object-format={object_format}", "--template=", "--", str(building))
            await self._configure(building)
            answer = await self._fetch_into(building, f"+{self.base_ref}:{self._tracking_ref}", _CLONE_TIMEOUT_S)
            if not answer.ok:
                raise self.unreachable(answer)
            building.rename(self.directory)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise

    async def _configure(self, directory: Path) -> None:
        settings = {"remote.origin.fetch": "+refs/heads/*:refs/remotes/origin/*"}
        # An agent commits with git's own rules; on a host where nobody told git a name, that would fail.
        if not (await self.git.call(directory, "config", "--global", "--get", "user.email")).ok:
            settings |= {"user.name": self.git.name, "user.email": self.git.email}
        for key, value in settings.items():
            await self._set(directory, "--replace-all", key, value)
        await self._tell_login(directory)

    async def _tell_login(self, directory: Path) -> None:
        """The remote, and how git gets its login, for whoever works in a worktree. What an earlier build or another password left is replaced."""
        await self._set(directory, "--replace-all", "remote.origin.url", self.remote)
        for number, (key, value) in enumerate(self._login):
            await self._set(directory, "--add" if number else "--replace-all", key, value)

    async def _forget_login(self, directory: Path, kept: Path) -> None:
        """No URL gets its login from this file any more. What somebody else wrote into the configuration stays."""
        args = ("config", "--file", str(directory / "config"), "-z", "--get-regexp", r"^credential\..*\.helper$")
        answer = await self.git.call(directory, *args)
        if not answer.ok and answer.exit_code != 1:  # 1: there is none
            raise failed(args, answer)
        found = (entry.partition("\n") for entry in answer.stdout.decode("utf-8", "replace").split("\0"))
        for key in {key for key, _, value in found if shlex.quote(str(kept)) in value}:
            await self.git.run(directory, "config", "--file", str(directory / "config"), "--unset-all", key)

    async def _set(self, directory: Path, how: str, key: str, value: str) -> None:
        args = ("config", "--file", str(directory / "config"), how, key, value)
        answer = await self.git.call(directory, *args)
        if not answer.ok:
            raise failed(args, answer)
