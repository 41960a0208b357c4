"""kill -9 at any moment: what was acknowledged is there, in order, without gaps, and nothing is there twice."""

from __future__ import annotations

import random
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from sqlite3 import connect

import pytest
from store_children import CHILD, MESH, child_environment
from store_doubles import HandClock
from store_steps import KEY, OPS, SNAPSHOTS, STEPS, author_ops, done

from fabrik_node._core import cut
from fabrik_node.store.readonly import open_readonly
from fabrik_node.store.snapshot_file import SnapshotFile
from fabrik_node.store.sqlite import SqliteStore
from fabrik_node.store.transactions import WRITES

SEED = 20_260_801


def _run(db: Path, *crash: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(CHILD), "append", str(db), *crash], env=child_environment(), stdout=subprocess.PIPE)


def _acknowledged(lines: list[bytes], acked: dict[str, int]) -> None:
    """Whole lines only: a torn one was never said."""
    for line in lines:
        if line.endswith(b"\n"):
            what, number = line.decode().split()
            assert int(number) == acked[what] + 1, "the child goes on where the last one ended"
            acked[what] = int(number)


async def _check(db: Path, acked: dict[str, int]) -> None:
    """Everything acknowledged is there, and at most the one transaction more that was not acknowledged yet."""
    before = {path.name: path.read_bytes() for path in db.parent.iterdir() if not path.name.endswith("-shm")}
    async with await open_readonly(db) as store:
        rows = [row async for batch in store.load() for row in batch]
        events = await store.events(0, 1_000_000)
        upto = await store.events_upto()
    assert [row.first_seq for row in rows] == list(range(1, len(rows) + 1))
    assert [row.pos for row in rows] == list(range(1, len(rows) + 1))
    assert all(row.data == str(row.first_seq).encode() * 50 for row in rows)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert upto == (len(events), max((event.data["op"] for event in events), default=0))
    assert len(rows) - acked["op"] in {0, 1}
    assert len(events) - acked["event"] in {0, 1}
    assert {path.name: path.read_bytes() for path in db.parent.iterdir() if path.name in before} == before, "reading after a crash changes nothing"
    acked.update(op=len(rows), event=len(events))


@pytest.mark.promise("C13", "I4")
async def test_killed_at_any_moment(db: Path) -> None:
    chance = random.Random(SEED)
    acked = {"op": 0, "event": 0}
    for _ in range(24):
        with _run(db) as child:
            assert child.stdout is not None
            lines = [child.stdout.readline() for _ in range(chance.randint(1, 120))]
            child.kill()
            _acknowledged(lines + child.stdout.readlines(), acked)
        assert child.returncode == -9
        await _check(db, acked)
    assert acked["op"] > 24
    with closing(connect(db)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert raw.execute("SELECT value FROM counters WHERE name = 'starts'").fetchone() == (24,)


@pytest.mark.promise("C13", "I4")
async def test_killed_at_named_points(db: Path) -> None:
    acked = {"op": 0, "event": 0}
    for point in ("before_commit", "after_commit"):
        for count in ("2", "3", "8", "9"):  # 1 is the count of starts; even ones store ops, odd ones events
            with _run(db, point, count) as child:
                assert child.stdout is not None
                _acknowledged(child.stdout.readlines(), acked)
            assert child.returncode == -9
            said = dict(acked)
            await _check(db, acked)
            stored_unsaid = (acked["op"] - said["op"]) + (acked["event"] - said["event"])
            assert stored_unsaid == (1 if point == "after_commit" else 0)


@pytest.mark.parametrize("point", ["before_migration_commit", "before_rename"])
async def test_killed_while_it_is_made(db: Path, point: str) -> None:
    with _run(db, point, "1") as child:
        assert child.wait(60) == -9
    assert not db.exists()
    acked = {"op": 0, "event": 0}
    with _run(db, "before_commit", "6") as child:
        assert child.stdout is not None
        _acknowledged(child.stdout.readlines(), acked)
    await _check(db, acked)
    assert acked == {"op": 2, "event": 2}


POINTS = [f"{name}.{when}" for name in WRITES for when in ("before_commit", "after_commit")]


@pytest.mark.promise("I4", "I5")
@pytest.mark.parametrize("point", POINTS)
async def test_killed_in_every_kind_of_write(db: Path, clock: HandClock, point: str) -> None:
    """What was acknowledged is there, the write in hand is whole or not there, and of the ops none is lost, changed or there twice."""
    with subprocess.Popen([sys.executable, str(CHILD), "steps", str(db), point], env=child_environment(), stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        said = child.stdout.read().decode().split()
    assert child.returncode == -9
    name, _, when = point.partition(".")
    assert said == list(STEPS[: 0 if name == "probe" else STEPS.index(name)]), "it dies where it should"
    async with await SqliteStore.open(db, clock, mesh_id=MESH) as store:
        found = await done(store)
        expected = dict.fromkeys(STEPS, False) | dict.fromkeys(said, True) | ({} if name == "probe" else {name: when == "after_commit"})
        assert {step: found[step] for step in STEPS} == expected
        assert await store.integrity_check() == []
        held = {row.pos: row.why for row in await store.damaged()}
        seen: set[int] = set()
        async for batch in store.load():
            for row in batch:
                span = set(range(row.first_seq, row.last_seq + 1))
                assert not span & seen, "no op is there twice"
                seen |= span
                single = cut(row.data, row.last_seq)
                assert author_ops()[row.last_seq - 1].data == single, "the newest op of each row is as it was signed"
        gone = {380} if expected["set_aside"] else set()
        gone |= set() if expected["refill"] else {390}
        gone |= set() if expected["append"] else {OPS}
        assert set(range(1, OPS + 1)) - seen == gone
        assert set(held) == (gone - {OPS}) - ({380} if expected["forget_damaged"] else set())
        if not expected["append"]:
            await store.append(author_ops()[-1:])
        await store.set_meta("again", b"1")
        assert (await store.read(KEY.public, 1, OPS - 1, 1_000))[0].last_seq == OPS


@pytest.mark.promise("I4")
@pytest.mark.parametrize("point", ["snapshot.before_sync", "snapshot.before_rename", "snapshot.after_rename"])
async def test_killed_while_the_snapshot_is_replaced(db: Path, point: str) -> None:
    with subprocess.Popen([sys.executable, str(CHILD), "steps", str(db), point], env=child_environment(), stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        said = child.stdout.read().decode().split()
    assert (child.returncode, said) == (-9, list(STEPS))
    assert SnapshotFile(db.with_name("state.snapshot")).read() == SNAPSHOTS[point == "snapshot.after_rename"]
