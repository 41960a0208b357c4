"""Labels that an agent has by being where it is: its node and its engine. An item that requires one of them goes there and nowhere else."""

from __future__ import annotations

from collections.abc import Collection

from fabrik_node.domain.picking import PREFERRED
from fabrik_node.ids import show_key

__all__ = ["ENGINE", "NODE", "given_labels", "is_given", "node_label"]

NODE = "node:"
"""Before the name of a node, or the first digits of its key."""
ENGINE = "engine:"
"""Before the version of the program."""
_KEY_CHARS = 16


def given_labels(name: str, key: bytes, version: str) -> list[str]:
    """Of an agent on a node; besides those of its settings."""
    return [f"{NODE}{name}", f"{NODE}{show_key(key)[:_KEY_CHARS]}", f"{ENGINE}{version}"]


def is_given(label: str) -> bool:
    """Nobody sets it for an agent: it is a fact."""
    return label.startswith((NODE, ENGINE))


def node_label(name: str, key: bytes, names: Collection[str], bytes_max: int) -> str:
    """The label that only this node has: by its name, which stays when its key is rotated; by its key where ``names`` (of all others) has that name, too, or it fits no label."""
    by_name = f"{NODE}{name}"
    if name and name not in names and not name.endswith(PREFERRED) and len(by_name.encode()) <= bytes_max:
        return by_name
    return f"{NODE}{show_key(key)[:_KEY_CHARS]}"
