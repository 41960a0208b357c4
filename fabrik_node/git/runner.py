"""Running the ``git`` program: one door for every command of this room.

What a user's configuration may decide here: how to reach and authenticate to a remote (``credential.*``, ``url.*.insteadOf``, ``http.*``,
``core.sshCommand``). What it may not: identity, signing, hooks, merge behaviour, ignore rules, encodings.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from fabrik_node.errors import GitFailed
from fabrik_node.git.child import Child

__all__ = ["GIT_VERSION_MIN", "Answer", "GitRunner", "check_git", "redacted"]

GIT_VERSION_MIN = (2, 34)
"""The oldest git that the room is written for (``rev-list --no-commit-header`` is 2.33, Ubuntu 22.04 ships 2.34)."""

_KEPT = frozenset(
    {
        "GIT_ASKPASS",
        "GIT_CONFIG_GLOBAL",
        "GIT_CONFIG_NOSYSTEM",
        "GIT_CONFIG_SYSTEM",
        "GIT_EXEC_PATH",
        "GIT_HTTP_USER_AGENT",
        "GIT_PROXY_COMMAND",
        "GIT_SSH",
        "GIT_SSH_COMMAND",
        "GIT_SSH_VARIANT",
        "GIT_SSL_CAINFO",
        "GIT_SSL_CAPATH",
        "GIT_SSL_CERT",
        "GIT_SSL_KEY",
        "GIT_SSL_NO_VERIFY",
    }
)
"""Inherited ``GIT_*`` variables that say how to reach a remote. All others (``GIT_DIR``, ``GIT_INDEX_FILE``, identities ...) would redirect us."""

_FIXED_ENVIRONMENT = {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "GIT_DEFAULT_REF_FORMAT": "files", "SSH_ASKPASS_REQUIRE": "never"}

_FIXED_CONFIG = (
    "commit.gpgSign=false",
    "push.gpgSign=false",
    "push.followTags=false",
    "push.recurseSubmodules=no",
    "fetch.prune=false",
    "fetch.recurseSubmodules=no",
    "submodule.recurse=false",
    # worktree_link writes HEAD as a file.
    "init.defaultRefFormat=files",
    "core.hooksPath=/dev/null",
    "core.excludesFile=/dev/null",
    "core.autocrlf=false",
    "core.quotePath=false",
    "core.fsmonitor=false",
    # See staging: a part of it would lie where a command can write.
    "core.splitIndex=false",
    "merge.renames=true",
    "merge.directoryRenames=conflict",
    "merge.verifySignatures=false",
    "i18n.commitEncoding=utf-8",
    "i18n.logOutputEncoding=utf-8",
    "log.showSignature=false",
    # A stalled HTTP transfer is no progress: below 1000 B/s for a minute it ends.
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=60",
    # Housekeeping runs with a fetch and in the foreground: a background gc would outlive the node.
    "gc.autoDetach=false",
    "maintenance.autoDetach=false",
)

_CONCURRENT_MAX = 32
"""Commands at once; more wait. Each costs a thread and three pipes."""

_NOISE = ("warning:", "hint:", "remote:", "from ", "to ")
_CAUSE_CHARS_MAX = 300
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*@")
_QUERY = re.compile(r"(://[^\s?'\"]*)\?[^\s'\"]*")


def redacted(text: str) -> str:
    """``text`` without the user, password and query of any URL in it."""
    return _QUERY.sub(r"\1", _CREDENTIALS.sub("", text))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a git command said. ``exit_code`` is None when it was ended at its time limit."""

    exit_code: int | None
    stdout: bytes
    stderr: bytes

    @property
    def ok(self) -> bool:
        """It ran to its end and reports success."""
        return self.exit_code == 0

    @property
    def cause(self) -> str:
        """One line for people: the first line of stderr that is not a warning or a hint, without credentials."""
        if self.exit_code is None:
            return "no answer within the time limit"
        lines = [" ".join(line.split()) for line in self.stderr.decode("utf-8", "replace").splitlines()]
        telling = [line for line in lines if line and not line.lower().startswith(_NOISE)]
        # git writes the cause first and general advice after it ("Please make sure you have the correct access rights").
        cause = next(iter(telling), None) or next((line for line in lines if line), "no message")
        printable = "".join(char if char.isprintable() else "?" for char in redacted(cause))
        return printable[:_CAUSE_CHARS_MAX]


