"""One measurement in a process of its own: ``cell.py SYSTEM write|each|bulk WRITES SEED FOLDER LIMIT``. Prints one JSON object.

``write`` leaves the changes and the saved forms in the folder; ``each`` and ``bulk`` take them from there. Times are CPU seconds of the process, which is held to one core:
nothing here waits for anything, so on an idle machine they are the wall's. Past LIMIT seconds ``write`` and ``each`` stop and say how far they came.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from changes import Changes, digest_of, make_changes
from systems import SYSTEMS, AutomergeSystem, System

_LOOK_EVERY = 1_000
"""Operations between two looks at the clock."""


def put_parts(path: Path, parts: Iterable[bytes]) -> int:
    """Write byte strings to a file; their size without the framing."""
    size = 0
    with path.open("wb") as file:
        for part in parts:
            file.write(len(part).to_bytes(4, "big") + part)
            size += len(part)
    return size


def parts_of(path: Path) -> Iterator[bytes]:
    """What :func:`put_parts` wrote."""
    with path.open("rb") as file:
        while head := file.read(4):
            yield file.read(int.from_bytes(head, "big"))


def memory(field: str) -> int:
    """``VmRSS`` or ``VmHWM`` of this process, in bytes."""
    rows = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    return int(rows[field].split()[0]) * 1024


class Meter:
    """Adds up CPU seconds of pieces of work and stops at a limit."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.seconds = 0.0
        self.done = 0

    def run(self, work: Callable[..., object], each: Iterable[tuple[Any, ...]]) -> bool:
        """Call ``work`` with every row; False when the limit came first."""
        rows = list(each)
        for at in range(0, len(rows), _LOOK_EVERY):
            piece = rows[at : at + _LOOK_EVERY]
            began = time.process_time()
            for row in piece:
                work(*row)
            self.seconds += time.process_time() - began
            self.done += len(piece)
            if self.seconds > self.limit:
                return False
        return True


def write(system: System, work: Changes, folder: Path, limit: float) -> dict[str, Any]:
    """Local writes, each in a transaction of its own."""
    put_parts(folder / "opening", system.begin())
    meter = Meter(limit)
    for author, writes in work.turns():
        system.turn(author)
        if not meter.run(system.write, writes):
            return {"seconds": meter.seconds, "done": meter.done, "stopped": True}
    sizes = {name: put_parts(folder / name, parts) for name, parts in system.forms().items()}
    return {"seconds": meter.seconds, "done": meter.done, "change_bytes": put_parts(folder / "changes", system.changes), "sizes": sizes}


def each(system: System, work: Changes, folder: Path, limit: float) -> dict[str, Any]:
    """Every change by itself, in the order in which it was written."""
    meter = Meter(limit)
    if isinstance(system, AutomergeSystem):
        finished = _merge_each(system, work, meter)
    else:
        system.join(list(parts_of(folder / "opening")))
        finished = meter.run(system.apply, ((change,) for change in parts_of(folder / "changes")))
    stopped = {} if finished else {"stopped": True}
    return {"seconds": meter.seconds, "done": meter.done, "right": finished and digest_of(system.read) == work.digest} | stopped


def _merge_each(system: AutomergeSystem, work: Changes, meter: Meter) -> bool:
    """The other document writes, outside of the time; then ours merges it."""
    other = AutomergeSystem()
    system.join(other.begin())
    for author, writes in work.turns():
        other.turn(author)
        for row in writes:
            other.write(*row)
            other.changes.clear()
            began = time.process_time()
            system.merge_from(other)
            meter.seconds += time.process_time() - began
            meter.done += 1
            if meter.seconds > meter.limit:
                return False
    return True


def bulk(system: System, work_digest: Callable[[], str], folder: Path) -> dict[str, Any]:
    """The saved form into an empty process, up to the first value; then every value. The workload is made afterwards: it is no part of the memory."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew
    before = memory("VmRSS")
    saved = list(parts_of(folder / system.form))
    began = time.process_time()
    system.load(saved)
    system.read(0, 0)
    loaded = time.process_time()
    digest = digest_of(system.read)
    read = time.process_time()
    peak = memory("VmHWM") - before
    del saved
    gc.collect()
    held = memory("VmRSS") - before
    return {"seconds": loaded - began, "read_seconds": read - loaded, "peak": peak, "held": held, "right": digest == work_digest()}


def main() -> None:
    """See the top of the file."""
    name, cell, count, seed, folder, limit = sys.argv[1:]
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    system = SYSTEMS[name]()
    where = Path(folder)
    if cell == "bulk":
        result = bulk(system, lambda: make_changes(int(count), int(seed)).digest, where)
    else:
        measure = {"write": write, "each": each}[cell]
        result = measure(system, make_changes(int(count), int(seed)), where, float(limit))
    print(json.dumps(result | {"version": system.version}))


if __name__ == "__main__":
    main()
