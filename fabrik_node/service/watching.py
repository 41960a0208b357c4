"""``runs watch``: each run as it is now, then each change of what is known of it, pushed.

Nothing is asked again at intervals. A look follows what was written, what a node said, and the moment at which a verdict says that it ends by itself
(a heartbeat that does not come makes no noise).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fabrik_node.domain.run_state import END_ARRIVES
from fabrik_node.domain.runs import FINAL_STATES, RunRow
from fabrik_node.domain.schema import Kind
from fabrik_node.node.node import Node
from fabrik_node.service.reading import Reader

__all__ = ["Watching"]

_LATE_S = 0.05
"""A look comes so much behind the moment at which a verdict ends: then it has ended."""
_END_S = 2.0
"""For so long the end of a run is waited for that its node let go of, before that is told: each run would be unknown for a moment before its end."""
_TELLING = ("state", "recorded_state", "phase", "degraded", "stale")
"""What of a run is a change worth a line. Since when it is so is none: a date is made of an age anew with each look, so it trembles."""


class Watching:
    """One watcher. Memory: what it showed of each run, and the rows of those that are not over."""

    def __init__(self, node: Node, reader: Reader) -> None:
        self._node = node
        self._reader = reader
        self._moved = asyncio.Event()
        self._written = True
        self._shown: dict[bytes, tuple[Any, ...]] = {}
        self._open: dict[bytes, RunRow] = {}
        self._ending: dict[bytes, float] = {}
        """Since when the end of a run is expected, on our clock; for ever, when it was so at the first look."""
        self._untold: list[bytes] = []
        """Runs that the last look kept to itself, because their end may come in this moment."""

    async def stream(self, args: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """``id``: one run, until it is over; else all, or those of ``item`` or ``node``, for ever; ``ended``: at first those that are over, too. Raises NotFound."""
        only = (await self._reader.find_run(str(args["id"]))).run_id if args.get("id") else None
        item = self._reader.find_item(str(args["item"])) if args.get("item") else None
        self._reader.views()
        self._reader.check_node(args.get("node"))
        ends = (self._node.on_changes(self._on_changes), self._node.presence.subscribe(lambda *_: self._moved.set()))
        try:
            first = True
            while True:
                self._moved.clear()
                rows = await self._rows(only, item, args.get("node"), first=first, with_ended=only is not None or bool(args.get("ended")))
                for run in self._news(rows, first=first):
                    yield self._reader.stamp({"run": run})
                first = False
                if only is not None and not self._open:
                    yield {"end": True}
                    return
                await self._rest()
        finally:
            for end in ends:
                end()

    def _on_changes(self, changes: Any) -> None:
        if changes.kinds & {Kind.RUN, Kind.CLAIM, Kind.TOMBSTONE}:
            self._written |= Kind.RUN in changes.kinds
            self._moved.set()

    async def _rows(self, only: bytes | None, item: bytes | None, node: object, *, first: bool, with_ended: bool) -> list[RunRow]:
        """What has to be looked at, oldest first: all that are open, and those that ended since the last look; at first (``with_ended``) all that are over, too."""
        if not self._written:
            return list(self._open.values())
        self._written = False
        self._reader.views()
        rows = [
            row
            for row in reversed(await self._reader.runs(item))
            if (only is None or row.run_id == only) and (not node or self._reader.name_of(row.node) == node or row.node.hex().startswith(str(node)))
        ]
        ended = [row for row in rows if row.state in FINAL_STATES and (row.run_id in self._open or (first and with_ended))]
        fresh = [row for row in rows if row.state not in FINAL_STATES]
        if not first:  # a run of which the first news is its end
            ended += [row for row in rows if row.state in FINAL_STATES and row.run_id not in self._shown and row not in ended]
        else:
            self._shown |= {row.run_id: () for row in rows if row.state in FINAL_STATES and row not in ended}
        self._open = {row.run_id: row for row in fresh}
        self._ending = {run_id: since for run_id, since in self._ending.items() if run_id in self._open}
        return [*ended, *fresh]

    def _news(self, rows: list[RunRow], *, first: bool) -> list[dict[str, Any]]:
        """What is to be told of ``rows``. At first each is shown as it is: whoever begins to watch has to see it."""
        views, board = self._reader.run_views(), self._reader.board
        self._untold = []
        found, now = [], self._reader.now()
        for row in rows:
            view = board.item(row.item)
            run = views.run(row, claim=board.claim(row.item), title="" if view is None else view.title)
            if run["next"].startswith(END_ARRIVES):
                if now - self._ending.setdefault(row.run_id, -math.inf if first else now) < _END_S:
                    self._untold.append(row.run_id)
                    continue
            else:
                self._ending.pop(row.run_id, None)
            telling = tuple(run[name] for name in _TELLING)
            if self._shown.get(row.run_id) != telling:
                self._shown[row.run_id] = telling
                found.append(run)
        return found

    async def _rest(self) -> None:
        """Until something moves, the first verdict ends, or what was kept back is to be told; at once when the reader took longer than that."""
        views, board = self._reader.run_views(), self._reader.board
        ends = [views.ends_s(row, board.claim(row.item)) for row in self._open.values()]
        now = self._reader.now()
        ends += [max(0.0, self._ending[run_id] + _END_S - now) for run_id in self._untold]
        known = [seconds for seconds in ends if seconds is not None]
        try:
            async with asyncio.timeout(min(known) + _LATE_S if known else None):
                await self._moved.wait()
        except TimeoutError:
            return
