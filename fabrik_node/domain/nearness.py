"""What an observer may say of another node: by its own clock, since the last change that it saw. Nobody's wall clock decides anything.

Source: the design, section 6; leases are judged the same way.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["BEATS_MISSED_MAX", "SKEW_MS_MAX", "Nearness", "judge_node", "silent_after_s", "skew_ms"]

BEATS_MISSED_MAX = 3
"""Beats of a node without a new message, after which it is silent."""
_BEAT_MS_MIN, _BEAT_MS_MAX = 100, 600_000
"""What a node may say of its own beat: one that says a day would never be silent."""
SKEW_MS_MAX = 60_000
"""Beyond this a difference of wall clocks is a warning."""


class Nearness(Enum):
    """What is known of one node here and now."""

    SELF = "self"
    ALIVE = "alive"
    """It was seen to change within its last three beats, or is connected to us."""
    UNCONFIRMED = "unconfirmed"
    """One message of it was heard lately, perhaps an old one that others kept: nothing shows that it lives."""
    SILENT = "silent"
    NEVER = "never"
    """Nothing was ever heard of it here."""
    UNKNOWN = "unknown"
    """Nobody listens: this is a store that no node serves."""


def silent_after_s(said_ms: object, own_beat_s: float) -> float:
    """Seconds without a change until a node is silent: three of the beats that it says it keeps, of ours when it says nothing of use."""
    beat_s = own_beat_s
    if isinstance(said_ms, int) and not isinstance(said_ms, bool):
        beat_s = min(max(said_ms, _BEAT_MS_MIN), _BEAT_MS_MAX) / 1000
    return BEATS_MISSED_MAX * beat_s


def judge_node(*, age_s: float | None, changed: bool, connected: bool, silent_s: float) -> Nearness:
    """``age_s``: since the last message (None: none yet); ``changed``: another one came before it; ``connected``: a proven session is open."""
    if age_s is None:
        return Nearness.ALIVE if connected else Nearness.NEVER
    if age_s > silent_s:
        return Nearness.SILENT
    return Nearness.ALIVE if changed or connected else Nearness.UNCONFIRMED


def skew_ms(said_ms: object, heard_ms: int) -> int | None:
    """How far ahead of ours a node's wall clock was when its message came; None when it did not say. Delays of the network are in it."""
    return said_ms - heard_ms if isinstance(said_ms, int) and not isinstance(said_ms, bool) else None
