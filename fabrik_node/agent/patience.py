"""Waiting for what passes by itself: a disk without space, a git remote that is away. The run keeps its claim meanwhile; what ends a run ends the wait."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, cast

from fabrik_node.agent.results import Result
from fabrik_node.agent.stop import StopSwitch
from fabrik_node.domain.claims import Claim
from fabrik_node.domain.runs import RunRow
from fabrik_node.domain.stages import Merge, Stage
from fabrik_node.errors import StoreFull
from fabrik_node.ports import Pipeline

__all__ = ["Patience", "patient"]

_log = logging.getLogger("fabrik_node.agent")
_EVERY_S_MAX = 5.0
Answer = TypeVar("Answer")


class Patience:
    """Of one run. ``every_s``: between two tries, at most five seconds; ``name``: of the run, for the log."""

    def __init__(self, switch: StopSwitch, every_s: float, name: str) -> None:
        self._switch = switch
        self._every_s = min(every_s, _EVERY_S_MAX)
        self._name = name
        self.closing = False
        """The run is over and writes its end: then a thrown switch ends no wait, but a node that stops does."""

    async def pause(self) -> None:
        """Until the next try. Raises :class:`Stopped` once the switch is thrown."""
        woken, loop = asyncio.Event(), asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(woken.set)

        detach = self._switch.attach(wake)
        try:
            async with asyncio.timeout(self._every_s):
                await woken.wait()
        except TimeoutError:
            return
        finally:
            detach()
        self._switch.check()

    async def for_space(self, write: Callable[[], Awaitable[Answer]]) -> Answer:
        """What ``write`` gives, once the disk has room for it. Raises :class:`Stopped`, and :class:`StoreFull` when the node stops before there is room."""
        told = False
        while True:
            try:
                return await write()
            except StoreFull as full:
                if not told:
                    _log.warning("%s waits for space on the disk: %s", self._name, full)
                told = True
                if not self.closing:
                    await self.pause()
                    continue
                stop = self._switch.stop
                if stop is not None and stop.result is Result.CANCELLED and not stop.hold:
                    raise
                await asyncio.sleep(self._every_s)


def patient(pipeline: Pipeline, patience: Patience) -> Pipeline:
    """``pipeline``, but the writes of a run wait for space on the disk."""
    return cast("Pipeline", _Patient(pipeline, patience))


class _Patient:
    """What is not here is as of the other pipeline."""

    def __init__(self, pipeline: Pipeline, patience: Patience) -> None:
        self._pipeline = pipeline
        self._patience = patience

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipeline, name)

    async def move(self, item: bytes, stage: Stage, claim: Claim) -> None:
        await self._patience.for_space(lambda: self._pipeline.move(item, stage, claim))

    async def change_branch(self, item: bytes, merge: Merge, claim: Claim) -> None:
        await self._patience.for_space(lambda: self._pipeline.change_branch(item, merge, claim))

    async def finish(self, item: bytes, claim: Claim, reason: str, outcome: Mapping[str, Any], *, charge_attempt: bool, hold: str = "") -> None:
        await self._patience.for_space(lambda: self._pipeline.finish(item, claim, reason, outcome, charge_attempt=charge_attempt, hold=hold))

    async def put_run(self, row: RunRow) -> None:
        await self._patience.for_space(lambda: self._pipeline.put_run(row))
