"""A home that was copied, and both copies run: both go on, nothing is lost, and both operators are told."""

from __future__ import annotations

import random
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from acceptance.fleet import Fleet, NodeProcess
from acceptance.homes import copy_of, titles


@pytest.mark.promise("I9", "I5")
def test_two_copies_of_one_home_both_write(fleet: Fleet) -> None:
    host = fleet.host()
    one = fleet.member(host, "one")
    one.add("before the copy")
    fleet.await_equal([host, one])
    one.stop()
    copy = copy_of(fleet, one, "copy")
    one.start()
    copy.start()
    doubt = copy.await_event("node.doubt")
    assert "copy" in doubt["reason"]
    assert copy.ask("status")["doubt"] == doubt["reason"]
    old = one.ask("status")["epoch"]
    for number in range(3):
        one.add(f"original {number}")
        copy.add(f"copy {number}")
    opened = [event for event in copy.events() if event["type"] == "node.epoch_opened"]
    assert [event["from"] for event in opened] == [old], "one new epoch, before the first write"
    fleet.await_equal([host, one, copy])
    wanted = {"before the copy", *(f"{who} {number}" for who in ("original", "copy") for number in range(3))}
    for node in (host, one, copy):
        assert titles(node) == wanted
        assert not [event for event in node.events() if event["type"] == "log.forked"]
    assert one.ask("status")["epoch"] == old
    assert copy.ask("status")["epoch"] == opened[0]["to"]
    assert not [event for event in one.events() if event["type"] == "node.epoch_opened"]
    one.await_event("node.cloned", epoch=opened[0]["to"])
    for node in (one, copy):
        assert any("another node writes with this node's key" in warning or "came back from its peers" in warning for warning in node.ask("status")["warnings"])


@pytest.mark.promise("I9", "C16")
def test_a_copy_of_a_running_home_is_not_taken_for_the_original(fleet: Fleet) -> None:
    host = fleet.host()
    host.add("before the copy")
    copy = NodeProcess(fleet.folder / "copy", "copy")
    shutil.copytree(host.home, copy.home, ignore=shutil.ignore_patterns("run"))
    fleet.nodes.append(copy)
    assert copy.ask("status")["source"] == "store", "the record's socket is the original's"
    refused = copy.run("items", "add", "for the copy")
    assert refused.returncode != 0
    assert titles(host) == {"before the copy"}
    assert copy.ask("lock", "show")["owned"] is False
    copy.start("serve", "--listen", "127.0.0.1:0")
    assert any("found at start: copied owner: " in line for line in copy.stderr)
    assert "copy" in copy.ask("status")["doubt"]
    copy.add("for the copy")
    assert "for the copy" in titles(copy)
    assert titles(host) == {"before the copy"}


@pytest.mark.promise("I5", "I6", "I9")
@pytest.mark.timeout(300)
def test_kills_around_the_opening_of_an_epoch_use_no_number_twice(fleet: Fleet) -> None:
    """Each turn copies the home, so that its first write opens an epoch, and kills the node somewhere around that."""
    seed = 20_261_122
    rng = random.Random(seed)
    host = fleet.host()
    one = fleet.member(host, "one")
    one.add("before")
    fleet.await_equal([host, one])
    one.stop()
    acknowledged = {"before"}
    for turn in range(12):
        one = copy_of(fleet, one, f"copy{turn}")
        one.start()
        with ThreadPoolExecutor(4) as pool:
            calls = {f"{turn}.{number}": pool.submit(one.call, "items.add", title=f"{turn}.{number}") for number in range(4)}
            for call in list(calls.values())[: rng.randrange(3)]:
                call.result()  # the others are in flight when it dies
            one.kill()
        acknowledged |= {title for title, call in calls.items() if call.exception() is None}
    one.start()
    one.add("after")
    fleet.await_equal([host, one])
    assert acknowledged | {"after"} <= titles(host), f"seed {seed}"
    for node in (host, one):
        assert not [event for event in node.events() if event["type"] == "log.forked"], f"seed {seed}: a number was used twice"
    opened = [event["to"] >> 32 for event in one.events() if event["type"] == "node.epoch_opened"]
    assert opened == sorted(set(opened)), "epochs only rise"
