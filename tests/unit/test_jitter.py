"""Jitter is legal: it makes things late, and turns nothing round that asyncio promises."""

from __future__ import annotations

import asyncio
from selectors import SelectorKey

import pytest
from jitter import LONG_S, PARTS, Jitter


@pytest.fixture
def jitter() -> Jitter:
    made = Jitter("7", "a test")
    made.slow = dict.fromkeys(PARTS, 1.0)
    return made


async def test_results_of_threads_come_late_and_in_their_order(jitter: Jitter) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, asyncio.BaseEventLoop)
    came: list[int] = []
    over = asyncio.Event()
    for number in range(20):
        jitter.deliver(loop, asyncio.Handle(came.append, (number,), loop))
    dropped = asyncio.Handle(came.append, (99,), loop)
    jitter.deliver(loop, dropped)
    dropped.cancel()
    jitter.deliver(loop, asyncio.Handle(over.set, (), loop))
    assert came == []
    await asyncio.wait_for(over.wait(), 60)
    assert came == list(range(20))


async def test_a_file_that_is_ready_is_told_sooner_or_later(jitter: Jitter) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, asyncio.BaseEventLoop)
    events = [(SelectorKey(None, number, 1, None), 1) for number in (5, 6)]  # type: ignore[arg-type]
    told: set[int] = set()
    first = {key.fd for key, _ in jitter.ready(loop, events, spared=6)}
    assert first == {6}, "what wakes the loop is not held back"
    async with asyncio.timeout(60):
        while 5 not in told:
            told |= {key.fd for key, _ in jitter.ready(loop, events, spared=6)}
            await asyncio.sleep(0)


def test_a_seed_and_a_test_choose_the_same_naps_again() -> None:
    def draws(seed: str, test: str) -> list[float]:
        made = Jitter(seed, test)
        return [made.nap_s(part) for part in PARTS for _ in range(20)] + [made.size(65_536) for _ in range(20)]

    assert draws("1", "a") == draws("1", "a")
    assert draws("1", "a") not in (draws("2", "a"), draws("1", "b"))
    assert all(0.0 <= nap <= LONG_S for nap in draws("1", "a")[: 20 * len(PARTS)])
    assert all(1 <= size <= 65_536 for size in draws("1", "a")[20 * len(PARTS) :])
