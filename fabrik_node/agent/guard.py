"""The guard against an agent whose command is broken: it would burn the attempts of every item, one after the other.

An item that breaks every agent is held by its own attempts; an agent that breaks every item is halted here. What tells them
apart: an item may fail quickly as often as it may, but only the agent is to blame for different items, and for a command of
the host that can not even be started. A program that an item's own branch took away is that item's failure.
"""

from __future__ import annotations

from fabrik_node.agent.results import Result, Verdict

__all__ = ["CrashGuard"]

_FAULTS = frozenset({Result.AGENT_FAILED})
_SAYS_NOTHING = frozenset({Result.CANCELLED, Result.SUPERSEDED, Result.LEASE_LOST, Result.RATE_LIMITED, Result.INFRA_LOST, Result.NOT_ALLOWED})
"""Neither that the command works nor that it does not."""


class CrashGuard:
    """Counts failures in a row that came within ``fast_s`` seconds. ``limit`` 0: never trips. Pure: times are told to it."""

    def __init__(self, fast_s: float, limit: int) -> None:
        self._fast_s = fast_s
        self._limit = limit
        self._items: set[bytes] = set()
        self._unstartable = 0

    @property
    def streak(self) -> int:
        """Different items that failed at once, and starts that were not possible, since the last run that was neither."""
        return len(self._items) + self._unstartable

    def note(self, item: bytes, verdict: Verdict, lasted_s: float) -> str:
        """After each run: why the agent must be halted, one line; empty while it need not."""
        fast = lasted_s < self._fast_s
        if verdict.unstartable:
            self._unstartable += 1
        elif verdict.result in _FAULTS and fast:
            self._items.add(item)
        elif verdict.result in _SAYS_NOTHING:
            return ""
        else:
            self.forget()
            return ""
        if not self._limit or self.streak < self._limit:
            return ""
        fast_ends = f"ended with a command that failed within {self._fast_s:g} s"
        no_starts = "could not start a command"
        how = " or ".join(said for said, seen in ((fast_ends, self._items), (no_starts, self._unstartable)) if seen)
        return f"{self.streak} runs in a row {how}; the last: {verdict.line}"

    def forget(self) -> None:
        """A run was neither, or a person says to go on."""
        self._items.clear()
        self._unstartable = 0
