"""What an agent learns from the end of a run: for how long it takes nothing, or not this item, and when it takes nothing at all any more."""

from __future__ import annotations

from fabrik_node.agent.backoff import Backoff
from fabrik_node.agent.guard import CrashGuard
from fabrik_node.agent.halt import Halt, HaltCode
from fabrik_node.agent.results import RESULT_RULES, Pause, Result
from fabrik_node.agent.run import RunReport
from fabrik_node.agent.setup import AgentSetup

__all__ = ["Lessons"]


class Lessons:
    """Pauses go to ``backoff``, halts to the switch of the setup."""

    def __init__(self, setup: AgentSetup, backoff: Backoff) -> None:
        self._setup = setup
        self._backoff = backoff
        self._guard = CrashGuard(setup.config.crash_s, setup.config.crash_count)

    def forget(self) -> None:
        """Somebody resumed the agent: failures before that do not count."""
        self._guard.forget()

    async def learn(self, report: RunReport) -> None:
        """Raises StoreFailed, when a halt can not be written down."""
        now, wall_ms = self._setup.clock.now(), self._setup.clock.wall_ms()
        broken = self._guard.note(report.item, report.verdict, report.lasted_s)
        if report.verdict.result is Result.NOT_ALLOWED:
            await self._setup.halts.set(Halt(HaltCode.NOT_ALLOWED, report.verdict.reason, wall_ms))
        elif broken:
            await self._setup.halts.set(Halt(HaltCode.CRASH_LOOP, broken, wall_ms))
        elif self._guard.streak > 1:
            self._backoff.rate_limited(now)
        match RESULT_RULES[report.verdict.result].pause:
            case Pause.NOBODY:
                self._backoff.went_well(report.item)
            case Pause.ITEM:
                self._backoff.lost(report.item, now)
            case Pause.AGENT:
                self._backoff.rate_limited(now)
