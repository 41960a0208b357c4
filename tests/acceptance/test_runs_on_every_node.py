"""Runs as people follow them: listed on every node with their owner and the age of what is known, and their output while it comes."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from acceptance.fleet import BOUND_S, PROGRAM, Fleet, NodeProcess, environment, make_remote
from acceptance.gates import COMMIT, LONG_LEASES, QUICK_AGENT, STEADY_LEASES, WAIT, Gate, processes_of

FIELDS = {"run_id", "item", "title", "claim_id", "node", "node_name", "own", "agent", "state", "recorded_state", "evidence", "degraded", "phase"} | {
    "started_at",
    "ended_at",
    "exit_code",
    "reason",
    "as_of",
    "age_s",
    "stale",
    "since",
    "next",
    "next_s",
    "unreachable_since",
    "branch",
    "worktree",
    "log",
    "engine",
}


class Follower:
    """``runs logs --follow`` in the background."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def await_line(self, wanted: str) -> None:
        while (line := self.lines.get(timeout=BOUND_S)) != wanted:
            assert line is not None, f"the log ended before {wanted!r}"

    def rest(self) -> list[str]:
        return list(iter(lambda: self.lines.get(timeout=BOUND_S), None))


@contextmanager
def following(node: NodeProcess, run: str) -> Iterator[Follower]:
    command = [PROGRAM, "--home", str(node.home), "runs", "logs", run, "--follow"]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
    try:
        yield Follower(process)
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.promise("B1", "B2", "B5", "B14")
def test_every_node_lists_the_runs_of_all_with_owner_state_and_age(fleet: Fleet, tmp_path: Path) -> None:
    remote = make_remote(fleet.folder / "git")
    host = fleet.host(config=STEADY_LEASES)
    reader = fleet.member(host, "reader", config=STEADY_LEASES)
    with Gate(tmp_path / "gate one") as gate_one, Gate(tmp_path / "gate two") as gate_two:
        arguments = ("--remote", str(remote), "--command", f"{WAIT}; {COMMIT}")
        one = fleet.agent(host, "one", *arguments, "--label", "one", config=STEADY_LEASES + QUICK_AGENT, env=gate_one.env)
        two = fleet.agent(host, "two", *arguments, "--label", "two", config=STEADY_LEASES + QUICK_AGENT, env=gate_two.env)
        items = {name: host.add(f"for {name}", "--label", name) for name in ("one", "two")}
        gate_one.await_waiting()
        gate_two.await_waiting()

        def listed(node: NodeProcess) -> dict[str, dict[str, Any]]:
            return {run["node_name"]: run for run in node.ask("runs", "list")["runs"]}

        nodes = [host, reader, one, two]
        for node in nodes:
            node.await_true(lambda at=node: {run["state"] for run in listed(at).values()} == {"running"} and len(listed(at)) == 2, "two running runs")  # type: ignore[misc]
            answer = node.ask("runs", "list")
            assert answer["source"] == "node"
            assert answer["node"] == node.name
            assert answer["as_of"].endswith("Z")
            for name, run in listed(node).items():
                assert set(run) == FIELDS
                assert run["item"] == items[name]
                assert run["title"] == f"for {name}"
                assert run["own"] is (node.name == name)
                assert run["age_s"] >= 0
                assert ("is alive" if run["own"] else "last heard of") in run["evidence"]
        asked: dict[str, Any] = {}

        def answered() -> bool:
            asked.update(reader.ask("runs", "show", listed(reader)["one"]["run_id"]))
            return bool(asked["owner"]["answered"])

        reader.await_true(answered, "an answer within the time that a question has")
        assert asked["owner"] == {"asked": True, "answered": True, "why": ""}, "over the host, which is between them"
        assert asked["run"]["evidence"].startswith("its own node says: process ")
        watched = tmp_path / "watched"
        with watched.open("w") as file:
            watch = subprocess.Popen([PROGRAM, "--home", str(reader.home), "runs", "watch", "--json"], env=environment(), stdout=file)

        def told(name: str) -> list[str]:
            lines = [json.loads(line)["run"] for line in watched.read_text().splitlines(keepends=True) if line.endswith("\n")]
            return [run["state"] for run in lines if run["node_name"] == name]

        reader.await_true(lambda: [told(name)[-1:] for name in ("one", "two")] == [["running"]] * 2, "what is running")
        two.kill()
        for node in (host, reader, one):
            seen: list[str] = []

            def lost(at: NodeProcess = node, states: list[str] = seen) -> bool:
                states.append(listed(at)["two"]["state"])
                return states[-1] == "lost"

            node.await_true(lost, "the loss of two")
            node.await_true(lambda at=node: listed(at)["one"]["state"] == "running", "one is still at work")  # type: ignore[misc]
            page = node.run("runs", "list", "--node", "two").stdout
            assert "lost since 20" in page
            assert set(seen) <= {"running", "unreachable", "lost", "unknown"}, "never anything but what is known"
            assert "running" not in page
        gate_one.open()
        host.await_merged(items["one"])
        one.stop()
        reader.await_true(lambda: told("one")[-1] == "completed" and told("two")[-1] == "lost", "both ends")
        assert "unreachable" in told("two"), "silence was told at its moment"
        watch.terminate()
        assert watch.wait(BOUND_S) == 143
    for state in ("completed", "lost"):
        host.await_true(lambda wanted=state: len(host.ask("runs", "list", "--state", wanted)["runs"]) == 1, f"one {state} run")  # type: ignore[misc]
    host.stop()
    offline = host.ask("runs", "list")
    assert offline["source"] == "store"
    assert {run["node_name"]: run["state"] for run in offline["runs"]} == {"one": "completed", "two": "unknown"}
    assert "no node is running" in host.run("runs", "list").stderr


