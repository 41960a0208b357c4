"""A stored row with a flipped bit: found, set aside, told, never relayed, and fetched again from a peer."""

from __future__ import annotations

import pytest
from acceptance.fleet import Fleet, NodeProcess
from acceptance.homes import address, fill, flip_row, rows_of, titles

ITEMS = 12


def two_nodes(fleet: Fleet) -> tuple[NodeProcess, NodeProcess, str]:
    """A host and a member that hold the same; the host's listening address."""
    host = fleet.host()
    one = fleet.member(host, "one")
    for number in range(ITEMS):
        host.call("items.add", title=f"host {number}")
        one.call("items.add", title=f"one {number}")
    fleet.await_equal([host, one])
    return host, one, address(host)


def middle(node: NodeProcess, author: str) -> int:
    """A row with others of its log before and behind it."""
    rows = rows_of(node, author)
    assert len(rows) > 4
    return rows[len(rows) // 2][0]


WANTED = {f"{name} {number}" for name in ("host", "one") for number in range(ITEMS)}


@pytest.mark.promise("I8", "C14")
@pytest.mark.parametrize("whose", ["host", "one"])
def test_damage_that_a_start_meets_is_fetched_again(fleet: Fleet, whose: str) -> None:
    host, one, _ = two_nodes(fleet)
    state = host.digest()
    author = (host if whose == "host" else one).ask("status")["node_id"]
    one.stop()
    flip_row(one, middle(one, author))
    one.start()
    assert any("found at start: damaged rows" in line for line in one.stderr)
    damaged = one.await_event("store.damaged", author=author)
    assert damaged["rows"] > 1, "the damaged one and the sound ones behind it"
    one.await_event("store.repaired", author=author)
    assert fleet.await_equal([host, one]) == state
    status = one.ask("status")
    assert (status["lost_rows"], status["holes"]) == (0, [])
    assert bool(status["doubt"]) == (whose == "one"), "a node whose own rows were damaged opens a new epoch"
    one.add("after the repair")
    fleet.await_equal([host, one])
    assert titles(one) == titles(host) == {*WANTED, "after the repair"}
    assert one.call("ops.check")["damaged"] == []
    assert not [event for event in host.events() if event["type"] in ("log.forked", "peer.bad_segment")]


@pytest.mark.promise("I8")
def test_damage_behind_a_snapshot_is_found_by_a_check_and_never_relayed(fleet: Fleet) -> None:
    host = fleet.host()
    one = fleet.member(host, "one")
    fill(host, "host", 2_100)
    state = fleet.await_equal([host, one])
    author = host.ask("status")["node_id"]
    one.stop()
    assert (one.home / "store" / "state.snapshot").exists()
    flip_row(one, middle(one, author))
    host.stop()
    one.start("serve", "--listen", "127.0.0.1:0")
    assert one.digest() == state, "what was merged stays"
    checked = one.call("ops.check")
    (hole,) = one.ask("status")["holes"]
    assert hole["author"] == author
    assert len(checked["damaged"]) <= 1, "the check, or the look after the start, was first"
    one.await_event("store.damaged", author=author)
    host.start("serve", "--listen", address(host))
    one.await_event("store.repaired", author=author)
    assert one.ask("status")["holes"] == []
    assert one.call("ops.check")["damaged"] == []
    one.stop()
    (one.home / "store" / "state.snapshot").unlink()
    one.start()
    assert fleet.await_equal([host, one]) == state, "the rows alone give it, too"


@pytest.mark.promise("I8", "I9")
@pytest.mark.parametrize("snapshot", [False, True])
def test_the_last_own_row_damaged_without_a_peer(fleet: Fleet, *, snapshot: bool) -> None:
    host = fleet.host()
    count = 2_100 if snapshot else 5
    fill(host, "host", count)
    last = host.add("the last one")
    author = host.ask("status")["node_id"]
    host.stop()
    assert (host.home / "store" / "state.snapshot").exists() is snapshot
    flip_row(host, rows_of(host, author)[-1][0])
    host.start()
    assert any("found at start: damaged rows: 1 " in line for line in host.stderr)
    status = host.ask("status")
    assert "damaged" in status["doubt"]
    assert status["lost_rows"] == 1
    host.add("after the damage")
    opened = host.await_event("node.epoch_opened")
    assert opened["from"] == status["epoch"]
    assert titles(host) == {f"host {number}" for number in range(count)} | {"after the damage"}
    assert host.run("items", "show", last).returncode == 3
