"""Holders that die, sleep or are overruled: who takes over when, and what the old holder can still do."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from acceptance.fleet import Fleet, NodeProcess, git, make_remote
from acceptance.gates import COMMIT, LONG_LEASES, QUICK_AGENT, STEADY_LEASES, WAIT, Gate, merges_of, processes_of, signal_run

PATIENT = STEADY_LEASES.replace("lock_delay_s = 0.3", "lock_delay_s = 1.5")
"""Takes over later than the host calls a lease lost, so that all of its states can be seen."""


def address(node: NodeProcess) -> str:
    return node.url.removeprefix("wss://").removesuffix("/crdt-sync")


@pytest.mark.promise("F12", "C4", "B1", "I24")
def test_a_killed_holder_is_lost_step_by_step_and_its_item_is_finished_once(fleet: Fleet, tmp_path: Path) -> None:
    remote = make_remote(fleet.folder / "git")
    host = fleet.host(config=STEADY_LEASES)
    item = host.add("survives its agent")
    with Gate(tmp_path / "gate") as gate:
        daemon = "setsid sh -c 'sleep 1000 & sleep 1000' &"
        one = fleet.agent(host, "one", "--remote", str(remote), "--command", f"{daemon} {COMMIT}; {WAIT}", config=STEADY_LEASES + QUICK_AGENT, env=gate.env)
        gate.await_waiting()
        two = fleet.agent(host, "two", "--remote", str(remote), "--command", COMMIT, config=PATIENT + QUICK_AGENT)
        first = host.ask("claims", "show", item)["claim"]
        assert (first["node_name"], first["ttl_s"], first["label"]) == ("one", 4.0, "fenced")
        host.await_true(lambda: host.listed_run()["state"] == "running", "a beat of one that is not late")
        run = host.listed_run()
        assert (run["node_name"], run["own"]) == ("one", False)
        assert run["age_s"] is not None
        one.await_true(lambda: len(processes_of(run["run_id"])) >= 5, "the shim, the shell, its daemon of two, and the one that waits")
        seen: list[tuple[str, str]] = []

        def taken_over() -> bool:
            found = host.call("items.show", id=item)
            claim, row = found["item"]["claim"], next(each for each in found["runs"] if each["run_id"] == run["run_id"])
            if claim is None or claim["claim_id"] != first["claim_id"]:
                return True
            if not seen or seen[-1] != (claim["lease"], row["state"]):
                seen.append((claim["lease"], row["state"]))
            return False

        alive_at = host.call("status")["uptime_s"]
        host.await_true(lambda: taken_over() or host.call("status")["uptime_s"] > alive_at + 6.0, "longer than a dead holder is waited for")
        assert not taken_over(), "it is renewed"
        assert ("fresh", "running") in seen
        assert {lease for lease, _ in seen} == {"fresh"}, "though three beats of a busy machine may be late"
        one.kill()
        seen.clear()
        host.await_true(taken_over, "the takeover")
        steps = [("fresh", "running"), ("fresh", "unreachable"), ("unreachable", "unreachable"), ("lost", "lost")]
        assert seen == [step for step in steps if step in seen], "in this order, though a look may come too late for a short one"
        host.await_merged(item)
        one.await_true(lambda: not processes_of(run["run_id"]), "the end of the killed node's command")
    assert len(merges_of(remote, item)) == 1
    assert [event["holder"] for event in host.events() if event["type"] == "claim.taken"] == ["one", "two"]
    assert [event["superseded_by"] for event in host.events() if event["type"] == "claim.superseded"] != []
    states = {each["node_name"]: each["state"] for each in host.ask("runs", "list", "--item", item)["runs"]}
    assert states == {"one": "superseded", "two": "completed"}
    one.start("serve", "--remote", str(remote), "--command", "false", "--label", "nothing")
    host.await_true(lambda: host.ask("runs", "show", run["run_id"])["run"]["state"] == "interrupted", "the end of the killed run")
    for node in (one, host):
        ended = node.ask("runs", "show", run["run_id"])["run"]
        assert ended["state"] == "interrupted"
        assert ended["reason"].startswith("infra_lost: the node ended in phase coding")
        assert ended["ended_at"] >= ended["started_at"]
    assert host.stage(item) == "Done"
    assert len(merges_of(remote, item)) == 1
    fleet.await_equal([host, one, two])


@pytest.mark.promise("C4", "C12")
def test_a_killed_node_that_takes_no_more_work_still_says_what_was_interrupted(fleet: Fleet, tmp_path: Path) -> None:
    remote = make_remote(fleet.folder / "git")
    host = fleet.host(config=LONG_LEASES)
    item = host.add("left behind")
    with Gate(tmp_path / "gate") as gate:
        one = fleet.agent(host, "one", "--remote", str(remote), "--command", WAIT, config=LONG_LEASES + QUICK_AGENT, env=gate.env)
        gate.await_waiting()
        run = host.listed_run()
        one.kill()
        url = address(host)
        host.kill()
    for node in (one, host):  # nothing runs anywhere
        left = node.ask("runs", "recovery")
        assert (left["source"], [(each["run_id"], each["kind"], each["recorded_state"]) for each in left["runs"]]) == (
            "store",
            [(run["run_id"], "open", "running")],
        )
        assert left["runs"][0]["do"] == "fabrik-node serve" or left["runs"][0]["do"].startswith("kill "), "its command may just be ending"
    host.start("serve", "--listen", url)
    one.start("serve")
    host.await_true(lambda: host.ask("runs", "show", run["run_id"])["run"]["state"] == "interrupted", "the end of the killed run")
    shown = host.ask("items", "show", item)["item"]
    assert shown["claim"] is None
    assert shown["stage"] == "Backlog"
    assert shown["attempts"] == 0
    [left] = host.ask("runs", "recovery")["runs"]
    assert (left["kind"], left["recorded_state"], left["do"]) == ("unfinished", "interrupted", f"fabrik-node why {item}")


@pytest.mark.promise("J1", "F12", "C10", "I17")
def test_a_sleeper_wakes_up_superseded_and_merges_nothing(fleet: Fleet, tmp_path: Path) -> None:
    remote = make_remote(fleet.folder / "git")
    host = fleet.host(config=STEADY_LEASES)
    item = host.add("slept through")
    with Gate(tmp_path / "gate") as gate:
        one = fleet.agent(host, "one", "--remote", str(remote), "--command", f"{COMMIT}; {WAIT}", config=STEADY_LEASES + QUICK_AGENT, env=gate.env)
        gate.await_waiting()
        run = host.listed_run()
        signal_run(run["run_id"], signal.SIGSTOP)
        one.send(signal.SIGSTOP)
        gate.open()  # it would go on to merge at once if it were let
        fleet.agent(host, "two", "--remote", str(remote), "--command", COMMIT, config=STEADY_LEASES + QUICK_AGENT)
        host.await_stage(item, "Done")
        merged = merges_of(remote, item)
        one.send(signal.SIGCONT)
        signal_run(run["run_id"], signal.SIGCONT)
    host.await_true(lambda: host.ask("runs", "show", run["run_id"])["run"]["recorded_state"] in ("superseded", "interrupted"), "the sleeper's end")
    for node in (host, one):
        ended = node.ask("runs", "show", run["run_id"])["run"]
        assert "superseded by two" in ended["reason"] or "lease could not be renewed" in ended["reason"] or "already merged" in ended["reason"]
    assert not processes_of(run["run_id"])
    assert merges_of(remote, item) == merged
    assert len(merged) == 1
    assert git(remote, "show", f"{run['branch']}:{item}.txt") == "slept through"
    assert host.ask("items", "show", item)["item"]["stage_data"]["merge_commit"] == merged[0]
    assert one.run("items", "show", item).returncode == 0
    assert run["run_id"] in {each["run_id"] for each in host.ask("items", "show", item)["runs"]}


@pytest.mark.promise("J1")
def test_an_operator_takes_a_claim_away_and_the_remote_refuses_its_merge(fleet: Fleet, tmp_path: Path) -> None:
    remote = make_remote(fleet.folder / "git")
    config = f'{LONG_LEASES}[git]\nremote = "{remote}"\n'
    host = fleet.host(config=config)
    where = address(host)
    item = host.add("taken away")
    with Gate(tmp_path / "gate") as gate:
        one = fleet.agent(host, "one", "--remote", str(remote), "--command", f"{COMMIT}; {WAIT}", config=LONG_LEASES + QUICK_AGENT, env=gate.env)
        gate.await_waiting()
        run = host.listed_run()
        host.stop()
        host.start("serve")  # nobody can reach it: the holder does not hear of what follows
        host.ask("items", "edit", item, "--label", "others")  # so that the same agent does not take it again
        said = host.run("claims", "release", item, "--reason", "wrong person")
        assert said.returncode == 0
        assert "one/agent" in said.stdout
        assert "the remote refuses its merge from now on" in said.stdout
        one.await_true(lambda: one.ask("claims", "show", item)["claim"]["state"] == "confirmed", "its own view of its claim")
        gate.open()
        one.await_true(lambda: one.ask("runs", "show", run["run_id"])["run"]["recorded_state"] == "superseded", "the refused merge")
    assert merges_of(remote, item) == []
    ended = one.ask("runs", "show", run["run_id"])["run"]
    assert "released" in ended["reason"]
    assert git(remote, "show", f"{run['branch']}:{item}.txt") == "taken away"
    host.stop()
    host.start("serve", "--listen", where)
    fleet.await_equal([host, one])
    for node in (host, one):
        assert node.ask("runs", "show", run["run_id"])["run"]["state"] == "superseded"
        assert node.stage(item) == "Backlog"
        assert node.ask("items", "show", item)["item"]["claim"] is None
        over = node.ask("claims", "show", item)["claim"]
        assert (over["state"], over["reason"], over["node_name"]) == ("released", "wrong person", "host")


@pytest.mark.promise("F10")
def test_a_release_stops_the_agent_and_the_item_is_free(fleet: Fleet, tmp_path: Path) -> None:
    remote = make_remote(fleet.folder / "git")
    host = fleet.host(config=LONG_LEASES)
    item = host.add("stopped")
    with Gate(tmp_path / "gate") as gate:
        one = fleet.agent(
            host, "one", "--label", "slow", "--remote", str(remote), "--command", f"{COMMIT}; {WAIT}", config=LONG_LEASES + QUICK_AGENT, env=gate.env
        )
        gate.await_waiting()
        run = host.listed_run()
        host.ask("items", "edit", item, "--label", "fast")  # so that the same agent does not take it again
        said = host.ask("claims", "release", item)
        assert said["was"]["node_name"] == "one"
        assert said["was"]["claim_id"] == run["claim_id"]
        host.await_true(lambda: host.ask("runs", "show", run["run_id"])["run"]["recorded_state"] == "superseded", "the stop of the run")
        assert not processes_of(run["run_id"])
    assert "superseded by host (operator): released by an operator" in one.ask("runs", "show", run["run_id"])["run"]["reason"]
    assert host.stage(item) == "Backlog"
    twice = host.run("claims", "release", item)
    assert twice.returncode == 5
    assert "is not claimed" in twice.stderr
    fleet.agent(host, "two", "--label", "fast", "--remote", str(remote), "--command", COMMIT, config=LONG_LEASES + QUICK_AGENT)
    host.await_stage(item, "Done")
    assert len(merges_of(remote, item)) == 1


@pytest.mark.promise("E1", "E3")
def test_archiving_a_claimed_item_says_whose_work_that_stops(fleet: Fleet, tmp_path: Path) -> None:
    remote = make_remote(fleet.folder / "git")
    host = fleet.host(config=LONG_LEASES)
    item = host.add("not wanted any more")
    with Gate(tmp_path / "gate") as gate:
        one = fleet.agent(host, "one", "--remote", str(remote), "--command", f"{COMMIT}; {WAIT}", config=LONG_LEASES + QUICK_AGENT, env=gate.env)
        gate.await_waiting()
        run = host.listed_run()
        said = host.run("items", "move", item, "Archived", "--reason", "Abandoned")
        assert said.returncode == 0
        assert "this stops the work of one/agent" in said.stdout
        host.await_true(lambda: host.ask("runs", "show", run["run_id"])["run"]["recorded_state"] == "superseded", "the stop of the run")
        assert not processes_of(run["run_id"])
    assert "an operator moved the item to Archived" in one.ask("runs", "show", run["run_id"])["run"]["reason"]
    assert host.ask("items", "show", item)["item"]["stage_data"]["reason"] == "Abandoned"
    assert merges_of(remote, item) == []
    fleet.await_equal([host, one])
