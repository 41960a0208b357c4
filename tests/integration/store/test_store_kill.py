"""kill -9 at any moment: what was acknowledged is there, in order, without gaps, and nothing is there twice."""

from __future__ import annotations

import random
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from sqlite3 import connect

import pytest
from store_children import CHILD, child_environment

from fabrik_node.store.readonly import open_readonly

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
