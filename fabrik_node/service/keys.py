"""This node's keys as the mesh knows them: what it was, what it is, and to which next key it is committed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fabrik_node._core import Genesis, Replica
from fabrik_node.domain.schema import Kind, Role
from fabrik_node.ids import fingerprint, show_key
from fabrik_node.node.member_records import commitments

__all__ = ["KeyLines", "line_of"]


def line_of(replica: Replica, key: bytes) -> list[bytes]:
    """The keys that one node has had, the oldest first: those that were rotated to ``key``, all the way, and ``key`` itself."""
    olds = {new: old for old, _ in replica.rows(Kind.ROTATION) if (new := replica.member(old).successor) is not None}
    line = [key]
    while (old := olds.get(line[0])) is not None and old not in line:
        line.insert(0, old)
    return line


class KeyLines:
    """The operation ``keys.list``."""

    def __init__(
        self, replica: Replica, genesis: Genesis, own: bytes, name_of: Callable[[bytes], str], stamp: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> None:
        self._replica = replica
        self._genesis = genesis
        self._own = own
        self._name_of = name_of
        self._stamp = stamp

    @property
    def operations(self) -> Mapping[str, Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]]:
        """Reads by name."""
        return {"keys.list": self.list}

    async def list(self, args: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - the shape of an operation
        """The keys of this node in their order, the commitments to the next one, and the mesh's recovery key."""
        recovery = self._genesis.recovery
        return self._stamp(
            {
                "keys": [self._line(key) for key in line_of(self._replica, self._own)],
                "next_commitments": [each.hex() for each in commitments(self._replica, self._genesis, self._own)],
                "recovery": None if recovery is None else show_key(recovery),
            }
        )

    def _line(self, key: bytes) -> dict[str, Any]:
        member = self._replica.member(key)
        rotated = member.successor
        state = "revoked" if member.revoked else "rotated" if rotated is not None else "current" if member.role or key == self._genesis.admin else "no member"
        return {
            "node": show_key(key),
            "fingerprint": fingerprint(key),
            "name": self._name_of(key),
            "state": state,
            "role": Role(member.role).name.lower(),
            "successor": None if rotated is None else show_key(rotated),
        }
