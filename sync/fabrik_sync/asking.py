"""The next WANT: what a session asks for, the admin's logs first, within the limits of a frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from fabrik_sync.counters import Counters
from fabrik_sync.frames import Want, Wanted
from fabrik_sync.limits import PLACES_MAX, Limits
from fabrik_sync.logbook import LogBook, LogRow
from fabrik_sync.ports import LogId, Place, Replica, is_marker, place_of

__all__ = ["Asks", "want_frame"]

_WANT_ENTRY_BYTES = 32 + 24
_PLACE_BYTES = 28


class Asks:
    """What is to be asked for, those of lower priority numbers first, else in the order in which it was put in. A number: what is behind it, though we had it."""

    def __init__(self, priority: Callable[[bytes], int]) -> None:
        self._priority = priority
        self._class: dict[LogId, int] = {}
        self._rows: dict[int, dict[LogId, int | None]] = {}

    def __len__(self) -> int:
        return len(self._class)

    def __iter__(self) -> Iterator[LogId]:
        for number in sorted(self._rows):
            yield from self._rows[number]

    def put(self, log: LogId, lost: int | None = None) -> None:
        """Ask for it, and forget what was asked for of it before."""
        number = self._class.get(log)
        if number is None:
            number = self._class[log] = self._priority(log.author)
        self._rows.setdefault(number, {})[log] = lost

    def lost(self, log: LogId) -> int | None:
        """See :class:`Asks`."""
        return self._rows[self._class[log]][log]

    def discard(self, log: LogId) -> None:
        """It was asked for, or need not be."""
        number = self._class.pop(log, None)
        if number is not None:
            del self._rows[number][log]


def want_frame(ask: Asks, book: LogBook, replica: Replica, limits: Limits, counters: Counters) -> bytes:
    """Takes what fits out of ``ask`` and encodes it."""
    chosen: list[Wanted] = []
    room = limits.chunk_bytes
    counters.hit("wants_per_frame" if len(ask) > limits.wants_per_frame else "")
    for log in list(islice(ask, limits.wants_per_frame)):
        row = book.rows[log]
        lost = ask.lost(log)
        places = None if row.fork is None or lost is not None else _places(log, row, replica, counters)
        wanted = Wanted(log, row.local_seq if lost is None else lost, places)
        room -= _WANT_ENTRY_BYTES + _PLACE_BYTES * len(wanted.places or ())
        if room < 0 and chosen:
            counters.hit("chunk_bytes")
            break
        ask.discard(log)
        counters.wants_with_places_out += wanted.places is not None
        chosen.append(wanted)
    counters.wants_out += len(chosen)
    return Want(tuple(chosen)).encode()


def _places(log: LogId, row: LogRow, replica: Replica, counters: Counters) -> tuple[Place, ...]:
    """Those of the peer's heads that we hold, then our locator."""
    held = [place_of(head) for head in row.remote if head not in row.lacking and not is_marker(head)]
    found = tuple(dict.fromkeys([*held, *replica.places(log)]))
    counters.hit("places" if len(found) > PLACES_MAX else "")
    return found[:PLACES_MAX]
