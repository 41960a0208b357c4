"""What the sending half asks of the store, and which answers fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fabrik_sync.limits import SEGMENT_BYTES_MAX
from fabrik_sync.ports import LogId

__all__ = ["ReadRequest"]


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """Read stored segments of one branch of ``log`` that hold own ops of it behind ``after_seq``, in order, up to ``max_bytes`` in sum."""

    log: LogId
    branch: int
    after_seq: int
    max_bytes: int

    def check(self, segments: Sequence[tuple[int, int, bytes]]) -> None:
        """Returns when ``(first_seq, last_seq, segment)`` are an answer. Raises ValueError when they are not."""
        upto = self.after_seq
        for first, last, data in segments:
            if not (first <= upto + 1 and last > upto and 0 < len(data) <= SEGMENT_BYTES_MAX):
                raise ValueError(f"segment {first}..{last} of {len(data)} bytes does not continue {self.log.author.hex()[:16]} at {upto}")
            upto = last
        size = sum(len(data) for _, _, data in segments)
        if size > self.max_bytes and len(segments) > 1:
            raise ValueError(f"{size} bytes were read, {self.max_bytes} were asked for")
