"""A disk without space: writes are refused with a code of their own, reads go on, and it ends by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from acceptance.fleet import Fleet, NodeProcess
from acceptance.homes import titles
from acceptance.small_disks import fill_up


@pytest.mark.promise("I7")
def test_a_full_disk_refuses_writes_until_there_is_space(fleet: Fleet, small_disk: Path) -> None:
    host = NodeProcess(small_disk / "home", "host")
    fleet.nodes.append(host)
    host.ask("init", "--name", "host", "--mesh", "test")
    host.start()
    kept = host.add("before")
    ballast = fill_up(small_disk)
    added = 0
    while (done := host.run("items", "add", f"item {added}", "--body", "b" * 8_000, "--json")).returncode == 0:
        added += 1
        assert added < 500, "the disk never got full"
    assert done.returncode == 5
    assert "disk is full" in done.stderr
    assert "free space" in done.stderr
    assert host.runs
    status = host.ask("status")
    assert status["disk_full"]
    assert any("nothing is written until there is space" in warning for warning in status["warnings"])
    assert kept in {entry["id"] for entry in host.ask("items", "list")["items"]}
    assert len(titles(host)) == 1 + added
    assert host.run("items", "add", "still full").returncode == 5
    ballast.unlink()
    host.await_true(lambda: host.call("status")["disk_full"] is None, "space is seen")
    host.add("after")
    assert "after" in titles(host)
    assert host.await_event("store.writable")["seq"] > host.await_event("store.full")["seq"]
    host.kill()
    host.start()
    assert len(titles(host)) == added + 2
