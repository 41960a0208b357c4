"""``events.ndjson``: the event stream as a file to follow with ``tail -F``. An export of the store, never a source.

One JSON object per line, in order of ``seq`` without gaps; ``events.ndjson.1`` is the file before it, and so on. Deleting the files changes nothing
but one thing: they are the witness of what the store held. An event is durable in the store before it is here, so a file that is ahead of its store
(:meth:`EventFile.witnessed`) shows a database that was put back in place.
A missing file is written again from the store: the newest :data:`REWRITE_EVENTS_MAX` events.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from fabrik_node.clock import iso
from fabrik_node.errors import StoreFailed
from fabrik_node.ports import Event
from fabrik_node.store.rows import compact_json

__all__ = ["REWRITE_EVENTS_MAX", "EventFile", "EventSource", "event_line"]

REWRITE_EVENTS_MAX = 100_000
"""A bound for the start of a node whose export is gone: about 20 MB, a second of work. Older events stay in the store."""
_READ_EVENTS = 1000
_BLOCK_BYTES = 65_536


class EventSource(Protocol):
    """The part of :class:`~fabrik_node.ports.OpStore` that is needed here."""

    async def events(self, after: int, limit: int) -> list[Event]: ...

    async def events_upto(self) -> tuple[int, int]: ...


def event_line(event: Event) -> str:
    """The one line of an event, without its end: ``{"seq":1,"at":"...","type":"...",...data}``. The same everywhere that events are printed."""
    return compact_json({"seq": event.seq, "at": iso(event.wall_ms), "type": event.type} | dict(event.data), f"event {event.seq}")


class EventFile:
    """One writer per home. Call :meth:`catch_up` at start and after each batch of new events: it writes what the file lacks.

    ``rotate_bytes``: a file that is larger gets no further line. ``keep_files``: how many older files stay.
    """

    def __init__(self, path: Path, rotate_bytes: int, keep_files: int) -> None:
        self.path = path
        self.rotate_bytes = rotate_bytes
        self.keep_files = keep_files
        self.put_aside = False
        """Whether a file was found that did not agree with the store."""
        self._size = 0
        self._last_seq: int | None = None
        """None: the file must be looked at first (at start, and after a failure)."""

    async def catch_up(self, store: EventSource) -> int:
        """Append every event of the store that the file lacks; returns how many.

        A torn last line is cut off first. A file that does not agree with the store (another store's, edited, or ahead of a store that
        was restored) is put aside as ``<name>.stale`` and written anew. Raises :class:`StoreFailed` when the file can not be written; the
        next call then starts with a look at what is there.
        """
        try:
            if self._last_seq is None:
                self._last_seq = await self._position(store)
            written = 0
            while batch := await store.events(self._last_seq, _READ_EVENTS):
                self._append(batch)
                written += len(batch)
        except OSError as error:
            self._last_seq = None
            raise StoreFailed(f"{self.path} can not be written: {error.strerror}", f"df {self.path.parent}") from error
        return written

    def witnessed(self) -> int:
        """The number of the last event that the files hold; 0 when they hold none or can not be read. Changes nothing."""
        for path in (self.path, *reversed(self.older())):
            try:
                line = _last_line(path)
            except OSError:
                continue
            if line is not None:
                return _seq(line)
        return 0

    def older(self) -> list[Path]:
        """The rotated files that exist, oldest first."""
        return [path for path in (self._rotated(number) for number in range(self.keep_files, 0, -1)) if path.exists()]

    async def _position(self, store: EventSource) -> int:
        """The last event that the files hold, after making the file whole; chosen by :data:`REWRITE_EVENTS_MAX` when there is none."""
        last, _ = await store.events_upto()
        line = self._mend()
        if line is None and self.older():
            line = _last_line(self.older()[-1])
        if line is None:
            return max(0, last - REWRITE_EVENTS_MAX)
        seq = _seq(line)
        stored = await store.events(seq - 1, 1) if seq else []
        if stored and stored[0].seq == seq and event_line(stored[0]).encode() == line:
            return seq
        self._put_aside()
        return max(0, last - REWRITE_EVENTS_MAX)

    def _mend(self) -> bytes | None:
        """Cut off a torn last line; returns the last whole one, None when there is none."""
        self._size = 0
        try:
            with self.path.open("rb+") as file:
                end = file.seek(0, os.SEEK_END)
                self._size = _find_back(file.fileno(), end, b"\n") + 1
                if self._size != end:
                    file.truncate(self._size)
        except FileNotFoundError:
            return None
        return _last_line(self.path) if self._size else None

    def _append(self, events: Sequence[Event]) -> None:
        """Whole lines in one write per file; rotation between two lines."""
        lines: list[bytes] = []
        for event in events:
            if self._size >= self.rotate_bytes:
                self._write(lines)
                lines = []
                self._rotate()
            line = event_line(event).encode() + b"\n"
            lines.append(line)
            self._size += len(line)
        self._write(lines)
        self._last_seq = events[-1].seq

    def _write(self, lines: Sequence[bytes]) -> None:
        if lines:
            self.path.touch(mode=0o600)
            with self.path.open("ab") as file:
                file.write(b"".join(lines))

    def _rotate(self) -> None:
        if self.keep_files <= 0:
            self.path.unlink(missing_ok=True)
        elif self.path.exists():  # somebody may have deleted it under us
            for number in range(self.keep_files - 1, 0, -1):
                if self._rotated(number).exists():
                    self._rotated(number).replace(self._rotated(number + 1))
            self.path.replace(self._rotated(1))
        self._size = 0

    def _put_aside(self) -> None:
        """Keep one copy of what contradicts the store; its older files go, as the new ones will hold the same numbers."""
        self.put_aside = True
        if self.path.exists():
            self.path.replace(self.path.with_name(self.path.name + ".stale"))
        for path in self.older():
            path.unlink()
        self._size = 0

    def _rotated(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")


def _last_line(path: Path) -> bytes | None:
    """The last whole line without its end, None when there is none."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        stop = _find_back(file.fileno(), end, b"\n")
        if stop < 0:
            return None
        start = _find_back(file.fileno(), stop, b"\n") + 1
        file.seek(start)
        return file.read(stop - start)


def _find_back(descriptor: int, end: int, wanted: bytes) -> int:
    """The last place before ``end`` where ``wanted`` (one byte) is, -1 when it is nowhere."""
    while end > 0:
        start = max(0, end - _BLOCK_BYTES)
        found = os.pread(descriptor, end - start, start).rfind(wanted)
        if found >= 0:
            return start + found
        end = start
    return -1


def _seq(line: bytes) -> int:
    """The event's number in a line; 0 for a line that is not ours."""
    try:
        entry = json.loads(line)
    except ValueError:
        return 0
    seq = entry.get("seq") if isinstance(entry, dict) else None
    return seq if isinstance(seq, int) and seq > 0 else 0
