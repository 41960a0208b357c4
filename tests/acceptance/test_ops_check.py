"""``ops check`` on a real home: a flipped bit in the database is found, with a node running and without."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from acceptance.fleet import Fleet, NodeProcess


def spoil(node: NodeProcess, change: Callable[[bytes], bytes]) -> int:
    """Change the newest row behind the node's back; its place."""
    with sqlite3.connect(node.home / "store" / "fabrik.db", timeout=30) as database:
        pos, data = database.execute("SELECT pos, data FROM segments ORDER BY pos DESC LIMIT 1").fetchone()
        database.execute("UPDATE segments SET data = ? WHERE pos = ?", (change(data), pos))
    database.close()
    return int(pos)


def check(node: NodeProcess) -> tuple[int, Any]:
    done = node.run("ops", "check", "--json")
    return done.returncode, json.loads(done.stdout)


@pytest.mark.promise("I11")
@pytest.mark.parametrize("served", [True, False])
def test_a_flipped_bit_in_the_database_is_found(fleet: Fleet, served: bool) -> None:
    host = fleet.host()
    for number in range(5):
        host.add(f"item {number}")
    ops = host.ask("status")["ops"]
    if not served:
        host.stop()
    status, sound = check(host)
    assert (status, sound["sound"], sound["ops"], sound["source"]) == (0, True, ops, "node" if served else "store")
    pos = spoil(host, lambda data: data[:-70] + bytes([data[-70] ^ 1]) + data[-69:])
    status, found = check(host)
    assert (status, found["sound"], [row["row"] for row in found["damaged"]]) == (1, False, [pos])
    assert ("serve" in found["next"]) is not served
    status, again = check(host)
    if served:  # set aside, and there is no peer that could send it
        assert (status, again["damaged"], [row["row"] for row in again["aside"]]) == (1, [], [pos])
        assert "waited for" in again["next"]
        assert len(host.ask("status")["holes"]) == 1
    else:  # whoever only looks changes nothing
        assert again == found


@pytest.mark.promise("I8")
def test_what_a_check_finds_comes_back_from_a_peer(fleet: Fleet) -> None:
    host = fleet.host()
    member = fleet.member(host, "member")
    for number in range(5):
        host.add(f"item {number}")
    state = fleet.await_equal([host, member])
    pos = spoil(member, lambda data: data[:-1] + bytes([data[-1] ^ 1]))
    status, found = check(member)
    assert (status, [row["row"] for row in found["damaged"]]) == (1, [pos])
    member.await_event("store.repaired")
    status, sound = check(member)
    assert (status, sound["sound"], sound["damaged"], sound["aside"]) == (0, True, [], [])
    assert fleet.await_equal([host, member]) == state
