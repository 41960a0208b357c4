"""A real node whose disk refuses a write: the caller is told, the process ends loudly, and a new start has all that was acknowledged."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance.fleet import BOUND_S, Fleet

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limit of a running process is set with prlimit(2)")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    yield made
    made.end()


@pytest.mark.promise("E13", "I4")
def test_a_write_that_the_disk_refuses_ends_the_node(fleet: Fleet) -> None:
    host = fleet.host()
    kept = [host.add(f"kept {number}") for number in range(3)]
    before = host.ask("status")
    assert host.process is not None
    _, hard = resource.prlimit(host.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(host.process.pid, resource.RLIMIT_FSIZE, (4096, hard))  # no file may grow: what a full or broken disk does to a write
    refused = host.run("items", "add", "refused")
    assert refused.returncode != 0
    assert "failed" in refused.stderr, refused.stderr
    assert "Traceback" not in refused.stderr
    status = host.process.wait(BOUND_S)
    assert status == 1
    host.await_line("failed")
    assert not any("Traceback" in line for line in host.stderr), host.stderr
    shown = host.run("items", "list", "--json")
    assert shown.returncode == 0, "reads are answered from the store"
    host.start("serve", "--listen", "127.0.0.1:0")
    after = host.ask("status")
    assert {item["id"] for item in host.ask("items", "list")["items"]} == set(kept)
    assert (after["state_digest"], after["epoch"]) == (before["state_digest"], before["epoch"])
    again = host.add("after the restart")
    assert host.stage(again) == "Backlog"
    events = host.events()
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
