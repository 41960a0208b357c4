"""Two halves of a mesh that both finish one item, with the remote in reach of both: the remote merges one, the other's work is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from acceptance.fleet import Fleet, git, make_remote
from acceptance.gates import COMMIT, QUICK_AGENT, STEADY_LEASES, WAIT, Gate, merges_of
from acceptance.halves import Halves


@pytest.mark.promise("F14", "I16", "J1", "J3", "J5")
def test_of_two_that_finish_one_item_apart_one_is_merged_and_the_other_is_kept(fleet: Fleet, tmp_path: Path) -> None:
    remote = make_remote(fleet.folder / "git")
    halves = Halves.part(fleet, STEADY_LEASES + QUICK_AGENT, "finished by both")
    host, other, agents, item = halves.host, halves.other, halves.agents, halves.item
    with Gate(tmp_path / "gate one") as gate_one, Gate(tmp_path / "gate two") as gate_two:
        gates = {"one": gate_one, "two": gate_two}
        for name, door in (("one", host), ("two", other)):
            work = f"echo {name} > {name}.txt; {COMMIT}; {WAIT}"
            # The second is granted the item when the lease of a claim that it knows from the remote alone has run out.
            agents[name].start("serve", "--peer", door.url, "--remote", str(remote), "--command", work, env=gates[name].env)
            gates[name].await_waiting()
        claims = {name: door.ask("claims", "show", item)["claim"] for name, door in (("one", host), ("two", other))}
        assert {name: (claim["node_name"], claim["receipt"]) for name, claim in claims.items()} == {"one": ("one", 1), "two": ("two", 2)}
        for name, agent in agents.items():
            assert agent.ask("runs", "list", "--node", name)["runs"][0]["state"] == "running", "both are at work, and sure of their claim"
        gate_one.open()  # first: once the other one has merged, it would only find the item merged already
        agents["one"].await_line("is over: superseded: claim ")
        gate_two.open()
        other.await_stage(item, "Done")
        agents["two"].await_line("is over: ok: merged as ")
    merges = merges_of(remote, item)
    assert len(merges) == 1
    assert host.stage(item) != "Done", "its half has not heard of it"
    host.stop()
    host.start("serve", "--listen", halves.meeting_point)
    everybody = [host, other, *agents.values()]
    fleet.await_equal(everybody)
    kept = f"fabrik/{item}/{claims['one']['claim_id']}"
    assert git(remote, "show", f"{kept}:one.txt") == "one"
    assert git(remote, "ls-tree", "--name-only", "main").split().count("one.txt") == 0
    assert git(remote, "show", "main:two.txt") == "two"
    assert merges_of(remote, item) == merges
    for node in everybody:
        shown = node.ask("items", "show", item)
        assert (shown["item"]["stage"], shown["item"]["stage_data"]["merge_commit"]) == ("Done", merges[0])
        runs = {run["node_name"]: run for run in shown["runs"]}
        assert {name: run["state"] for name, run in runs.items()} == {"one": "superseded", "two": "completed"}
        assert runs["one"]["branch"] == kept, "where the loser's work is"
        assert f"claim {claims['two']['claim_id']}" in runs["one"]["reason"]
        assert merges[0] in runs["two"]["reason"]
        [conflict] = node.ask("claims", "conflicts")["conflicts"]
        assert (conflict["item"], conflict["kind"], conflict["why"]) == (item, "rival", "its receipt 2 is higher than 1")
        sides = {side: (conflict[side]["node_name"], conflict[side]["claim_id"], conflict[side]["state"]) for side in ("winner", "loser")}
        assert sides == {"winner": ("two", claims["two"]["claim_id"], "completed"), "loser": ("one", claims["one"]["claim_id"], "superseded")}
        assert conflict["loser"]["branch"] == kept
        assert conflict["wasted_s"] > 0
        told = node.ask("claims", "show", item, "--all")
        # The half that lost may have asked for the item again before it heard of the other; nothing was granted for that.
        assert {each["claim_id"] for each in told["claims"]} >= {claim["claim_id"] for claim in claims.values()}
        assert all(each["receipt"] == 0 for each in told["claims"] if each["claim_id"] not in {claim["claim_id"] for claim in claims.values()})
        assert told["conflicts"] == [conflict]
        [conflict] = node.ask("claims", "conflicts")["conflicts"]
        assert (conflict["item"], conflict["winner"]["node_name"], conflict["loser"]["branch"]) == (item, "two", kept)
        done = [event for event in node.events() if event["type"] == "item.moved" and event["to"] == "Done"]
        assert len(done) == 1, node.name
        [told] = [event for event in node.events() if event["type"] == "claim.conflict"]
        assert (told["item"], told["winner"]["node_name"], told["loser"]["branch"]) == (item, "two", kept)

    # The other work is used, too: it can only come on top of what is merged.
    asked = other.run("claims", "keep", item, claims["one"]["claim_id"])
    assert asked.returncode == 5, asked
    assert f"git revert -m 1 {merges[0]}" in asked.stderr
    made = other.ask("claims", "keep", item, claims["one"]["claim_id"], "--new-item")["item"]["id"]
    other.await_stage(made, "Done")
    assert (git(remote, "show", "main:one.txt"), git(remote, "show", "main:two.txt")) == ("one", "two")
    assert (len(merges_of(remote, made)), merges_of(remote, item)) == (1, merges)
