"""What goes into a member record beside the role: the places from which it binds, the name, and the commitment to the next key. docs/spec/merge.md, "Authority"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fabrik_node._core import Genesis, Head, Replica
from fabrik_node.domain.schema import NOWHERE, Kind, MemberField, Role, RotationField
from fabrik_node.errors import AuthError, Precondition
from fabrik_node.ids import show_key

if TYPE_CHECKING:  # names of the stub, not of the extension
    from fabrik_node._core import Write
    from fabrik_node.node.node import Node

__all__ = ["PLACES_MAX", "Place", "admission", "bound_by", "check_admitted", "check_not_out", "commitments", "held_by", "place_of"]

PLACES_MAX = 1_000
"""Heads that one record names: more do not fit into an op."""
Place = tuple[int, int, bytes]
_NEW_HOME = "it needs a new home, with a key of its own: fabrik-node --home DIR join TOKEN"


def admission(node: Node, key: bytes, role: Role, *, name: str = "", next_commitment: bytes = b"") -> Write:
    """The member record of who comes in: its role binds what this node does not hold of it yet, which of a new node is all.

    Who comes back keeps what it wrote, its name, and its commitment when it brings no other. Raises Precondition for more heads than a record names.
    """
    places = held_by(node, key, "a new home there, with a token: fabrik-node invite")
    row = node.replica.row(Kind.MEMBER, key).get(MemberField.RECORD, {})
    committed = commitments(node.replica, Genesis.decode(node.genesis), key)
    named, follows = row.get(2) or name, next_commitment or (committed[-1] if committed else b"")
    more: dict[int, Any] = ({2: named} if named else {}) | ({5: follows} if follows else {})
    return (Kind.MEMBER, key, MemberField.RECORD, {1: int(role)} | bound_by(places) | more, None)


def check_not_out(node: Node, key: bytes) -> None:
    """A record would let ``key`` in. Raises AuthError for one that was revoked or rotated away: no record brings it back."""
    member = node.replica.member(key)
    if member.revoked or member.successor is not None:
        raise AuthError("this key was put out of the mesh for good", _NEW_HOME)


def check_admitted(node: Node, key: bytes) -> None:
    """The record that was just written has effect. Raises AuthError."""
    check_not_out(node, key)
    if not node.is_admitted(key):
        raise AuthError("what this node wrote about that key has no effect", _NEW_HOME)


def held_by(node: Node, key: bytes, else_: str) -> list[Place]:
    """Where this node stands in a key's logs. Raises Precondition with the hint ``else_`` when that is too much for one record."""
    places = [place_of(head) for head in node.heads() if head.author == key]
    if len(places) > PLACES_MAX:
        raise Precondition(f"{show_key(key)} has {len(places)} heads, and a member record has room for {PLACES_MAX}", else_)
    return places


def place_of(head: Head) -> Place:
    """The place that a head stands on."""
    return head.epoch, head.seq, head.head


def bound_by(places: Sequence[Place]) -> dict[int, Any]:
    """Keys 3 and 4 of a member record: it binds whatever is not at or before one of these places."""
    first, *more = [list(place) for place in places] or [NOWHERE]
    return {3: first} | ({4: more} if more else {})


def commitments(replica: Replica, genesis: Genesis, key: bytes) -> list[bytes]:
    """To which keys ``key`` may rotate, as far as the registers show: by the genesis record, its member record and the rotation that made it."""
    found: list[Any] = [genesis.next] if key == genesis.admin else []
    found.append(replica.row(Kind.MEMBER, key).get(MemberField.RECORD, {}).get(5))
    found += [row[RotationField.ROTATION].get(3) for old, row in replica.rows(Kind.ROTATION) if replica.member(old).successor == key]
    return [each for each in found if isinstance(each, bytes) and len(each) == 32]
