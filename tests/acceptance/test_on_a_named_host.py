"""Work for one host by its name, typed on another: it runs there, is seen everywhere, and outlives the machine where it was typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from acceptance.fleet import Fleet, git, make_remote
from acceptance.gates import COMMIT, LONG_LEASES, QUICK_AGENT, WAIT, Gate, merges_of, processes_of


@pytest.mark.promise("A1", "A2")
def test_work_goes_to_the_named_host_and_outlives_the_one_that_sent_it(fleet: Fleet, tmp_path: Path) -> None:
    remote = make_remote(fleet.folder / "git")
    host = fleet.host(config=LONG_LEASES)
    config, command = LONG_LEASES + QUICK_AGENT, ("--remote", str(remote), "--command", f"{WAIT}; {COMMIT}")
    with Gate(tmp_path / "gate") as gate:
        beta = fleet.agent(host, "beta", "--listen", "127.0.0.1:0", *command, config=config, env=gate.env)
        gamma = fleet.agent(host, "gamma", "--peer", beta.url, "--slots", "4", *command, config=config, env=gate.env)
        host.await_true(
            lambda: {"beta", "gamma"} <= {node["name"] for node in host.ask("nodes", "list")["nodes"] if node["last_contact_s"] is not None}, "both"
        )
        refused = host.run("items", "add", "nobody's", "--on", "nowhere")
        assert (refused.returncode, refused.stdout) == (3, "")
        assert "no node 'nowhere'" in refused.stderr
        assert host.ask("items", "list")["total"] == 0

        begun = host.run("items", "add", "for beta", "--on", "beta", "--begun", "--json")
        assert begun.returncode == 0, begun.stderr
        said = json.loads(begun.stdout)
        item, run = said["item"]["id"], said["run"]["run_id"]
        assert (said["item"]["labels"], said["run"]["node_name"]) == (["node:beta"], "beta")
        gate.await_waiting()
        assert [entry["run_id"] for entry in beta.ask("runs", "list")["runs"] if entry["own"]] == [run]
        assert processes_of(run)
        assert all(node["last_contact_s"] is not None for node in host.ask("nodes", "list")["nodes"])
        host.kill()
        assert beta.ask("runs", "show", run)["run"]["state"] == "running"
    beta.await_stage(item, "Done")
    gamma.await_true(lambda: gamma.ask("runs", "show", run)["run"]["state"] == "completed", "the end of the run")
    assert len(merges_of(remote, item)) == 1
    shown = gamma.ask("runs", "show", run)
    assert shown["inputs"]["base"] == git(remote, "rev-list", "--max-parents=0", "main"), "the tip of the remote when it began"
    assert [entry["node_name"] for entry in gamma.ask("runs", "list", "--item", item)["runs"]] == ["beta"]
