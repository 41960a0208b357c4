"""Redeeming an invitation: one secret, one machine, once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fabrik_node.domain.schema import Kind, MemberField, Role
from fabrik_node.errors import AuthError

if TYPE_CHECKING:
    from fabrik_node.node.node import Node

__all__ = ["redeem"]


async def redeem(node: Node, token_id: bytes, key: bytes, check: Callable[[bytes], bool]) -> None:
    """Admit ``key`` durably; ``check(secret)`` tells whether its proof fits. Raises AuthError, and what keeps the node from writing."""
    again = "ask its operator for a new one: fabrik-node invite"
    invite = await node.store.invite(token_id)
    if invite is None:
        raise AuthError("this node did not issue that invitation, or it was used", again)
    if invite.boot_id != node.boot_id or node.clock.now() >= invite.expires_at:
        raise AuthError("the invitation has expired", again)
    if not check(invite.secret):
        raise AuthError("the joiner could not prove that it holds the invitation", again)
    node.check_writable()
    if not await node.store.use_invite(token_id):
        raise AuthError("the invitation was used already", again)
    await node.write(("member", key), lambda: [] if node.is_admitted(key) else [(Kind.MEMBER, key, MemberField.RECORD, {1: int(Role(invite.role))}, None)])
