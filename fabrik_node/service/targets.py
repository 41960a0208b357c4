"""Items for one node: its name becomes a label that only its agent has, and a name that nobody has is refused before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fabrik_node.domain.nearness import Nearness
from fabrik_node.domain.schema import Role
from fabrik_node.domain.targets import NODE, node_label
from fabrik_node.errors import NotFound, Precondition, UsageError
from fabrik_node.ids import PREFIX_CHARS_MIN, show_key
from fabrik_node.service.bounds import LABEL_BYTES_MAX
from fabrik_node.service.reading import Reader

__all__ = ["Targets"]


class Targets:
    """Members whose agents may take work."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def aimed(self, args: Mapping[str, Any], labels: Sequence[str]) -> dict[str, Any]:
        """``args`` of an item with its labels checked, and those of ``on`` (a member) in place of another node's. ``labels``: what the item has now."""
        on, given = args.get("on"), args.get("labels")
        if isinstance(given, list):
            for label in given:
                if isinstance(label, str) and label.startswith(NODE):
                    self.find(label.removeprefix(NODE).removesuffix("?"))
        if on is None:
            return dict(args)
        if not isinstance(on, str) or not on:
            raise UsageError("on is the name of a node", "fabrik-node nodes list")
        kept = [label for label in (given if isinstance(given, list) else labels) if not (isinstance(label, str) and label.startswith(NODE))]
        return {**args, "labels": [*kept, self._label(self.find(on))]}

    def find(self, text: str) -> bytes:
        """The member with this name, or whose key begins with these digits. Raises NotFound, UsageError when several do, Precondition when it may not take work."""
        roles = self._members()
        digits = text.replace("-", "").lower()
        self._reader.views()
        named = [key for key in roles if self._reader.name_of(key) == text]
        found = named or [key for key in roles if len(digits) >= PREFIX_CHARS_MIN and show_key(key).startswith(digits)]
        if not found:
            raise NotFound(f"no node {text!r}", "fabrik-node nodes list")
        if len(found) > 1:
            raise UsageError(f"{text!r} fits {len(found)} nodes", f"the first digits of its key, as in fabrik-node nodes list: {show_key(found[0])[:16]}")
        if roles[found[0]] < Role.AGENT:
            raise Precondition(f"node {text!r} has the role {roles[found[0]].name.lower()} and takes no work", f"fabrik-node nodes role {text} agent")
        return found[0]

    def note(self, text: str) -> str:
        """What one should know of the node ``text`` before one waits for it; empty when its agent takes work."""
        key = self.find(text)
        seen, name = self._reader.near().judge(key), self._reader.name_of(key)
        said = None if seen.heard is None else seen.heard.payload.get("agent")
        problem = said.get("problem") if isinstance(said, Mapping) else None
        if seen.state not in (Nearness.SELF, Nearness.ALIVE):
            return f"{name} is not heard now: it takes the item when it is there"
        if not isinstance(said, Mapping):
            return f"{name} has no agent now: it takes the item when it has one (fabrik-node serve --command CMD there)"
        return f"{name} takes no work now: {problem}" if isinstance(problem, str) and problem else ""

    def _label(self, key: bytes) -> str:
        others = [self._reader.name_of(other) for other in self._members() if other != key]
        return node_label(self._reader.name_of(key), key, others, LABEL_BYTES_MAX)

    def _members(self) -> dict[bytes, Role]:
        """Those that are in, without keys that were rotated away."""
        replica = self._reader.replica
        return {key: role for key, role in self._reader.board.roles().items() if role is not Role.NONE and replica.member(key).successor is None}
