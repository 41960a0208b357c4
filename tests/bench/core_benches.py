"""The core in memory, and what ops cost on the disk."""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmark import Measured, Scale, benchmark, note, spread
from workload import Workload, make_workload, row_writes

from fabrik_node._core import Replica, mesh_id
from fabrik_node.clock import SystemClock
from fabrik_node.store.sqlite import SqliteStore

__all__: list[str] = []

_BATCH = 16
"""Segments per call, as many as the node takes at once."""


def ingest(genesis: bytes, segments: Sequence[bytes], per_call: int = _BATCH) -> tuple[Replica, float]:
    """Verify, chain and merge foreign segments into an empty replica; it and the seconds."""
    replica = Replica(genesis)
    began = time.perf_counter()
    for at in range(0, len(segments), per_call):
        verified = replica.verify(segments[at : at + per_call])
        replica.merge(replica.chain(verified).chained)
    return replica, time.perf_counter() - began


@benchmark(("core.ingest", "ops/s", ">=", 1_000_000), ("bootstrap.ratio", "x", ">=", 20))
def core(scale: Scale) -> dict[str, Measured]:
    """Verify and merge on one core, in bulk, and against one signature check per op."""
    note(f"making a log of {scale.ops:,} ops")
    work = make_workload(scale.ops)
    few = make_workload(20_000, keep_singles=True)
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    try:
        runs = [ingest(work.genesis, work.segments) for _ in range(3)]
        ratios = []
        for _ in range(3):
            bulk_replica, bulk_s = ingest(few.genesis, few.segments)
            single_replica, single_s = ingest(few.genesis, few.singles, 1024)
            if bulk_replica.state_digest() != single_replica.state_digest():
                raise AssertionError("bulk and single ops gave different states")
            ratios.append(single_s / bulk_s)
    finally:
        os.sched_setaffinity(0, cpus)
    rates = [replica.ops / seconds for replica, seconds in runs]
    return {
        "core.ingest": Measured(
            statistics.median(rates), {"ops": work.ops, "registers": runs[0][0].registers, "segments": len(work.segments), "rates": spread(rates)}
        ),
        "bootstrap.ratio": Measured(
            statistics.median(ratios),
            {"ops": few.ops, "what": "verify, chain and merge in memory: bulk segments against one signature per op", "ratios": spread(ratios)},
        ),
    }


@benchmark(("core.registers", "registers/s", ">=", 2_000_000))
def core_registers(scale: Scale) -> dict[str, Measured]:
    """Verify and merge on one core, in bulk, ops that make five new registers each: most of what the merge may have to do for an op."""
    work = make_workload(scale.ops, writes=row_writes)
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    try:
        runs = [ingest(work.genesis, work.segments) for _ in range(3)]
    finally:
        os.sched_setaffinity(0, cpus)
    rates = [replica.registers / seconds for replica, seconds in runs]
    ops = [replica.ops / seconds for replica, seconds in runs]
    return {
        "core.registers": Measured(
            statistics.median(rates), {"ops": work.ops, "registers": runs[0][0].registers, "ops_per_s": spread(ops), "rates": spread(rates)}
        )
    }


@benchmark(("core.restore", "s", "<=", 0.3), ("core.snapshot", "s", "<=", 0.3))
def core_snapshot(scale: Scale) -> dict[str, Measured]:
    """A replica from its snapshot, and the snapshot of it: what a start and a stop cost beyond reading and writing the file."""
    work = make_workload(scale.ops)
    replica = Replica(work.genesis)
    replica.load(work.segments)
    restored, taken = [], []
    for _ in range(5):
        began = time.perf_counter()
        data = replica.snapshot()
        taken.append(time.perf_counter() - began)
        began = time.perf_counter()
        again = Replica.restore(work.genesis, data)
        restored.append(time.perf_counter() - began)
    if again.state_digest() != replica.state_digest():
        raise AssertionError("the snapshot gave another state")
    env = {"ops": replica.ops, "registers": replica.registers, "bytes": len(data)}
    return {
        "core.restore": Measured(statistics.median(restored), {**env, "times": spread(restored)}),
        "core.snapshot": Measured(statistics.median(taken), {**env, "times": spread(taken)}),
    }


async def _disk_bytes(work: Workload, folder: Path) -> int:
    path = folder / "store.db"
    replica = Replica(work.genesis)
    async with await SqliteStore.open(path, SystemClock(), mesh_id=mesh_id(work.genesis), create_missing=True) as store:
        for at in range(0, len(work.segments), _BATCH):
            chained = replica.chain(replica.verify(work.segments[at : at + _BATCH])).chained
            await store.append(chained)
            replica.merge(chained)
    return sum(file.stat().st_size for file in folder.iterdir())


@benchmark(("bytes.disk", "B/op", "<=", 100))
def disk(scale: Scale) -> dict[str, Measured]:
    """Bytes of the database per op in bulk segments, beyond the ops' values."""
    work = make_workload(scale.ops)
    with tempfile.TemporaryDirectory(prefix="fabrik-bench-") as folder:
        size = asyncio.run(_disk_bytes(work, Path(folder)))
    return {
        "bytes.disk": Measured(
            (size - work.value_bytes) / work.ops, {"ops": work.ops, "file_bytes": size, "value_bytes_per_op": round(work.value_bytes / work.ops, 1)}
        )
    }


@benchmark(("memory.register", "B", "<=", 250))
def memory_register(scale: Scale) -> dict[str, Measured]:
    """Growth of a fresh process per live register, the register's value included."""
    work = make_workload(scale.ops)
    probe = Path(__file__).with_name("memory_probe.py")
    with tempfile.NamedTemporaryFile(prefix="fabrik-bench-") as file:
        for data in (work.genesis, *work.segments):
            file.write(len(data).to_bytes(4, "big") + data)
        file.flush()
        done = subprocess.run([sys.executable, str(probe), file.name], capture_output=True, text=True, timeout=600, check=True)
    grown, registers = map(int, done.stdout.split())
    return {"memory.register": Measured(grown / registers, {"registers": registers, "value_bytes_per_op": round(work.value_bytes / work.ops, 1)})}
