"""The node as ``fabrik_sync`` wants to see it."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from fabrik_node._core import verify
from fabrik_node.ports import Replication
from fabrik_sync import Head, Heads, LogId

__all__ = ["NodeIdentity", "NodeLogs"]


class NodeIdentity:
    """Fills :class:`fabrik_sync.Identity`."""

    def __init__(self, node: Replication) -> None:
        self._node = node

    @property
    def public(self) -> bytes:
        """Our key."""
        return self._node.public

    def sign(self, message: bytes) -> bytes:
        """With our key."""
        return self._node.sign(message)

    def verify(self, public: bytes, message: bytes, signature: bytes) -> None:
        """Strict Ed25519, as for ops."""
        verify(public, message, signature)

    def random(self, n: int) -> bytes:
        """From the system."""
        return secrets.token_bytes(n)


class NodeLogs:
    """Fills :class:`fabrik_sync.Replica`. ``admin`` is the genesis admin, whose logs go first: they say who is a member."""

    def __init__(self, node: Replication, admin: bytes) -> None:
        self._node = node
        self._admin = admin

    def heads(self) -> Iterable[tuple[LogId, Heads]]:
        """Every log with all its heads, in order of seq and hash: the same on every node that holds the same branches."""
        logs: dict[LogId, list[Head]] = {}
        for head in self._node.heads():
            logs.setdefault(LogId(head.author, head.epoch), []).append(Head(head.seq, head.head))
        return [(log, tuple(sorted(heads, key=lambda head: (head.seq, head.h)))) for log, heads in logs.items()]

    def admit(self, key: bytes) -> bool:
        """A member."""
        return self._node.is_admitted(key)

    def priority(self, author: bytes) -> int:
        """0 for the admin, 1 for all others."""
        return 0 if author == self._admin else 1
