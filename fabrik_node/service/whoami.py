"""``whoami``: as whom the caller speaks, and where it stands."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fabrik_node.domain.runs import RunRow
from fabrik_node.errors import ClaimLost, UsageError
from fabrik_node.ids import fingerprint, show_id, show_key
from fabrik_node.service.callers import RUN_OPERATIONS, Caller, RunCaller
from fabrik_node.service.reading import Reader

__all__ = ["WhoAmI"]


class WhoAmI:
    """``home``: of the node; ``git``: its remote and base. Reads through ``reader`` alone, so it works on a store that no node serves, too."""

    def __init__(self, reader: Reader, home: str, git: Callable[[], Mapping[str, Any]]) -> None:
        self._reader = reader
        self._home = home
        self._git = git

    @property
    def operations(self) -> Mapping[str, Callable[[Mapping[str, Any], Caller], Awaitable[dict[str, Any]]]]:
        """By name."""
        return {"whoami": self.whoami}

    async def whoami(self, args: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
        """``folder``: where the caller stands. A command is told its run, wherever it stands; an operator its node, and whose worktree the folder is in."""
        own = self._reader.own
        said = {
            **self._reader.mesh(),
            "node_id": show_key(own),
            "fingerprint": fingerprint(own),
            "role": self._reader.role(own).name.lower(),
            "home": self._home,
            "git": dict(self._git()),
        }
        if isinstance(caller, RunCaller):
            return self._reader.stamp({"caller": "run", **said, **await self._run(caller)})
        folder = args.get("folder")
        row = await self._run_in(folder) if isinstance(folder, str) and folder else None
        return self._reader.stamp({"caller": "operator", **said, "worktree_of": None if row is None else self._shown(row)})

    async def _run(self, caller: RunCaller) -> dict[str, Any]:
        view, row = self._reader.board.item(caller.item), await self._reader.own_run(caller.run_id)
        if view is None or view.claim is None or row is None:
            raise ClaimLost(f"item {show_id(caller.item)} was deleted", "end the command: its node stops it")
        return {
            **self._shown(row),
            "title": view.title,
            "stage": view.stage.name,
            "epoch": view.claim.epoch,
            "attempt": view.attempts + 1,
            "may": sorted(RUN_OPERATIONS),
        }

    async def _run_in(self, folder: str) -> RunRow | None:
        """The newest run of this node whose worktree the folder is in."""
        try:
            where = os.path.realpath(folder)
        except ValueError as error:
            raise UsageError(f"folder is no path: {error}", "fabrik-node whoami, in a folder that is there") from error
        rows = [row for row in await self._reader.runs() if row.worktree]
        return next((row for row in rows if os.path.commonpath([os.path.realpath(row.worktree), where]) == os.path.realpath(row.worktree)), None)

    def _shown(self, row: RunRow) -> dict[str, Any]:
        return {
            "item": show_id(row.item),
            "run": show_id(row.run_id),
            "claim": show_id(row.claim_id),
            "agent": row.agent,
            "state": self._reader.verdict(row).state.value,
            "branch": row.branch,
            "worktree": row.worktree,
        }
