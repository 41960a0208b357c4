"""Admins' writes about members: ``nodes role``, ``nodes revoke`` and ``nodes retire``. What they mean is in docs/spec/merge.md, "Authority"."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from fabrik_node._core import Genesis
from fabrik_node.domain.schema import Kind, MemberField, Role, RotationField
from fabrik_node.errors import NotFound, Precondition, UsageError
from fabrik_node.ids import PREFIX_CHARS_MIN, fingerprint, show_key
from fabrik_node.node.member_records import PLACES_MAX, Place, bound_by, commitments, held_by, place_of
from fabrik_node.node.node import Node
from fabrik_node.node.rehearsal import rehearsing
from fabrik_node.service.inviting import parse_role
from fabrik_node.service.reading import Reader

__all__ = ["MembershipWriter"]

_PLACE = re.compile(r"([0-9]{1,16}):([0-9]{1,16})(?::([0-9]{1,9}))?")
_CHOICES = "--keep held, first, nothing, EPOCH:SEQ or EPOCH:SEQ:BRANCH"


class MembershipWriter:
    """Whether this node may write it, the core says: AuthError, and nothing is written."""

    def __init__(self, node: Node, reader: Reader) -> None:
        self._node = node
        self._reader = reader

    @property
    def operations(self) -> Mapping[str, Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]]:
        """Writes by name."""
        return {"nodes.role": self.role, "nodes.revoke": self.revoke, "nodes.retire": self.retire}

    async def role(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Give a member another role. It binds what this node does not hold of it yet; what it holds is judged as before."""
        key = self._other(args)
        role = parse_role(args.get("role"), Role.READER, Role.AGENT, Role.PEER, Role.ADMIN)
        if self._node.replica.member(key).revoked or not self._node.is_admitted(key):
            raise Precondition(
                f"{show_key(key)} is no member any more, and a role does not bring it back", "a new home there, with a token: fabrik-node invite"
            )
        places = held_by(self._node, key, "fabrik-node nodes revoke KEY, and a token for a new home there")
        before = Role(self._node.replica.member(key).role)
        what = f"keeps the role {role.name.lower()}" if before is role else f"gets the role {role.name.lower()}, instead of {before.name.lower()}"
        self._foretell(key, f"{what}: for what this node does not hold of it yet; what it holds stays as it was judged")
        await self._write(key, {1: int(role)} | bound_by(places))
        return self._answer(key, role=role.name.lower())

    async def revoke(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Put a key out for good: of what it wrote stays what ``keep`` names (default: what this node holds now); the rest is void everywhere, whenever it arrives.

        ``keep``: ``held``, ``first`` (of each log only the branch that this node met first), ``nothing``, and places ``EPOCH:SEQ`` or ``EPOCH:SEQ:BRANCH``
        with the ops before each. A log that is suspended has to be chosen from: what a thief made of it would count otherwise.
        """
        key = self._other(args)
        keep = ["nothing"] if args.get("keep_nothing") else args.get("keep") or ["held"]
        if not isinstance(keep, list) or not all(isinstance(choice, str) for choice in keep):
            raise UsageError("keep is a list of texts", _CHOICES)
        places = list(dict.fromkeys(place for choice in keep for place in self.kept(key, choice)))
        if len(places) > PLACES_MAX:
            raise Precondition(
                f"{len(places)} places of {show_key(key)}, and a revocation has room for {PLACES_MAX}", "fabrik-node nodes revoke KEY --keep first"
            )
        self._check_rotation(key, places)
        held = not args.get("keep_nothing") and not args.get("keep")
        stays = "what this node holds of it now" if held else f"what it wrote up to {len(places)} place{'s' * (len(places) != 1)}" if places else "nothing"
        self._foretell(key, f"is put out for good, on every node; {stays} stays, and whatever else it wrote or writes is void")
        await self._write(key, {1: int(Role.NONE)} | bound_by(places))
        return self._answer(key, kept=len(places))

    def _check_rotation(self, key: bytes, places: Sequence[Place]) -> None:
        """A key that follows by an op that is not kept is out with the old one, and for good: nobody should get there by accident."""
        successor = self._node.replica.member(key).successor
        turn = self._node.replica.get(Kind.ROTATION, key, RotationField.ROTATION)
        if successor is None or turn is None or not self._node.is_admitted(successor):
            return
        if not any(epoch == turn.epoch and seq >= turn.seq for epoch, seq, _ in places):
            raise Precondition(
                f"it rotated to {show_key(successor)} by op {turn.seq} of epoch {turn.epoch}; if that is not kept, the new key is out, too",
                f"--keep {turn.epoch}:{turn.seq} with what else stays; if both shall go: revoke the new key first",
            )

    def kept(self, key: bytes, choice: str) -> list[Place]:
        """Of a key's logs, what :meth:`revoke` is told to keep. Raises NotFound, Precondition, UsageError."""
        heads = [head for head in self._node.heads() if head.author == key]
        suspended = sorted(epoch for author, epoch in self._node.suspended() if author == key)
        if choice == "held" and suspended:
            count = sum(head.epoch == suspended[0] for head in heads)
            raise Precondition(
                f"the log of epoch {suspended[0]} of {show_key(key)} has {count} branches and is suspended: say what of it stays",
                "fabrik-node nodes revoke KEY --keep first (the branch that this node met first), --keep EPOCH:SEQ[:BRANCH], or --keep nothing",
            )
        if choice == "held":
            return [place_of(head) for head in heads]
        if choice == "first":
            return [place_of(head) for head in heads if head.branch == 0]
        if choice == "nothing":
            return []
        if (named := _PLACE.fullmatch(choice)) is None:
            raise UsageError(f"can not keep {choice!r}", _CHOICES)
        epoch, seq, branch = int(named[1]), int(named[2]), int(named[3] or 0)
        mark = self._node.replica.mark(key, epoch, branch, seq)
        if mark is None:
            raise NotFound(f"this node holds no op {seq} on branch {branch} of epoch {epoch} of {show_key(key)}", "fabrik-node ops forks")
        return [(epoch, seq, mark + bytes(16))]

    async def retire(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Let a key connect no more. All that it wrote stays."""
        key = self._other(args)
        if self._node.replica.member(key).role == Role.NONE:
            raise Precondition(f"{show_key(key)} is no member any more", "fabrik-node nodes list")
        self._foretell(key, "can not connect any more; all that it wrote stays")
        await self._write(key, {1: int(Role.NONE)})
        return self._answer(key)

    def _foretell(self, key: bytes, what: str) -> None:
        """In a dry run: what becomes of a member."""
        rehearsal = rehearsing()
        if rehearsal is not None:
            rehearsal.effects.append(f"{self._node.name_of(key)} ({fingerprint(key)}) {what}")

    def _other(self, args: Mapping[str, Any]) -> bytes:
        return self.find(str(args.get("key") or ""))

    def find(self, text: str) -> bytes:
        """Another member by its name or the first digits of its key, with dashes or without. Raises NotFound, UsageError.

        Names are their owners' own words: one that looks like the digits of another key is ambiguous, and never stands for that key.
        """
        known, digits = self._node.board.roles(), text.replace("-", "").lower()
        named = [key for key in known if text and self._node.name_of(key) == text and self._node.replica.member(key).successor is None]
        begun = [key for key in known if digits and show_key(key).startswith(digits) and (len(digits) >= PREFIX_CHARS_MIN or not named)]
        found = [key for key in known if show_key(key) == digits] or list(dict.fromkeys(named + begun))
        if not found:
            raise NotFound(f"no member {text!r}", "fabrik-node nodes list")
        if len(found) > 1:
            raise UsageError(f"{text!r} fits {len(found)} members", "use the whole key: fabrik-node nodes list")
        if found[0] == self._node.public:
            raise UsageError("that is this node's own key", "write it on the node of another admin")
        return found[0]

    async def _write(self, key: bytes, record: dict[int, Any]) -> None:
        row = self._node.replica.row(Kind.MEMBER, key).get(MemberField.RECORD, {})
        committed = commitments(self._node.replica, Genesis.decode(self._node.genesis), key)  # they may not count for another level
        kept = ({2: row[2]} if row.get(2) else {}) | ({5: committed[-1]} if committed else {})
        await self._node.write(("member", key), lambda: [(Kind.MEMBER, key, MemberField.RECORD, record | kept, None)])

    def _answer(self, key: bytes, **more: Any) -> dict[str, Any]:
        member = self._node.replica.member(key)
        said = {"node": show_key(key), "name": self._node.name_of(key), "revoked": member.revoked, "note": ""}
        if member.successor is not None:
            said["note"] = f"it rotated to {show_key(member.successor)}, which is a key of its own: fabrik-node nodes list"
        return self._reader.stamp(said | more)
