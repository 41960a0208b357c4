"""Keys that nobody knows and that asked to be let in: a bounded queue in memory, of this node alone, until an admin says yes or no.

Nothing of it is written down before that, so knocking costs a stranger more than the node. Who waits knocks again now and then; who does not
is forgotten, and so is everything when the node stops.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fabrik_node.domain.neighbourhood import neighbourhood
from fabrik_node.domain.schema import Role
from fabrik_node.domain.sparing import Sparing
from fabrik_node.errors import Conflict, NotFound
from fabrik_node.ids import fingerprint, resolve, show_key
from fabrik_node.node.member_records import admission, check_admitted, check_not_out
from fabrik_node.node.rehearsal import Rehearsed, rehearsing
from fabrik_node.ports import JoinRow, KnockAnswer

if TYPE_CHECKING:  # names of the stub, not of the extension
    from fabrik_node._core import Write
    from fabrik_node.node.node import Node

__all__ = ["AGE_S", "COUNT_MAX", "PER_ADDRESS_MAX", "Knocks", "Waiting"]

COUNT_MAX = 64
"""Keys that wait; each takes less than a kilobyte."""
PER_ADDRESS_MAX = 16
"""Of them from one address (of IPv6: one network of 64 bits), so that one stranger does not take all places."""
AGE_S = 900.0
"""Seconds after its last knock in which a key is kept."""
_REJECTED_MAX = 256
"""Rejected keys that are told so; the one that was rejected first is forgotten first."""
_TOLD_MAX = 20
"""Events about knocks in ten minutes: keys cost a stranger nothing, and events are kept for ever."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """One key that knocks. ``name`` is its own word, of its first knock like its commitment; ``since`` and ``last`` are seconds of the node's clock, ``since_ms`` is wall time to show."""

    key: bytes
    name: str
    next_commitment: bytes
    address: str
    since: float
    since_ms: int
    last: float


class Knocks:
    """Use from the event loop."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._waiting: dict[bytes, Waiting] = {}
        self._rejected: dict[bytes, None] = {}
        self._told = Sparing(count=_TOLD_MAX, window_s=600.0)
        self.taken = 0
        """Keys that found a place in the queue."""
        self.full = 0
        """Knocks that found none."""
        self.aged = 0
        """Keys that stopped knocking."""

    def knock(self, key: bytes, name: str, next_commitment: bytes, address: str) -> KnockAnswer:
        """``key`` is proven to be the caller's. What it is told."""
        node = self._node
        member = node.replica.member(key)
        if node.is_admitted(key):
            self._waiting.pop(key, None)
            return KnockAnswer("welcome", "", node.genesis)
        if member.revoked or member.successor is not None:
            return KnockAnswer("knock_rejected", "this key was put out of the mesh for good: knock from a new home")
        if node.replica.member(node.public).role != Role.ADMIN:
            return KnockAnswer("not_admin", "this node can let nobody in: knock at a node of an admin, or take a token from one (fabrik-node invite)")
        if key in self._rejected:
            return KnockAnswer("knock_rejected", "an operator of that node rejected this key; a token lets it in all the same: fabrik-node invite")
        self._forget_old()
        now, known = node.clock.now(), self._waiting.get(key)
        if known is None and not self._has_room(address):
            self.full += 1
            return KnockAnswer(
                "knocks_full", "too many nodes wait for approval there; it is tried again by itself, and a token needs no approval: fabrik-node invite"
            )
        if known is None:
            self.taken += 1
            self._waiting[key] = Waiting(key, name, next_commitment, address, now, node.clock.wall_ms(), now)
            if self._told.may("", now):
                node.tell("node.knocked", {"key": show_key(key), "name": name, "address": address})
        else:
            self._waiting[key] = replace(known, address=address, last=now)  # what an operator saw stays
        return KnockAnswer("approval_pending", f"on that node, if the key is {fingerprint(key)}: fabrik-node nodes approve {show_key(key)[:16]} --role agent")

    def waiting(self) -> list[Waiting]:
        """Who waits, the longest first."""
        self._forget_old()
        return list(self._waiting.values())

    async def approve(self, prefix: str, role: Role) -> Waiting:
        """Let a key in that waits, by its first hex digits. Raises NotFound, Conflict for an ambiguous one, AuthError when this node may not or nothing brings that key back, what keeps it from writing, and Rehearsed in a dry run."""
        found, node = self._find(prefix), self._node
        check_not_out(node, found.key)
        if (rehearsal := rehearsing()) is not None:
            comes = "is a member already, and does not wait any more" if node.is_admitted(found.key) else f"is let into the mesh as {role.name.lower()}"
            rehearsal.effects.append(f"{_named(found)} {comes}")

        def build() -> list[Write]:
            admitted = node.is_admitted(found.key)
            return [] if admitted else [admission(node, found.key, role, name=found.name, next_commitment=found.next_commitment)]

        await node.write(("member", found.key), build)
        check_admitted(node, found.key)
        await node.store.note_join(JoinRow(b"", found.key, node.clock.wall_ms()))
        self._waiting.pop(found.key, None)
        node.tell("node.joined", {"key": show_key(found.key), "role": role.name.lower(), "invitation": None})
        return found

    def reject(self, prefix: str) -> Waiting:
        """Tell a key that waits, by its first hex digits, that it is not wanted. Nothing is written; this node remembers it until it stops. Raises NotFound, Conflict, and Rehearsed in a dry run."""
        found = self._find(prefix)
        if (rehearsal := rehearsing()) is not None:
            rehearsal.effects.append(f"{_named(found)} is told that it is not wanted, until this node stops; a token lets it in all the same")
            raise Rehearsed
        del self._waiting[found.key]
        if len(self._rejected) >= _REJECTED_MAX:
            del self._rejected[next(iter(self._rejected))]
        self._rejected[found.key] = None
        self._node.tell("node.rejected", {"key": show_key(found.key), "name": found.name, "address": found.address})
        return found

    def _find(self, prefix: str) -> Waiting:
        self._forget_old()
        known = {show_key(key): waiting for key, waiting in self._waiting.items()}
        wanted = prefix.replace("-", "")
        try:
            return known[resolve(wanted, known, "node that waits", "fabrik-node nodes pending")]
        except NotFound as error:
            raise NotFound(f"no node {prefix[:80]!r} waits for approval here", error.hint) from error
        except Conflict as error:
            raise Conflict(error.message, "give more digits of the key: fabrik-node nodes pending --json") from error

    def _has_room(self, address: str) -> bool:
        network = neighbourhood(address)
        return len(self._waiting) < COUNT_MAX and sum(neighbourhood(each.address) == network for each in self._waiting.values()) < PER_ADDRESS_MAX

    def _forget_old(self) -> None:
        now = self._node.clock.now()
        late = [key for key, each in self._waiting.items() if now - each.last >= AGE_S]
        for key in late:
            del self._waiting[key]
        self.aged += len(late)


def _named(waiting: Waiting) -> str:
    """Its name is its own word; its fingerprint is what an operator compares."""
    return f"{waiting.name} ({fingerprint(waiting.key)})" if waiting.name else fingerprint(waiting.key)
