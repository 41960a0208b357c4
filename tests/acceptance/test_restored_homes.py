"""A home that is older than what its peers know of it: it learns its own ops again, opens a new epoch before it writes, and says so. Nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from acceptance.fleet import Fleet, NodeProcess
from acceptance.homes import address, fill, image_of, restore, restore_in_place, rows_of, titles

PACKED = 600
"""Ops of which a node packs some: it leaves the newest 64 rows as they came, and joins at least 256."""
RESTORES = {"a copy": restore, "in place": restore_in_place}


def two_nodes_and_an_old_image(fleet: Fleet) -> tuple[NodeProcess, NodeProcess, Path]:
    """A host that holds more of one's log than an image of one does; one is stopped."""
    host = fleet.host()
    one = fleet.member(host, "one")
    one.add("before the image")
    fleet.await_equal([host, one])
    one.stop()
    image = image_of(one, fleet.folder / "image")
    one.start()
    one.add("after the image")
    fleet.await_equal([host, one])
    one.stop()
    return host, one, image


def epoch_of(node: NodeProcess, item: str) -> int:
    """In which epoch of its author's log an item was added."""
    return int(node.ask("items", "history", item)["changes"][0]["epoch"])


@pytest.mark.promise("I9", "I6")
@pytest.mark.parametrize("how", RESTORES)
def test_with_peers_up_its_own_ops_are_learned_before_its_first_write(fleet: Fleet, how: str) -> None:
    host, one, image = two_nodes_and_an_old_image(fleet)
    before = one.stderr.copy()
    RESTORES[how](one, image)
    one.start()
    one.await_event("node.own_ops_learned")
    doubt = one.await_event("node.doubt")
    status = one.ask("status")
    assert status["doubt"] == doubt["reason"]
    assert any("came back from its peers" in warning for warning in status["warnings"])
    assert any("opens a new epoch before its next write" in warning for warning in status["warnings"])
    assert "doubt" in one.run("status").stdout
    assert (how == "a copy") == any("found at start: doubtful log" in line for line in one.stderr[len(before) :]), "only a copy shows at once"
    old = status["epoch"]
    added = one.add("after the restore")
    opened = one.await_event("node.epoch_opened")
    assert opened["from"] == old
    assert opened["reason"] == doubt["reason"]
    fleet.await_equal([host, one])
    assert epoch_of(host, added) == opened["to"] == one.ask("status")["epoch"] != old
    assert titles(host) == {"before the image", "after the image", "after the restore"}
    assert one.ask("status")["doubt"] is None
    for node in (host, one):
        assert not [event for event in node.events() if event["type"] == "log.forked"]
    one.kill()
    one.start()
    again = one.add("and after a crash")
    assert epoch_of(one, again) == opened["to"], "one new epoch was enough"


@pytest.mark.promise("I9", "I5", "I6")
@pytest.mark.parametrize("dark", [1, 3])
def test_with_peers_down_it_writes_at_once_in_a_new_epoch(fleet: Fleet, dark: int) -> None:
    host, one, image = two_nodes_and_an_old_image(fleet)
    listen = address(host)
    host.stop()
    restore(one, image)
    one.start()
    written = [one.add(f"written in the dark {number}") for number in range(dark)]
    opened = one.await_event("node.epoch_opened")
    assert {epoch_of(one, item) for item in written} == {opened["to"]}
    host.start("serve", "--listen", listen)
    fleet.await_equal([host, one])
    wanted = {"before the image", "after the image", *(f"written in the dark {number}" for number in range(dark))}
    assert titles(host) == titles(one) == wanted
    for node in (host, one):
        assert not [event for event in node.events() if event["type"] == "log.forked"]


@pytest.mark.promise("I9", "I5", "I6")
def test_an_older_database_put_back_in_its_file_shows_by_the_exported_events(fleet: Fleet) -> None:
    host, one, image = two_nodes_and_an_old_image(fleet)
    listen = address(host)
    host.stop()
    with (one.home / "store" / "fabrik.db").open("r+b") as file:
        file.write((image / "store" / "fabrik.db").read_bytes())
        file.truncate()
    one.start()
    assert any("doubtful log: the database is older than what lies beside it" in line for line in one.stderr)
    one.kill()
    one.start()
    assert "older than what lies beside it" in one.ask("status")["doubt"], "the doubt outlives its witness"
    item = one.add("written in the dark")
    opened = one.await_event("node.epoch_opened")
    assert epoch_of(one, item) == opened["to"] != opened["from"]
    host.start("serve", "--listen", listen)
    fleet.await_equal([host, one])
    assert titles(host) == titles(one) == {"before the image", "after the image", "written in the dark"}
    for node in (host, one):
        assert not [event for event in node.events() if event["type"] == "log.forked"]


