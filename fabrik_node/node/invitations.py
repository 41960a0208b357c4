"""Redeeming an invitation: one secret, one machine, once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fabrik_node.domain.schema import NOWHERE, Kind, MemberField, Role
from fabrik_node.errors import AuthError
from fabrik_node.ports import Invite

if TYPE_CHECKING:
    from fabrik_node.node.node import Node

__all__ = ["check_invitation", "redeem"]

_AGAIN = "ask its operator for a new one: fabrik-node invite"


async def check_invitation(node: Node, token_id: bytes, check: Callable[[bytes], bool]) -> Invite:
    """The invitation, when it is open and ``check(secret)`` says that a proof fits. Raises AuthError."""
    invite = await node.store.invite(token_id)
    if invite is None:
        raise AuthError("this node did not issue that invitation, or it was used", _AGAIN)
    if invite.boot_id != node.boot_id or node.clock.now() >= invite.expires_at:
        raise AuthError("the invitation has expired", _AGAIN)
    if not check(invite.secret):
        raise AuthError("the joiner could not prove that it holds the invitation", _AGAIN)
    return invite


async def redeem(node: Node, token_id: bytes, key: bytes, check: Callable[[bytes], bool], next_commitment: bytes) -> None:
    """Admit ``key`` durably; ``check(secret)`` tells whether its proof fits. Raises AuthError, and what keeps the node from writing."""
    invite = await check_invitation(node, token_id, check)
    node.check_writable()
    if not await node.store.use_invite(token_id):
        raise AuthError("the invitation was used already", _AGAIN)
    record = {1: int(Role(invite.role)), 3: NOWHERE} | ({5: next_commitment} if next_commitment else {})
    await node.write(("member", key), lambda: [] if node.is_admitted(key) else [(Kind.MEMBER, key, MemberField.RECORD, record, None)])
