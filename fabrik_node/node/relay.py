"""Stored rows on their way to a peer: sound, without holes, joined."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fabrik_node._core import coalesce, segment_span
from fabrik_node.errors import InvalidOp
from fabrik_node.node.repair import judge, misplaced
from fabrik_node.ports import StoredSegment

if TYPE_CHECKING:
    from fabrik_node.node.node import Node

__all__ = ["read_sound"]

_CHECK_ROWS_INLINE = 8
"""Segments that are checked in the event loop before they are sent (one signature each); more are checked in a thread."""


async def read_sound(node: Node, author: bytes, epoch: int, branch: int, after_seq: int, max_bytes: int) -> tuple[list[StoredSegment], bool]:
    """Segments beyond ``after_seq`` and whether the branch ends there. What is not what was merged is set aside here, and never sent.

    Nothing, though the branch goes on: the range has to come from another peer first.
    """
    head = node.replica.head(author, epoch, branch)
    if head is None or head.seq <= after_seq:
        return [], True
    sound, upto = list[StoredSegment](), after_seq
    for row in await node.store.read(author, epoch, after_seq, max_bytes, branch):
        if row.first_seq > upto + 1 or row.first_seq > head.seq:
            break  # what follows a hole waits
        sound.append(row)
        upto = row.last_seq
    joined = _whole(sound, max_bytes)
    if any(await _judged(node, joined)) or not joined:
        found = await _judged(node, sound)
        bad = next((place for place, why in enumerate(found) if why), None)
        if bad is not None:
            await node.upkeep.check_log(author, epoch, branch, sound[bad].first_seq - 1)
            sound = sound[:bad]
        joined = _join(sound, max_bytes)
    if not joined:
        return [], True
    return joined, joined[-1].last_seq >= head.seq


def _join(rows: Sequence[StoredSegment], max_bytes: int) -> list[StoredSegment]:
    """As they are sent: live ops of one signature each under the last one, so that one check proves them all. Raises :class:`InvalidOp` for rows that do not
    follow each other.
    """
    return [StoredSegment(rows[-1].pos, *segment_span(each), each, branch=rows[-1].branch) for each in coalesce([row.data for row in rows], max_bytes)]


def _whole(rows: Sequence[StoredSegment], max_bytes: int) -> list[StoredSegment]:
    """The same; none when some row is not even read."""
    try:
        return [] if any(map(misplaced, rows)) else _join(rows, max_bytes)
    except InvalidOp:
        return []


async def _judged(node: Node, rows: Sequence[StoredSegment]) -> list[str]:
    return judge(node.replica, rows) if len(rows) <= _CHECK_ROWS_INLINE else await asyncio.to_thread(judge, node.replica, rows)
