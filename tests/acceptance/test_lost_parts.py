"""A home of which a part is missing: refused with what to type, nothing changed; or begun anew when its operator says so."""

from __future__ import annotations

import hashlib
import shutil

import pytest
from acceptance.fleet import Fleet, NodeProcess
from acceptance.homes import titles


def content(node: NodeProcess) -> dict[str, str]:
    """Digests of what counts in a home: not the owner's note, nor SQLite's empty side files."""
    found = {}
    for path in sorted(node.home.rglob("*")):
        if path.is_file() and path.name != "owner.lock" and not path.name.endswith(("-wal", "-shm")):
            found[str(path.relative_to(node.home))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@pytest.mark.promise("I9")
def test_a_key_without_its_database_is_refused_and_learns_all_with_the_flag(fleet: Fleet) -> None:
    host = fleet.host()
    one = fleet.member(host, "one")
    one.add("before the loss")
    host.add("of the host")
    fleet.await_equal([host, one])
    one.stop()
    shutil.rmtree(one.home / "store")
    before = content(one)
    refused = one.run("serve")
    assert refused.returncode == 5
    assert "--new-store --peer URL" in refused.stderr
    assert content(one) == before
    one.start("serve", "--new-store", "--peer", host.url)
    one.await_event("node.own_ops_learned")
    assert one.ask("status")["doubt"]
    fleet.await_equal([host, one])
    one.add("after the loss")
    opened = one.await_event("node.epoch_opened")
    fleet.await_equal([host, one])
    assert titles(one) == titles(host) == {"before the loss", "of the host", "after the loss"}
    assert one.ask("status")["epoch"] == opened["to"]
    one.stop()
    again = one.run("serve", "--new-store")
    assert again.returncode == 5
    assert "is there" in again.stderr
    one.start("serve", "--peer", host.url)
    one.add("after a restart")
    fleet.await_equal([host, one])
    assert [event["to"] for event in one.events() if event["type"] == "node.epoch_opened"] == [opened["to"]]
    assert not [event for event in host.events() if event["type"] == "log.forked"]


@pytest.mark.promise("I9")
def test_a_database_without_its_key_is_refused(fleet: Fleet) -> None:
    host = fleet.host()
    host.add("something")
    host.stop()
    key = host.home / "identity" / "ed25519.key"
    key.unlink()
    before = content(host)
    for command in (("serve",), ("init",), ("status",)):
        refused = host.run(*command)
        assert refused.returncode == 5, command
        assert "put the key back" in refused.stderr, command
        assert content(host) == before, command
    shutil.rmtree(key.parent)
    before = content(host)
    refused = host.run("init")
    assert refused.returncode == 5
    assert content(host) == before


@pytest.mark.promise("I9")
def test_a_database_with_another_nodes_key_is_refused(fleet: Fleet) -> None:
    host = fleet.host()
    one = fleet.member(host, "one")
    one.add("something")
    fleet.await_equal([host, one])
    host.stop()
    one.stop()
    shutil.copy(host.home / "identity" / "ed25519.key", one.home / "identity" / "ed25519.key")
    before = content(one)
    refused = one.run("serve")
    assert refused.returncode == 5
    assert "put back the key that belongs to it" in refused.stderr
    assert content(one) == before


@pytest.mark.promise("I9")
def test_a_new_store_that_was_cut_off_can_be_begun_again(fleet: Fleet) -> None:
    """Killed before anything was learned: the flag is taken again, and is not needed once there is something."""
    host = fleet.host()
    one = fleet.member(host, "one")
    one.add("before the loss")
    fleet.await_equal([host, one])
    one.stop()
    shutil.rmtree(one.home / "store")
    for _ in range(2):
        one.start("serve", "--new-store")  # nobody is dialled: nothing is learned
        assert any("no peer is known" in line for line in one.stderr)
        assert one.ask("status")["doubt"]
        one.kill()
    one.start("serve", "--peer", host.url)
    one.await_event("node.own_ops_learned")
    one.add("after the loss")
    fleet.await_equal([host, one])
    assert titles(one) == titles(host) == {"before the loss", "after the loss"}
