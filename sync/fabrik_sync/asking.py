"""The next WANT: what a session asks for, the admin's logs first, within the limits of a frame."""

from __future__ import annotations

from fabrik_sync.counters import Counters
from fabrik_sync.frames import Want, Wanted
from fabrik_sync.limits import PLACES_MAX, Limits
from fabrik_sync.logbook import LogBook, LogRow
from fabrik_sync.ports import LogId, Place, Replica, is_marker, place_of

__all__ = ["want_frame"]

_WANT_ENTRY_BYTES = 32 + 24
_PLACE_BYTES = 28


def want_frame(ask: dict[LogId, int | None], book: LogBook, replica: Replica, limits: Limits, counters: Counters) -> bytes:
    """Takes what fits out of ``ask`` and encodes it. A number there: what is behind it is asked for, though we had it."""
    chosen: list[Wanted] = []
    room = limits.chunk_bytes
    ordered = sorted(ask, key=lambda log: (replica.priority(log.author), log))
    counters.hit("wants_per_frame" if len(ordered) > limits.wants_per_frame else "")
    for log in ordered[: limits.wants_per_frame]:
        row = book.rows[log]
        lost = ask[log]
        places = None if row.fork is None or lost is not None else _places(log, row, replica, counters)
        wanted = Wanted(log, row.local_seq if lost is None else lost, places)
        room -= _WANT_ENTRY_BYTES + _PLACE_BYTES * len(wanted.places or ())
        if room < 0 and chosen:
            counters.hit("chunk_bytes")
            break
        del ask[log]
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
