"""Each kind of drift, made by hand: a start finds it, says one line, mends only what is safe, and deletes nothing without evidence.

Damaged and stranded rows: ``test_damaged_rows.py``. Copied homes: ``test_restored_homes.py``. Missing parts: ``test_lost_parts.py``.
Interrupted runs: ``test_claims_of_the_dead.py``.
"""

from __future__ import annotations

import json
import os
import signal

import pytest
from acceptance.fleet import Fleet, NodeProcess
from acceptance.homes import fill, titles
from blake3 import blake3


def lines(node: NodeProcess) -> list[str]:
    """What the newest start said that it found."""
    starts = [place for place, line in enumerate(node.stderr) if "found at start" in line or "is up" in line]
    begin = max((place + 1 for place, line in enumerate(node.stderr[:-1]) if "is up" in line and place != starts[-1]), default=0)
    return [line.split("found at start: ", 1)[1] for line in node.stderr[begin:] if "found at start: " in line]


def events(node: NodeProcess) -> list[str]:
    """The kinds of what was ever found."""
    return [event["kind"] for event in node.events() if event["type"] == "start.found"]


@pytest.mark.promise("C14", "E21")
def test_a_clean_start_finds_nothing(fleet: Fleet) -> None:
    host = fleet.host()
    host.add("something")
    host.stop()
    host.start()
    assert lines(host) == []
    assert events(host) == []


@pytest.mark.promise("C14", "C16", "C20")
def test_a_dead_owner(fleet: Fleet) -> None:
    host = fleet.host()
    assert host.process is not None
    pid = host.process.pid
    host.kill()
    host.start()
    (line,) = lines(host)
    assert line.startswith("dead owner: ")
    assert str(pid) in line
    assert line.endswith("taken over")
    assert events(host) == ["dead owner"]
    for _ in range(2):
        host.kill()
        host.start()
    assert events(host) == ["dead owner"] * 3 + ["restart loop"]
    assert any("died 3 times in a row soon after its start" in warning for warning in host.ask("status")["warnings"])
    host.stop()
    host.start()
    assert lines(host) == []
    assert not any("in a row" in warning for warning in host.ask("status")["warnings"])


@pytest.mark.promise("C14")
def test_unfinished_files(fleet: Fleet) -> None:
    host = fleet.host()
    host.add("something")
    host.stop()
    for name in ("fabrik.db.new", "state.snapshot.new"):
        (host.home / "store" / name).write_bytes(b"half")
    (host.home / "store" / "notes.txt").write_text("of the operator")
    host.start()
    assert [line.split(";")[0] for line in lines(host)] == [
        "unfinished file: fabrik.db.new was never finished",
        "unfinished file: state.snapshot.new was never finished",
    ]
    assert sorted(path.name for path in (host.home / "store").iterdir() if "new" in path.name) == []
    assert (host.home / "store" / "notes.txt").exists()
    assert titles(host) == {"something"}


@pytest.mark.promise("C14", "B12")
def test_an_edited_events_file(fleet: Fleet) -> None:
    host = fleet.host()
    host.add("something")
    host.stop()
    told = host.home / "events.ndjson"
    kept = told.read_text().splitlines()
    told.write_text("\n".join([*kept[:-1], kept[-1].replace("node.stopped", "node.stepped")]) + "\n")
    host.start()
    (line,) = lines(host)
    assert line.startswith("events file: ")
    assert (host.home / "events.ndjson.stale").read_text().splitlines()[:-1] == kept[:-1], "the edited one is kept"
    written = [json.loads(text) for text in told.read_text().splitlines()]
    assert [event["seq"] for event in written] == list(range(1, len(written) + 1))
    assert [json.dumps(event) for event in written[: len(kept)]] == [json.dumps(json.loads(text)) for text in kept]


@pytest.mark.promise("C14")
@pytest.mark.parametrize("how", ["cut", "flipped", "foreign", "ahead", pytest.param("rules", marks=pytest.mark.promise("I23"))])
def test_a_snapshot_that_proves_nothing(fleet: Fleet, how: str) -> None:
    host = fleet.host()
    fill(host, "item", 2_100)
    state = host.digest()
    host.stop()
    snapshot = host.home / "store" / "state.snapshot"
    whole = snapshot.read_bytes()
    match how:
        case "cut":
            snapshot.write_bytes(whole[: len(whole) // 2])
        case "flipped":
            snapshot.write_bytes(whole[:-5_000] + bytes([whole[-5_000] ^ 1]) + whole[-4_999:])
        case "foreign":
            other = fleet.new("other")
            other.ask("init", "--name", "other", "--mesh", "other")
            other.start()
            fill(other, "item", 2_100)
            other.stop()
            snapshot.write_bytes((other.home / "store" / "state.snapshot").read_bytes())
        case "rules":  # the fingerprint of a version that knew other kinds
            body = whole[:20] + bytes(32) + whole[52:-32]
            snapshot.write_bytes(body + blake3(body, derive_key_context="fabrik 2026 v1 snapshot").digest())
        case _:  # the database alone was put back
            database = host.home / "store" / "fabrik.db"
            kept = database.read_bytes()
            host.start()
            fill(host, "later", 2_100)
            host.stop()
            with database.open("r+b") as file:
                file.write(kept)
                file.truncate()
    host.start()
    found = lines(host)
    if how == "ahead":
        assert any(line.startswith("doubtful log: the database is older") for line in found)
        found = [line for line in found if not line.startswith(("events file", "doubtful log"))]
    (line,) = found
    assert line.startswith("stale snapshot: ")
    assert "ignored" in line
    assert ("other kinds, fields or rules" in line) == (how == "rules")
    assert host.digest() == state


@pytest.mark.promise("C14", "I4")
def test_ops_whose_events_a_crash_cut_off(fleet: Fleet) -> None:
    """Killed again and again within writes: whatever is cut off is told once, and in order."""
    host = fleet.host()
    for turn in range(5):
        host.call("items.add", title=f"turn {turn}")
        host.kill()
        host.start()
    told = host.events()
    assert [event["title"] for event in told if event["type"] == "item.added"] == [f"turn {turn}" for turn in range(5)]
    assert [event["seq"] for event in told] == list(range(1, len(told) + 1))


@pytest.mark.promise("C14")
def test_a_half_made_home_is_finished_by_the_next_init(fleet: Fleet) -> None:
    node = fleet.new("half")
    node.launch("init", "--name", "half", "--mesh", "test")
    assert node.process is not None
    while node.process.poll() is None and not (node.home / "identity" / "ed25519.key").exists():
        os.sched_yield()
    if node.process.poll() is None:
        node.send(signal.SIGKILL)
    node.process.wait(60)
    key = (node.home / "identity" / "ed25519.key").read_bytes()
    if not (node.home / "identity" / "genesis.cbor").exists():
        assert node.run("serve").returncode != 0, "half a home is not served"
        node.ask("init", "--name", "half", "--mesh", "test")
    assert (node.home / "identity" / "ed25519.key").read_bytes() == key, "the key is never made twice"
    node.start()
    assert lines(node) == []
