"""Build agents from one command: they take work, merge it, and give it back when they are ended."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from acceptance.fleet import FAST_LEASES, Fleet, git, make_remote
from acceptance.gates import COMMIT, LONG_LEASES, QUICK_AGENT, WAIT, Gate, merges_of, processes_of


@pytest.mark.promise("F10", "E1")
def test_one_command_on_a_fresh_home_takes_work_and_merges_it(fleet: Fleet) -> None:
    remote = make_remote(fleet.folder / "git")
    host = fleet.host()
    item = host.add("the first work", "--body", "all of it")
    agent = fleet.agent(host, "one", "--remote", str(remote), "--command", COMMIT, "--qa", 'grep -q "the first work" "$FABRIK_ITEM.txt"')
    host.await_merged(item)
    [merged] = merges_of(remote, item)
    shown = host.ask("items", "show", item)
    assert shown["item"]["stage_data"]["merge_commit"] == merged
    assert shown["item"]["outcome"]["result"] == "ok"
    assert shown["item"]["claim"] is None
    assert git(remote, "show", f"main:{item}.txt") == "the first work"
    moves = [(event["from"], event["to"]) for event in host.events() if event["type"] == "item.moved"]
    assert moves == [("Backlog", "Coding"), ("Coding", "Qa"), ("Qa", "Merge"), ("Merge", "Done")]
    agent.await_true(lambda: agent.ask("runs", "list")["runs"][0]["state"] == "completed", "the end of the run")
    fleet.await_equal([host, agent])
    listed = {node["name"]: node["role"] for node in host.ask("nodes", "list")["nodes"]}
    assert listed == {"host": "admin", "one": "agent"}


@pytest.mark.promise("F10", "F6")
def test_the_same_command_starts_it_again_though_its_token_was_used(fleet: Fleet) -> None:
    remote = make_remote(fleet.folder / "git")
    host = fleet.host(config=LONG_LEASES)
    agent = fleet.new("one", LONG_LEASES + QUICK_AGENT)
    command = ("--rendezvous", fleet.token(host, "agent"), "--name", "one", "--remote", str(remote), "--command", COMMIT)
    agent.start(*command)
    host.await_stage(host.add("before"), "Done")
    agent.kill()
    agent.start(*command)
    host.await_stage(host.add("after a kill"), "Done")
    assert agent.stop() == 143
    agent.start("--rendezvous", host.url, *command[4:])  # a member needs no token
    host.await_stage(host.add("by address"), "Done")
    assert [node["name"] for node in host.ask("nodes", "list")["nodes"]] == ["host", "one"]


@pytest.mark.promise("F10", "I24")
def test_an_interrupted_agent_gives_its_work_back_for_another(fleet: Fleet, tmp_path: Path) -> None:
    remote = make_remote(fleet.folder / "git")
    host = fleet.host(config=LONG_LEASES)
    item = host.add("half done")
    with Gate(tmp_path / "gate") as gate:
        one = fleet.agent(host, "one", "--remote", str(remote), "--command", f"{COMMIT}; {WAIT}", config=LONG_LEASES + QUICK_AGENT, env=gate.env)
        gate.await_waiting()
        run = host.listed_run()
        assert processes_of(run["run_id"])
        assert one.stop(signal.SIGINT) == 130
    assert not processes_of(run["run_id"])
    host.await_event("claim.released", item=item)
    shown = host.ask("items", "show", item)
    assert shown["item"]["claim"] is None
    assert shown["item"]["stage"] == "Backlog"
    assert shown["item"]["attempts"] == 0
    [ended] = shown["runs"]
    assert ended["state"] == "cancelled"
    assert "the node was stopped" in ended["reason"]
    assert git(remote, "show", f"{ended['branch']}:{item}.txt") == "half done"
    fleet.agent(host, "two", "--remote", str(remote), "--command", COMMIT, config=LONG_LEASES + QUICK_AGENT)
    host.await_stage(item, "Done")
    assert len(merges_of(remote, item)) == 1
    claims = [event["holder"] for event in host.events() if event["type"] == "claim.taken"]
    assert claims == ["one", "two"]


@pytest.mark.promise("I24")
def test_a_drain_lets_running_work_end_and_a_second_signal_does_not_wait(fleet: Fleet, tmp_path: Path) -> None:
    remote = make_remote(fleet.folder / "git")
    host = fleet.host(config=LONG_LEASES)
    with Gate(tmp_path / "first") as gate:
        first = host.add("finished while draining")
        one = fleet.agent(
            host, "one", "--remote", str(remote), "--command", f"{COMMIT}; {WAIT}", "--drain", "1h", config=LONG_LEASES + QUICK_AGENT, env=gate.env
        )
        gate.await_waiting()
        one.send(signal.SIGTERM)
        one.await_line("SIGTERM: stopping")
        host.add("not begun any more")
        gate.open()
        assert one.process is not None
        assert one.process.wait(60) == 143
    assert host.stage(first) == "Done"
    assert [event["item"] for event in host.events() if event["type"] == "claim.taken"] == [first]
    with Gate(tmp_path / "second") as gate:
        one.start("serve", "--remote", str(remote), "--command", WAIT, "--drain", "1h", env=gate.env)
        gate.await_waiting()
        run = host.listed_run("--limit", "1")
        one.send(signal.SIGTERM)
        one.await_line("SIGTERM: stopping")
        assert one.stop(signal.SIGTERM) == 143
    assert not processes_of(run["run_id"])
    host.await_true(lambda: host.ask("runs", "show", run["run_id"])["run"]["state"] == "cancelled", "the end of the second run")


@pytest.mark.promise("A9", "E5")
def test_ten_slots_work_on_ten_items_at_once_and_mix_nothing(fleet: Fleet, tmp_path: Path) -> None:
    remote = make_remote(fleet.folder / "git")
    host = fleet.host(config=LONG_LEASES)
    meet = tmp_path / "meet"
    meet.mkdir()
    # Each command goes on when all ten are there: they really run at once.
    together = 'touch "$MEET/$FABRIK_RUN"; until [ "$(ls "$MEET" | wc -l)" = 10 ]; do sleep 0.1; done; echo "output of $FABRIK_TITLE"'
    config = LONG_LEASES + QUICK_AGENT + 'keep_worktrees = "always"\n'
    items = {host.add(f"item {number}"): f"item {number}" for number in range(10)}
    agent = fleet.agent(host, "one", "--slots", "10", "--remote", str(remote), "--command", f"{together}; {COMMIT}", config=config, env={"MEET": str(meet)})
    host.await_true(lambda: host.ask("status")["items"]["Done"] == 10, "ten items in Done")
    agent.await_true(lambda: agent.ask("status")["agent"]["running"] == [], "the end of all runs")
    runs = agent.ask("runs", "list")["runs"]
    assert len(runs) == 10
    for name in ("run_id", "item", "claim_id", "branch", "worktree", "log"):
        assert len({run[name] for run in runs}) == 10, name
    assert {run["state"] for run in runs} == {"completed"}
    assert {run["run_id"] for run in host.ask("runs", "list")["runs"]} == {run["run_id"] for run in runs}
    for run in runs:
        title = items[run["item"]]
        changed = git(Path(run["worktree"]), "show", "--format=", "--name-only", run["branch"]).splitlines()
        assert changed == [f"{run['item']}.txt"], title
        said = [line for line in Path(run["log"]).read_text().splitlines() if line.startswith("output of ")]
        assert said == [f"output of {title}"]
        assert git(remote, "show", f"main:{run['item']}.txt") == title
        assert len(merges_of(remote, run["item"])) == 1
    fleet.await_equal([host, agent])
    assert host.ask("status")["agent"]["running"] == []


@pytest.mark.promise("E5")
def test_a_rate_limit_is_of_one_agent_and_of_one_start(fleet: Fleet, tmp_path: Path) -> None:
    remote = make_remote(fleet.folder / "git")
    host = fleet.host(config=LONG_LEASES)
    config = LONG_LEASES + QUICK_AGENT.replace("0.1", "600.0")
    item = host.add("later")
    command = ("--remote", str(remote), "--command", f'[ -e "$MARK" ] || {{ touch "$MARK"; exit 75; }}; {COMMIT}')
    agent = fleet.agent(host, "one", *command, config=config, env={"MARK": str(tmp_path / "limited")})
    agent.await_true(lambda: agent.ask("status")["agent"]["state"] == "RateLimited", "the rate limit")
    limited = agent.listed_run()
    host.await_true(lambda: [run["run_id"] for run in host.ask("runs", "list")["runs"]] == [limited["run_id"]], "the run at the other node")
    assert host.ask("status")["agent"]["state"] is None
    assert "RateLimited" not in host.run("db", "dump").stdout
    assert agent.stop() == 143
    agent.start("--rendezvous", host.url, *command, env={"MARK": str(tmp_path / "limited")})
    host.await_stage(item, "Done")
    assert agent.ask("status")["agent"]["state"] != "RateLimited"
    fleet.await_equal([host, agent])


@pytest.mark.promise("E2")
def test_a_command_that_commits_nothing_fails_loudly_and_is_charged(fleet: Fleet) -> None:
    remote = make_remote(fleet.folder / "git")
    before = git(remote, "rev-parse", "main")
    host = fleet.host(config=LONG_LEASES)
    item = host.add("nothing to see")
    config = LONG_LEASES + "[agent]\nbackoff_s = 0.0\nmax_attempts = 2\n"
    agent = fleet.agent(host, "one", "--remote", str(remote), "--command", "echo did nothing", config=config)
    host.await_event("item.held", item=item)
    shown = host.ask("items", "show", item)
    assert shown["item"]["attempts"] == 2
    assert shown["item"]["stage"] == "Coding"
    assert shown["item"]["outcome"]["result"] == "agent_failed"
    assert "zero commits ahead" in shown["item"]["outcome"]["reason"]
    assert "2 of 2 attempts failed" in shown["item"]["hold"]["reason"]
    agent.await_true(lambda: [run["state"] for run in host.ask("runs", "list")["runs"]] == ["failed", "failed"], "both runs failed")
    assert git(remote, "rev-parse", "main") == before
    page = host.run("items", "list", "--held").stdout
    assert "zero commits ahead" in page
    agent.stop()  # else it fails twice more, and holds the item again
    assert host.run("items", "requeue", item).returncode == 0
    assert host.ask("items", "show", item)["item"]["hold"] is None


@pytest.mark.promise("C1")
def test_a_run_whose_heartbeat_reaches_nobody_is_alive_on_its_own_node(fleet: Fleet, tmp_path: Path) -> None:
    remote = make_remote(fleet.folder / "git")
    host = fleet.host(config=FAST_LEASES)
    item = host.add("long work")
    with Gate(tmp_path / "gate") as gate:
        agent = fleet.agent(host, "one", "--remote", str(remote), "--command", f"{COMMIT}; {WAIT}", config=LONG_LEASES + QUICK_AGENT, env=gate.env)
        gate.await_waiting()
        run = host.listed_run()
        ages = []

        def renewed() -> bool:
            ages.append(float(host.ask("claims", "show", item)["claim"]["lease_age_s"]))
            return len(ages) > 1 and ages[-1] < ages[-2]

        host.await_true(renewed, "a renewal after the first")
        agent.send(signal.SIGSTOP)  # for longer than the host's own TTL, which is not the one that counts
        host.await_true(lambda: host.ask("claims", "show", item)["claim"]["lease_age_s"] > 2.8, "a silence")
        assert host.ask("claims", "show", item)["claim"]["lease"] == "fresh"
        silent = host.ask("runs", "show", run["run_id"])["run"]
        assert (silent["state"], silent["recorded_state"]) == ("unreachable", "running"), "its node says nothing, and its lease is not over"
        agent.send(signal.SIGCONT)
        host.send(signal.SIGSTOP)
        try:
            beats = int(agent.ask("status")["uptime_s"] / 0.3)
            agent.await_true(lambda: int(agent.ask("status")["uptime_s"] / 0.3) > beats + 5, "five beats that nobody hears")
            own = agent.ask("runs", "show", run["run_id"])["run"]
            assert own["state"] == "running"
            assert "is alive" in own["evidence"]
        finally:
            host.send(signal.SIGCONT)
        host.kill()
        agent.await_true(lambda: agent.ask("status")["peers"][0]["state"] != "connected", "the loss of the host")
        own = agent.ask("runs", "show", run["run_id"])["run"]
        assert (own["state"], own["degraded"]) == ("running", "heartbeat lost")
        assert "is alive" in own["evidence"]
        assert "running, seen now, heartbeat lost" in agent.run("runs", "list").stdout
        host.start("serve", "--listen", host.url.removeprefix("wss://").removesuffix("/crdt-sync"))
        gate.open()
        host.await_stage(item, "Done")
    assert len(host.ask("runs", "list")["runs"]) == 1