@pytest.mark.promise("I9", "I10", "I5")
@pytest.mark.parametrize("dark", [1, 2, 3])
def test_an_image_that_nothing_shows_forks_in_the_dark_and_both_branches_stay(fleet: Fleet, dark: int) -> None:
    """Whether its own branch is as long as the one that its peers hold, or longer."""
    host, one, image = two_nodes_and_an_old_image(fleet)
    witness = fleet.member(host, "witness")
    fleet.await_equal([host, witness])
    listen = address(host)
    host.stop()
    restore_in_place(one, image)
    one.start()
    assert one.ask("status")["doubt"] is None
    for number in range(dark):
        one.add(f"written in the dark {number}")
    host.start("serve", "--listen", listen)
    fleet.await_equal([host, one, witness])
    wanted = {"before the image", "after the image", *(f"written in the dark {number}" for number in range(dark))}
    for node in (host, one, witness):
        assert titles(node) == wanted, node.name
        forked = node.await_event("log.forked", own=node is one)
        assert forked["proven"] is True
        (shown,) = node.ask("status")["forks"]
        assert (shown["branches"], shown["own"]) == (2, node is one)
        assert any("has 2 branches" in warning for warning in node.ask("status")["warnings"])
    assert one.ask("status")["doubt"]
    after = one.add("after the fork")
    opened = one.await_event("node.epoch_opened")
    fleet.await_equal([host, one, witness])
    assert epoch_of(witness, after) == opened["to"]
    assert after in {entry["id"] for entry in host.ask("items", "list")["items"]}
    one.kill()
    one.start()
    assert one.ask("status")["epoch"] == opened["to"]
    assert one.ask("status")["doubt"] is None
    assert one.ask("status")["forks"], "a fork is shown for as long as it is there"


@pytest.mark.promise("I9")
def test_two_nodes_that_are_restored_at_once(fleet: Fleet) -> None:
    host = fleet.host()
    pair = [fleet.member(host, name) for name in ("one", "two")]
    for node in pair:
        node.add(f"{node.name} before")
    fleet.await_equal([host, *pair])
    images = []
    for node in pair:
        node.stop()
        images.append(image_of(node, fleet.folder / f"image of {node.name}"))
        node.start()
    for node in pair:
        node.add(f"{node.name} after the image")
    fleet.await_equal([host, *pair])
    for node, image in zip(pair, images, strict=True):
        node.stop()
        restore(node, image)
    for node in pair:
        node.start()
    for node in pair:
        node.add(f"{node.name} after the restore")
        node.await_event("node.epoch_opened")
    fleet.await_equal([host, *pair])
    wanted = {f"{name} {when}" for name in ("one", "two") for when in ("before", "after the image", "after the restore")}
    for node in (host, *pair):
        assert titles(node) == wanted
        assert not [event for event in node.events() if event["type"] == "log.forked"]


@pytest.mark.promise("I9")
def test_a_restore_that_is_older_than_what_its_peers_have_packed(fleet: Fleet) -> None:
    host = fleet.host()
    one = fleet.member(host, "one")
    for number in range(8):
        one.call("items.add", title=f"before {number}")
    fleet.await_equal([host, one])
    one.stop()
    image = image_of(one, fleet.folder / "image")
    author = one.ask("status")["node_id"]
    one.start()
    fill(one, "after", PACKED)
    fleet.await_equal([host, one])
    one.stop()
    host.await_true(lambda: any(last - first > 16 for _, first, last in rows_of(host, author)), "packed rows")
    restore(one, image)
    one.start()
    one.await_event("node.own_ops_learned")
    one.add("after the restore")
    fleet.await_equal([host, one])
    wanted = {f"before {number}" for number in range(8)} | {f"after {number}" for number in range(PACKED)} | {"after the restore"}
    assert titles(one) == titles(host) == wanted
    assert not [event for event in host.events() if event["type"] == "log.forked"]
