"""A log with two histories: every node can prove it to anybody, with nothing but the author's key."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from acceptance.fleet import PROGRAM, Fleet, environment
from acceptance.homes import address, image_of, restore_in_place


@pytest.mark.promise("I10")
def test_a_fork_is_proven_to_third_parties(fleet: Fleet, tmp_path: Path) -> None:
    host = fleet.host()
    one = fleet.member(host, "one")
    one.add("before the image")
    fleet.await_equal([host, one])
    one.stop()
    image = image_of(one, tmp_path / "image")
    one.start()
    one.add("after the image")
    fleet.await_equal([host, one])
    author, epoch = (one.ask("status")[name] for name in ("node_id", "epoch"))
    assert host.ask("ops", "forks")["forks"] == []
    one.stop()
    where = address(host)
    host.stop()
    restore_in_place(one, image)
    one.start()
    one.add("written in the dark")
    host.start("serve", "--listen", where)
    host.await_event("log.forked", author=author)
    (fork,) = host.ask("ops", "forks")["forks"]
    assert (fork["author"], fork["name"], fork["epoch"]) == (author, "one", epoch)
    printed = host.run("ops", "proof", fork["id"][:12])
    assert json.loads(printed.stdout) == fork["proof"]
    host.stop()
    assert host.ask("ops", "forks")["forks"] == [fork], "also with no node running"

    def verify(document: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Where there is no node and no home."""
        return subprocess.run(
            [PROGRAM, "ops", "verify", "-", *options, "--json"],
            env=environment(Path("/nonexistent")),
            capture_output=True,
            text=True,
            check=False,
            input=document,
        )

    says = json.loads(verify(printed.stdout, "--author", author).stdout)
    assert (says["holds"], says["proof"], says["author"], says["epoch"], says["seq"]) == (True, "fork", author, epoch, fork["seq"])
    assert verify(printed.stdout, "--author", host_key(fleet)).returncode == 7
    left, right = fork["proof"]["segments"]
    for segments in ([left, left], [right, left], [left, right[:-2] + ("00" if right[-2:] != "00" else "01")]):
        assert verify(json.dumps({**fork["proof"], "segments": segments})).returncode in {1, 7}


def host_key(fleet: Fleet) -> str:
    return str(fleet.nodes[0].ask("status")["node_id"])
