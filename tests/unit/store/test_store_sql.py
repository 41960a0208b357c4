"""The SQL of the store: named once, all of it used, and every query finds its rows by an index."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import fabrik_node.store
from fabrik_node.domain.runs import RunState
from fabrik_node.errors import Internal
from fabrik_node.store.migrations import Migration, apply, check_applied, known_migrations
from fabrik_node.store.queries import parse_queries, queries

ROOM = Path(fabrik_node.store.__file__).parent


def nothing(point: str) -> None:
    """No faults."""


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        apply(connection, known_migrations(), 5, nothing)
        yield connection


def plan(connection: sqlite3.Connection, sql: str) -> list[str]:
    named = dict.fromkeys(re.findall(r":(\w+)", sql), 1)
    arguments: object = named or [1] * sql.count("?")
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", arguments)]  # type: ignore[arg-type]


SCANS = {
    "load": [],  # a range of the primary key
    "branches": ["SCAN b"],  # one row per branch, not per op
    "packable": ["SCAN branches"],  # the same
    "segment_count": ["SCAN segments USING COVERING INDEX sqlite_autoindex_segments_1"],  # for people who ask for statistics
    "last_place": ["SCAN sqlite_sequence"],  # one row per table
    "damaged": ["SCAN damaged"],  # all of a few
    "forks": ["SCAN forks"],  # the same
    "suspended": ["SCAN suspended"],  # the same
    "last_segment": ["SCAN segments"],  # one step from the end of the primary key (ORDER BY pos DESC LIMIT 1)
    "last_event": ["SCAN events"],  # the same
    "peers": ["SCAN peers"],  # all of a few
    "invites": ["SCAN i"],  # all of them
    "joins": ["SCAN joins"],  # the same
    "open_runs": ["SCAN runs USING INDEX runs_newest"],  # asked once in a while, and by whoever cleans up
    "runs": ["SCAN runs USING INDEX runs_newest"],  # all of them, in the order of an index
    "node_counts": ["SCAN runs USING COVERING INDEX runs_newest", "SCAN peers"],
}


@pytest.mark.parametrize("name", sorted(queries()))
def test_every_query_finds_its_rows_by_an_index(database: sqlite3.Connection, name: str) -> None:
    steps = plan(database, queries()[name])
    assert [step for step in steps if step.startswith("SCAN") and step != "SCAN CONSTANT ROW"] == SCANS.get(name, [])
    assert not [step for step in steps if "TEMP B-TREE" in step], "rows come in order without sorting"


@pytest.mark.parametrize("name", ["last_segment", "last_event"])
def test_the_end_of_a_table_is_one_step_away(database: sqlite3.Connection, name: str) -> None:
    """What EXPLAIN calls a scan stops after its first row, however long the table is."""
    database.execute("INSERT INTO branches (id, author, epoch, number) VALUES (1, zeroblob(32), 1, 0)")
    database.executemany("INSERT INTO segments (branch, first_seq, last_seq, stored_ms, data) VALUES (1, ?, ?, 0, x'00')", [(n, n) for n in range(1, 20_001)])
    database.executemany("INSERT INTO events (type, wall_ms, data) VALUES ('a', ?, '{}')", [(n,) for n in range(20_000)])
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    database.set_progress_handler(count, 1)
    assert database.execute(queries()[name]).fetchone()[0] == 20_000
    assert steps < 50


def test_every_query_is_used_and_no_sql_hides_in_the_code() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in ROOM.glob("*.py"))
    assert [name for name in queries() if f'"{name}"' not in code] == []
    hidden = re.findall(r'"\s*(?:SELECT|INSERT|UPDATE|DELETE)\b[^"]*', code)
    assert [sql for sql in hidden if " FROM migrations" not in sql and "INTO migrations" not in sql and "last_insert_rowid" not in sql] == []


def test_query_files_are_read_strictly() -> None:
    assert parse_queries("-- name: a\nSELECT 1;\n\n-- a comment\n-- name: b\nSELECT 2;\n") == {"a": "SELECT 1;\n\n-- a comment", "b": "SELECT 2;"}
    for text in ("SELECT 1;", "-- name: a\n", "-- name: a\nSELECT 1;\n-- name: a\nSELECT 2;"):
        with pytest.raises(Internal):
            parse_queries(text)


def test_run_states_are_those_of_the_domain(database: sqlite3.Connection) -> None:
    columns = "run_id, item, claim_id, node, agent, state, phase, started_ms, ended_ms, reason, branch, worktree, log, engine"

    def insert(number: int, state: str) -> None:
        database.execute(f"INSERT INTO runs ({columns}) VALUES (?, x'', x'', x'', '', ?, '', 0, 0, '', '', '', '', '')", (number.to_bytes(16, "big"), state))

    for number, state in enumerate(RunState):
        insert(number, state.value)
    for wrong in ("", "Running", "idle"):
        with pytest.raises(sqlite3.IntegrityError, match="CHECK constraint failed"):
            insert(99, wrong)
    check = re.search(r"state IN \((.*?)\)", known_migrations()[0].sql, re.DOTALL)
    assert check is not None
    assert set(re.findall(r"'(\w+)'", check[1])) == {state.value for state in RunState}


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO branches (author, epoch, number) VALUES (x'00', 1, 0)",
        "INSERT INTO branches (author, epoch, number) VALUES (zeroblob(32), 0, 0)",
        "INSERT INTO branches (author, epoch, number) VALUES (zeroblob(32), 1, 0)",
        "INSERT INTO branches (author, epoch, number) VALUES (zeroblob(32), 1, 1)",
        "INSERT INTO branches (author, epoch, number, base_branch, base_seq) VALUES (zeroblob(32), 1, 1, 1, 5)",
        "INSERT INTO segments (branch, first_seq, last_seq, stored_ms, data, sigs) VALUES (1, 1, 1, 0, x'00', x'00')",
        "INSERT INTO segments (branch, first_seq, last_seq, stored_ms, data) VALUES (1, 0, 0, 0, x'00')",
        "INSERT INTO segments (branch, first_seq, last_seq, stored_ms, data) VALUES (1, 2, 1, 0, x'00')",
        "INSERT INTO segments (branch, first_seq, last_seq, stored_ms, data) VALUES (1, 1, 1, 0, x'')",
        "INSERT INTO segments (branch, first_seq, last_seq, stored_ms, data) VALUES (7, 1, 1, 0, x'00')",
        "INSERT INTO segments (branch, first_seq, last_seq, stored_ms, data) VALUES (1, 1, 1, 0, 'text')",
        "INSERT INTO counters (name, value) VALUES ('else', 1)",
        "UPDATE counters SET value = -1",
    ],
)
def test_the_schema_refuses_nonsense(database: sqlite3.Connection, sql: str) -> None:
    database.execute("PRAGMA foreign_keys = ON")
    database.execute("INSERT INTO branches (id, author, epoch, number) VALUES (1, zeroblob(32), 1, 0)")
    with pytest.raises(sqlite3.IntegrityError):
        database.execute(sql)


def test_migrations_leave_their_names(database: sqlite3.Connection) -> None:
    known = known_migrations()
    assert database.execute("SELECT number, name, checksum, applied_ms FROM migrations").fetchall() == [(m.number, m.name, m.checksum, 5) for m in known]
    assert check_applied(database, known, "x") == len(known)
    assert apply(database, known, 6, nothing) == []


def test_a_migration_that_fails_leaves_nothing(database: sqlite3.Connection) -> None:
    version = len(known_migrations())
    for sql in ("CREATE TABLE more (x); INSERT INTO none VALUES (1);", "CREATE TABLE more (x);\nINSERT INTO none VALUES (1);"):
        with pytest.raises((sqlite3.Error, sqlite3.Warning)):
            apply(database, [*known_migrations(), Migration(version + 1, "bad", sql)], 6, nothing)
    with pytest.raises(Internal, match="ends within a statement"):
        apply(database, [*known_migrations(), Migration(version + 1, "bad", "CREATE TABLE more (x);\nCREATE TABLE less (y)")], 6, nothing)
    assert database.execute("SELECT name FROM sqlite_master WHERE name IN ('more', 'less')").fetchall() == []
    assert database.execute("PRAGMA user_version").fetchone() == (version,)
    assert not database.in_transaction
