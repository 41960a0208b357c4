"""Runs and nodes that an operator stops: from the same machine or another, and what a restart makes of it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from acceptance.fleet import Fleet, git, make_remote
from acceptance.gates import COMMIT, LONG_LEASES, QUICK_AGENT, WAIT, Gate, merges_of, processes_of


@pytest.mark.promise("C18", "C21")
def test_what_is_stopped_by_hand_ends_whole_and_stays_stopped(fleet: Fleet, tmp_path: Path) -> None:
    remote = make_remote(fleet.folder / "git")
    host = fleet.host(config=LONG_LEASES)
    first = host.add("cancelled from the other machine")
    with Gate(tmp_path / "first") as gate:
        command = f"setsid sleep 1000 & {COMMIT}; {WAIT}"
        one = fleet.agent(host, "one", "--remote", str(remote), "--command", command, config=LONG_LEASES + QUICK_AGENT, env=gate.env)
        gate.await_waiting()
        run = host.listed_run()
        said = host.run("runs", "cancel", run["run_id"], "--reason", "not needed")
        assert said.returncode == 0, said.stderr
        assert "one (agent) can still merge until it hears of this" in said.stdout, "the host has no remote to tell"
        host.await_true(lambda: host.ask("runs", "show", run["run_id"])["run"]["state"] == "cancelled", "the end of the run on the other machine")
        assert not processes_of(run["run_id"])
        assert one.ask("runs", "show", run["run_id"])["run"]["reason"] == "cancelled: not needed"
        assert git(remote, "show", f"{run['branch']}:{first}.txt") == "cancelled from the other machine", "its work is kept"
        second = host.add("cancelled at home")
        gate.await_waiting()
        run = host.listed_run("--item", second)
        done = one.ask("runs", "cancel", run["run_id"])
        assert (done["run"]["state"], done["run"]["reason"]) == ("cancelled", "cancelled: by an operator")
        assert not processes_of(run["run_id"]), "they are gone when the command returns"
        again = one.run("runs", "cancel", run["run_id"])
        assert (again.returncode, "is over already: cancelled" in again.stderr) == (5, True)
        drained = one.ask("drain", "--reason", "new disk")
        assert (drained["draining"], drained["changed"], drained["running"]) == (True, True, [])
        assert one.ask("drain")["changed"] is False
        third = host.add("waits for the end of the drain")
        one.kill()
        one.start("serve", "--remote", str(remote), "--command", COMMIT)
        status = one.ask("status")
        assert (status["agent"]["halt"]["code"], status["agent"]["halt"]["reason"]) == ("operator", "new disk")
        assert any("takes no work: operator: new disk; to go on: fabrik-node drain --off" in warning for warning in status["warnings"])
        host.await_true(
            lambda: "operator: new disk (fabrik-node drain --off)" in host.ask("why", third)["causes"][0]["text"], "the halt as the cause, elsewhere"
        )
        assert one.ask("drain", "--off")["draining"] is False
        host.await_stage(third, "Done")
    for item in (first, second):
        shown = host.ask("items", "show", item)["item"]
        assert (shown["stage"], shown["attempts"], shown["hold"]["reason"].partition(":")[0]) == ("Coding", 0, "cancelled")
        assert merges_of(remote, item) == []
    taken = [event["item"] for event in host.events() if event["type"] == "claim.taken"]
    assert taken == [first, second, third], "nothing was begun twice, nor while it was drained"
    assert [event["code"] for event in one.events() if event["type"] == "agent.halted"] == ["operator"] * 2, "when it was set, and at the start that found it"
    assert host.run("drain").returncode == 5
    host.ask("items", "requeue", first)
    host.await_stage(first, "Done")
    assert one.stop(signal.SIGTERM) == 143
