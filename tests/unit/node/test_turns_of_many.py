"""Many agents at one list in virtual time: how often they collide, in which order they take items, and whom they wait for."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fabrik_node._core import blake3
from fabrik_node.domain.leases import LeaseTiming
from fabrik_node.domain.picking import patience_s, turn_s
from fabrik_node.domain.stages import Backlog
from fabrik_node.node.presence import Heard
from fabrik_node.node.turns import Turns
from fabrik_node.ports import ItemView

sys.path.append(str(Path(__file__).parents[2] / "bench"))

from virtual_time import VirtualClock, run_virtual

TIMING = LeaseTiming()
FREE = {"labels": [], "slots": 1}


def view(number: int) -> ItemView:
    return ItemView(number.to_bytes(16, "big"), f"item {number}", "", Backlog(), (), 0, (), 0, 0, None, None, None)


class Fleet:
    """``count`` agents with one slot each in virtual time, ``old`` of them of a former build; claims come from one arbiter. Messages and claims take between half of ``delay_s`` and ``delay_s``."""

    def __init__(self, count: int, seed: int, *, delay_s: float = 0.05, push_s: float = 0.6, old: int = 0) -> None:
        self.rng = random.Random(seed)
        self.delay_s, self.push_s = delay_s, push_s
        self.clock = VirtualClock()
        self.items: list[ItemView] = []
        self.added: dict[bytes, float] = {}
        self.granted: dict[bytes, float] = {}
        self.order: list[bytes] = []
        self.prompt: list[bytes] = []
        """Items for which an agent that takes work was free when they came."""
        self.refused = 0
        self.members = [(OldMember if number < old else Member)(self, bytes([number + 1]) * 32) for number in range(count)]

    def add(self, number: int) -> None:
        item = view(number)
        self.items.append(item)
        self.added[item.id] = self.clock.now()
        if sum(member.is_free for member in self.members) > sum(other.id not in self.granted for other in self.items[:-1]):
            self.prompt.append(item.id)
        for member in self.members:
            asyncio.get_running_loop().call_later(self.lag_s(), member.know, item)

    def lag_s(self) -> float:
        return self.rng.uniform(0.5, 1.0) * self.delay_s

    async def work(self, count: int, trickle_s: float, deaf: int = 0) -> None:
        """Until ``count`` items were granted. The last ``deaf`` members are heard until then, but take nothing."""
        workers = self.members[: len(self.members) - deaf]
        for member in workers:
            member.works = True
        tasks = [asyncio.create_task(member.run()) for member in workers]
        beats = [asyncio.create_task(member.beats()) for member in self.members]
        await asyncio.sleep(3 * TIMING.beat_s)
        for number in range(count):
            self.add(number)
            await asyncio.sleep(trickle_s)
        async with asyncio.timeout(100_000):
            while len(self.granted) < count:
                await asyncio.sleep(1.0)
        for task in [*tasks, *beats]:
            task.cancel()
        await asyncio.wait([*tasks, *beats])


class Member:
    def __init__(self, fleet: Fleet, key: bytes) -> None:
        self.fleet, self.key = fleet, key
        self.works = False
        self.busy = 0
        self.counter = 0
        self.known: dict[bytes, ItemView] = {}
        self.wake = asyncio.Event()
        self.heard: dict[bytes, int] = {}
        self.free: dict[bytes, bool] = {}
        self.turns = Turns(key, TIMING, fleet.clock, lambda: list(self.heard), tell=self.say, withdrawn=lambda _: self.wake.set())

    @property
    def is_free(self) -> bool:
        return self.works and not self.busy and not self.turns.asking

    def know(self, item: ItemView) -> None:
        if item.id not in self.fleet.granted:
            self.known[item.id] = item
            self.wake.set()

    def forget(self, item: bytes) -> None:
        if self.known.pop(item, None) is not None:
            self.wake.set()

    def say(self) -> None:
        self.counter += 1
        said: Mapping[str, Any] = {"agent": {**FREE, "busy": self.busy, "asking": sorted(self.turns.asking)}}
        for other in self.fleet.members:
            if other is not self:
                asyncio.get_running_loop().call_later(self.fleet.lag_s(), other.hear, self.key, self.counter, said)

    def hear(self, key: bytes, counter: int, said: Mapping[str, Any]) -> None:
        if counter > self.heard.get(key, 0):
            self.heard[key] = counter
            self.turns.hear(Heard(key, counter, b"", said, self.fleet.clock.now()))

    async def beats(self) -> None:
        while True:
            self.say()
            await asyncio.sleep(TIMING.beat_s)

    async def run(self) -> None:
        fleet = self.fleet
        while True:
            self.wake.clear()
            views = sorted(self.known.values(), key=lambda item: item.id)
            turns = self.turns.choose(views, [], 1, fleet.push_s)
            if not turns or turns[0][1] > 0.001:
                try:
                    async with asyncio.timeout(min([fleet.rng.uniform(0.5, 1.0) * TIMING.beat_s, *(wait_s for _, wait_s in turns)])):
                        await self.wake.wait()
                except TimeoutError:
                    continue
                continue
            item = self.known[turns[0][0]]
            with self.turns.intent(item.id, fleet.push_s) as listen_s:
                await asyncio.sleep(listen_s)
                if item.id not in self.known or self.turns.is_asked_by_others(item, []) or not await self.claim(item):
                    continue
                self.busy = 1
            await asyncio.sleep(fleet.rng.uniform(20.0, 90.0))
            self.busy = 0
            self.turns.say()

    async def claim(self, item: ItemView) -> bool:
        fleet = self.fleet
        await asyncio.sleep(fleet.push_s / 2)
        is_first = item.id not in fleet.granted
        if is_first:
            fleet.granted[item.id] = fleet.clock.now()
            fleet.order.append(item.id)
        await asyncio.sleep(fleet.push_s / 2)
        fleet.refused += not is_first
        self.forget(item.id)
        for member in fleet.members:
            asyncio.get_running_loop().call_later(fleet.lag_s(), member.forget, item.id)
        return is_first


class OldMember(Member):
    """As builds did that say nothing of ``asking``: all go for the best item, wait for those who go before them there, and say in the next beat that they are free."""

    def say(self) -> None:
        self.turns.asking.clear()
        super().say()

    def hear(self, key: bytes, counter: int, said: Mapping[str, Any]) -> None:
        super().hear(key, counter, said)
        self.free[key] = not said["agent"]["busy"]

    async def run(self) -> None:
        fleet = self.fleet
        while True:
            self.wake.clear()
            if not self.known:
                try:
                    async with asyncio.timeout(fleet.rng.uniform(0.5, 1.0) * TIMING.beat_s):
                        await self.wake.wait()
                except TimeoutError:
                    continue
                continue
            item = min(self.known.values(), key=lambda item: item.id)
            own = blake3(item.id + self.key)
            ahead = sum(1 for key, is_free in self.free.items() if is_free and blake3(item.id + key) < own)
            await asyncio.sleep(turn_s(ahead, TIMING.settle_s, fleet.push_s) + fleet.rng.uniform(0.0, 0.125))
            if item.id not in self.known or not await self.claim(item):
                continue
            self.busy = 1
            self.say()
            await asyncio.sleep(fleet.rng.uniform(20.0, 90.0))
            self.busy = 0


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("agents", "trickle_s"), [(2, 0.0), (8, 0.0), (8, 15.0), (20, 0.0), (20, 15.0)])
def test_agents_at_one_list_rarely_collide_and_keep_its_order(agents: int, trickle_s: float, seed: int) -> None:
    async def play() -> Fleet:
        fleet = Fleet(agents, seed)
        await fleet.work(50, trickle_s)
        return fleet

    fleet = run_virtual(play())
    assert fleet.refused <= 1, "of 1,000 at most 20"
    for place, item in enumerate(fleet.order):
        passed = [other for other in fleet.order[place + 1 :] if other < item and fleet.added[other] < fleet.granted[item] - 2 * fleet.push_s]
        assert len(passed) < agents, "only what others were about to take was passed by"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_who_says_that_it_is_free_and_takes_nothing_delays_an_item_by_its_turn_at_most(seed: int) -> None:
    async def play() -> Fleet:
        fleet = Fleet(6, seed)
        await fleet.work(60, 30.0, deaf=3)
        return fleet

    fleet = run_virtual(play())
    assert len(fleet.prompt) > 20
    longest_s = max(fleet.granted[item] - fleet.added[item] for item in fleet.prompt)
    assert longest_s <= patience_s(TIMING.settle_s, fleet.push_s) + fleet.push_s / 4 + fleet.push_s + fleet.delay_s
    assert fleet.refused <= 6


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_where_news_take_longer_than_one_listens_there_are_more_collisions_and_everything_is_done(seed: int) -> None:
    async def play() -> Fleet:
        fleet = Fleet(20, seed, delay_s=0.5)
        await fleet.work(80, 0.0)
        return fleet

    fleet = run_virtual(play())
    assert len(fleet.order) == 80
    assert 0 < fleet.refused < 80


@pytest.mark.parametrize("trickle_s", [0.0, 15.0])
def test_beside_agents_of_a_former_build_everything_is_done_with_fewer_collisions_than_among_those_alone(trickle_s: float) -> None:
    def refused(old: int) -> int:
        async def play(seed: int) -> Fleet:
            fleet = Fleet(8, seed, old=old)
            await fleet.work(60, trickle_s)
            return fleet

        fleets = [run_virtual(play(seed)) for seed in (1, 2, 3)]
        assert [len(fleet.order) for fleet in fleets] == [60] * 3
        return sum(fleet.refused for fleet in fleets)

    refusals = {old: refused(old) for old in (8, 4, 0)}
    assert refusals[0] < refusals[4] < refusals[8]
