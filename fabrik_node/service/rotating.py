"""``keys rotate``: this node's key names the one that follows it, and the node goes on as that one.

The op is written here; the home takes over the new key at the start that follows at once (:mod:`fabrik_node.app.rotation`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fabrik_node._core import Chained, Draft, Genesis, Replica, SigningKey, next_key
from fabrik_node.domain.schema import Role
from fabrik_node.errors import AuthError, Internal, NotFound, Precondition, UsageError
from fabrik_node.ids import fingerprint, show_id, show_key
from fabrik_node.node.identity import create_key, load_key, replace_key
from fabrik_node.node.member_records import commitments
from fabrik_node.node.node import Node
from fabrik_node.node.rehearsal import Rehearsed, rehearsing
from fabrik_node.paths import HomePaths
from fabrik_node.service.reading import Reader

__all__ = ["KEEPS_MAX", "KeyRotator", "seed_of"]

KEEPS_MAX = 1_000
"""Heads of other logs of the old key that a rotation names: more do not fit into an op."""
_ANOTHER = "make another node and put this one out: fabrik-node --home DIR join TOKEN; then, on an admin's node: fabrik-node nodes retire KEY"


def seed_of(value: Any) -> bytes:
    """A seed as the command line sends it. Raises UsageError."""
    try:
        seed = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        seed = b""
    if len(seed) != 32:
        raise UsageError("a key is 64 hex digits", "fabrik-node keys rotate --next FILE")
    return seed


class KeyRotator:
    """``switch()`` ends this start of the node and begins the next one, soon after it was called."""

    def __init__(self, node: Node, reader: Reader, genesis: bytes, paths: HomePaths, switch: Callable[[], None]) -> None:
        self._node = node
        self._reader = reader
        self._genesis = genesis
        self._paths = paths
        self._switch = switch

    @property
    def operations(self) -> Mapping[str, Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]]:
        """Writes by name."""
        return {"keys.rotate": self.rotate}

    async def rotate(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Name the next key, durably, and go on with it. ``next``: its seed, when it is not in the home. Raises AuthError, NotFound, Precondition: nothing was changed then."""
        node, paths = self._node, self._paths
        self._check()
        seed = seed_of(args["next"]) if args.get("next") else None
        new = self._next(seed)
        if not await asyncio.to_thread(_counts, self._genesis, node.replica, node.key, node.epoch, new):
            raise Precondition("the mesh does not take this key as the next one of this node: no record that is in force commits to it", _ANOTHER)
        if (rehearsal := rehearsing()) is not None:
            self._keeps()
            rehearsal.effects.append(
                f"this node's key {show_key(node.public)[:16]} is replaced for good by {show_key(new.public)[:16]} ({fingerprint(new.public)}): "
                "the node starts again under it, and nothing that the old key writes from then on counts"
            )
            raise Rehearsed
        if seed is not None:
            replace_key(paths.next_key, seed)
        after = create_key(paths.after_key)
        await node.writer.rotate(lambda draft: self._draft(draft, new, next_key(after.public)))
        if node.replica.member(node.public).successor != new.public:
            raise Internal("the rotation was written, and does not count: this node's key was revoked in the same moment", "fabrik-node keys list")
        node.tell("node.rotated", {"from": show_key(node.public), "to": show_key(new.public)})
        self._switch()
        return self._reader.stamp(
            {"old": show_key(node.public), "new": show_key(new.public), "fingerprint": fingerprint(new.public), "next_file": str(paths.next_key)}
        )

    def _check(self) -> None:
        """What keeps this node from rotating now."""
        node = self._node
        node.check_writable()
        member = node.replica.member(node.public)
        if member.successor is not None:
            raise Precondition(f"this node's key was rotated to {show_key(member.successor)} already", "fabrik-node keys list")
        if member.revoked:
            raise AuthError(
                "this node's key is revoked, for good: nothing that it writes has effect", "a fresh home and a token: fabrik-node --home DIR join TOKEN"
            )
        if member.role == Role.NONE:
            raise AuthError("this node is no member of the mesh", "a token of an admin: fabrik-node join TOKEN")
        if node.epochs.doubt:
            raise Precondition(
                f"this node doubts its own log ({node.epochs.doubt}), and a rotation would void what its peers may hold of it",
                "let it meet a peer, then write anything, which opens a new epoch: fabrik-node items add TITLE",
            )
        held = [show_id(item) for item, claim in node.board.claims() if claim.held and claim.node == node.public]
        if held:
            raise Precondition(
                f"this node holds {len(held)} {'claim' if len(held) == 1 else 'claims'}, and only the key that made it can end it: {', '.join(held[:5])}",
                f"wait for its runs, or fabrik-node claims release {held[0]}",
            )

    def _next(self, seed: bytes | None) -> SigningKey:
        """The committed next key."""
        known = commitments(self._node.replica, Genesis.decode(self._genesis), self._node.public)
        if not known:
            raise Precondition("this node never told the mesh of a next key (it joined with an older version), so its key can not be rotated", _ANOTHER)
        if seed is None and not self._paths.next_key.exists():
            raise NotFound(f"the next key is not in {self._paths.identity}", "fabrik-node keys rotate --next FILE")
        new = load_key(self._paths.next_key) if seed is None else SigningKey.from_seed(seed)
        if next_key(new.public) not in known:
            where = "that file" if seed is not None else str(self._paths.next_key)
            raise Precondition(
                f"the key in {where} ({fingerprint(new.public)}) is not the one to which this node is committed",
                "fabrik-node keys rotate --next FILE, with the right one",
            )
        return new

    def _draft(self, draft: Draft, new: SigningKey, after: bytes) -> list[Chained]:
        """In the writer's turn, when nothing else can move."""
        self._check()
        keeps, node = self._keeps(), self._node
        return draft.rotate(new, after, keeps, node.clock.wall_ms())

    def _keeps(self) -> list[tuple[int, int, bytes]]:
        """The heads of other logs of the old key. Raises Precondition when they have no room in an op."""
        node = self._node
        keeps = [(head.epoch, head.seq, head.head) for head in node.epochs.own_heads() if (head.epoch, head.branch) != (node.epoch, 0)]
        if len(keeps) > KEEPS_MAX:
            raise Precondition(f"this node's logs have {len(keeps)} more heads, and a rotation has room for {KEEPS_MAX}", _ANOTHER)
        return keeps


def _counts(genesis: bytes, replica: Replica, key: SigningKey, epoch: int, new: SigningKey) -> bool:
    """Tried on a copy: whether a rotation to ``new`` has effect, by the merge's own rules."""
    trial = Replica.restore(genesis, replica.snapshot())
    trial.merge(trial.draft(key, epoch).rotate(new, None, [], 0))
    return trial.member(key.public).successor == new.public
