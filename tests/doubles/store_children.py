"""Real processes for tests of the store: what they are told on the command line, they do; what is acknowledged, they print.

``python store_children.py append DB [POINT COUNT]``: append one-op segments, each with its event, for ever; print the op's number after each
    acknowledged transaction. At the COUNT-th passage of the store's fault point POINT it kills itself.
``... steps DB POINT``: do one write of every kind, print its name when it is acknowledged, and kill itself when POINT is passed.
``... grow DB``: append until the kernel refuses to make the file larger; print the count and the errors.
``... own HOME``: take the home, print ``owned`` or the refusal as JSON, and hold it until stdin ends; then release if that ends with ``release``.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
from pathlib import Path

CHILD = Path(__file__)
MESH = bytes(range(32))


def child_environment() -> dict[str, str]:
    """Lets the child import the product and these doubles from the checkout."""
    return os.environ | {"PYTHONPATH": f"{CHILD.parents[2]}{os.pathsep}{CHILD.parent}"}


def _say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


async def _append(path: Path, point: str, count: int) -> None:
    from store_doubles import fake_chained

    from fabrik_node.clock import SystemClock
    from fabrik_node.ports import Event
    from fabrik_node.store.sqlite import SqliteStore

    passed = 0

    def faults(seen: str) -> None:
        nonlocal passed
        passed += seen == point
        if seen == point and passed == count:
            os.kill(os.getpid(), signal.SIGKILL)

    async with await SqliteStore.open(path, SystemClock(), mesh_id=MESH, create_missing=True, faults=faults) as store:
        rows = [row async for batch in store.load() for row in batch]
        seq = rows[-1].last_seq if rows else 0
        await store.next_start()
        while True:
            seq += 1
            pos = await store.append([fake_chained(1, seq, data=str(seq).encode() * 50)])
            _say(f"op {seq}")
            (event,) = await store.append_events([Event("op", 0, {"op": seq})], pos)
            _say(f"event {event.seq}")


async def _steps(path: Path, point: str) -> None:
    from store_steps import SNAPSHOTS, STEPS, Steps

    from fabrik_node.clock import SystemClock
    from fabrik_node.store.snapshot_file import SnapshotFile
    from fabrik_node.store.sqlite import SqliteStore

    steps = Steps()

    def faults(seen: str) -> None:
        if seen == point and steps.armed and not steps.no_space:
            os.kill(os.getpid(), signal.SIGKILL)
        steps.fault(seen)

    async with await SqliteStore.open(path, SystemClock(), mesh_id=MESH, create_missing=True, faults=faults) as store:
        await steps.prepare(store)
        file = SnapshotFile(path.with_name("state.snapshot"), faults)
        file.write(SNAPSHOTS[0])
        steps.armed = True
        for name in STEPS:
            await steps.do(store, name)
            _say(name)
        file.write(SNAPSHOTS[1])
        _say("snapshot")


async def _grow(path: Path) -> None:
    from store_doubles import fake_chained

    from fabrik_node.clock import SystemClock
    from fabrik_node.errors import StoreFailed
    from fabrik_node.store.sqlite import SqliteStore

    async with await SqliteStore.open(path, SystemClock(), mesh_id=MESH, create_missing=True) as store:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
        stored = 0
        try:
            while True:
                await store.append([fake_chained(1, stored + 1, data=b"x" * 20_000)])
                stored += 1
        except StoreFailed as error:
            _say(f"{stored} {error.code} {error}")
        try:
            await store.append([fake_chained(1, stored + 1)])
        except StoreFailed as error:
            _say(str(error))


def _own(home: Path) -> None:
    from fabrik_node.clock import SystemClock
    from fabrik_node.errors import FabrikError
    from fabrik_node.store.owner import OwnerLock

    try:
        lock = OwnerLock.acquire(home, SystemClock(), {"socket": str(home / "run" / "node.sock")})
    except FabrikError as error:
        _say(json.dumps({"code": error.code, "message": str(error), "hint": error.hint}))
        return
    _say(json.dumps({"owned": lock.owner.process.pid, "previous": lock.previous and lock.previous.process.pid}))
    if sys.stdin.read().strip() == "release":
        lock.release()


def _main() -> None:
    match sys.argv[1:]:
        case ["append", path]:
            asyncio.run(_append(Path(path), "", 0))
        case ["append", path, point, count]:
            asyncio.run(_append(Path(path), point, int(count)))
        case ["steps", path, point]:
            asyncio.run(_steps(Path(path), point))
        case ["grow", path]:
            asyncio.run(_grow(Path(path)))
        case ["own", home]:
            _own(Path(home))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    _main()
