"""Numbered migrations from ``migrations/NNNN_name.sql``: what the database is made of, step by step.

Each runs in one transaction together with its row in ``migrations`` and ``user_version``, so that one that was interrupted left nothing
and is run again at the next start. A migration that was released is never edited: its checksum is in every database. An older version refuses a database that has
had more of them; what it can do without stands in ``additions.sql`` instead.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from fabrik_node.errors import ForeignStore, Internal

_ADDITIONS = "additions.sql"

__all__ = ["Migration", "apply", "check_applied", "known_migrations"]


@dataclass(frozen=True, slots=True)
class Migration:
    """One step. ``number`` counts from 1 without gaps and is the ``user_version`` after it."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the SQL, hex."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


@cache
def known_migrations() -> tuple[Migration, ...]:
    """The migrations of this version, in order. Raises :class:`Internal` when the numbers have gaps."""
    found: list[Migration] = []
    for entry in sorted(resources.files("fabrik_node.store").joinpath("migrations").iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".sql") and entry.name != _ADDITIONS:
            number, _, name = entry.name.removesuffix(".sql").partition("_")
            found.append(Migration(int(number), name, entry.read_text(encoding="utf-8")))
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise Internal(f"migrations are not numbered 1, 2, 3 ...: {[migration.number for migration in found]}")
    return tuple(found)


def check_applied(connection: sqlite3.Connection, migrations: Sequence[Migration], where: str) -> int:
    """How many migrations the database has had. Raises :class:`ForeignStore` when it has others than ours. Reads only."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > len(migrations):
        raise ForeignStore(
            f"{where} was written by a newer version (its schema is {version}, this version knows {len(migrations)})", "upgrade fabrik-node on this host"
        )
    applied = connection.execute("SELECT number, checksum FROM migrations ORDER BY number").fetchall() if version else []
    if applied != [(migration.number, migration.checksum) for migration in migrations[:version]]:
        raise ForeignStore(
            f"{where} was made by a development version: its migrations are not those of this version", "start with a new home: fabrik-node --home DIR init"
        )
    return version


def apply(connection: sqlite3.Connection, migrations: Sequence[Migration], wall_ms: int, faults: Callable[[str], None]) -> list[Migration]:
    """Run what is missing, in order; returns what was run. Then make the tables beside the schema. ``connection`` is in autocommit mode. Raises :class:`sqlite3.Error`."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    missing = list(migrations[version:])
    for migration in missing:
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in _statements(migration.sql):
                connection.execute(statement)
            connection.execute(
                "INSERT INTO migrations (number, name, checksum, applied_ms) VALUES (?, ?, ?, ?)",
                (migration.number, migration.name, migration.checksum, wall_ms),
            )
            connection.execute(f"PRAGMA user_version = {migration.number:d}")
            faults("before_migration_commit")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        faults("after_migration_commit")
    for statement in _statements(resources.files("fabrik_node.store").joinpath("migrations", _ADDITIONS).read_text(encoding="utf-8")):
        connection.execute(statement)
    return missing


def _statements(sql: str) -> Iterator[str]:
    """The single statements of a script. (``executescript`` would commit the transaction that we are in.)"""
    statement = ""
    for line in sql.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if any(line.strip() and not line.strip().startswith("--") for line in statement.splitlines()):
        raise Internal(f"a migration ends within a statement: {statement.strip()[:60]!r}")
