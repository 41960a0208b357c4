"""Replication between real nodes: what one writes, all have, whatever happened in between."""

from __future__ import annotations

import pytest
from acceptance.fleet import Fleet, Refused


@pytest.mark.promise("E15", "E17", "E8")
def test_a_new_node_is_complete_and_hears_of_each_change(fleet: Fleet) -> None:
    host = fleet.host()
    early = [host.add(f"item {n}") for n in range(5)]
    one = fleet.member(host, "one")
    assert [entry["id"] for entry in one.ask("items", "list")["items"]] == early
    seen = one.ask("status")["events"]
    late = host.add("a late one")
    one.await_event("item.added", after=seen, item=late)
    back = one.add("from the other side")
    host.await_true(lambda: back in [entry["id"] for entry in host.ask("items", "list")["items"]], "the item of the other node")
    fleet.await_equal([host, one])


@pytest.mark.promise("E8", "E16")
def test_two_replicas_edit_offline_and_end_byte_equal(fleet: Fleet) -> None:
    host = fleet.host(config="")  # the usual beat: what is counted below is not how long the test takes
    one = fleet.member(host, "one", config="")
    item = host.add("shared")
    fleet.await_equal([host, one])
    host.stop()
    one.ask("items", "edit", item, "--title", "from one")
    alone = one.add("made alone")
    one.stop()
    host.start("serve", "--listen", host.url.removeprefix("wss://").removesuffix("/crdt-sync"))
    host.ask("items", "edit", item, "--title", "from host", "--priority", "5")
    host.ask("items", "edit", item, "--title", "from host again")
    one.start()
    fleet.await_equal([host, one])
    boards = [[{key: entry[key] for key in ("id", "title", "priority", "stage")} for entry in node.ask("items", "list")["items"]] for node in (host, one)]
    assert boards[0] == boards[1]
    assert {entry["id"] for entry in boards[0]} == {item, alone}
    counted = one.ask("status")["peers"][0]
    assert 0 < counted["bytes_in"] < 16_384


@pytest.mark.promise("E17")
def test_a_relay_forwards_between_nodes_that_never_meet(fleet: Fleet) -> None:
    host = fleet.host()
    one = fleet.member(host, "one")
    two = fleet.member(host, "two")
    item = one.add("of one")
    two.await_true(lambda: item in [entry["id"] for entry in two.ask("items", "list")["items"]], "the item of one on two")
    fleet.await_equal([host, one, two])


@pytest.mark.promise("F5", "F6")
def test_strangers_and_used_tokens_are_refused_with_what_to_type(fleet: Fleet) -> None:
    host = fleet.host()
    token = fleet.token(host)
    fleet.new("one").ask("join", token)
    with pytest.raises(Refused) as second:
        fleet.new("two").ask("join", token)
    assert second.value.status == 7
    assert "was used" in second.value.stderr
    assert "fabrik-node invite" in second.value.stderr
    stranger = fleet.new("stranger")
    stranger.ask("init", "--name", "stranger")
    stranger.start("serve", "--peer", host.url)
    stranger.await_true(lambda: stranger.ask("status")["peers"][0]["state"] == "refused", "the refusal")
    assert "mesh" in stranger.ask("status")["peers"][0]["detail"]
    assert host.ask("items", "list")["items"] == []


@pytest.mark.promise("E22")
def test_a_tombstone_reaches_all_and_nothing_comes_back(fleet: Fleet) -> None:
    host = fleet.host()
    one = fleet.member(host, "one")
    item = host.add("to be deleted")
    fleet.await_equal([host, one])
    one.stop()
    host.ask("tombstone", item)
    one.start()
    one.await_true(lambda: one.ask("items", "list")["items"] == [], "the deletion")
    fleet.await_equal([host, one])
    host.kill()
    host.start("serve", "--listen", "127.0.0.1:0")
    assert host.ask("items", "list")["items"] == []
    gone = host.run("items", "show", item)
    assert gone.returncode == 3
    assert "deleted" in gone.stderr
