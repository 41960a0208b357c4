"""``runs logs`` of a run on another node: its owner is asked for one bounded page after the other, and whoever can not be asked is said to be away.

Pages travel as the answers of :mod:`fabrik_node.node.inquiries` do: through every topology, to members alone, and a few each second.
"""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from fabrik_node.domain.nearness import Nearness
from fabrik_node.domain.runs import FINAL_STATES, RunRow, RunState
from fabrik_node.errors import NotFound, Precondition, Unreachable, UsageError
from fabrik_node.ids import show_id
from fabrik_node.node.inquiries import Inquiries, Page
from fabrik_node.output_log import left_out_line, log_size, read_log
from fabrik_node.service.reading import Reader

__all__ = ["LogPages", "foreign_log"]

_TAIL_BYTES = 16_384
"""What is shown of a long log unless an offset is given: a page is small, and every member pays for it."""
_LAST = 2**53 - 1
"""An offset behind every end."""
_TRIES = 3
_BUSY_TRIES = 40
_BUSY_S = 0.5
"""Between two tries at a node that looks up as many pages as it may: others read there, too."""
_WAIT_S = 1.2
"""A question that waits for more output is answered after so long in any case: below the asker's patience."""
_LOOK_S = 0.2
_STATES = frozenset(state.value for state in RunState)


class LogPages:
    """The owner's side."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def page(self, run_id: bytes, page: Page, most: int) -> Mapping[str, Any]:
        """``log``: at most ``most`` bytes from ``at`` on, of ``size``; ``state`` and whether it is ``over``. ``unknown`` for no run of ours, ``missing`` without its file."""
        waited_s = 0.0
        while True:
            row = await self._reader.own_run(run_id)
            if row is None:
                return {"unknown": True}
            over = row.state in FINAL_STATES  # before the look at the file: what was written last is in it
            try:
                at, size, data = await asyncio.to_thread(_read, Path(row.log), page.offset, most)
            except OSError as error:
                return {"missing": (error.strerror or str(error))[:200]}
            if data or over or not page.waits or waited_s >= _WAIT_S:
                return {"log": data, "at": at, "size": size, "over": over, "state": self._reader.verdict(row).state.value}
            await asyncio.sleep(_LOOK_S)
            waited_s += _LOOK_S


def _read(path: Path, offset: int, most: int) -> tuple[int, int, bytes]:
    size = log_size(path)
    chunk = read_log(path, offset if offset <= size else max(0, size - most), most)
    return chunk.at, chunk.size, chunk.data


def _is_sound(data: bytes, at: int, size: int) -> bool:
    """Bytes that are there, and some unless it is the end."""
    return at >= 0 and at + len(data) <= size and (bool(data) or at == size)


async def foreign_log(reader: Reader, inquiries: Inquiries, row: RunRow, args: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """The first answer says who was asked and where it begins; the others are as of :func:`~fabrik_node.service.following.run_log`.

    Raises :class:`Unreachable`, with the last known state of the run, when its node is away or does not answer; :class:`NotFound` when it has no such log.
    """
    name, offset, follow = show_id(row.run_id), args.get("offset"), bool(args.get("follow"))
    if offset is not None and (not isinstance(offset, int) or offset < 0):
        raise UsageError("offset is a number from 0", f"fabrik-node runs logs {name}")
    asked = _Asked(reader, inquiries, row)
    said = await asked.page(_LAST if offset is None else offset, waits=False)
    begins = min(offset, int(said["at"])) if offset is not None else max(0, int(said["size"]) - _TAIL_BYTES)
    if offset is None and begins != said["at"]:
        said = await asked.page(begins, waits=False)
    yield {**reader.stamp({}), "owner": asked.owner, "begins": begins, "size": said["size"]}
    decoder, expected = codecs.getincrementaldecoder("utf-8")("replace"), begins
    while True:
        if (left_out := said["at"] - expected) > 0:
            decoder.reset()
            yield {"offset": said["at"], "text": left_out_line(left_out), "left_out": left_out}
        data, at = said["log"], int(said["at"]) + len(said["log"])
        if data:
            text = decoder.decode(data)
            yield {"offset": at - len(decoder.getstate()[0]), "text": text}
        if at >= said["size"] and (said["over"] or not follow):
            if rest := decoder.decode(b"", final=True):
                yield {"offset": at, "text": rest}
            yield {"end": True, "state": said["state"]}
            return
        expected = at
        said = await asked.page(at, waits=follow)


class _Asked:
    """One run's owner, asked again and again."""

    def __init__(self, reader: Reader, inquiries: Inquiries, row: RunRow) -> None:
        self._reader = reader
        self._inquiries = inquiries
        self._row = row
        reader.views()
        self.owner = reader.name_of(row.node)

    async def page(self, offset: int, *, waits: bool) -> Mapping[str, Any]:
        """A well-formed answer. Raises as :func:`foreign_log` does."""
        silent = busy = 0
        while silent < _TRIES and busy < _BUSY_TRIES:
            if self._reader.near().judge(self._row.node).state is not Nearness.ALIVE:
                raise self._away("nothing shows that its node lives")
            said = await self._inquiries.ask(self._row.node, self._row.run_id, Page(offset, waits))
            if said is None:
                silent += 1
            elif said.get("busy") is True:
                busy += 1
                await asyncio.sleep(_BUSY_S)
            else:
                return self._checked(said)
        if busy >= _BUSY_TRIES:
            raise self._away("it sends output to others all the time")
        raise self._away(f"its node did not answer {_TRIES} questions of {self._inquiries.patience_s:g} s")

    def _checked(self, said: Mapping[str, Any]) -> Mapping[str, Any]:
        name = show_id(self._row.run_id)
        there = f"on {self.owner}: fabrik-node runs logs {name}"
        match said:
            case {"log": bytes(), "at": int(at), "size": int(size), "over": bool(), "state": str(state)} if (
                _is_sound(said["log"], at, size) and state in _STATES
            ):
                return said
            case {"unknown": True}:
                raise NotFound(f"{self.owner} does not know run {name}", f"fabrik-node runs show {name}")
            case {"missing": str(why)}:
                raise NotFound(f"{self.owner} has no log of run {name} any more: {why[:200]}", f"fabrik-node runs show {name}")
            case _:
                raise Precondition(f"{self.owner} runs a version that shows no output to other nodes", there)

    def _away(self, why: str) -> Unreachable:
        row, name = self._row, show_id(self._row.run_id)
        verdict = self._reader.run_views().verdict(row, self._reader.board.claim(row.item))
        age = "" if verdict.age_s is None else f", heard {verdict.age_s:.0f} s ago"
        known = f"{verdict.state.value}{age}: {verdict.evidence}" if row.state not in FINAL_STATES else f"{row.state.value}: {row.reason}"
        return Unreachable(
            f"the output of run {name} lies on {self.owner}, and {why}; last known: {known}",
            f"fabrik-node runs show {name}; or on {self.owner}: fabrik-node runs logs {name}",
        )
