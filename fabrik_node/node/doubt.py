"""Signs that a log has two histories, or that this home is older than what others know of it: told to the operator, never glossed over.

A fork of another's log is refused and reported. A fork of our own log means that this home was copied, or restored from an older image and
written to before its peers could say so: then nothing more is written here, because no peer would take it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fabrik_node._core import Replica, cbor_decode
from fabrik_node.errors import Conflict
from fabrik_node.ids import show_key
from fabrik_node.ports import OpReads

__all__ = ["Doubt", "chain_hash"]

FORKS_MAX = 4_096
"""Forked logs that are remembered, so that each is told once; more would be an attack, and is counted only."""


class Doubt:
    """``tell(kind, data)`` gets the events. ``own`` is our key."""

    def __init__(self, own: bytes, tell: Callable[[str, Mapping[str, Any]], None], name_of: Callable[[bytes], str]) -> None:
        self._own = own
        self._tell = tell
        self._name_of = name_of
        self._forked: set[tuple[bytes, int]] = set()
        self.learned_ops = 0
        """Ops of our own log that came back from peers since the start."""

    @property
    def forks(self) -> int:
        """Logs that are known to have two histories."""
        return len(self._forked)

    @property
    def own_fork(self) -> Conflict | None:
        """Why this node must not write; None while its own log has one history."""
        if not any(author == self._own for author, _ in self._forked):
            return None
        return Conflict(
            "this node's own log has two histories: its home was copied, or restored from an older image and written to",
            "stop it, keep its home for inspection, and join with a new one: fabrik-node --home DIR join TOKEN",
        )

    def saw_fork(self, author: bytes, epoch: int, seq: int, peer: bytes) -> None:
        """Two different ops at one place, as far as can be told at ``seq``; shown to us by ``peer``."""
        if (author, epoch) in self._forked or len(self._forked) >= FORKS_MAX:
            return
        self._forked.add((author, epoch))
        who = {"author": show_key(author), "name": self._name_of(author), "own": author == self._own}
        self._tell("log.forked", {**who, "epoch": epoch, "op_seq": seq, "peer": self._name_of(peer)})

    def learned_own(self, ops: int, peer: bytes) -> None:
        """A peer gave us ops of our own log that this home did not hold."""
        self.learned_ops += ops
        self._tell("node.own_ops_learned", {"ops": ops, "peer": self._name_of(peer)})


async def chain_hash(replica: Replica, store: OpReads, author: bytes, epoch: int, seq: int) -> bytes | None:
    """Our chain hash of a log at ``seq``; None when we do not hold it, or when it lies inside a stored segment."""
    head = replica.head(author, epoch)
    if head is None or seq > head.seq:
        return None
    if seq == head.seq:
        return head.head
    rows = await store.read(author, epoch, seq, 1)
    return bytes(cbor_decode(rows[0].data)[4]) if rows and rows[0].first_seq == seq + 1 else None
