"""The output of a run on disk: one file, and after it parts in rotation, read as one text with stable offsets.

``output.log`` holds the beginning. What does not fit goes on in files named ``output.log.<offset of their first byte>``, of which the oldest are removed.
So the beginning and the end are there, and a reader that meets what is missing is told how much it is.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LogChunk", "LogPart", "left_out_line", "log_parts", "log_size", "read_log"]

_LOOKS = 3
"""At the files, when one is removed just while it is looked at."""


@dataclass(frozen=True, slots=True)
class LogPart:
    """A file with ``size`` bytes of the output, from the offset ``at`` on."""

    at: int
    path: Path
    size: int

    @property
    def end(self) -> int:
        """The offset behind its last byte."""
        return self.at + self.size


@dataclass(frozen=True, slots=True)
class LogChunk:
    """``data`` begins at ``at``, ``left_out`` bytes behind what was asked for: those are gone. ``size``: the offset behind the last byte there is."""

    at: int
    data: bytes
    left_out: int
    size: int


def log_parts(base: Path) -> list[LogPart]:
    """In order; the first is ``base`` itself. Raises FileNotFoundError when that is gone."""
    parts = [LogPart(0, base, base.stat().st_size)]
    for path in base.parent.glob(f"{base.name}.*"):
        offset = path.name.removeprefix(f"{base.name}.")
        if offset.isascii() and offset.isdigit():
            try:
                parts.append(LogPart(int(offset), path, path.stat().st_size))
            except FileNotFoundError:  # just rotated away
                continue
    return sorted(parts, key=lambda part: part.at)


def log_size(base: Path) -> int:
    """The offset behind the last byte. Raises FileNotFoundError."""
    return log_parts(base)[-1].end


def read_log(base: Path, offset: int, most: int) -> LogChunk:
    """At most ``most`` bytes from ``offset`` on, of one part; none at the end. Raises OSError."""
    looks = _LOOKS
    while True:
        parts = log_parts(base)
        size = parts[-1].end
        found = next((part for part in parts if part.end > offset), None)
        if found is None:
            return LogChunk(offset, b"", 0, size)
        at = max(offset, found.at)
        try:
            data = _read(found.path, at - found.at, most)
        except FileNotFoundError:  # rotated away in between
            looks -= 1
            if not looks:
                raise
            continue
        return LogChunk(at, data, at - offset, size)


def left_out_line(count: int) -> str:
    """Stands in the text for what is gone."""
    return f"\n[fabrik-node: the log is full; {count} bytes of output left out]\n"


def _read(path: Path, at: int, most: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.pread(descriptor, most, at)
    finally:
        os.close(descriptor)
