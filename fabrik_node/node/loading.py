"""What must hold of stored segments that were loaded."""

from __future__ import annotations

from fabrik_node._core import LoadResult
from fabrik_node.errors import BrokenStore

__all__ = ["check_loaded"]


def check_loaded(result: LoadResult) -> None:
    """Returns when everything fitted; raises :class:`BrokenStore` with the first reason why not."""
    if result.damaged:
        raise BrokenStore(f"a stored segment is damaged: {result.damaged[0][1]}", "restore the store from a copy")
    if result.stranded:
        raise BrokenStore("a stored log has a gap: a segment follows what is not there", "restore the store from a copy")