class GitRunner:
    """Runs git commands, each in a process group of its own that is ended with the call (time limit or cancellation).

    ``environ`` is the environment that git inherits (from the room that may read it). ``name`` and ``email`` sign every commit that we make.
    """

    def __init__(self, environ: Mapping[str, str], *, name: str = "fabrik-node", email: str = "fabrik-node@localhost", timeout_s: float = 120.0) -> None:
        self.name = name
        self.email = email
        self._timeout_s = timeout_s
        self._environ = {key: value for key, value in environ.items() if not key.startswith("GIT_") or key in _KEPT} | _FIXED_ENVIRONMENT
        settings = (f"user.name={name}", f"user.email={email}", *_FIXED_CONFIG)
        self._threads = ThreadPoolExecutor(_CONCURRENT_MAX, "git")
        self._prefix = [part for setting in settings for part in ("-c", setting)]

    def knowing(self, config: Sequence[tuple[str, str]], more: Mapping[str, str] = MappingProxyType({})) -> GitRunner:
        """The same with more settings, and ``more`` in its environment. The settings are given in the environment: arguments show in the list of processes, and a name with ``=`` would not fit into one."""
        told = copy.copy(self)
        numbered = ((f"GIT_CONFIG_{what}_{number}", text) for number, pair in enumerate(config) for what, text in zip(("KEY", "VALUE"), pair, strict=True))
        told._environ = self._environ | {"GIT_CONFIG_COUNT": str(len(config)), **dict(numbered), **more}  # noqa: SLF001 - of a copy of this one
        return told

    async def run(self, cwd: Path, *args: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> bytes:
        """stdout of ``git <args>`` run in ``cwd``.

        Raises :class:`GitFailed` naming the command, its exit code and the cause.
        """
        answer = await self.call(cwd, *args, stdin=stdin, env=env)
        if not answer.ok:
            raise failed(args, answer)
        return answer.stdout

    async def text(self, cwd: Path, *args: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> str:
        """Like :meth:`run`, as text without the last newline."""
        return (await self.run(cwd, *args, stdin=stdin, env=env)).decode("utf-8", "replace").rstrip("\n")

    async def call(self, cwd: Path, *args: str, stdin: bytes = b"", env: Mapping[str, str] | None = None, timeout_s: float | None = None) -> Answer:
        """The answer of ``git <args>``, whatever its exit code. Raises :class:`GitFailed` only when git can not be started.

        ``timeout_s`` is for commands that talk to a remote; None is the runner's own limit.
        """
        if not cwd.is_dir():
            raise GitFailed(f"git {args[0]}: the folder {cwd} is gone", "make it again, or start the run anew")
        child = Child(["git", *self._prefix, *args], cwd, self._environ | dict(env or {}), stdin, self._timeout_s if timeout_s is None else timeout_s)
        try:
            return Answer(*await child.run(self._threads))
        except FileNotFoundError as error:
            raise GitFailed("git is not on PATH", "install git 2.34 or newer") from error
        except OSError as error:
            raise GitFailed(f"git can not be started: {error}", "git --version") from error

    async def version(self) -> tuple[int, ...]:
        """The installed git, for example ``(2, 39, 5)``. Raises :class:`GitFailed` when there is none."""
        said = await self.text(Path("/"), "version")
        found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", said)
        if found is None:
            raise GitFailed(f"git says an unknown version: {said[:80]!r}", "git --version")
        return tuple(int(part) for part in found.groups() if part is not None)


async def check_git(git: GitRunner) -> tuple[int, ...]:
    """The installed version; raises :class:`GitFailed` when git is missing or older than :data:`GIT_VERSION_MIN`."""
    version = await git.version()
    if version < GIT_VERSION_MIN:
        wanted = ".".join(map(str, GIT_VERSION_MIN))
        raise GitFailed(f"git {'.'.join(map(str, version))} is too old, {wanted} or newer is needed", f"install git {wanted} or newer")
    return version


def failed(args: tuple[str, ...], answer: Answer) -> GitFailed:
    """The error for an answer that is not ok."""
    ended = "timed out" if answer.exit_code is None else f"exit code {answer.exit_code}"
    command = redacted(" ".join(("git", *args)))
    if len(command) > _CAUSE_CHARS_MAX:
        command = command[:_CAUSE_CHARS_MAX] + " ..."
    return GitFailed(f"{command}: {ended}: {answer.cause}", "look at the cause that git names, then try again")
