"""Who takes which item first, so that agents that look at one list rarely collide. A collision costs a claim that loses, never more."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from fabrik_node._core import blake3

__all__ = ["GROUP", "PREFERRED", "agents_ahead", "preferred_labels", "required_labels", "turn_s"]

PREFERRED = "?"
"""The end of a label of an item that an agent need not have, but that lets it go first."""
GROUP = "group:"
"""The beginning of a label that only puts an item into a group, for a limit: no agent needs it, and none is preferred for it."""
_TURNS_MAX = 4
_MARGIN = 1.5
"""Answers take different times, and the claim has to reach us, too."""
_STEP_S_MAX = 5.0


def required_labels(labels: Collection[str]) -> frozenset[str]:
    """What an agent must have to take an item with these labels."""
    return frozenset(label for label in labels if not label.endswith(PREFERRED) and not label.startswith(GROUP))


def preferred_labels(labels: Collection[str]) -> frozenset[str]:
    """What lets an agent go first, as agents name it."""
    return frozenset(label.removesuffix(PREFERRED) for label in labels if label.endswith(PREFERRED) and not label.startswith(GROUP))


def agents_ahead(item: bytes, labels: Collection[str], own: bytes, agents: Mapping[bytes, Collection[str]]) -> int:
    """How many of ``agents`` (key: labels; our own is among them) go before ``own`` at this item.

    First those with more of its preferred labels, then by the hash of item and key: each item has an order of its own, the same on every node.
    """
    preferred = preferred_labels(labels)

    def place(key: bytes) -> tuple[int, bytes]:
        return (-len(preferred & set(agents.get(key, ()))), blake3(item + key))

    mine = place(own)
    return sum(1 for key, has in agents.items() if key != own and required_labels(labels) <= set(has) and place(key) < mine)


def turn_s(ahead: int, settle_s: float, claim_s: float = 0.0) -> float:
    """Seconds to wait for the ``ahead`` agents that go first, but for four of them at most: they may be busy.

    ``claim_s``: how long an arbiter takes to answer a claim. Who comes sooner asks it in vain, and finds nothing here that says so.
    """
    return min(ahead, _TURNS_MAX) * max(settle_s / _TURNS_MAX, min(_MARGIN * claim_s, _STEP_S_MAX))
