"""What this node may write, asked before anything is done; and a refusal in the words of its operator.

The core decides: a draft refuses an op that would be void. Here it is only said which role the write takes, and who can give it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING

from fabrik_node.domain.schema import Role, needed_role
from fabrik_node.errors import AuthError
from fabrik_node.ids import show_key
from fabrik_node.node.rehearsal import Rehearsed, rehearsing

if TYPE_CHECKING:
    from fabrik_node._core import Chained, Write
    from fabrik_node.node.node import Node

__all__ = ["check_allowed", "explain", "submit"]


def check_allowed(node: Node, writes: Sequence[Write]) -> None:
    """Returns when an op of these writes would have effect, else raises AuthError. Before anything is done outside that the op has to follow."""
    try:
        node.replica.draft(node.key, node.epoch).append(writes, node.clock.wall_ms())
    except AuthError as error:
        raise explain(node, error, writes) from error


async def submit(node: Node, key: Hashable, build: Callable[[], Sequence[Write]]) -> list[Chained]:
    """One local op; see :meth:`fabrik_node.node.writer.Writer.submit`. Raises AuthError, explained, when it would be void, and Rehearsed in a dry run."""
    if (rehearsal := rehearsing()) is not None:
        node.check_writable()
        rehearsal.writes = build()
        check_allowed(node, rehearsal.writes)
        raise Rehearsed
    writes: list[Write] = []

    def built() -> Sequence[Write]:
        writes[:] = build()
        return writes

    try:
        return await node.writer.submit(key, built)
    except AuthError as error:
        raise (explain(node, error, writes) if writes else error) from error


def explain(node: Node, error: AuthError, writes: Sequence[Write]) -> AuthError:
    """The core's refusal of ``writes``, with the role that they take and who can give it."""
    member = node.replica.member(node.public)
    admins = [key for key, role in node.board.roles().items() if role is Role.ADMIN and key != node.public]
    ask = f"an admin of the mesh ({', '.join(node.name_of(key) for key in admins[:4])})" if admins else "an admin of the mesh"
    if member.revoked or member.successor is not None or not node.is_admitted(node.public):
        return AuthError(error.message, f"ask {ask} for a token, and join with a new home: fabrik-node --home DIR join TOKEN")
    needed = max((needed_role(write[0], write[2]) for write in writes), default=Role.READER)
    if needed is Role.ADMIN:
        return AuthError(error.message, f"ask {ask} to do it there")
    said = f"this node has the role {Role(member.role).name.lower()}, and this write takes the role {needed.name.lower()}"
    return AuthError(said, f"ask {ask}: fabrik-node nodes role {show_key(node.public)[:16]} {needed.name.lower()}; or do it on a node that has that role")
