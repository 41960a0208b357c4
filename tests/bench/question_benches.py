"""What questions of people cost a node that knows very many runs: for how long each holds the event loop, in which beats, calls and peers wait."""

from __future__ import annotations

import asyncio
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmark import Measured, Scale, benchmark, note

sys.path.append(str(Path(__file__).parents[1] / "doubles"))

from node_rig import NodeRig, Rigs

from fabrik_node.domain.runs import RunRow, RunState
from fabrik_node.domain.schema import ItemField, Kind, RunField
from fabrik_node.ids import new_id, show_id
from fabrik_node.node.pipeline import run_summary

__all__: list[str] = []

_ITEMS = 10_000
_RUNS_EACH = 2
_BATCH = 150
_TIMES = 5
_TICK_S = 0.001
_GOAL_MS = 100.0


async def _fill(rig: NodeRig) -> bytes:
    """Items with runs that are over; the id of one of them."""
    items = [new_id(1_000 + number) for number in range(_ITEMS)]
    writes: list[Any] = []
    for number, item in enumerate(items):
        writes += [(Kind.ITEM, item, ItemField.TITLE, f"item {number}", None), (Kind.ITEM, item, ItemField.CREATED_MS, number, None)]
    for each in range(_RUNS_EACH):
        for item in items:
            row = RunRow(
                b"", item, item, rig.node.public, "agent", RunState.COMPLETED, "merging", 5, ended_ms=9, reason="ok: merged", branch=f"fabrik/{show_id(item)}"
            )
            writes.append((Kind.RUN, new_id(7 + each), RunField.SUMMARY, run_summary(row), None))
    for at in range(0, len(writes), _BATCH):
        await rig.node.write(at, partial(list, writes[at : at + _BATCH]))
    return items[0]


async def _held_ms(rig: NodeRig, op: str, args: dict[str, Any]) -> float:
    """The longest time for which the event loop did not come round while one question was answered."""
    gaps: list[float] = []

    async def tick() -> None:
        while True:
            begun = time.perf_counter()
            await asyncio.sleep(_TICK_S)
            gaps.append(time.perf_counter() - begun - _TICK_S)

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(2 * _TICK_S)
    await rig.call(op, **args)
    await asyncio.sleep(2 * _TICK_S)
    ticking.cancel()
    return max(gaps) * 1000


async def _questions() -> dict[str, list[float]]:
    rigs = Rigs(timed=True)
    rig = await rigs.open()
    try:
        item = show_id(await _fill(rig))
        asked: tuple[tuple[str, dict[str, Any]], ...] = (
            ("runs.list", {"limit": 10}),
            ("runs.recovery", {}),
            ("claims.conflicts", {}),
            ("items.show", {"id": item}),
            ("why", {"id": item}),
        )
        return {op: [round(await _held_ms(rig, op, args), 1) for _ in range(_TIMES)] for op, args in asked}
    finally:
        await rigs.close()


@benchmark(("loop.runs_list", "ms", "<=", _GOAL_MS))
def runs_list(_: Scale) -> dict[str, Measured]:
    """For how long ``runs list --limit 10`` holds the event loop of a node that knows 20,000 runs; four other questions beside it."""
    found = asyncio.run(_questions())
    note(f"loop.runs_list: {found}")
    what = "the longest of some questions each, in ms; the value is that of runs.list; in one process, with a store in memory"
    return {"loop.runs_list": Measured(max(found["runs.list"]), {"items": _ITEMS, "runs": _ITEMS * _RUNS_EACH, **found, "what": what})}
