"""One push with pinned leases, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fabrik_node.git.repository import Repository
from fabrik_node.git.runner import redacted

__all__ = ["PushAnswer", "RefUpdate", "push"]

_PUSH_TIMEOUT_S = 600.0
_REMOTE_ERROR = "remote: error: "
_TOLD_CHARS_MAX = 300


@dataclass(frozen=True, slots=True)
class RefUpdate:
    """Move ``ref`` to ``new`` (empty: delete it), if it is at ``expected`` now (empty: if it does not exist; None: wherever it is)."""

    ref: str
    new: str
    expected: str | None


@dataclass(frozen=True, slots=True)
class PushAnswer:
    """What git reports.

    ``accepted``: the remote said yes to all. ``refused``: it, or the lease check on its advertisement, said no to at least one.
    Neither: there was no answer, and the push may have happened or may still happen. ``reason`` is for people only.
    """

    accepted: bool
    refused: bool
    reason: str


async def push(repository: Repository, updates: Sequence[RefUpdate], *, atomic: bool = True) -> PushAnswer:
    """Push all ``updates`` in one request; with ``atomic`` all of them happen or none.

    The lease is a pinned object id, so it holds twice: git compares it with what the remote advertises, and the remote compares it
    again, under its own lock, with what the ref is at that moment (the old id of each command in the pack protocol).
    """
    leases = [f"--force-with-lease={update.ref}:{update.expected}" for update in updates if update.expected is not None]
    specs = [f"{'' if update.expected is not None else '+'}{update.new}:{update.ref}" for update in updates]
    options = ["--porcelain", "--quiet", "--no-verify", *(["--atomic"] if atomic else []), *leases]
    answer = await repository.git.call(repository.directory, "push", *options, "--", repository.remote, *specs, timeout_s=_PUSH_TIMEOUT_S)
    if answer.ok:
        return PushAnswer(True, False, "")
    refusals = list(_refusals(answer.stdout.decode("utf-8", "replace")))
    reason = "; ".join([*refusals, *_told_by_remote(answer.stderr.decode("utf-8", "replace"))]) if refusals else answer.cause
    return PushAnswer(False, bool(refusals), redacted(reason))


def _refusals(report: str) -> list[str]:
    """The lines of ``git push --porcelain`` with the flag ``!``: ``!<TAB><from>:<to><TAB><summary> (<reason>)`` (git-push(1), OUTPUT)."""
    found = []
    for line in report.splitlines():
        flag, _, rest = line.partition("\t")
        if flag == "!":
            names, _, summary = rest.partition("\t")
            found.append(f"{names.partition(':')[2]}: {summary}")
    return found


def _told_by_remote(said: str) -> list[str]:
    """The error line of the remote itself, if it sent one: of an atomic push the report says of no ref why."""
    told = [line.removeprefix(_REMOTE_ERROR).strip() for line in said.splitlines() if line.startswith(_REMOTE_ERROR)][:1]
    return ["".join(char if char.isprintable() else "?" for char in line)[:_TOLD_CHARS_MAX] for line in told]
