"""Which peer is asked for which log, so that a node with several peers does not fetch the same ops from each of them; and which new logs are asked for at all yet."""

from __future__ import annotations

from dataclasses import dataclass

from fabrik_sync.ports import Heads, LogId

__all__ = ["Wants"]


@dataclass(slots=True)
class _Take:
    owner: object
    up_to: int
    at: float
    """Of the last segment that was new, or of the take."""
    grown: float
    """When we last came to hold more of the log, or of the take."""
    local: Heads | None = None
    """What we held of it when we last heard of that."""


class Wants:
    """One table per node, shared by its sessions. A take that brings nothing new for ``defer_s`` may be overtaken."""

    def __init__(self) -> None:
        self._takes: dict[LogId, _Take] = {}
        self._of: dict[object, set[LogId]] = {}
        self._begun: dict[LogId, object] = {}
        self._asked: dict[tuple[object, bytes], set[LogId]] = {}
        self._left: dict[bytes, tuple[float, float]] = {}

    def take(self, log: LogId, owner: object, *, have_seq: int, up_to: int, now: float, defer_s: float, urgent: bool = False) -> bool:
        """True when ``owner`` shall fetch ``log``; False while another one does. ``urgent``: what was sent does not count, only what we came to hold."""
        held = self._takes.get(log)
        if held is not None and held.owner is not owner and held.up_to > have_seq and now - (held.grown if urgent else held.at) < defer_s:
            return False
        self._put(log, owner, up_to, now)
        return True

    def note(self, log: LogId, owner: object, *, have_seq: int, up_to: int, now: float) -> None:
        """A segment of ``log`` came from ``owner``, asked for or not. What we hold already is no sign of life: it could be sent for ever."""
        held = self._takes.get(log)
        if held is None:
            self._put(log, owner, up_to, now)
        elif held.owner is owner:
            held.up_to = max(held.up_to, up_to)
            held.at = now if up_to > have_seq else held.at

    def may_begin(self, log: LogId, owner: object, now: float, *, burst: int, every_s: float) -> bool:
        """Whether a log of which we hold nothing may be asked for. Counted when something of it is held, for only then its author began it:
        ``burst`` of an author at once, then one in ``every_s``; and as many may be asked of one ``owner`` that brought nothing of them yet.
        """
        if log in self._begun:
            return True
        left, at = self._left.get(log.author, (float(burst), now))
        left = min(float(burst), left + max(0.0, now - at) / every_s)
        self._left[log.author] = (left, now)
        asked = self._asked.setdefault((owner, log.author), set())
        if left - len(asked) < 1.0:
            return False
        asked.add(log)
        self._begun[log] = owner
        return True

    def held(self, log: LogId, local: Heads, now: float) -> None:
        """We hold these heads of it: it is no new log any more. What came again is no growth."""
        if (take := self._takes.get(log)) is not None and take.local != local:
            take.grown = take.grown if take.local is None else max(take.grown, now)
            take.local = local
        if log in self._begun:
            self._asked[self._begun.pop(log), log.author].discard(log)
            left, at = self._left[log.author]
            self._left[log.author] = (left - 1.0, at)

    def done(self, log: LogId, owner: object) -> None:
        """``owner`` has nothing more of ``log`` to bring."""
        held = self._takes.get(log)
        if held is not None and held.owner is owner:
            del self._takes[log]
            self._of[owner].discard(log)

    def release(self, *owners: object) -> None:
        """They are gone: everything that they fetched, or began to, is free."""
        for owner in owners:
            for log in self._of.pop(owner, ()):
                del self._takes[log]
        for key in [key for key in self._asked if key[0] in owners]:
            for log in self._asked.pop(key):
                del self._begun[log]

    def _put(self, log: LogId, owner: object, up_to: int, now: float) -> None:
        held = self._takes.get(log)
        if held is not None:
            self._of[held.owner].discard(log)
        self._takes[log] = _Take(owner, up_to, now, now)
        self._of.setdefault(owner, set()).add(log)
