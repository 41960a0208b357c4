"""Small stand-ins for tests of and around the store: a clock that only moves when told, and chained segments without cryptography."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from fabrik_node._core import Chained

__all__ = ["HandClock", "fake_chained"]


class HandClock:
    """A :class:`~fabrik_node.clock.Clock` in the hand of the test."""

    def __init__(self, wall_ms: int = 1_700_000_000_000) -> None:
        self.seconds = 100.0
        self.wall = wall_ms

    def now(self) -> float:
        return self.seconds

    def wall_ms(self) -> int:
        return self.wall

    def advance(self, seconds: float) -> None:
        self.seconds += seconds
        self.wall += int(seconds * 1000)


@dataclass(frozen=True, slots=True)
class _Twin:
    author: bytes
    epoch: int
    first_seq: int
    last_seq: int
    data: bytes
    branch: int
    base: tuple[int, int] | None


def fake_chained(
    log: int,
    first_seq: int,
    last_seq: int | None = None,
    *,
    epoch: int = 1,
    data: bytes | None = None,
    branch: int = 0,
    base: tuple[int, int] | None = None,
) -> Chained:
    """What the store reads of a chained segment; ``log`` makes the author's key."""
    last = first_seq if last_seq is None else last_seq
    text = f"{log}/{epoch}{f'.{branch}' if branch else ''}:{first_seq}-{last}".encode() if data is None else data
    return cast("Chained", _Twin(bytes([log]) * 32, epoch, first_seq, last, text, branch, base))
