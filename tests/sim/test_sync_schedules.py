"""Thousands of schedules in virtual time: whatever a network does to a mesh of two to six nodes, once it heals every acknowledged write is everywhere.

``SCHEDULES=20000`` plays more of them than the 2,000 of every run; ``SCHEDULE=ring-123`` plays one again.
"""

from __future__ import annotations

import os

import pytest
from sim.schedules import SHAPES, Schedule

from fabrik_sync import Limits

ALL = int(os.environ.get("SCHEDULES", "2000"))
ONE = os.environ.get("SCHEDULE", "")
BLOCK = 50


def _play(shape: str, seed: int) -> Schedule:
    schedule = Schedule(shape, seed)
    schedule.run()
    schedule.check()
    return schedule


def _blocks() -> list[tuple[str, int]]:
    if ONE:
        return [(ONE.rpartition("-")[0], int(ONE.rpartition("-")[2]))]
    return [(shape, first) for shape in SHAPES for first in range(0, ALL // len(SHAPES), BLOCK)]


@pytest.mark.promise("I2", "E16", "E18")
@pytest.mark.parametrize(("shape", "first"), _blocks())
def test_after_any_schedule_everything_acknowledged_is_everywhere_in_ten_seconds(shape: str, first: int) -> None:
    played = [_play(shape, seed) for seed in ([first] if ONE else range(first, first + BLOCK))]
    repeated, ops = sum(each.repeated for each in played), sum(each.ops * (len(each.nodes) - 1) for each in played)
    assert ONE or repeated <= ops / (5 if shape in ("ring", "random") else 100), f"{repeated} of {ops} came twice in {shape} from {first}"


def test_a_schedule_is_the_same_each_time() -> None:
    def trace(seed: int) -> list[object]:
        schedule = Schedule("random", seed)
        schedule.run()
        return [schedule.world.now, *((node.store.digest(), sorted(node.counts.items())) for node in schedule.nodes)]

    assert trace(3) == trace(3)
    assert trace(3) != trace(4)


def test_who_waits_for_tcp_heals_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test machine is tested: with the patience of half a minute, links that stall are late in some of a hundred schedules."""
    monkeypatch.setattr("sim.schedules.Limits", lambda **given: Limits(**given, ping_s=10.0, silent_s=30.0))
    late = 0
    for seed in range(100):
        try:
            _play("star", seed)
        except AssertionError as error:
            late += "not equal after" in str(error)
    assert late
