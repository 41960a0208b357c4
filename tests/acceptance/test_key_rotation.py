"""Keys of real nodes: rotated while some peers run and others are away, on both sides of a connection."""

from __future__ import annotations

import pytest
from acceptance.fleet import FAST_LEASES, Fleet


@pytest.mark.promise("F8")
def test_nodes_rotate_and_meet_again_whoever_was_away(fleet: Fleet) -> None:
    host = fleet.host()
    guest, away = fleet.member(host, "guest"), fleet.member(host, "away")
    item = host.add("before")
    away.stop()
    token = fleet.token(host)
    old = host.ask("keys", "list")["keys"][0]["node"]
    assert host.ask("keys", "rotate")["old"] == old
    guest.ask("keys", "rotate")  # while its connection is down: the host knows the old key alone
    guest.ask("items", "edit", item, "--title", "after")
    fleet.await_equal([host, guest])
    host.ask("keys", "rotate")
    (away.home / "config.toml").write_text(FAST_LEASES + f'[node]\npeers = ["{host.url}"]\n')
    away.start("serve")  # it dials a key that was rotated away twice
    late = fleet.new("late")
    late.ask("join", token, "--name", "late")  # and so does a token from before
    late.start("serve")
    nodes = [host, guest, away, late]
    fleet.await_equal(nodes)
    for node in nodes:
        lines = node.ask("nodes", "list")["nodes"]
        current = [(line["name"], line["role"]) for line in lines if line["successor"] is None]
        assert sorted(current) == [("away", "peer"), ("guest", "peer"), ("host", "admin"), ("late", "peer")]
        assert len(lines) == 7, "and three keys that were rotated away"
        assert node.ask("items", "show", item)["item"]["title"] == "after"
        assert node.ask("status")["voided"] == 0
    for rotations in (2, 3):  # killed while it takes the new key over, wherever it is in that
        new = guest.call("keys.rotate")["new"]
        guest.kill()
        guest.start("serve")
        assert guest.call("keys.list")["keys"][-1]["node"] == new
        assert [line["state"] for line in guest.call("keys.list")["keys"]] == ["rotated"] * rotations + ["current"]
    guest.ask("items", "edit", item, "--title", "and on")
    fleet.await_equal(nodes)
