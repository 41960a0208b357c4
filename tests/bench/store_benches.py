"""Core and storage together: what a new node's start costs without the network."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmark import Measured, Scale, benchmark, note, spread
from workload import make_workload

from fabrik_node._core import Replica, mesh_id, segment_span
from fabrik_node.clock import SystemClock
from fabrik_node.store.sqlite import SqliteStore

__all__: list[str] = []

_BATCH = 16
"""Segments per commit, as many as the node takes at once."""


async def _ingest(genesis: bytes, segments: Sequence[bytes], per_call: int) -> tuple[bytes, float]:
    """Verify, chain, append durably, merge, into an empty store; the state digest and the seconds."""
    with tempfile.TemporaryDirectory(prefix="fabrik-bench-") as folder:
        replica = Replica(genesis)
        async with await SqliteStore.open(Path(folder) / "store.db", SystemClock(), mesh_id=mesh_id(genesis), create_missing=True) as store:
            began = time.perf_counter()
            for at in range(0, len(segments), per_call):
                chained = replica.chain(replica.verify(segments[at : at + per_call])).chained
                await store.append(chained)
                replica.merge(chained)
            seconds = time.perf_counter() - began
    return replica.state_digest(), seconds


@benchmark(("store.ingest", "ops/s", ">=", 400_000), ("store.ratio", "x", ">=", 20))
def store(scale: Scale) -> dict[str, Measured]:
    """Verify, chain, append durably and merge on all cores, in bulk, and against one signature check and one row per op."""
    note(f"making a log of {scale.ops:,} ops")
    work = make_workload(scale.ops)
    few = make_workload(20_000, keep_singles=True)
    seconds = [asyncio.run(_ingest(work.genesis, work.segments, _BATCH))[1] for _ in range(3)]
    ratios = []
    for _ in range(3):
        bulk_digest, bulk_s = asyncio.run(_ingest(few.genesis, few.segments, _BATCH))
        single_digest, single_s = asyncio.run(_ingest(few.genesis, few.singles, 1024))
        if bulk_digest != single_digest:
            raise AssertionError("bulk and single ops gave different states")
        ratios.append(single_s / bulk_s)
    rates = [work.ops / each for each in seconds]
    return {
        "store.ingest": Measured(statistics.median(rates), {"ops": work.ops, "segments": len(work.segments), "rates": spread(rates)}),
        "store.ratio": Measured(statistics.median(ratios), {"ops": few.ops, "ratios": spread(ratios)}),
    }


_LIVE_OPS = 50_000
_PACK_ROWS = 512
_PACK_EVERY = 2_048


async def _live_bytes(genesis: bytes, singles: Sequence[bytes], keep_author: bytes) -> int:
    """Size of a database in which live ops, one row each, were packed now and then, as a node does when it is idle for a moment."""
    with tempfile.TemporaryDirectory(prefix="fabrik-bench-") as folder:
        replica = Replica(genesis)
        async with await SqliteStore.open(Path(folder) / "store.db", SystemClock(), mesh_id=mesh_id(genesis), create_missing=True) as store:
            for at in range(0, len(singles), _PACK_EVERY):
                chained = replica.chain(replica.verify(singles[at : at + _PACK_EVERY])).chained
                upto = await store.append(chained)
                replica.merge(chained)
                await store.append_events([], upto)
                while await store.pack(_PACK_ROWS, keep_author):
                    pass
        return sum(file.stat().st_size for file in Path(folder).iterdir())


@benchmark(("bytes.disk_live", "B/op", "<=", 100))
def disk_live(scale: Scale) -> dict[str, Measured]:
    """Bytes of the database per live op once it is packed, beyond the ops' values; beside it those of the own log, which keeps its signatures."""
    work = make_workload(_LIVE_OPS, keep_singles=True)
    author = segment_span(work.singles[0])[0]
    size = asyncio.run(_live_bytes(work.genesis, work.singles, b""))
    own = asyncio.run(_live_bytes(work.genesis, work.singles, author))
    unpacked = sum(map(len, work.singles))
    about = {
        "ops": work.ops,
        "file_bytes": size,
        "value_bytes_per_op": round(work.value_bytes / work.ops, 1),
        "unpacked_data_bytes_per_op": round(unpacked / work.ops, 1),
    }
    return {
        "bytes.disk_live": Measured((size - work.value_bytes) / work.ops, about | {"own_log_with_signatures": round((own - work.value_bytes) / work.ops, 1)})
    }
