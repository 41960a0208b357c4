"""Invitations: issued, redeemed, withdrawn, expired. A secret lives in the database no longer than it opens a door, and sealed all that time."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fabrik_node.domain.schema import Role
from fabrik_node.errors import AuthError, Precondition, StoreFull
from fabrik_node.ids import show_key
from fabrik_node.node.member_records import admission, check_admitted, check_not_out
from fabrik_node.node.rehearsal import Rehearsed, rehearsing
from fabrik_node.node.rights import check_allowed
from fabrik_node.node.sealing import PLAIN_BYTES, SealKey, is_plain
from fabrik_node.ports import Invite

if TYPE_CHECKING:  # names of the stub, not of the extension
    from fabrik_node.node.node import Node

__all__ = ["Invitations"]

_AGAIN = "ask its operator for a new one: fabrik-node invite"
_OVER = {
    "used": "this node did not issue that invitation, or it was used",
    "expired": "the invitation has expired",
    "withdrawn": "the invitation was withdrawn",
    "void": "the invitation is void: the key file that opens it (identity/invitations.key) is gone at the node that issued it",
}


class Invitations:
    """Of one node. Times are seconds of the node's clock; an invitation ends with the boot in which it was issued."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._key = SealKey()
        self._due = -math.inf
        """When the next one expires."""
        self._traces = False
        """A secret was erased that may still stand in the store's log."""
        self._settled = True
        """What was open before this start is sealed with our key, or over."""
        self.voided = 0
        """How many of those our key did not open."""

    async def start(self, key_file: Path) -> None:
        """Seal with the key in this file from now on. What an older build stored in plain is sealed, and what this key does not open is void."""
        self._key, self._settled = SealKey(key_file), False
        await self.tidy()

    async def issue(self, role: Role, ttl_s: float, uses_max: int) -> Invite:
        """A new one, for ``uses_max`` nodes (0: any number until it expires). Raises Rehearsed in a dry run."""
        node = self._node
        if (rehearsal := rehearsing()) is not None:
            self._key.check()
            times = {0: "any number of nodes", 1: "one node"}.get(uses_max, f"{uses_max} nodes")
            rehearsal.effects.append(f"a secret token lets {times} into the mesh as {role.name.lower()}, within {ttl_s:g} s")
            raise Rehearsed
        expires_at = node.clock.now() + ttl_s
        token_id, secret = secrets.token_bytes(16), secrets.token_bytes(PLAIN_BYTES)
        invite = Invite(token_id, secret, int(role), expires_at, node.boot_id, uses_max, 0, node.clock.wall_ms())
        await node.store.put_invite(replace(invite, secret=self._key.seal(token_id, secret)))
        self._due = min(self._due, expires_at)
        return invite

    async def check(self, token_id: bytes, check: Callable[[bytes], bool]) -> Invite:
        """The invitation, when it is open and ``check(secret)`` says that a proof fits. Raises AuthError."""
        invite = await self._node.store.invite(token_id)
        if invite is None or invite.ended:
            raise AuthError(_OVER["used" if invite is None else invite.ended], _AGAIN)
        if self.is_late(invite):
            raise AuthError(_OVER["expired"], _AGAIN)
        secret = self._key.open(token_id, invite.secret)
        if secret is None:
            raise AuthError(_OVER["void"], _AGAIN)
        if not check(secret):
            raise AuthError("the joiner could not prove that it holds the invitation", _AGAIN)
        return invite

    async def redeem(self, token_id: bytes, key: bytes, check: Callable[[bytes], bool], next_commitment: bytes) -> None:
        """Admit ``key``, and its commitment to its next key, durably; ``check(secret)`` tells whether its proof fits. Nothing is counted for a member.

        Raises AuthError, also for a key that no record brings back, and what keeps the node from writing.
        """
        node = self._node
        invite = await self.check(token_id, check)
        check_not_out(node, key)
        if node.is_admitted(key):  # it was cut off before it heard of that
            return
        role = Role(invite.role)
        node.check_writable()
        check_allowed(node, [admission(node, key, role, next_commitment=next_commitment)])
        if not await node.store.use_invite(token_id, key, node.clock.wall_ms()):
            raise AuthError("the invitation was used already", _AGAIN)
        self._traces = True
        await node.write(("member", key), lambda: [] if node.is_admitted(key) else [admission(node, key, role, next_commitment=next_commitment)])
        check_admitted(node, key)
        node.tell("node.joined", {"key": show_key(key), "role": role.name.lower(), "invitation": token_id.hex()})

    async def withdraw(self, token_id: bytes) -> bool:
        """Close it and erase its secret; False when it was over already. Raises Rehearsed in a dry run."""
        if (rehearsal := rehearsing()) is not None:
            invite = await self._node.store.invite(token_id)
            if invite is None or invite.ended:
                return False
            came = f"; {invite.uses} came in by it, and stay{'s' * (invite.uses == 1)}" if invite.uses else ""
            rehearsal.effects.append(f"nobody gets in with the invitation {token_id.hex()} (role {Role(invite.role).name.lower()}) any more{came}")
            raise Rehearsed
        ended = await self._node.store.end_invites([token_id], "withdrawn")
        self._traces = True
        return ended > 0

    def is_late(self, invite: Invite) -> bool:
        """Its time is over."""
        return invite.boot_id != self._node.boot_id or self._node.clock.now() >= invite.expires_at

    async def tidy(self) -> None:
        """Now and then: erase the secrets of those that have expired, and what the store's log still has of erased ones."""
        store = self._node.store
        try:
            if self._node.clock.now() >= self._due:
                alive = [invite for invite in await store.invites() if not invite.ended]
                late = [invite.token_id for invite in alive if self.is_late(invite)]
                if late:
                    await store.end_invites(late, "expired")
                    self._traces = True
                if not self._settled:
                    await self._settle([invite for invite in alive if invite.token_id not in late])
                self._due = min((invite.expires_at for invite in alive if invite.token_id not in late), default=math.inf)
            if self._traces:
                self._traces = not await store.scrub()
        except StoreFull as full:
            self._node.disk_full(full)  # and again at the next beat

    async def _settle(self, alive: Sequence[Invite]) -> None:
        void = []
        for invite in alive:
            if not is_plain(invite.secret):
                void += [] if self._key.open(invite.token_id, invite.secret) is not None else [invite.token_id]
                continue
            self._traces = True
            try:
                sealed = self._key.seal(invite.token_id, invite.secret)
            except Precondition:  # better no invitation than one in plain
                void.append(invite.token_id)
            else:
                await self._node.store.reseal_invite(invite.token_id, sealed)
        if void:
            ended = await self._node.store.end_invites(void, "void")
            self.voided += ended
            self._traces = True
        self._settled = True
