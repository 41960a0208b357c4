"""``runs clean``: the folders of old runs, listed or removed by one and the same plan."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from stat import S_ISDIR
from typing import Any

from fabrik_node.clock import iso
from fabrik_node.domain.retention import KeptRun, Leftover, Retention, WallWatch, plan_cleanup
from fabrik_node.domain.runs import FINAL_STATES, RunRow
from fabrik_node.domain.stages import Archived, Done
from fabrik_node.ids import parse_id, show_id
from fabrik_node.node.node import Node
from fabrik_node.service.reading import Reader

__all__ = ["Cleaner"]

_log = logging.getLogger("fabrik_node")


class Cleaner:
    """``folder``: where the runs of this node lie, one folder each; ``in_hand``: ids, as shown, of those that its agent works on."""

    def __init__(self, node: Node, reader: Reader, folder: Path, limits: Retention, in_hand: Callable[[], Collection[str]]) -> None:
        self._node = node
        self._reader = reader
        self._folder = folder
        self._limits = limits
        self._in_hand = in_hand
        self._turn = asyncio.Lock()
        self._wall = WallWatch()

    @property
    def operations(self) -> Mapping[str, Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]]:
        """By name."""
        return {"runs.clean": self.clean}

    async def clean(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Remove what may go; with ``dry_run`` only say what that is."""
        return await self._clean(dry_run=bool(args.get("dry_run")), by_age=True)

    async def _clean(self, *, dry_run: bool, by_age: bool) -> dict[str, Any]:
        async with self._turn:
            known = await self._known()
            leftovers = plan_cleanup(known, self._limits, self._node.clock.wall_ms(), by_age=by_age)
            kept = {} if dry_run else await asyncio.to_thread(_remove, self._folder, leftovers)
        gone = sum(each.run.size_bytes for each in leftovers if each.run.run_id not in kept)
        shown = [
            {
                "run_id": each.run.run_id,
                "bytes": each.run.size_bytes,
                "ended_at": iso(each.run.ended_ms or 0),
                "why": each.why,
                "problem": kept.get(each.run.run_id, ""),
            }
            for each in leftovers
        ]
        return self._reader.stamp(
            {"removed": not dry_run, "runs": shown, "bytes": gone, "kept_bytes": sum(run.size_bytes for run in known) - gone, "folder": str(self._folder)}
        )

    async def sweep(self) -> None:
        """The same for the node itself, now and then; what could not be removed is told and tried again the next time.

        For a day after the wall clock jumped nothing goes for its age: nobody looks at what this removes.
        """
        by_age = self._wall.is_steady(self._node.clock.now(), self._node.clock.wall_ms())
        if not by_age:
            _log.warning("the wall clock of this host jumped by more than an hour within the last day: no folder of a run is removed for its age")
        try:
            said = await self._clean(dry_run=False, by_age=by_age)
        except OSError as error:
            _log.warning("the folders of old runs can not be looked at: %s", error)
            return
        if said["runs"]:
            _log.info("%d folders of old runs removed, %d bytes", len(said["runs"]), said["bytes"])
        for each in said["runs"]:
            if each["problem"]:
                _log.warning("the folder of run %s can not be removed: %s", each["run_id"], each["problem"])

    async def _known(self) -> list[KeptRun]:
        rows = {show_id(row.run_id): row for row in await self._node.store.runs()}
        found = await asyncio.to_thread(_folders, self._folder)
        in_hand = set(self._in_hand())
        return [self._kept(name, size, changed_ms, rows.get(name), in_hand) for name, size, changed_ms in found]

    def _kept(self, name: str, size: int, changed_ms: int, row: RunRow | None, in_hand: Collection[str]) -> KeptRun:
        if row is None:  # its database is gone: nobody asks for it, so its age alone counts
            return KeptRun(name, b"", size, None if name in in_hand else changed_ms, finished=True)
        view = self._node.board.item(row.item)
        over = row.state in FINAL_STATES and name not in in_hand
        return KeptRun(name, row.item, size, (row.ended_ms or changed_ms) if over else None, view is None or isinstance(view.stage, Done | Archived))


def _folders(folder: Path) -> list[tuple[str, int, int]]:
    """Name, size and newest change (Unix milliseconds) of each run's folder. Nothing else in there is ours to judge."""
    if not folder.is_dir():
        return []
    found = []
    for path in sorted(folder.iterdir()):
        if parse_id(path.name) is None or path.is_symlink() or not path.is_dir():
            continue
        stats = [stat for each in (path, *path.rglob("*")) if (stat := _look(each)) is not None]
        if stats:
            found.append((path.name, sum(stat.st_size for stat in stats if not S_ISDIR(stat.st_mode)), max(round(stat.st_mtime * 1000) for stat in stats)))
    return found


def _look(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except FileNotFoundError:  # it went while we looked
        return None


def _remove(folder: Path, leftovers: Sequence[Leftover]) -> dict[str, str]:
    """What could not be removed, and why."""
    kept = {}
    for each in leftovers:
        try:
            shutil.rmtree(folder / each.run.run_id)
        except OSError as error:
            kept[each.run.run_id] = error.strerror or str(error)
    return kept
