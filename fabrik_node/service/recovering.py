"""``keys recover``: the mesh's recovery key makes this node an admin, and may put out the one that was lost. docs/spec/merge.md, "Authority".

The recovery key writes in logs of its own, member records only. Its seed comes with the call, signs one op, and is kept nowhere.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from fabrik_node._core import Genesis, SigningKey
from fabrik_node.domain.schema import Kind, MemberField, Role
from fabrik_node.errors import AuthError, Internal, Precondition
from fabrik_node.ids import fingerprint, show_key
from fabrik_node.node.epochs import next_epoch
from fabrik_node.node.identity import commitment_of
from fabrik_node.node.member_records import PLACES_MAX, bound_by, commitments, place_of
from fabrik_node.node.node import Node
from fabrik_node.node.rehearsal import Rehearsed, rehearsing
from fabrik_node.paths import HomePaths
from fabrik_node.service.membership import MembershipWriter
from fabrik_node.service.reading import Reader
from fabrik_node.service.rotating import seed_of

if TYPE_CHECKING:  # names of the stub, not of the extension
    from fabrik_node._core import Write

__all__ = ["KeyRecoverer"]


class KeyRecoverer:
    """On any member of the mesh that runs and holds the recovery key's file."""

    def __init__(self, node: Node, reader: Reader, genesis: bytes, paths: HomePaths, members: MembershipWriter) -> None:
        self._node = node
        self._reader = reader
        self._genesis = Genesis.decode(genesis)
        self._paths = paths
        self._members = members

    @property
    def operations(self) -> Mapping[str, Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]]:
        """Writes by name."""
        return {"keys.recover": self.recover}

    async def recover(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Make this node an admin below nobody but the recovery key. ``recovery``: its seed; ``revoke``: members to put out with it, as ``nodes revoke`` does."""
        node = self._node
        node.check_writable()
        key = self._key(args)
        lost = [self._members.find(str(each)) for each in args.get("revoke") or []]
        member = node.replica.member(node.public)
        is_root = member.role == Role.ADMIN and member.level == 0
        if member.role == Role.NONE:
            raise AuthError("this node is no member of the mesh (any more)", "on a node that is one: fabrik-node nodes list")
        if is_root and not lost:
            raise Precondition("this node is the mesh's admin already", "fabrik-node nodes list")
        records = [] if is_root else [(node.public, self._admin())]
        records += [(each, self._out(each)) for each in lost]
        known = [head.epoch for head in node.heads() if head.author == key.public]
        draft = node.replica.draft(key, next_epoch(max(known, default=0), secrets.randbits(32)))
        writes: list[Write] = [(Kind.MEMBER, subject, MemberField.RECORD, record, None) for subject, record in records]
        chained = draft.append(writes, node.clock.wall_ms())
        if (rehearsal := rehearsing()) is not None:
            rehearsal.writes = writes
            rehearsal.effects += [] if is_root else ["this node becomes an admin of the mesh, below nobody but the recovery key"]
            rehearsal.effects += [f"{node.name_of(each)} ({show_key(each)[:16]}) is put out for good, on every node" for each in lost]
            raise Rehearsed
        await node.ingest([each.data for each in chained], b"")
        if node.replica.member(node.public).level != 0:
            raise Internal("what the recovery key wrote has no effect", "fabrik-node nodes list")
        node.tell("mesh.recovered", {"admin": show_key(node.public), "revoked": [show_key(each) for each in lost]})
        return self._reader.stamp(
            {
                "admin": show_key(node.public),
                "fingerprint": fingerprint(node.public),
                "revoked": [{"node": show_key(each), "name": node.name_of(each)} for each in lost],
            }
        )

    def _key(self, args: Mapping[str, Any]) -> SigningKey:
        if self._genesis.recovery is None:
            raise Precondition(
                "this mesh was made without a recovery key, so nobody can replace its admin", "make a new mesh, with fabrik-node init in a new home"
            )
        key = SigningKey.from_seed(seed_of(args.get("recovery")))
        if key.public != self._genesis.recovery:
            raise AuthError(
                f"that is not the recovery key of mesh {self._genesis.name!r}: it is {show_key(key.public)[:16]}, and the mesh's is {show_key(self._genesis.recovery)[:16]}",
                "fabrik-node keys list",
            )
        return key

    def _out(self, key: bytes) -> dict[int, Any]:
        """Of a lost admin stays what this node holds."""
        kept = self._members.kept(key, "held")
        if len(kept) > PLACES_MAX:
            raise Precondition(
                f"{show_key(key)} has {len(kept)} heads, and a revocation has room for {PLACES_MAX}",
                "leave out --revoke, then: fabrik-node nodes revoke KEY --keep first",
            )
        return {1: int(Role.NONE)} | bound_by(kept)

    def _admin(self) -> dict[int, Any]:
        """Our record: an admin from here on. Records by admins count no more for an admin, so it carries our name and our commitment, too."""
        node = self._node
        row = node.replica.row(Kind.MEMBER, node.public).get(MemberField.RECORD, {})
        committed = commitment_of(self._paths.next_key) or next(reversed(commitments(node.replica, self._genesis, node.public)), b"")
        named = {2: row[2]} if row.get(2) else {}
        return {1: int(Role.ADMIN)} | named | bound_by([place_of(head) for head in node.epochs.own_heads()]) | ({5: committed} if committed else {})
