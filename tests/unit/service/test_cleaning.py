"""``runs clean``: what a dry run lists is what goes, and nothing else in the folder is touched."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from node_rig import NodeRig, Rigs
from store_doubles import HandClock

from fabrik_node.domain.retention import Retention
from fabrik_node.domain.runs import RunRow, RunState
from fabrik_node.ids import new_id, parse_id, show_id
from fabrik_node.service.cleaning import Cleaner

DAY_MS = 86_400_000


@pytest.fixture
async def rig() -> AsyncIterator[NodeRig]:
    made = Rigs()
    yield await made.open()
    await made.close()


async def put(rig: NodeRig, folder: Path, item: str, number: int, *, days_ago: float | None, size: int = 100) -> str:
    """A run with a folder; ``days_ago`` None: it has no end."""
    now_ms = rig.node.clock.wall_ms()
    run_id = new_id(1_000_000_000_000 + number)
    ended_ms = 0 if days_ago is None else round(now_ms - days_ago * DAY_MS)
    state = RunState.RUNNING if days_ago is None else RunState.COMPLETED
    await rig.node.store.put_run(
        RunRow(run_id, parse_id(item) or b"", bytes(16), rig.node.public, "agent", state, "coding", 1_000_000_000_000, ended_ms=ended_ms)
    )
    path = folder / show_id(run_id)
    path.mkdir(parents=True)
    (path / "output.log").write_bytes(b"x" * size)
    return show_id(run_id)


@pytest.mark.promise("C24")
async def test_what_a_dry_run_lists_is_what_goes_and_running_and_needed_runs_stay(rig: NodeRig, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    done, open_ = await rig.add("done"), await rig.add("open")
    await rig.call("items.move", id=done, to="Archived", reason="Completed")
    old = await put(rig, folder, done, 1, days_ago=40)
    running = await put(rig, folder, done, 2, days_ago=None)
    in_hand = await put(rig, folder, done, 3, days_ago=50)
    first_try = await put(rig, folder, open_, 4, days_ago=60)
    last_try = await put(rig, folder, open_, 5, days_ago=45)
    young = await put(rig, folder, done, 6, days_ago=1, size=300)
    for other in ("notes", show_id(new_id(0)) + "x"):
        (folder / other).mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    (folder / show_id(new_id(7))).symlink_to(outside)
    cleaner = Cleaner(rig.node, rig.reader, folder, Retention(30.0, 10_000), lambda: {in_hand})
    before = sorted(path.name for path in folder.iterdir())

    listed = await cleaner.clean({"dry_run": True})
    assert [run["run_id"] for run in listed["runs"]] == [first_try, old]
    assert sorted(path.name for path in folder.iterdir()) == before
    removed = await cleaner.clean({})
    assert removed["runs"] == listed["runs"]
    assert (removed["bytes"], removed["kept_bytes"], removed["removed"]) == (200, 600, True)
    assert sorted(path.name for path in folder.iterdir()) == sorted(set(before) - {first_try, old})
    assert {running, in_hand, last_try, young} <= {path.name for path in folder.iterdir()}
    assert outside.is_dir()
    assert (await cleaner.clean({}))["runs"] == []


@pytest.mark.promise("C24")
async def test_the_disk_that_finished_runs_take_is_bounded(rig: NodeRig, tmp_path: Path) -> None:
    item = await rig.add()
    await rig.call("items.move", id=item, to="Archived", reason="Completed")
    names = [await put(rig, tmp_path, item, number, days_ago=10 - number, size=1000) for number in range(5)]
    cleaner = Cleaner(rig.node, rig.reader, tmp_path, Retention(30.0, 2500), set)
    answer = await cleaner.clean({})
    assert [run["run_id"] for run in answer["runs"]] == names[:3]
    assert answer["kept_bytes"] == 2000
    assert "all runs take 5000 bytes: more than 2500" in answer["runs"][0]["why"]


@pytest.mark.promise("C24")
async def test_a_wall_clock_that_jumps_ahead_by_years_removes_nothing(rig: NodeRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = HandClock(rig.node.clock.wall_ms())
    monkeypatch.setattr(rig.node, "clock", clock)
    item = await rig.add()
    await rig.call("items.move", id=item, to="Archived", reason="Completed")
    old = await put(rig, tmp_path, item, 1, days_ago=31)
    young = await put(rig, tmp_path, item, 2, days_ago=20)
    cleaner = Cleaner(rig.node, rig.reader, tmp_path, Retention(30.0, 10_000), set)

    async def sweep_after(seconds: float) -> list[str]:
        clock.advance(seconds)
        await cleaner.sweep()
        return sorted(path.name for path in tmp_path.iterdir())

    assert await sweep_after(0.0) == [young], f"{old} is old"
    clock.wall += 10 * 365 * DAY_MS
    assert await sweep_after(3600.0) == [young]
    clock.wall -= 10 * 365 * DAY_MS
    assert await sweep_after(3600.0) == [young]
    for _ in range(24):
        assert await sweep_after(3600.0) == [young], "the clock is right again"
    assert await sweep_after(9 * DAY_MS / 1000) == [], "its time came"
