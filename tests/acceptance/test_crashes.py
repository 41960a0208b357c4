"""kill -9 at any moment: what was acknowledged is there, clocks and sequence numbers only rise, nothing is signed twice."""

from __future__ import annotations

import json
import random
import signal
import socket
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from acceptance.fleet import BOUND_S, Fleet, NodeProcess, environment

LOOPS = 100


def call(node: NodeProcess, op: str, args: dict[str, Any]) -> dict[str, Any] | None:
    """One call over the node's socket; None when the node died before it answered."""
    lines = dict(line.split("=", 1) for line in (node.home / "owner.lock").read_text().splitlines())
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(BOUND_S)
        try:
            link.connect(lines["socket"])
            link.sendall(json.dumps({"v": 1, "op": op, "args": args}).encode() + b"\n")
            answer = link.makefile().readline()
        except OSError:
            return None
    found: dict[str, Any] | None = json.loads(answer)["data"] if answer else None
    return found


@pytest.mark.promise("C13", "I4", "I5", "I6", "E11", "E12")
@pytest.mark.timeout(600)
def test_a_hundred_kills_lose_nothing_that_was_acknowledged(fleet: Fleet) -> None:
    seed = 20_261_121
    rng = random.Random(seed)
    host = fleet.host()
    address = host.url.removeprefix("wss://").removesuffix("/crdt-sync")
    witness = fleet.member(host, "witness")
    acknowledged: list[str] = []
    clock = 0
    for loop in range(LOOPS):
        assert host.process is not None
        writes = rng.randrange(1, 6)
        with ThreadPoolExecutor(4) as pool:
            calls = [pool.submit(call, host, "items.add", {"title": f"{loop}.{number}"}) for number in range(writes)]
            answers = [each.result() for each in calls[: rng.randrange(1, writes + 1)]]  # the others are in flight when it dies
            host.kill()
            answers += [each.result() for each in calls]
        acknowledged += [answer["item"]["id"] for answer in answers if answer is not None]
        host.start("serve", "--listen", address)
        status = call(host, "status", {})
        assert status is not None
        assert status["lamport"] >= clock, f"seed {seed}, loop {loop}: the clock went back"
        clock = status["lamport"]
        if loop % 10 == 9:
            listed = call(host, "items.list", {})
            assert listed is not None
            missing = set(acknowledged) - {entry["id"] for entry in listed["items"]}
            assert not missing, f"seed {seed}, loop {loop}: acknowledged and lost: {missing}"
    fleet.await_equal([host, witness])
    assert not [event for event in witness.events() if event["type"] == "log.forked"], "one place of the log was signed twice"
    assert set(acknowledged) <= {entry["id"] for entry in witness.ask("items", "list")["items"]}


@pytest.mark.promise("E11", "E12")
def test_a_restart_is_the_same_state_and_its_next_write_wins_everywhere(fleet: Fleet) -> None:
    host = fleet.host()
    one = fleet.member(host, "one")
    item = host.add("before")
    for number in range(20):
        one_title = f"title {number}"
        host.ask("items", "edit", item, "--title", one_title)
    fleet.await_equal([host, one])
    before = host.ask("status")
    host.kill()
    host.start("serve", "--listen", host.url.removeprefix("wss://").removesuffix("/crdt-sync"))
    after = host.ask("status")
    assert [after[key] for key in ("state_digest", "frontier_digest", "lamport", "epoch")] == [
        before[key] for key in ("state_digest", "frontier_digest", "lamport", "epoch")
    ]
    host.ask("items", "edit", item, "--title", "after the crash")
    fleet.await_equal([host, one])
    assert one.ask("items", "show", item)["item"]["title"] == "after the crash"
    places = [(change["author"], change["epoch"], change["seq"]) for change in host.ask("items", "history", item)["changes"]]
    digests = {(change["author"], change["epoch"], change["seq"]): change["digest"] for change in one.ask("items", "history", item)["changes"]}
    assert len(set(digests.values())) == len(digests)
    assert set(places) == set(digests)


@pytest.mark.promise("C16", "C15")
def test_a_second_owner_is_refused_and_changes_nothing(fleet: Fleet) -> None:
    host = fleet.host()
    host.add("one")
    assert host.process is not None
    before = host.digest()
    second = host.run("serve")
    assert second.returncode == 4
    assert str(host.process.pid) in second.stderr
    assert socket.gethostname() in second.stderr
    assert host.digest() == before
    clear = host.run("lock", "clear")
    assert clear.returncode == 4
    host.kill()
    shown = host.ask("lock", "show")
    assert shown["owned"] is True
    assert shown["alive"] is False
    host.start("serve")
    died = host.await_event("owner.died")
    assert died["pid"] != host.process.pid
    host.stop()
    assert host.ask("lock", "show")["owned"] is False


@pytest.mark.promise("F1", "I22")
def test_the_key_is_made_once_private_and_never_printed(fleet: Fleet) -> None:
    host = fleet.host()
    key = host.home / "identity" / "ed25519.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    secret = key.read_text().strip()
    first = host.ask("status")["node_id"]
    host.stop()
    again = host.run("init")
    assert again.returncode == 4
    host.start()
    assert host.ask("status")["node_id"] == first
    assert key.read_text().strip() == secret
    raw = bytes.fromhex(secret)
    for path in host.home.rglob("*"):
        if path.is_file() and path != key:
            content = path.read_bytes()
            assert raw not in content, path
            assert secret.encode() not in content, path


@pytest.mark.promise("H28", "H1")
def test_an_empty_home_needs_nothing_and_no_json_state_is_written(tmp_path: Path) -> None:
    def command(*args: str) -> subprocess.CompletedProcess[str]:
        program = str(Path(sys.executable).parent / "fabrik-node")
        return subprocess.run([program, *args], env=environment(tmp_path), capture_output=True, text=True, check=False, timeout=BOUND_S)

    first = command("status")
    assert first.returncode == 0
    assert "fabrik-node init" in first.stdout + first.stderr
    assert list(tmp_path.iterdir()) == []
    assert command("init").returncode == 0
    listed = command("items", "list")
    assert listed.returncode == 0
    assert "no node is running" in listed.stderr
    written = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert not [name for name in written if name.endswith(".json")]
    assert "fabrik.db" in written


@pytest.mark.promise("H5")
def test_ten_processes_add_at_once_twenty_times(fleet: Fleet) -> None:
    host = fleet.host()
    for round_ in range(20):
        with ThreadPoolExecutor(10) as pool:
            made = list(pool.map(lambda number, at=round_: host.add(f"{at}.{number}"), range(10)))
        assert len(set(made)) == 10
    titles = [entry["title"] for entry in host.ask("items", "list")["items"]]
    assert sorted(titles) == sorted(f"{round_}.{number}" for round_ in range(20) for number in range(10))


@pytest.mark.promise("I24")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_keeps_what_was_acknowledged_and_says_how_it_ended(fleet: Fleet, number: signal.Signals) -> None:
    host = fleet.host()
    made = [host.add(f"item {n}") for n in range(3)]
    assert host.stop(number) == 128 + number
    host.start()
    assert [entry["id"] for entry in host.ask("items", "list")["items"]] == made
    assert [event["type"] for event in host.events() if event["type"].startswith("node.st")][-2:] == ["node.stopped", "node.started"]
