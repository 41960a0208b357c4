"""No node is running, or it goes away: reads are answered from the store and say so; writes are refused; nothing hangs."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fabrik_node.cli import client
from fabrik_node.errors import NoNode, Unreachable

ITEM = "01k8qj3v6w0000000000000001"


@pytest.mark.parametrize("json_flag", [[], ["--json"]])
def test_reads_come_from_the_store_with_its_date(cli: Any, hooks: Any, home: Any, json_flag: list[str]) -> None:
    printed = cli("items", "list", *json_flag)
    assert printed.status == 0
    assert printed.err == f"fabrik-node: no node is running on {home.home}: answered from its store, last change 2026-11-20T10:00:00.000Z\n"
    assert hooks.called == [("offline", home.home)]
    if json_flag:
        assert json.loads(printed.out)["source"] == "store"
    else:
        assert printed.text.splitlines()[-1] == "as of 2026-11-20T10:00:00.000Z, from the store of alpha, which is not running"


@pytest.mark.parametrize(
    "argv",
    [
        ["items", "add", "T"],
        ["items", "move", ITEM, "qa"],
        ["items", "edit", ITEM, "--title", "x"],
        ["items", "requeue", ITEM],
        ["items", "resolve", ITEM],
        ["claims", "release", ITEM],
        ["claims", "expire", ITEM, "--yes"],
        ["claims", "keep", ITEM, "abcd"],
        ["tombstone", ITEM],
        ["invite"],
    ],
    ids=" ".join,
)
def test_writes_are_refused(cli: Any, hooks: Any, home: Any, argv: list[str]) -> None:
    printed = cli(*argv)
    assert (printed.status, printed.out) == (NoNode.exit_status, b"")
    assert printed.err == f"fabrik-node: no node is running on {home.home}, and this needs one\n  try: fabrik-node --home {home.home} serve\n"
    assert hooks.called == []


@pytest.mark.promise("D52")
def test_what_to_type_is_for_the_home_that_was_named(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Typed without it, ``init`` would make a mesh in another home."""
    spaced = tmp_path / "a home"
    printed = cli("items", "list", "--home", str(spaced), at_home=False)
    assert (printed.status, printed.err) == (5, f"fabrik-node: there is no node in {spaced} yet\n  try: fabrik-node --home '{spaced}' init\n")
    assert cli("--home", str(spaced), "status", at_home=False).err.endswith(f"  try: fabrik-node --home '{spaced}' init\n")
    monkeypatch.setenv("FABRIK_HOME", str(spaced))
    assert cli("items", "list", at_home=False).err.endswith("  try: fabrik-node init\n"), "the environment is the same next time"


def test_streams_come_from_the_store_but_can_not_be_followed(cli: Any, home: Any) -> None:
    printed = cli("events", "--json")
    assert [json.loads(line)["seq"] for line in printed.text.splitlines()] == [1, 2]
    assert "answered from its store" in printed.err
    followed = cli("events", "--follow")
    assert (followed.status, followed.out) == (NoNode.exit_status, b"")
    assert "--follow needs one" in followed.err


def test_a_dead_nodes_socket_counts_as_no_node(cli: Any, home: Any) -> None:
    home.socket.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(home.socket))
    home.owner_lock.write_text(f"pid=1\nsocket={home.socket}\n", encoding="utf-8")
    assert home.socket.exists()
    assert "answered from its store" in cli("items", "list").err


@contextmanager
def _peer(path: Path, act: Callable[[socket.socket], object]) -> Iterator[None]:
    """One connection is accepted and left to ``act``."""
    path.parent.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(4)
        listening.settimeout(20)

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                act(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join(timeout=20)
        assert not thread.is_alive()


def test_a_node_that_dies_in_the_middle_leaves_doubt_and_says_so(cli: Any, home: Any) -> None:
    with _peer(home.socket, lambda connection: [connection.recv(65536), connection.send(b'{"ok":true,"da')]):
        printed = cli("items", "add", "T")
    assert (printed.status, printed.out) == (Unreachable.exit_status, b"")
    assert printed.err == "fabrik-node: the node went away before it answered items.add: whether it was done is not known\n  try: fabrik-node status\n"


def test_a_node_that_does_not_answer_is_not_waited_for_for_ever(cli: Any, home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ANSWER_WAIT_S", 0.05)
    done = threading.Event()
    with _peer(home.socket, lambda _connection: done.wait(20)):
        printed = cli("items", "add", "T")
        done.set()
    assert printed.status == Unreachable.exit_status
    assert "did not answer items.add" in printed.err
    assert printed.err.endswith("  try: fabrik-node lock show\n"), "which asks no node"


@pytest.mark.parametrize("answer", [b"not json\n", b"[]\n", b'{"ok":true}\n', b'{"ok":false}\n'])
def test_rubbish_from_the_socket_is_an_error_not_a_traceback(cli: Any, home: Any, answer: bytes) -> None:
    with _peer(home.socket, lambda connection: [connection.recv(65536), connection.send(answer)]):
        printed = cli("items", "list")
    assert (printed.status, printed.out) == (1, b"")
    assert printed.err.startswith("fabrik-node: the node")


def test_leaving_a_followed_stream_frees_the_node(cli: Any, service: Any, home: Any) -> None:
    service.hang_after_stream = True
    with client.Client.connect(home) as connection:  # type: ignore[union-attr]
        answers = connection.stream("events", {"after": 0, "follow": True}, follow=True)
        assert [next(answers)["seq"], next(answers)["seq"]] == [1, 2]
        assert service.streaming.wait(20)
        assert not service.stream_closed.is_set()
    assert service.stream_closed.wait(20)


@pytest.mark.parametrize("argv", [["serve"], ["--rendezvous", "fabrik1token"]], ids=" ".join)
def test_serving_passes_on_every_flag(cli: Any, hooks: Any, argv: list[str]) -> None:
    flags = "--name n --listen 127.0.0.1:1 --peer ws://a --peer ws://b --command c --qa q --remote r --base b --agent a --label x --label y --slots 3 --drain 2m --log-level debug"
    assert cli(*argv, *flags.split()).status == 0
    (called, options) = hooks.called[0]
    assert called == "serve"
    assert (options.name, options.listen, options.peers, options.command, options.qa) == ("n", "127.0.0.1:1", ["ws://a", "ws://b"], "c", "q")
    assert (options.remote, options.base, options.agent, options.labels, options.slots) == ("r", "b", "a", ["x", "y"], 3)
    assert (options.drain_s, options.log_level, options.rendezvous) == (120.0, "debug", "fabrik1token" if "--rendezvous" in argv else "")


def test_the_home_is_the_flags_then_the_variables(cli: Any, hooks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FABRIK_HOME", str(tmp_path / "variable"))
    cli("init", at_home=False)
    cli("--home", str(tmp_path / "flag"), "init", at_home=False)
    cli("--home", str(tmp_path / "flag"), "init", "--home", str(tmp_path / "later"), at_home=False)
    assert [home.name for _, (home, _, _) in hooks.called] == ["variable", "flag", "later"]
