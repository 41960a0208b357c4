"""What can befall the host of an agent that holds a claim: no space on its disk, no way to the git remote, a wall clock that jumps by years."""

from __future__ import annotations

from pathlib import Path

import pytest
from acceptance.fleet import Fleet, NodeProcess, git, make_remote
from acceptance.gates import COMMIT, LONG_LEASES, QUICK_AGENT, WAIT, Gate, merges_of
from acceptance.small_disks import fill_up


@pytest.mark.promise("I7", "C10")
def test_a_disk_that_fills_up_under_a_run_costs_it_nothing_but_time(fleet: Fleet, small_disk: Path, tmp_path: Path) -> None:
    remote = make_remote(fleet.folder / "git")
    host = fleet.host(config=LONG_LEASES)
    item = host.add("worked on while the disk is full")
    one = NodeProcess(small_disk / "home", "one")
    one.home.mkdir()
    (one.home / "config.toml").write_text(LONG_LEASES + QUICK_AGENT)
    fleet.nodes.append(one)
    one.ask("join", fleet.token(host, "agent"), "--name", "one")
    with Gate(tmp_path / "gate") as gate:
        command = f"echo >> {tmp_path}/commands; {COMMIT}; {WAIT}"
        one.start("serve", "--remote", str(remote), "--command", command, env=gate.env)
        gate.await_waiting()
        ballast = fill_up(small_disk)
        host.ask("items", "edit", item, "--body", "b" * 30_000)  # what comes from a peer finds no space either
        one.await_true(lambda: one.call("status")["disk_full"] is not None, "the full disk")
        gate.open()
        one.await_line("waits for space")
        assert one.runs
        assert merges_of(remote, item) == []
        ballast.unlink()
        host.await_stage(item, "Done")
    one.await_true(lambda: one.ask("runs", "list")["runs"][0]["state"] == "completed", "the end of the run")
    assert len(merges_of(remote, item)) == 1
    assert (tmp_path / "commands").read_text() == "\n", "the work was done once"
    assert len([event for event in host.events() if event["type"] == "claim.taken"]) == 1
    fleet.await_equal([host, one])


@pytest.mark.promise("C10")
def test_finished_work_waits_for_a_remote_that_went_away(fleet: Fleet, tmp_path: Path) -> None:
    remote = make_remote(fleet.folder / "git")
    away = remote.with_name("away.git")
    host = fleet.host(config=LONG_LEASES)
    item = host.add("finished while the remote was away")
    with Gate(tmp_path / "gate") as gate:
        command = f"echo >> {tmp_path}/commands; {COMMIT}; {WAIT}"
        one = fleet.agent(host, "one", "--remote", str(remote), "--command", command, config=LONG_LEASES + QUICK_AGENT, env=gate.env)
        gate.await_waiting()
        remote.rename(away)
        gate.open()
        one.await_line("waits for the git remote")
        for node in (host, one):

            def waits(at: NodeProcess = node) -> bool:
                run = at.listed_run()
                return bool(run["state"] == "waiting") and "waits with finished work: git remote" in run["evidence"]

            node.await_true(waits, "the wait, and for what")
        away.rename(remote)
        host.await_stage(item, "Done")
    assert len(merges_of(remote, item)) == 1
    assert (tmp_path / "commands").read_text() == "\n", "the work was done once"
    assert len([event for event in host.events() if event["type"] == "claim.taken"]) == 1
    assert git(remote, "show", f"main:{item}.txt") == "finished while the remote was away"
    fleet.await_equal([host, one])
