"""Twenty agents, each a node of its own, and one item that all of them may take."""

from __future__ import annotations

from pathlib import Path

import pytest
from acceptance.fleet import Fleet, git, make_remote
from acceptance.gates import COMMIT, LONG_LEASES, QUICK_AGENT, merges_of

AGENTS = 20


@pytest.mark.promise("F11", "J1")
@pytest.mark.timeout(240)
def test_twenty_agents_that_see_one_item_at_once_work_on_it_once(fleet: Fleet, tmp_path: Path) -> None:
    remote = make_remote(fleet.folder / "git")
    config = LONG_LEASES.replace("beat_s = 0.3", "beat_s = 2.0")
    host = fleet.host(config=config)
    token = host.ask("invite", "--role", "agent", "--max-uses", str(AGENTS))["token"]
    agents = [fleet.new(f"agent {number}", config + QUICK_AGENT) for number in range(AGENTS)]
    for agent in agents:
        command = f"echo $FABRIK_CLAIM >> {tmp_path}/commands; {COMMIT}"
        agent.launch("--rendezvous", str(token), "--name", agent.name, "--remote", str(remote), "--command", command)
    for agent in agents:
        agent.await_line("connected to host")
    items = [host.add(f"wanted by all {number}") for number in range(3)]
    for item in items:
        host.await_stage(item, "Done")
        assert len(merges_of(remote, item)) == 1
        assert git(remote, "rev-list", "--count", f"refs/fabrik/claims/{item}") == "2", "granted once, merged once"
    assert len((tmp_path / "commands").read_text().splitlines()) == len(items), "nobody worked in vain"
    for node in (host, *agents):  # who asked for an item late has still to close its claim of it
        node.await_true(lambda node=node: node.call("claims.list")["claims"] == [], "no claim")  # type: ignore[misc]  # inference of the default argument
    fleet.await_equal([host, *agents])
    for node in (host, agents[0], agents[-1]):
        assert node.ask("claims", "conflicts")["conflicts"] == []
