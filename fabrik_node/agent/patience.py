"""Waiting for what passes by itself: a disk without space, a git remote that is away. The run keeps its claim meanwhile; what ends a run ends the wait."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from fabrik_node.agent.results import Result
from fabrik_node.agent.stop import StopSwitch
from fabrik_node.domain.claims import Claim
from fabrik_node.domain.runs import RunRow
from fabrik_node.domain.stages import Merge, Stage
from fabrik_node.errors import StoreFull
from fabrik_node.ports import ClaimRefused, ItemView, Pipeline

__all__ = ["Patience", "PatientPipeline"]

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


class PatientPipeline:
    """A :class:`~fabrik_node.ports.Pipeline` whose writes under a claim wait for space on the disk. Everything else is as of the other pipeline."""

    def __init__(self, pipeline: Pipeline, patience: Patience) -> None:
        self._pipeline = pipeline
        self._patience = patience

    async def move(self, item: bytes, stage: Stage, claim: Claim) -> None:
        """See :meth:`fabrik_node.ports.Pipeline.move`."""
        await self._patience.for_space(lambda: self._pipeline.move(item, stage, claim))

    async def change_branch(self, item: bytes, merge: Merge, claim: Claim) -> None:
        """See :meth:`fabrik_node.ports.Pipeline.change_branch`."""
        await self._patience.for_space(lambda: self._pipeline.change_branch(item, merge, claim))

    async def finish(self, item: bytes, claim: Claim, reason: str, outcome: Mapping[str, Any], *, charge_attempt: bool, hold: str = "") -> None:
        """See :meth:`fabrik_node.ports.Pipeline.finish`."""
        await self._patience.for_space(lambda: self._pipeline.finish(item, claim, reason, outcome, charge_attempt=charge_attempt, hold=hold))

    async def put_run(self, row: RunRow) -> None:
        """See :meth:`fabrik_node.ports.Pipeline.put_run`."""
        await self._patience.for_space(lambda: self._pipeline.put_run(row))

    def candidates(self, labels: Sequence[str]) -> list[ItemView]:
        """See :meth:`fabrik_node.ports.Pipeline.candidates`."""
        return self._pipeline.candidates(labels)

    def item(self, item: bytes) -> ItemView | None:
        """See :meth:`fabrik_node.ports.Pipeline.item`."""
        return self._pipeline.item(item)

    def is_winning(self, item: bytes, claim_id: bytes) -> bool:
        """See :meth:`fabrik_node.ports.Pipeline.is_winning`."""
        return self._pipeline.is_winning(item, claim_id)

    def turn_s(self, item: bytes, labels: Sequence[str]) -> float:
        """See :meth:`fabrik_node.ports.Pipeline.turn_s`."""
        return self._pipeline.turn_s(item, labels)

    async def claim(self, item: bytes, agent: str) -> Claim | ClaimRefused:
        """See :meth:`fabrik_node.ports.Pipeline.claim`."""
        return await self._pipeline.claim(item, agent)

    def renew(self, item: bytes, claim: Claim, run_id: bytes, progress_n: int) -> bool:
        """See :meth:`fabrik_node.ports.Pipeline.renew`."""
        return self._pipeline.renew(item, claim, run_id, progress_n)

    def stop_renewing(self, claim_id: bytes) -> None:
        """See :meth:`fabrik_node.ports.Pipeline.stop_renewing`."""
        self._pipeline.stop_renewing(claim_id)

    def on_claim_lost(self, claim_id: bytes, callback: Callable[[str], None]) -> Callable[[], None]:
        """See :meth:`fabrik_node.ports.Pipeline.on_claim_lost`."""
        return self._pipeline.on_claim_lost(claim_id, callback)

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        """See :meth:`fabrik_node.ports.Pipeline.on_change`."""
        return self._pipeline.on_change(callback)

    async def wait_connected(self) -> None:
        """See :meth:`fabrik_node.ports.Pipeline.wait_connected`."""
        await self._pipeline.wait_connected()
