"""``state.snapshot`` beside the database: the registers as they were, so that a start need not read every op. Fills :class:`~fabrik_node.ports.Snapshots`.

Never a source of truth: whoever reads it proves it against the store, and a missing, cut or foreign one costs time only.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from fabrik_node.errors import StoreFailed
from fabrik_node.store.failures import translate
from fabrik_node.store.identity import sync_directory

__all__ = ["SnapshotFile"]


def _no_faults(point: str) -> None:
    """Nothing goes wrong at ``point``."""


class SnapshotFile:
    """``faults`` is called at ``snapshot.before_sync``, ``snapshot.before_rename`` and ``snapshot.after_rename``; what it raises is that step's failure."""

    def __init__(self, path: Path, faults: Callable[[str], None] | None = None) -> None:
        self.path = path
        self._faults = faults or _no_faults

    def read(self) -> bytes | None:
        """The last one that was written whole; None when there is none or it can not be read."""
        try:
            return self.path.read_bytes()
        except OSError:
            return None

    def write(self, data: bytes) -> None:
        """Replace it, durably, by a rename. Raises :class:`StoreFailed` (:class:`StoreFull` without space); then the old one is still there."""
        fresh = self.path.with_name(self.path.name + ".new")
        try:
            with os.fdopen(os.open(fresh, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                self._faults("snapshot.before_sync")
                os.fsync(file.fileno())
            self._faults("snapshot.before_rename")
            fresh.rename(self.path)
            sync_directory(self.path.parent)
            self._faults("snapshot.after_rename")
        except OSError as error:
            failure: StoreFailed = translate(error, self.path, f"writing {self.path.name}")
            raise failure from error
