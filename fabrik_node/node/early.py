"""Presence that overtook its author's member record: kept for a while, for the record is on its way, and the next message is a beat away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fabrik_node.node.presence import Heard

__all__ = ["AUTHORS_MAX", "Early"]

AUTHORS_MAX = 64
"""Authors that nobody has admitted here (yet) and whose newest message waits, 16 KiB at most each. For one more the oldest goes: a member that makes up
authors takes nothing from the others but the time to their next beat."""


class Early:
    """The newest message of each author. What is in it was verified, and is passed on to nobody."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, Heard] = {}
        self.kept = 0
        """Messages of authors who were not admitted when they came."""
        self.dropped = 0
        """Of them, those that gave way to others."""

    def put(self, heard: Heard) -> None:
        """Keep it unless a newer one waits."""
        older = self._waiting.get(heard.author)
        if older is not None and heard.counter <= older.counter:
            return
        self.kept += 1
        self._waiting.pop(heard.author, None)
        if len(self._waiting) >= AUTHORS_MAX:
            del self._waiting[next(iter(self._waiting))]
            self.dropped += 1
        self._waiting[heard.author] = heard if older is None else replace(heard, changed=True)  # it lived between the two

    def take(self, is_admitted: Callable[[bytes], bool]) -> list[Heard]:
        """Those whose authors are admitted by now, each with the time at which it came."""
        found = [heard for author, heard in self._waiting.items() if is_admitted(author)]
        for heard in found:
            del self._waiting[heard.author]
        return found
