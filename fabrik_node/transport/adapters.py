"""The node as ``fabrik_sync`` wants to see it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fabrik_node._core import Head as CoreHead
from fabrik_node.ports import Replication
from fabrik_sync import HEADS_PER_LOG_MAX, Head, Heads, LogId, Place

__all__ = ["NodeLogs"]


class NodeLogs:
    """Fills :class:`fabrik_sync.Replica`. ``admin`` is the genesis admin, whose logs go first: they say who is a member."""

    def __init__(self, node: Replication, admin: bytes) -> None:
        self._node = node
        self._admin = admin

    def heads(self) -> Iterable[tuple[LogId, Heads]]:
        """Every log with all its branches; a suspended one, and one with more heads than a frame lists, ends with its marker."""
        logs: dict[LogId, list[Head]] = {}
        for head in self._node.heads():
            logs.setdefault(LogId(head.author, head.epoch), []).append(_head(head))
        suspended = {LogId(*log) for log in self._node.suspended()}
        return [(log, self._sorted(log, heads, marked=log in suspended or len(heads) > HEADS_PER_LOG_MAX)) for log, heads in logs.items()]

    def heads_of(self, log: LogId) -> Heads:
        """The same for one log; empty when nothing of it is held."""
        return self._sorted(log, [_head(head) for head in self._node.heads_of(*log)], marked=True)

    def _sorted(self, log: LogId, heads: list[Head], *, marked: bool) -> Heads:
        marker = self._node.marker(*log) if marked else None
        return (*sorted(heads, key=lambda head: (head.seq, head.h)), *([] if marker is None else [Head(*marker)]))

    def holds(self, log: LogId, seq: int, h: bytes) -> bool:
        """On one of our branches, or our marker."""
        return self._node.holds(log.author, log.epoch, seq, h)

    def places(self, log: LogId) -> Sequence[Place]:
        """A locator of what we hold."""
        return self._node.places(log.author, log.epoch)

    def cursors(self, log: LogId, places: Sequence[Place]) -> Sequence[tuple[int, int]]:
        """What somebody who holds ``places`` lacks."""
        return self._node.cursors(log.author, log.epoch, places)

    def admit(self, key: bytes) -> bool:
        """A member. For a joiner also one that was: the issuer's log may show that its key was rotated before it shows who joined."""
        return self._node.is_admitted(key) or (self._node.is_named(key) and not self._node.is_admitted(self._node.public))

    def takes(self, author: bytes) -> bool:
        """A member, or one that was."""
        return self._node.is_named(author)

    def priority(self, author: bytes) -> int:
        """0 for the admin, 1 for other keys that are or were admins, 2 for all others."""
        return 0 if author == self._admin else 1 if self._node.names_others(author) else 2


def _head(head: CoreHead) -> Head:
    return Head(head.seq, head.head, head.branch, head.base)