@pytest.mark.promise("B17")
def test_a_log_is_followed_live_and_leaving_leaves_the_run(fleet: Fleet, tmp_path: Path) -> None:
    remote = make_remote(fleet.folder / "git")
    host = fleet.host(config=LONG_LEASES)
    item = host.add("talks while it works")
    talk = 'while read line; do echo "heard $line"; done < "$GATE"'
    with Gate(tmp_path / "gate") as gate:
        one = fleet.agent(
            host, "one", "--remote", str(remote), "--command", f"{talk}; {COMMIT}; echo last words", config=LONG_LEASES + QUICK_AGENT, env=gate.env
        )
        gate.await_waiting()
        run = one.listed_run()
        with following(one, run["run_id"]) as left, following(one, run["run_id"]) as stayed, following(host, run["run_id"]) as elsewhere:
            gate.write("first\n")
            elsewhere.await_line("heard first")
            left.await_line("heard first")
            stayed.await_line("heard first")
            left.process.terminate()
            assert left.process.wait(BOUND_S) == 143
            gate.write("second\n")
            stayed.await_line("heard second")
            assert one.ask("runs", "show", run["run_id"])["run"]["state"] == "running"
            assert processes_of(run["run_id"])
            elsewhere.await_line("heard second")
            gate.open()
            assert "ok: merged as" in elsewhere.rest()[-1]
            assert elsewhere.process.wait(BOUND_S) == 0
            rest = stayed.rest()
            assert "last words" in rest
            assert "ok: merged as" in rest[-1]
            assert stayed.process.wait(BOUND_S) == 0
    host.await_stage(item, "Done")
    whole = one.run("runs", "logs", run["run_id"])
    assert whole.returncode == 0
    said = [line for line in whole.stdout.splitlines() if not line.startswith("[fabrik-node")]
    assert said == ["heard first", "heard second", "last words"]
    assert Path(run["log"]).read_text() == whole.stdout
    parts = [json.loads(line) for line in one.run("runs", "logs", run["run_id"], "--json").stdout.splitlines()]
    assert "".join(part.get("text", "") for part in parts) == whole.stdout
    offset = len("".join(whole.stdout.splitlines(keepends=True)[:2]).encode())
    assert one.run("runs", "logs", run["run_id"], "--offset", str(offset)).stdout == "".join(whole.stdout.splitlines(keepends=True)[2:])
    from_host = host.run("runs", "logs", run["run_id"])
    assert (from_host.returncode, from_host.stdout) == (0, whole.stdout)
    assert "output of one, which was asked at" in from_host.stderr
    one.stop()
    away = host.run("runs", "logs", run["run_id"])
    assert (away.returncode, away.stdout) == (6, "")
    assert "last known: completed: ok: merged as" in away.stderr
    history = one.run("runs", "logs", run["run_id"])
    assert history.returncode == 0
    assert history.stdout == whole.stdout
