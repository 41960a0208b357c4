"""Every error of the product: one list, and everything else derives from it.

A class has a stable ``code`` (what programs match on), a ``guilty`` party (who can mend it) and an
``exit_status`` (the documented exit code of the CLI). The message says the cause; ``hint`` is the next command to type.
Rust imports these classes through :mod:`fabrik_node.errors`; none is defined anywhere else.

Importable by every room. Imports nothing of the product.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AgentFailed",
    "AuthError",
    "BadConfig",
    "BadGenesis",
    "BadSignature",
    "BadToken",
    "BrokenSignatures",
    "BrokenStore",
    "ClaimLost",
    "Conflict",
    "FabrikError",
    "ForeignStore",
    "GitFailed",
    "IllegalMove",
    "Internal",
    "InvalidOp",
    "MergeConflict",
    "NoCommits",
    "NoNode",
    "NotFound",
    "NotInitialised",
    "OwnedElsewhere",
    "PortInUse",
    "Precondition",
    "StoreFailed",
    "StoreFull",
    "Unreachable",
    "UsageError",
    "by_code",
]


class FabrikError(Exception):
    """Base of all errors that a caller may see.

    ``str(error)`` is one line that names the cause; ``hint`` (may be empty) is what to type next.
    """

    code: ClassVar[str] = "failed"
    guilty: ClassVar[str] = "operator"  # caller | author | peer | operator | node
    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class Internal(FabrikError):
    """A broken invariant of ours. Always a bug."""

    code = "internal"
    guilty = "node"


class UsageError(FabrikError):
    """The call itself is malformed."""

    code = "usage"
    guilty = "caller"
    exit_status = 2


class BadConfig(UsageError):
    """The configuration file or a setting is not valid."""

    code = "bad_config"
    guilty = "operator"


class BadToken(UsageError):
    """An invitation or join token that can not be read."""

    code = "bad_token"
    guilty = "caller"


class NotFound(FabrikError):
    """No such id, name or file."""

    code = "not_found"
    guilty = "caller"
    exit_status = 3


class Conflict(FabrikError):
    """Another writer was there first, or an id is ambiguous."""

    code = "conflict"
    guilty = "caller"
    exit_status = 4


class ClaimLost(Conflict):
    """The claim under which the caller works is no longer the winning one."""

    code = "claim_lost"


class OwnedElsewhere(Conflict):
    """Another process owns this home."""

    code = "owned"
    guilty = "operator"


class Precondition(FabrikError):
    """The state of the world does not allow it now."""

    code = "precondition"
    guilty = "caller"
    exit_status = 5


class IllegalMove(Precondition):
    """The transition table has no such stage move."""

    code = "illegal_move"


class NoCommits(Precondition):
    """A merge with zero commits ahead."""

    code = "no_commits"


class MergeConflict(Precondition):
    """The branch does not merge cleanly into the base."""

    code = "merge_conflict"


class NotInitialised(Precondition):
    """There is no node in this home yet."""

    code = "not_initialised"
    guilty = "operator"


class BrokenSignatures(Precondition):
    """The signature self-test failed: this build and libsodium do not agree on public edge cases, so nothing may be served."""

    code = "broken_signatures"
    guilty = "operator"


class PortInUse(Precondition):
    """The listening address is taken or not allowed."""

    code = "port"
    guilty = "operator"


class Unreachable(FabrikError):
    """A peer, remote or the node can not be reached."""

    code = "unreachable"
    guilty = "operator"
    exit_status = 6


class NoNode(Unreachable):
    """No node is running on this home, and the call needs one."""

    code = "no_node"


class AuthError(FabrikError):
    """The other side is not who it should be, or may not do this."""

    code = "auth"
    guilty = "peer"
    exit_status = 7


class BadSignature(AuthError):
    """A signature that does not verify (strict Ed25519)."""

    code = "bad_signature"


class InvalidOp(FabrikError):
    """Bytes that are not a canonical op, segment, genesis or ephemeral message, or do not chain."""

    code = "invalid_op"
    guilty = "author"


class BadGenesis(InvalidOp):
    """A genesis record that can not be read or does not match its mesh id."""

    code = "bad_genesis"


class StoreFailed(FabrikError):
    """SQLite could not do what was asked. Nothing was acknowledged."""

    code = "store"
    guilty = "node"


class StoreFull(StoreFailed):
    """There is no space. What was acknowledged is safe, reads go on, and writes are taken again as soon as there is space."""

    code = "disk_full"
    guilty = "operator"
    exit_status = 5


class BrokenStore(StoreFailed):
    """The database is damaged (torn, truncated, not SQLite)."""

    code = "broken_store"
    guilty = "operator"
    exit_status = 5


class ForeignStore(StoreFailed):
    """The database belongs to another program, mesh, key or a newer version."""

    code = "foreign_store"
    guilty = "operator"
    exit_status = 5


class GitFailed(FabrikError):
    """git is missing or a git command failed."""

    code = "git"
    guilty = "operator"


class AgentFailed(FabrikError):
    """The agent's own command failed."""

    code = "agent_failed"
    guilty = "operator"


def _walk(cls: type[FabrikError]) -> list[type[FabrikError]]:
    return [cls, *(deeper for sub in cls.__subclasses__() for deeper in _walk(sub))]


def by_code(code: str) -> type[FabrikError]:
    """The class with this ``code``; :class:`FabrikError` itself for a code of a newer version."""
    for cls in _walk(FabrikError):
        if cls.code == code:
            return cls
    return FabrikError
