"""A dry run: a use case goes its whole way up to its first write, on the state as it is, and ends there. What it would have written is kept, and nothing else is done.

Whatever a use case does before it writes, or without writing, and that others could notice, asks :func:`rehearsing` first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # names of the stub, not of the extension
    from fabrik_node._core import Write

__all__ = ["Rehearsal", "Rehearsed", "rehearse", "rehearsing"]


@dataclass(slots=True)
class Rehearsal:
    """What would happen: the ``writes`` of one op, and ``effects``, one sentence each."""

    writes: Sequence[Write] = ()
    effects: list[str] = field(default_factory=list)


class Rehearsed(Exception):
    """The end of a dry run, raised in place of the first write or of whatever else would change something. Never leaves the service."""


_now: ContextVar[Rehearsal | None] = ContextVar("rehearsal", default=None)


def rehearsing() -> Rehearsal | None:
    """The dry run in which this is called; None: this is no dry run."""
    return _now.get()


@contextmanager
def rehearse() -> Iterator[Rehearsal]:
    """What is called inside changes nothing. Ends quietly at :class:`Rehearsed`; refusals go through."""
    rehearsal = Rehearsal()
    token = _now.set(rehearsal)
    try:
        yield rehearsal
    except Rehearsed:
        return
    finally:
        _now.reset(token)
