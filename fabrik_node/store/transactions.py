"""One transaction at a time on the writer's thread, and what follows when one fails.

Refused: nothing changed, and the next may succeed. No space (:class:`StoreFull`): nothing changed, and nothing is tried until space was seen. Anything else
ends all writing (fail-stop): what the kernel did with the pages then is unknown.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from fabrik_node.errors import Internal, StoreFailed, StoreFull
from fabrik_node.store.connection import Connection
from fabrik_node.store.failures import is_full, leaves_store_sound, translate
from fabrik_node.store.queries import queries

__all__ = ["WRITES", "Transactions"]

Result = TypeVar("Result")

WRITES = (
    "append",
    "events",
    "meta",
    "start",
    "peer",
    "invite",
    "redeem",
    "end_invites",
    "join",
    "run",
    "set_aside",
    "forget_damaged",
    "refill",
    "pack",
    "fork",
    "suspend",
    "probe",
)
"""Every kind of write. Each has the crash points ``<name>.before_commit`` and ``<name>.after_commit``."""


class Transactions:
    """``faults`` is called at the crash points, on the writer's thread; what it raises is taken for the failure of that step."""

    def __init__(self, path: Path, connection: Connection, faults: Callable[[str], None]) -> None:
        self._path = path
        self._connection = connection
        self._faults = faults
        self.failure: StoreFailed | None = None
        """The failure that ended all writing, None while the store is sound."""
        self.full: StoreFull | None = None
        """Why nothing can be written just now, None while there is space."""

    async def write(self, name: str, doing: str, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """``work(connection)`` in one transaction of kind ``name`` (of :data:`WRITES`); ``doing`` is a gerund phrase for errors. Raises :class:`StoreFailed`."""
        return await self._connection.run(lambda connection: self._guarded(connection, name, doing, work))

    def _guarded(self, connection: sqlite3.Connection, name: str, doing: str, work: Callable[[sqlite3.Connection], Result]) -> Result:
        # On the writer's thread, so that writes that wait behind a failed one fail too, and a cancelled caller hides no failure.
        if self.full is not None and self.failure is None:
            raise StoreFull(f"{doing} was refused: the disk was full, and no space was seen since", self.full.hint) from self.full
        return self._transaction(connection, name, doing, work)

    def _transaction(self, connection: sqlite3.Connection, name: str, doing: str, work: Callable[[sqlite3.Connection], Result]) -> Result:
        if self.failure is not None:
            raise StoreFailed(f"{doing} was refused: the store failed before: {self.failure.message}", self.failure.hint) from self.failure
        committed = False
        try:
            connection.execute("BEGIN IMMEDIATE")
            result = work(connection)
            self._point(name, "before_commit")
            connection.execute("COMMIT")
            committed = True
            self.full = None
            self._point(name, "after_commit")
        except (sqlite3.Error, OSError) as error:
            failure = translate(error, self._path, doing)
            undone = self._undo(connection) and not committed
            if undone and isinstance(failure, StoreFull) and is_full(error, self._path):
                self.full = failure
            elif not undone or not leaves_store_sound(error):
                self.failure = failure
            raise failure from error
        except StoreFailed as refusal:
            if not self._undo(connection):
                self.failure = refusal
            raise
        except (OverflowError, UnicodeError) as error:
            bug = Internal(f"{doing} failed: a value has no place in the database: {error}")
            if not self._undo(connection):
                self.failure = StoreFailed(bug.message, "fabrik-node serve")
            raise bug from error
        except BaseException as error:
            self._undo(connection)
            self.failure = StoreFailed(f"{doing} was interrupted: {error!r}", "fabrik-node serve")
            raise
        return result

    def _point(self, name: str, point: str) -> None:
        self._faults(f"{name}.{point}")
        self._faults(point)

    def _undo(self, connection: sqlite3.Connection) -> bool:
        """Roll back; False when even that fails (SQLite then recovers at the next start, and the first error is the one to report)."""
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            return False
        return True

    async def try_again(self) -> bool:
        """True when writes are taken: at once when none has met a full disk, else when some pages could be written durably just now.

        Raises :class:`StoreFailed` for any other failure, as every write does.
        """
        if self.full is None:
            return True
        try:
            for name in ("probe", "unprobe"):
                await self._connection.run(partial(self._transaction, name="probe", doing="looking for space", work=_statement(name)))
        except StoreFull:
            return False
        return True


def _statement(query: str) -> Callable[[sqlite3.Connection], int]:
    return lambda connection: connection.execute(queries()[query]).rowcount
