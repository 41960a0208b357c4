"""Prints by how many bytes a fresh process grew while it merged a log, and how many registers it holds then.

The log comes in a file and one segment at a time, so that no memory of its making is left to be used again.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from fabrik_node._core import Replica


def _parts(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while size := file.read(4):
            yield file.read(int.from_bytes(size, "big"))


def main() -> None:
    """``memory_probe.py FILE``."""
    parts = _parts(Path(sys.argv[1]))
    replica = Replica(next(parts))
    process = psutil.Process()
    gc.collect()
    before = process.memory_info().rss
    for segment in parts:
        replica.load([segment])
    gc.collect()
    print(process.memory_info().rss - before, replica.registers)


if __name__ == "__main__":
    main()
