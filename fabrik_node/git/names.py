"""The names that this room gives to refs, branches and folders, and what it accepts as a part of them."""

from __future__ import annotations

import hashlib
import re

from fabrik_node.errors import UsageError

__all__ = ["CLAIMS_PREFIX", "check_base", "check_id", "check_remote", "is_branch", "queue_prefix", "repository_name", "work_branch"]

CLAIMS_PREFIX = "refs/fabrik/claims/"
_QUEUE = "merging"

_ID = re.compile(r"[0-9a-z]{26}")
# The rules of git-check-ref-format(1), made narrower.
_BRANCH = re.compile(r"(?!.*(\.\.|//|@\{|\.lock(/|$)|/\.|\.(/|$)))[A-Za-z0-9_+@=%.,/-]*[A-Za-z0-9_+=%,-]")
_SCP_STYLE = re.compile(r"[^/]+:")


def check_id(text: str, noun: str) -> str:
    """``text`` when it is a whole id as people write it; raises :class:`UsageError`. Ids become parts of refs and of trailers."""
    if not _ID.fullmatch(text):
        raise UsageError(f"{text[:40]!r} is not the id of {noun}", f"fabrik-node {noun.rsplit(maxsplit=1)[-1]}s list")
    return text


def check_base(text: str) -> str:
    """``text`` when it is a branch name; raises :class:`UsageError`."""
    if not is_branch(text):
        raise UsageError(f"{text[:60]!r} is not the name of a branch", "set base in [git] of config.toml")
    return text


def queue_prefix(claims_prefix: str) -> str:
    """Where the tickets of finishers are, for claims under ``claims_prefix``: beside them."""
    return f"{claims_prefix.rstrip('/').rpartition('/')[0]}/{_QUEUE}/"


def is_branch(text: str) -> bool:
    """Is this the name of a branch, and nothing that git could take for an option, a pattern or a refspec?"""
    return len(text) <= 200 and not text.startswith(("-", "/", ".")) and _BRANCH.fullmatch(text) is not None


def check_remote(text: str) -> str:
    """``text`` when it is a URL, ``host:path`` or an absolute path; raises :class:`UsageError`.

    A relative path would mean another place in each folder, a leading dash an option, ``::`` a command to run (gitremote-helpers(7)).
    """
    hint = "set remote in [git] of config.toml to a URL, host:path or an absolute path"
    if not text or text.startswith("-") or not text.isprintable() or "::" in text.split("/", maxsplit=1)[0]:
        raise UsageError(f"{text[:60]!r} is not a git remote", hint)
    if not (text.startswith("/") or "://" in text or _SCP_STYLE.match(text)):
        raise UsageError(f"the git remote {text[:60]!r} is a relative path", hint)
    return text


def work_branch(item: str, claim_id: str) -> str:
    """The branch of one claim: two racers can never write to the same one."""
    return f"fabrik/{check_id(item, 'an item')}/{check_id(claim_id, 'a claim')}"


def repository_name(remote: str) -> str:
    """Folder name of the local repository of ``remote``."""
    return hashlib.sha256(remote.encode()).hexdigest()[:20] + ".git"
