"""Which keys may connect: what the transport has to know beforehand, and not only of a key that asks."""

from __future__ import annotations

from fabrik_node._core import Replica
from fabrik_node.domain.schema import Kind

__all__ = ["admitted"]


def admitted(replica: Replica, recovery: bytes | None) -> frozenset[bytes]:
    """Every key that is admitted now, whether it ever wrote or not: of records, of logs, by rotation, and the recovery key."""
    found: set[bytes] = set()
    waiting = [replica.admin, *(key for key, _ in replica.rows(Kind.MEMBER)), *(head.author for head in replica.heads())]
    if recovery is not None:
        waiting.append(recovery)
    while waiting:
        key = waiting.pop()
        if key not in found:
            found.add(key)
            successor = replica.member(key).successor
            if successor is not None:
                waiting.append(successor)
    return frozenset(key for key in found if replica.is_admitted(key))
