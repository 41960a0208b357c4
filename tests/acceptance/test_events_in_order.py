"""The event stream: one gap-free sequence, as a file and as a command, over restart, kill and rotation."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import pytest
from acceptance.fleet import BOUND_S, FAST_LEASES, PROGRAM, Fleet, NodeProcess, environment

SMALL_FILES = FAST_LEASES + "[events]\nrotate_bytes = 1500\nkeep_files = 200\n"


class Tail:
    """What ``tail -F`` prints: it follows the name, and reads the old file to its end before it goes on with the new one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[str] = []
        self.files = 0
        self._file: IO[bytes] | None = None
        self._rest = b""

    def look(self) -> None:
        """Read what there is."""
        while True:
            if self._file is None:
                try:
                    self._file = self.path.open("rb")
                except FileNotFoundError:
                    return
                self.files += 1
            moved = os.fstat(self._file.fileno()).st_ino != self._inode()  # before the last read of the old one
            *whole, self._rest = (self._rest + self._file.read()).split(b"\n")
            self.lines += [line.decode() for line in whole]
            if not moved:
                return
            self.close()

    def _inode(self) -> int:
        """Of the file that has the name now, 0 when none has."""
        try:
            return self.path.stat().st_ino
        except FileNotFoundError:
            return 0

    def await_seq(self, node: NodeProcess, seq: int) -> None:
        """Until it has printed this event: the file follows the store at once, but after it."""

        def there() -> bool:
            self.look()
            return bool(self.lines) and json.loads(self.lines[-1])["seq"] >= seq

        node.await_true(there, f"event {seq} in {self.path}")

    def close(self) -> None:
        """Between two files, and at the end."""
        if self._file is not None:
            self._file.close()
            self._file = None


@pytest.mark.promise("B12")
def test_the_file_and_the_command_give_one_sequence_over_restart_kill_and_rotation(fleet: Fleet) -> None:
    host = fleet.host(config=SMALL_FILES)
    tail = Tail(host.home / "events.ndjson")
    for round_ in range(3):
        for number in range(6):
            host.add(f"item {round_}.{number}")
            tail.await_seq(host, host.ask("status")["events"])
        if round_ == 0:
            host.stop()
            tail.look()
            host.start()
        elif round_ == 1:
            with ThreadPoolExecutor(4) as pool:
                dying = [pool.submit(host.run, "items", "add", f"in flight {number}") for number in range(4)]
                host.kill()
                assert all(each.result().returncode in (0, 6) for each in dying)
            tail.look()
            host.start()
    printed = host.run("events", "--after", "0", "--json").stdout.splitlines()
    tail.await_seq(host, len(printed))
    tail.close()
    assert [json.loads(line)["seq"] for line in printed] == list(range(1, len(printed) + 1))
    assert tail.lines == printed
    assert tail.files >= 3, "the file was to be rotated"
    rotated = sorted(host.home.glob("events.ndjson.*"), key=lambda path: -int(path.suffix[1:]))
    kept = "".join(path.read_text() for path in [*rotated, host.home / "events.ndjson"])
    assert kept.splitlines() == printed
    kinds = [json.loads(line)["type"] for line in printed]
    added = [json.loads(line)["item"] for line in printed if json.loads(line)["type"] == "item.added"]
    assert sorted(added) == sorted(entry["id"] for entry in host.ask("items", "list")["items"])
    assert len(added) >= 18
    assert kinds.count("node.started") == 3
    assert kinds.count("node.stopped") == 1
    assert kinds.count("owner.died") == 1
    host.stop()
    (host.home / "events.ndjson").unlink()
    offline = host.run("events", "--after", "0", "--json")
    assert [json.loads(line)["seq"] for line in offline.stdout.splitlines()][: len(printed)] == list(range(1, len(printed) + 1))
    assert "no node is running" in offline.stderr


@pytest.mark.promise("B13")
def test_a_reader_that_comes_back_misses_nothing_and_gets_nothing_twice(fleet: Fleet) -> None:
    host = fleet.host()
    item = host.add("changes often")
    got: list[int] = []

    def read(until: int) -> None:
        """Follow from behind the last event until this number, then leave in the middle."""
        command = [PROGRAM, "--home", str(host.home), "events", "--after", str(got[-1] if got else 0), "--follow", "--json"]
        process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
        watchdog = threading.Timer(BOUND_S, process.kill)
        watchdog.start()
        assert process.stdout is not None
        for line in process.stdout:
            got.append(json.loads(line)["seq"])
            if got[-1] >= until:
                break
        watchdog.cancel()
        process.kill()
        process.wait()
        process.stdout.close()

    for round_ in range(4):
        for number in range(5):
            host.ask("items", "edit", item, "--priority", str(1 + round_ * 5 + number))
        read(host.ask("status")["events"] - 2)  # what came while nobody read, up to somewhere in the middle
        if round_ == 1:
            host.kill()
            host.start()
    read(host.ask("status")["events"])
    assert got == list(range(1, got[-1] + 1))
    edited = [event for event in host.events() if event["type"] == "item.edited"]
    assert len(edited) == 20
    parts = []
    at = 0
    while page := [json.loads(line) for line in host.run("events", "--after", str(at), "--limit", "7", "--json").stdout.splitlines()]:
        parts += [event["seq"] for event in page]
        at = parts[-1]
    assert parts == got
    beyond = host.run("events", "--after", "100000")
    assert beyond.returncode == 2
    assert "the newest is" in beyond.stderr


@pytest.mark.promise("B13", "E17")
def test_many_followers_see_each_change_once_and_in_one_order(fleet: Fleet) -> None:
    host = fleet.host()
    one = fleet.member(host, "one")
    items = [host.add(f"item {number}") for number in range(8)]
    for node in (host, one):
        for item in items:
            node.await_event("item.added", item=item)
        seen = [event["item"] for event in node.events() if event["type"] == "item.added"]
        assert sorted(seen) == sorted(items)
    pages = [host.run("events", "--after", "0", "--json").stdout for _ in range(3)]
    assert [page[: len(pages[0])] for page in pages] == pages[:1] * 3
