"""Letting nodes in: with tokens (``invite``, ``invitations``), and those that knock (``nodes pending``, ``approve``, ``reject``)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fabrik_node.clock import iso
from fabrik_node.domain.schema import Role
from fabrik_node.domain.token import JoinToken
from fabrik_node.errors import AuthError, Precondition, UsageError
from fabrik_node.ids import fingerprint, resolve, show_key
from fabrik_node.node.node import Node
from fabrik_node.ports import Invite
from fabrik_node.service.reading import Reader
from fabrik_node.transport.address import reachable

__all__ = ["INVITED", "USES_MAX", "Inviter", "parse_role"]

INVITED = (Role.READER, Role.AGENT, Role.PEER)
"""Roles with which a node may come in. An admin is made of a member: ``nodes role``."""
USES_MAX = 10_000
_TTL_S_MAX = 30 * 86_400


def parse_role(value: Any, *allowed: Role) -> Role:
    """One of ``allowed`` by its name. Raises UsageError."""
    names = ", ".join(role.name.lower() for role in allowed)
    for role in allowed:
        if str(value).upper() == role.name:
            return role
    raise UsageError(f"a role here is one of {names}, not {str(value)[:40]!r}", f"roles: {names}")


class Inviter:
    """``listen_url``: where peers can reach us; empty: they can not."""

    def __init__(self, node: Node, reader: Reader, *, genesis: bytes, listen_url: Callable[[], str]) -> None:
        self._node = node
        self._reader = reader
        self._genesis = genesis
        self._listen_url = listen_url

    @property
    def operations(self) -> Mapping[str, Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]]:
        """By name."""
        return {
            "invite": self.invite,
            "invitations.list": self.invitations,
            "invitations.withdraw": self.withdraw,
            "nodes.list": self.nodes,
            "nodes.pending": self.pending,
            "nodes.approve": self.approve,
            "nodes.reject": self.reject,
        }

    async def invite(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """A token for one new machine, or for several. Only an admin may issue one, and only the node that did can redeem it."""
        node = self._node
        if node.replica.member(node.public).role != Role.ADMIN:
            raise AuthError("only an admin can invite, and this node is none", "run fabrik-node invite on a node of an admin: fabrik-node nodes list")
        if not (args.get("url") or self._listen_url()):
            raise Precondition("this node does not listen, so nobody could join through it", "fabrik-node serve --listen 0.0.0.0:7420")
        url = reachable(str(args.get("url") or self._listen_url()))
        role = parse_role(args.get("role") or "agent", *INVITED)
        ttl_s = args.get("ttl_s", 3600)
        if not isinstance(ttl_s, int | float) or not 0 < ttl_s <= _TTL_S_MAX:
            raise UsageError(f"an invitation lives for 1 second to 30 days, not {ttl_s!r}", "--ttl 1h")
        invite = await node.invitations.issue(role, ttl_s, _uses_max(args))
        token = JoinToken(self._genesis, node.public, url, invite.token_id, invite.secret, int(role))
        said = {"token": token.encode(), "id": invite.token_id.hex(), "expires_in_s": ttl_s, "role": role.name.lower(), "url": url, "uses_max": invite.uses_max}
        return self._reader.stamp(said)

    async def invitations(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Those that are open, or all that this node ever issued, with who came in by each. Never a secret."""
        store = self._node.store
        invites, joins = await store.invites(), await store.joins()
        lines = []
        for invite in invites:
            ended = invite.ended or ("expired" if self._node.invitations.is_late(invite) else "")
            if ended and not args.get("all"):
                continue
            joined = [
                {"node": show_key(join.key), "name": self._node.name_of(join.key), "at": iso(join.at_ms)}
                for join in joins
                if join.token_id == invite.token_id and self._node.replica.member(join.key).named  # counted, and cut off before it was written: not in
            ]
            left_s = None if ended else max(0.0, invite.expires_at - self._node.clock.now())
            lines.append({**_line(invite), "state": ended or "open", "expires_in_s": left_s, "joined": joined})
        return self._reader.stamp({"invitations": lines})

    async def withdraw(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Nobody gets in with it any more. Who is in already stays."""
        known = {invite.token_id.hex(): invite for invite in await self._node.store.invites()}
        found = known[resolve(str(args.get("id") or ""), known, "invitation")]
        if not await self._node.invitations.withdraw(found.token_id):
            raise Precondition(f"the invitation {found.token_id.hex()} is over: {found.ended or 'used'}", "fabrik-node invitations list --all")
        return self._reader.stamp({**_line(found), "state": "withdrawn"})

    async def nodes(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Every member, and who waits to become one."""
        return {**await self._reader.operations["nodes.list"](args), "pending": self._waiting()}

    async def pending(self, args: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - the shape of an operation
        """Keys that knocked at this node, and wait."""
        return self._reader.stamp({"pending": self._waiting()})

    async def approve(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Let a key in that waits."""
        role = parse_role(args.get("role") or "agent", *INVITED)
        found = await self._node.knocks.approve(str(args.get("key") or ""), role)
        return self._reader.stamp(
            {"node": show_key(found.key), "fingerprint": fingerprint(found.key), "name": found.name, "role": role.name.lower(), "state": "approved"}
        )

    async def reject(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Turn a key away that waits."""
        found = self._node.knocks.reject(str(args.get("key") or ""))
        return self._reader.stamp({"node": show_key(found.key), "fingerprint": fingerprint(found.key), "name": found.name, "state": "rejected"})

    def _waiting(self) -> list[dict[str, Any]]:
        now = self._node.clock.now()
        return [
            {
                "node": show_key(each.key),
                "fingerprint": fingerprint(each.key),
                "name": each.name,
                "address": each.address,
                "since": iso(each.since_ms),
                "waits_s": max(0.0, now - each.since),
                "last_s": max(0.0, now - each.last),
            }
            for each in self._node.knocks.waiting()
        ]


def _line(invite: Invite) -> dict[str, Any]:
    role = Role(invite.role).name.lower()
    return {"id": invite.token_id.hex(), "role": role, "uses": invite.uses, "uses_max": invite.uses_max, "created": iso(invite.created_ms)}


def _uses_max(args: Mapping[str, Any]) -> int:
    """1 for an ordinary invitation, 0 for a reusable one, or what was asked for."""
    count = args.get("max_uses")
    if count is None:
        return 0 if args.get("reusable") else 1
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= USES_MAX:
        raise UsageError(f"an invitation is for 1 to {USES_MAX} nodes, not {str(count)[:40]}", "--max-uses 10")
    return count
