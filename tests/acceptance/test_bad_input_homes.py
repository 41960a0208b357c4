"""Broken and foreign files, taken ports, wrong settings and tokens, missing programs: one clear line, the documented status, nothing changed."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from acceptance.fleet import BOUND_S, FAST_LEASES, PROGRAM, Fleet, NodeProcess, environment, git, make_remote
from acceptance.gates import COMMIT, LONG_LEASES, QUICK_AGENT

STORE = Path("store", "fabrik.db")


def tree(home: Path) -> dict[str, str]:
    """Every file of a home with its content."""
    return {
        str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(home.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def refused(node: NodeProcess, status: int, *arguments: str, saying: str, trying: str = "", env: dict[str, str] | None = None) -> None:
    """The command ends by itself with this status and one line of cause and one of advice, and leaves the home as it was."""
    before = tree(node.home)
    command = [PROGRAM, "--home", str(node.home), *arguments]
    done = subprocess.run(command, env=environment() | (env or {}), capture_output=True, text=True, check=False, timeout=BOUND_S)
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    cause, *rest = done.stderr.splitlines()
    assert cause.startswith("fabrik-node: ")
    assert saying in cause
    assert len(rest) == 1
    assert rest[0].startswith("  try: ")
    assert trying in rest[0]
    assert "Traceback" not in done.stderr
    assert tree(node.home) == before


def stopped_node(fleet: Fleet) -> NodeProcess:
    node = fleet.new("node")
    node.ask("init", "--name", "node", "--mesh", "test")
    node.start()
    node.add("kept")
    node.stop()
    return node


def torn(store: Path) -> None:
    os.truncate(store, store.stat().st_size // 2)


def empty(store: Path) -> None:
    store.write_bytes(b"")


def no_database(store: Path) -> None:
    store.write_bytes(b"Dear diary, today I was a database.\n" * 1000)


def of_another_program(store: Path) -> None:
    store.unlink()
    with sqlite3.connect(store) as database:
        database.execute("CREATE TABLE notes (text)")
    database.close()


def of_a_newer_version(store: Path) -> None:
    with sqlite3.connect(store) as database:
        [known] = database.execute("PRAGMA user_version").fetchone()
        database.execute(f"PRAGMA user_version = {known + 1}")
    database.close()


def gone(store: Path) -> None:
    store.unlink()


@pytest.mark.parametrize(
    ("damage", "saying"),
    [
        (torn, "is cut short"),
        (empty, "is empty"),
        (no_database, "is not a SQLite database"),
        (of_another_program, "belongs to another program"),
        (of_a_newer_version, "newer version"),
        (gone, "there is no database"),
    ],
)
def test_a_database_that_is_not_ours_or_not_whole_is_named_and_left_alone(fleet: Fleet, damage: Callable[[Path], None], saying: str) -> None:
    node = stopped_node(fleet)
    damage(node.home / STORE)
    refused(node, 5, "serve", saying=saying)
    refused(node, 5, "items", "list", saying=saying)
    refused(node, 6, "items", "add", "x", saying="no node is running", trying=f"fabrik-node --home {node.home} serve")


def test_the_database_of_another_mesh_is_refused(fleet: Fleet) -> None:
    node, other = stopped_node(fleet), fleet.new("other")
    other.ask("init", "--mesh", "other")
    shutil.copy(other.home / STORE, node.home / STORE)
    for command in (("serve",), ("items", "list")):
        refused(node, 5, *command, saying="belongs to mesh", trying="--home")


def test_a_key_file_that_is_damaged_is_named_and_not_replaced(fleet: Fleet) -> None:
    node = stopped_node(fleet)
    key = node.home / "identity" / "ed25519.key"
    key.write_text("not a key\n")
    refused(node, 5, "serve", saying="is damaged", trying="restore it")


def test_addresses_that_can_not_be_used(fleet: Fleet) -> None:
    host, node = fleet.host(), stopped_node(fleet)
    taken = host.url.removeprefix("wss://").removesuffix("/crdt-sync")
    refused(
        node, 5, "serve", "--listen", "ws://0.0.0.0:7420", saying="refusing to listen on 0.0.0.0 without TLS", trying="--listen 0.0.0.0:7420, which speaks TLS"
    )
    refused(node, 5, "serve", "--listen", "ws://[::]:7420", saying="stays on loopback")
    refused(node, 2, "serve", "--listen", "somewhere", saying="is not HOST:PORT")
    refused(node, 2, "serve", "--listen", "127.0.0.1:99999", saying="is not HOST:PORT")
    refused(node, 5, "serve", "--peer", "ws://10.0.0.1:7420/crdt-sync", saying="stays on loopback")
    refused(node, 2, "serve", "--peer", "http://example.org", saying="is not the address of a peer")
    before = node.ask("status")["state_digest"]
    busy = node.run("serve", "--listen", taken)
    assert busy.returncode == 5
    assert busy.stderr.splitlines()[-2:] == [f"fabrik-node: can not listen on {taken}: Address already in use", "  try: --listen 127.0.0.1:0 takes a free port"]
    assert not (node.home / "owner.lock").exists() or node.ask("lock", "show")["owned"] is False
    assert node.ask("status")["state_digest"] == before
    node.start("serve", "--listen", "127.0.0.1:0")


def test_a_second_owner_and_a_second_init_are_refused(fleet: Fleet) -> None:
    host = fleet.host()
    assert host.process is not None
    before = host.digest()
    second = host.run("serve")
    assert second.returncode == 4
    assert f"is owned by process {host.process.pid} on " in second.stderr
    again = host.run("init")
    assert again.returncode == 4
    assert "is already node" in again.stderr
    assert host.digest() == before


@pytest.mark.parametrize(
    ("text", "saying"),
    [
        ("[agent]\ncomand = 'x'\n", "unknown key 'comand' in [agent]"),
        ("[agnet]\ncommand = 'x'\n", "unknown table or key 'agnet'"),
        ("[agent]\nslots = 'many'\n", "[agent] slots: Expected int, got str"),
        ("[agent]\nslots = 0\n", "slots must be 1 to 64"),
        ("[agent\n", "line 1"),
        ("[lease]\nttl_s = 5.0\n", "[lease]: ttl_s = 5 leaves no room for two beats of 10 s"),
    ],
)
def test_a_broken_configuration_is_named_with_file_and_key(fleet: Fleet, text: str, saying: str) -> None:
    node = stopped_node(fleet)
    (node.home / "config.toml").write_text(text)
    refused(node, 2, "serve", saying=saying, trying="config")
    assert [entry["title"] for entry in node.ask("items", "list")["items"]] == ["kept"]  # reading needs no settings


@pytest.mark.promise("F6", "F10")
def test_tokens_that_open_nothing(fleet: Fleet) -> None:
    host, fresh = fleet.host(), fleet.new("fresh")
    remote = make_remote(fleet.folder / "git")
    work = ("--command", COMMIT, "--remote", str(remote))
    token = fleet.token(host, "agent")
    for text in ("garbage", "fabrik1-", token[:-4] + ("aaaa" if token[-4:] != "aaaa" else "bbbb"), token[: len(token) // 2]):
        refused(fresh, 2, "join", text, saying="join token", trying="fabrik-node invite")
        refused(fresh, 2, "--rendezvous", text, *work, saying="join token", trying="fabrik-node invite")
    refused(fresh, 2, "--rendezvous", token, saying="command is empty", trying="--command CMD")
    refused(fresh, 2, "--rendezvous", token, "--command", "true", saying="needs the remote", trying="--remote URL")
    refused(fresh, 5, "--rendezvous", "ws://192.0.2.1:7420/crdt-sync", *work, saying="stays on loopback")
    assert [path.name for path in fresh.home.iterdir()] == ["config.toml"]
    other = fleet.new("other")
    other.ask("init", "--mesh", "other")
    refused(other, 4, "join", token, saying="belongs to mesh 'other', and the token is for another one", trying="--home DIR")
    refused(other, 4, "--rendezvous", token, *work, saying="belongs to mesh 'other'")
    fleet.new("first").ask("join", token)
    used = fresh.run("--rendezvous", token, *work)
    assert used.returncode == 7
    assert "was used" in used.stderr
    assert "fabrik-node invite" in used.stderr.splitlines()[-1]
    item = host.add("done after a second invitation")
    fresh.start("--rendezvous", fleet.token(host, "agent"), *work)
    host.await_stage(item, "Done")


@pytest.mark.promise("F10")
def test_an_agent_without_git_says_so_before_it_uses_its_token(fleet: Fleet) -> None:
    remote = make_remote(fleet.folder / "git")
    host, fresh = fleet.host(), fleet.new("fresh")
    item = host.add("waits for git")
    token = fleet.token(host, "agent")
    work = ("--command", COMMIT, "--remote", str(remote))
    before = host.digest()
    refused(fresh, 1, "--rendezvous", token, *work, saying="git is not on PATH", trying="install git", env={"PATH": "/nonexistent"})
    assert host.digest() == before
    assert host.stage(item) == "Backlog"
    fresh.start("--rendezvous", token, *work)
    host.await_stage(item, "Done")


def test_an_agent_whose_remote_is_away_says_so_and_goes_on_when_it_is_back(fleet: Fleet) -> None:
    remote = make_remote(fleet.folder / "git")
    away = remote.with_name("away.git")
    remote.rename(away)
    host = fleet.host(config=LONG_LEASES)
    item = host.add("waits for its remote")
    agent = fleet.agent(host, "one", "--remote", str(remote), "--command", COMMIT, config=LONG_LEASES + QUICK_AGENT)
    agent.await_line("can not claim work")
    assert any("can not be reached" in warning for warning in agent.ask("status")["warnings"])
    assert "can not claim work" in agent.run("status").stdout
    shown = host.ask("items", "show", item)["item"]
    assert (shown["stage"], shown["claim"], shown["attempts"], shown["hold"]) == ("Backlog", None, 0, None)
    away.rename(remote)
    host.await_stage(item, "Done")
    agent.await_true(lambda: agent.ask("status")["warnings"] == [], "the end of the warning")
    assert git(remote, "show", f"main:{item}.txt") == "waits for its remote"


@pytest.mark.promise("H28")
def test_without_a_node_reads_say_so_and_writes_are_refused(fleet: Fleet) -> None:
    nothing = fleet.new("nothing")
    for command in (("items", "list"), ("items", "add", "x"), ("runs", "list"), ("events",), ("invite",), ("serve",)):
        refused(nothing, 5, *command, saying="no node in", trying=f"fabrik-node --home {nothing.home} init")
    node = stopped_node(fleet)
    [item] = [entry["id"] for entry in node.ask("items", "list")["items"]]
    writes: tuple[tuple[str, ...], ...] = (
        ("items", "add", "x"),
        ("items", "edit", item, "--title", "x"),
        ("items", "move", item, "Coding"),
        ("items", "requeue", item),
        ("claims", "release", item),
        ("tombstone", item),
        ("invite",),
        ("events", "--follow"),
    )
    for write in writes:
        refused(node, 6, *write, saying="no node is running on", trying=f"fabrik-node --home {node.home} serve")
    read = node.run("items", "show", item)
    assert read.returncode == 0
    assert "no node is running on" in read.stderr
    assert "last change 20" in read.stderr
    refused(node, 3, "items", "show", "zzzzzz", saying="no item")


def test_a_home_that_is_no_folder_is_named(fleet: Fleet) -> None:
    node = fleet.new("node")
    (node.home / "file").write_text("")
    for command in (("init",), ("status",), ("items", "list"), ("items", "add", "x"), ("serve",)):
        done = subprocess.run(
            [PROGRAM, "--home", str(node.home / "file"), *command], env=environment(), capture_output=True, text=True, check=False, timeout=BOUND_S
        )
        assert done.returncode in (1, 2), command
        cause, advice = done.stderr.splitlines()
        assert cause.startswith(f"fabrik-node: {node.home / 'file'}")
        assert advice.startswith("  try: --home DIR")


@pytest.mark.promise("I24")
def test_a_command_line_that_is_interrupted_says_nothing_and_ends_as_documented(fleet: Fleet) -> None:
    host = fleet.host(config=FAST_LEASES)
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        with subprocess.Popen(
            [PROGRAM, "--home", str(host.home), "events", "--follow", "--json"], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as follower:
            try:
                assert follower.stdout is not None
                assert follower.stdout.readline().startswith('{"seq":1,')
                follower.send_signal(number)
                _, said = follower.communicate(timeout=BOUND_S)
            finally:
                follower.kill()
        assert follower.returncode == status
        assert said == ""
