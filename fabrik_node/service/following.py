"""What is followed rather than asked once: events, and the logs of runs."""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from fabrik_node.clock import iso
from fabrik_node.domain.runs import FINAL_STATES
from fabrik_node.errors import NotFound, Precondition, UsageError
from fabrik_node.ids import show_id
from fabrik_node.output_log import LogChunk, left_out_line, read_log
from fabrik_node.ports import Event
from fabrik_node.service.keys import line_of
from fabrik_node.service.reading import Reader

__all__ = ["event_json", "run_log"]

_CHUNK_BYTES = 65_536
_LOOK_S = 0.2
"""A followed log file is looked at this often: files have no portable notice of change."""


def event_json(event: Event) -> dict[str, Any]:
    """One line of the event stream."""
    return {"seq": event.seq, "at": iso(event.wall_ms), "type": event.type, **event.data}


async def run_log(reader: Reader, own: bytes, args: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """The output of a run on this node, from ``offset`` (bytes); with ``follow`` until the run is over. The last answer is ``{"end": True, "state"}``.

    Raises :class:`Precondition` for a run of another node, :class:`NotFound` when the file is gone.
    """
    row = await reader.find_run(str(args.get("id", "")))
    run_id, offset, follow = show_id(row.run_id), args.get("offset") or 0, bool(args.get("follow"))
    if row.node not in line_of(reader.replica, own):  # under a former key it was this node's run, too
        reader.views()
        owner = reader.name_of(row.node)
        raise Precondition(f"the log of run {run_id} lies on its own node, {owner}", f"on {owner}: fabrik-node runs logs {run_id}")
    if not isinstance(offset, int) or offset < 0:
        raise UsageError("offset is a number from 0", f"fabrik-node runs logs {run_id}")
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while True:
        row = await reader.find_run(run_id)
        state = row.state
        while (chunk := await asyncio.to_thread(_chunk, Path(row.log), offset)).data:
            offset = chunk.at + len(chunk.data)
            if chunk.left_out:
                decoder.reset()
                yield {"offset": chunk.at, "text": left_out_line(chunk.left_out), "left_out": chunk.left_out}
            text = decoder.decode(chunk.data)
            pending, _ = decoder.getstate()  # half a character: the next reader begins with it
            yield {"offset": offset - len(pending), "text": text}
        if state in FINAL_STATES and (rest := decoder.decode(b"", final=True)):
            yield {"offset": offset, "text": rest}
        if state in FINAL_STATES or not follow:
            yield {"end": True, "state": reader.verdict(row).state.value}
            return
        await asyncio.sleep(_LOOK_S)


def _chunk(path: Path, offset: int) -> LogChunk:
    try:
        return read_log(path, offset, _CHUNK_BYTES)
    except OSError as error:
        raise NotFound(f"the log file {path} can not be read: {error.strerror}", "fabrik-node runs list") from error
