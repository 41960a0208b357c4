"""The time of a command stands still while it waits for people. Time is in the hand of the test."""

from __future__ import annotations

import asyncio

import pytest

from fabrik_node.agent.waiting import Waiting


class Time:
    """The event loop's clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        self._now = loop.time()
        monkeypatch.setattr(loop, "time", lambda: self._now)

    async def passes(self, seconds: float) -> None:
        self._now += seconds
        for _ in range(3):
            await asyncio.sleep(0)


@pytest.mark.promise("D30")
async def test_only_time_that_is_not_waited_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    time, waiting, over = Time(monkeypatch), Waiting(), list[str]()
    with waiting.limit(10.0, lambda: over.append("over")):
        await time.passes(9.0)
        waiting.enter(b"")
        waiting.enter(b"one")
        waiting.enter(b"other")
        assert waiting.question == b"one", "a git remote is no question"
        await time.passes(100_000.0)
        waiting.leave(b"one")
        assert (waiting.is_on, waiting.question) == (True, b"other")
        await time.passes(100_000.0)
        waiting.leave(b"other")
        assert (waiting.is_on, waiting.question) == (True, b"")
        await time.passes(100_000.0)
        waiting.leave(b"")
        await time.passes(0.5)
        assert over == []
        await time.passes(0.6)
        assert over == ["over"]


async def test_a_command_that_begins_while_another_still_waits_begins_its_time_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    time, waiting, over = Time(monkeypatch), Waiting(), list[str]()
    waiting.enter(b"one")
    with waiting.limit(1.0, lambda: over.append("first")):
        await time.passes(5.0)
    waiting.leave(b"one")
    with waiting.limit(1.0, lambda: over.append("second")):
        await time.passes(0.5)
    await time.passes(50.0)
    assert over == [], "a command that ended has no time any more"
