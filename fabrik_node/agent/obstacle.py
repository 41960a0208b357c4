"""What keeps an agent from taking work now, in one line that other nodes can show. Pure."""

from __future__ import annotations

from dataclasses import replace

from fabrik_node.agent.halt import Halt

__all__ = ["CATCHING_UP", "CUT_OFF", "TEXT_CHARS", "obstacle"]

CUT_OFF = "no peer is connected, and cut off it would only lose its leases: it waits for one"
"""Said on its own node alone: who hears an agent is there."""
CATCHING_UP = "a peer is connected, and what each of the two lacks is still on its way: it waits until it has caught up with one"
"""Said on its own node alone, too: it is over in moments, but for a long sync."""

TEXT_CHARS = 200
"""Characters of the line, so that messages stay small."""
_REASON_CHARS = 120
"""Of a halt's reason: what to type comes after it, and is not cut off."""


def obstacle(halt: Halt | None, *, stopping: bool, disk: str, refused: str, wait_s: float) -> str:
    """Empty while nothing is in the way. What only a person can end comes first.

    ``disk``: why nothing can be written; ``refused``: why nothing could be claimed at the last try; ``wait_s``: seconds for which the agent leaves
    everything alone after a rate limit, or after failures in a row.
    """
    if halt is not None:
        said = replace(halt, reason=halt.reason[:_REASON_CHARS]).line
    elif stopping:
        said = "its node is stopping and takes nothing new"
    elif disk:
        said = f"{disk}: nothing is written until there is space"
    elif refused:
        said = refused
    elif wait_s > 0:
        said = f"it waits {wait_s:.0f} s after a rate limit or failures in a row"
    else:
        said = ""
    return said[:TEXT_CHARS]
