"""Every command: what it asks, that its JSON is clean, and that no command is forgotten here."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import click
import pytest

from fabrik_node.cli.hooks import NodeAnswer
from fabrik_node.cli.main import root
from fabrik_node.errors import AuthError, FabrikError, NotInitialised, Unreachable, UsageError

ITEM = "01k8qj3v6w0000000000000001"
RUN = "01k8qj4v6w0000000000000009"
QUESTION = "01k8qj4v6w0000000000000007"

# argv, what the node is asked (None: nothing), with which arguments
CALLS: list[tuple[list[str], str | None, dict[str, Any]]] = [
    (["status"], "status", {}),
    (["version"], None, {}),
    (["whoami"], "whoami", {"folder": "/"}),
    (["init", "--name", "n", "--mesh", "m"], None, {}),
    (["join", "token"], None, {}),
    (["join", "wss://10.0.0.5:7420", "--fingerprint", "abab-abab-abab-abab"], None, {}),
    (["lock", "show"], None, {}),
    (["doctor"], "status", {}),
    (["doctor", "--no-remote"], "status", {}),
    (["invite"], "invite", {"role": "agent", "ttl_s": 3600.0}),
    (["invite", "--role", "peer", "--ttl", "15m", "--url", "ws://127.0.0.1:1"], "invite", {"role": "peer", "ttl_s": 900.0, "url": "ws://127.0.0.1:1"}),
    (["invite", "--reusable"], "invite", {"role": "agent", "ttl_s": 3600.0, "reusable": True}),
    (["invite", "--max-uses", "7"], "invite", {"role": "agent", "ttl_s": 3600.0, "max_uses": 7}),
    (["invitations", "list"], "invitations.list", {}),
    (["invitations", "list", "--all"], "invitations.list", {"all": True}),
    (["invitations", "withdraw", "abcd"], "invitations.withdraw", {"id": "abcd"}),
    (["items", "add", "T"], "items.add", {"title": "T"}),
    (
        ["items", "add", "T", "--body", "B", "--label", "a", "--label", "b", "--priority", "-3", "--depends-on", "01k8"],
        "items.add",
        {"title": "T", "body": "B", "labels": ["a", "b"], "priority": -3, "depends_on": ["01k8"]},
    ),
    (["items", "add", "T", "--on", "beta"], "items.add", {"title": "T", "on": "beta"}),
    (["items", "edit", ITEM, "--on", "beta"], "items.edit", {"id": ITEM, "on": "beta"}),
    (["items", "list"], "items.list", {}),
    (
        ["items", "list", "--stage", "qa", "--reason", "blocked", "--label", "x", "--held", "--limit", "3"],
        "items.list",
        {"stage": "qa", "reason": "blocked", "label": "x", "held": True, "limit": 3},
    ),
    (["items", "show", ITEM], "items.show", {"id": ITEM}),
    (["items", "move", ITEM, "merge", "--branch", "b", "--commits-ahead", "2"], "items.move", {"id": ITEM, "to": "merge", "branch": "b", "commits_ahead": 2}),
    (["items", "move", ITEM, "done", "--merge-commit", "ab"], "items.move", {"id": ITEM, "to": "done", "merge_commit": "ab"}),
    (["items", "move", ITEM, "archived", "--reason", "Blocked"], "items.move", {"id": ITEM, "to": "archived", "reason": "Blocked"}),
    (["items", "edit", ITEM, "--title", "N", "--no-labels"], "items.edit", {"id": ITEM, "title": "N", "labels": []}),
    (["items", "edit", ITEM, "--priority", "0", "--no-depends-on"], "items.edit", {"id": ITEM, "priority": 0, "depends_on": []}),
    (["items", "requeue", ITEM], "items.requeue", {"id": ITEM}),
    (["items", "requeue", ITEM, "--anew"], "items.requeue", {"id": ITEM, "anew": True}),
    (["items", "resolve", ITEM], "items.resolve", {"id": ITEM}),
    (["items", "resolve", ITEM, "--branch", "mended"], "items.resolve", {"id": ITEM, "branch": "mended"}),
    (["items", "history", ITEM], "items.history", {"id": ITEM}),
    (["ops", "forks"], "ops.forks", {}),
    (["ops", "check"], "ops.check", {}),
    (["ops", "proof", "9f9f"], "ops.proof", {"id": "9f9f"}),
    (["claims", "list"], "claims.list", {}),
    (["claims", "list", "--all"], "claims.list", {"all": True}),
    (["claims", "show", ITEM], "claims.show", {"item": ITEM}),
    (["claims", "show", ITEM, "--all"], "claims.show", {"item": ITEM, "all": True}),
    (["claims", "conflicts", "--item", ITEM, "--limit", "5"], "claims.conflicts", {"item": ITEM, "limit": 5}),
    (["steps", "list", ITEM], "steps.list", {"id": ITEM}),
    (["steps", "done", ITEM, "deploy"], "steps.done", {"id": ITEM, "name": "deploy"}),
    (["steps", "again", ITEM, "deploy"], "steps.again", {"id": ITEM, "name": "deploy"}),
    (["approvals", "list"], "approvals.list", {}),
    (["approvals", "list", "--all", "--item", ITEM], "approvals.list", {"all": True, "item": ITEM}),
    (["approvals", "show", QUESTION], "approvals.show", {"id": QUESTION}),
    (["approvals", "answer", QUESTION, "tin", "--note", "cheap"], "approvals.answer", {"id": QUESTION, "answer": "tin", "note": "cheap"}),
    (["claims", "release", ITEM, "--reason", "stuck"], "claims.release", {"item": ITEM, "reason": "stuck"}),
    (["claims", "expire", ITEM], "claims.expire", {"item": ITEM}),
    (["claims", "expire", ITEM, "--claim", "abcd", "--yes"], "claims.expire", {"item": ITEM, "claim": "abcd", "yes": True}),
    (["claims", "keep", ITEM, "abcd"], "claims.keep", {"item": ITEM, "claim": "abcd"}),
    (["claims", "keep", ITEM, "abcd", "--new-item"], "claims.keep", {"item": ITEM, "claim": "abcd", "new_item": True}),
    (["tombstone", ITEM, "--reason", "double"], "tombstone", {"id": ITEM, "reason": "double"}),
    (["tombstones", "list"], "tombstones.list", {}),
    (["nodes", "list"], "nodes.list", {}),
    (["nodes", "pending"], "nodes.pending", {}),
    (["nodes", "approve", "efef"], "nodes.approve", {"key": "efef", "role": "agent"}),
    (["nodes", "approve", "efef", "--role", "peer"], "nodes.approve", {"key": "efef", "role": "peer"}),
    (["nodes", "reject", "efef"], "nodes.reject", {"key": "efef"}),
    (["nodes", "role", "beta", "peer"], "nodes.role", {"key": "beta", "role": "peer"}),
    (["nodes", "revoke", "beta"], "nodes.revoke", {"key": "beta"}),
    (["nodes", "revoke", "9f9f", "--keep-nothing"], "nodes.revoke", {"key": "9f9f", "keep_nothing": True}),
    (["nodes", "revoke", "beta", "--keep", "first", "--keep", "2:7:1"], "nodes.revoke", {"key": "beta", "keep": ["first", "2:7:1"]}),
    (["nodes", "retire", "beta"], "nodes.retire", {"key": "beta"}),
    (["keys", "list"], "keys.list", {}),
    (["keys", "recover", "--recovery-key", "efef.key", "--revoke", "beta"], "keys.recover", {"recovery": "efef", "revoke": ["beta"]}),
    (["keys", "use", "newer.key"], None, {}),
    (["keys", "next", "--move", "/media/stick/next.key"], None, {}),
    (["why", ITEM], "why", {"id": ITEM}),
    (["runs", "list"], "runs.list", {}),
    (
        ["runs", "list", "--item", ITEM, "--node", "beta", "--state", "running", "--limit", "5"],
        "runs.list",
        {"item": ITEM, "node": "beta", "state": "running", "limit": 5},
    ),
    (["runs", "list", "--ask"], "runs.list", {"ask": True}),
    (["runs", "show", RUN], "runs.show", {"id": RUN}),
    (["runs", "cancel", RUN, "--reason", "not needed"], "runs.cancel", {"id": RUN, "reason": "not needed"}),
    (["runs", "recovery"], "runs.recovery", {}),
    (["db", "recovery"], "runs.recovery", {}),
    (["runs", "clean"], "runs.clean", {}),
    (["runs", "clean", "--dry-run"], "runs.clean", {"dry_run": True}),
    (["drain"], "drain", {}),
    (["drain", "--reason", "new disk"], "drain", {"reason": "new disk"}),
    (["drain", "--off"], "drain", {"off": True}),
    (["runs", "show", RUN, "--no-ask"], "runs.show", {"id": RUN, "ask": False}),
]
STREAMS: list[tuple[list[str], str, dict[str, Any]]] = [
    (["events"], "events", {"after": 0, "follow": False}),
    (["events", "--after", "7", "--limit", "2"], "events", {"after": 7, "limit": 2, "follow": False}),
    (["runs", "logs", RUN, "--offset", "5"], "runs.logs", {"id": RUN, "offset": 5, "follow": False}),
    (["runs", "watch"], "runs.watch", {"follow": True}),
    (["runs", "watch", RUN, "--item", ITEM, "--node", "beta"], "runs.watch", {"follow": True, "id": RUN, "item": ITEM, "node": "beta"}),
    (["db", "dump"], "db.dump", {"follow": False}),
    (["db", "dump", "--only", "op", "--only", "head"], "db.dump", {"follow": False, "only": ["op", "head"]}),
    (["runs", "logs", RUN, "--follow"], "runs.logs", {"id": RUN, "follow": True}),
]
ELSEWHERE = {"ask", "step", "keys rotate", "serve", "lock clear", "ops verify"}


def leaves(command: click.Command = root, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield " ".join(path), command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from leaves(found, (*path, name))


def _name(argv: list[str]) -> str:
    names = {name for name, _ in leaves()}
    return " ".join(argv[:2]) if " ".join(argv[:2]) in names else argv[0]


def test_no_command_is_left_out_here() -> None:
    assert {_name(argv) for argv, *_ in [*CALLS, *STREAMS]} | ELSEWHERE == {name for name, _ in leaves()}


@pytest.mark.parametrize(("argv", "op", "args"), CALLS, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
@pytest.mark.parametrize("flag_first", [True, False])
def test_json_is_one_document_and_nothing_else(cli: Any, service: Any, argv: list[str], op: str | None, args: dict[str, Any], flag_first: bool) -> None:
    printed = cli("--json", *argv) if flag_first else cli(*argv, "--json")
    assert printed.status == 0, printed.err
    assert isinstance(json.loads(printed.out), dict)
    assert printed.out.endswith(b"}\n")
    assert b"\x1b" not in printed.out
    assert service.asked == ([] if op is None else [(op, args)])


@pytest.mark.promise("B1")
@pytest.mark.parametrize(("argv", "op", "args"), CALLS, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_people_get_short_lines_without_colour_when_there_is_no_terminal(cli: Any, service: Any, argv: list[str], op: str | None, args: dict[str, Any]) -> None:
    printed = cli(*argv)
    assert printed.status == 0, printed.err
    assert printed.text.strip()
    assert "\x1b" not in printed.text
    assert "None" not in printed.text
    if argv[0] != "doctor" and op in {
        "status",
        "items.list",
        "items.show",
        "items.history",
        "claims.list",
        "claims.show",
        "claims.conflicts",
        "tombstones.list",
        "nodes.list",
        "runs.list",
        "runs.show",
        "why",
        "ops.forks",
        "ops.check",
    }:
        assert printed.text.splitlines()[-1] == "as of 2026-11-20T10:00:00.000Z, from node alpha, 2 peers connected"


@pytest.mark.parametrize(("argv", "op", "args"), STREAMS, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_streams_are_one_object_per_line(cli: Any, service: Any, argv: list[str], op: str, args: dict[str, Any]) -> None:
    printed = cli(*argv, "--json")
    assert printed.status == 0, printed.err
    parts = [json.loads(line) for line in printed.text.splitlines()]
    assert parts
    assert service.asked == [(op, args)]


def test_logs_come_out_as_they_are(cli: Any, service: Any) -> None:
    assert cli("runs", "logs", RUN).out == b"first\nsecond\n"


def test_the_end_of_a_log_says_what_became_of_the_run(cli: Any, service: Any) -> None:
    assert json.loads(cli("runs", "logs", RUN, "--json").text.splitlines()[-1]) == {"end": True, "state": "completed"}


def test_events_are_numbered_lines(cli: Any, service: Any) -> None:
    lines = cli("events").text.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2"]
    assert "item.added" in lines[0]
    assert "title=Mend the roof" in lines[0]


def test_an_invitation_is_the_only_thing_on_stdout(cli: Any, service: Any) -> None:
    printed = cli("invite", "--ttl", "1h")
    assert printed.out == b"fabrik1qtoken\n"
    assert "--rendezvous TOKEN" in printed.err


def test_a_body_can_come_from_a_file(cli: Any, service: Any, tmp_path: Any) -> None:
    (tmp_path / "body.md").write_text("What to do: ünïcode\n", encoding="utf-8")
    assert cli("items", "add", "T", "--body-file", str(tmp_path / "body.md")).status == 0
    assert service.asked == [("items.add", {"title": "T", "body": "What to do: ünïcode\n"})]


@pytest.mark.parametrize(
    ("argv", "cause"),
    [
        (["items", "add", "T", "--body", "x", "--body-file", "y"], "--body and --body-file exclude each other"),
        (["items", "add", "T", "--body-file", "/nowhere/at/all"], "can not read /nowhere/at/all: No such file or directory"),
        (["items", "edit", ITEM, "--label", "a", "--no-labels"], "--label and its opposite exclude each other"),
    ],
)
def test_contradictions_are_refused_before_the_node_is_asked(cli: Any, service: Any, argv: list[str], cause: str) -> None:
    printed = cli(*argv)
    assert (printed.status, printed.out, printed.err.splitlines()[0]) == (2, b"", f"fabrik-node: {cause}")
    assert service.asked == []


def test_a_title_with_any_characters_arrives_as_typed(cli: Any, service: Any) -> None:
    title = 'quote " backslash \\ newline \n tab \t nul-free ünïcode 漢字 🏠'
    assert cli("items", "add", title).status == 0
    assert service.asked == [("items.add", {"title": title})]


@pytest.mark.promise("H28")
def test_status_of_a_machine_without_a_node_succeeds(cli: Any, hooks: Any, tmp_path: Any) -> None:
    printed = cli("--home", str(tmp_path / "fresh"), "status", "--json", at_home=False)
    assert printed.status == 0
    assert printed.data["node"] is None
    assert printed.data["as_of"]
    assert printed.err == f"fabrik-node: no node here yet: {tmp_path / 'fresh'}\n  try: fabrik-node --home {tmp_path / 'fresh'} init\n"
    assert not (tmp_path / "fresh").exists(), "looking makes nothing"


@pytest.mark.parametrize("argv", [argv for argv, op, _ in [*CALLS, *STREAMS] if op not in {None, "status"}], ids=" ".join)
def test_other_commands_say_how_to_make_a_node(cli: Any, tmp_path: Any, argv: list[str]) -> None:
    printed = cli("--home", str(tmp_path / "fresh"), *argv, at_home=False)
    assert (printed.status, printed.out) == (NotInitialised.exit_status, b"")
    assert printed.err == f"fabrik-node: there is no node in {tmp_path / 'fresh'} yet\n  try: fabrik-node --home {tmp_path / 'fresh'} init\n"


@pytest.mark.parametrize(
    "error", [AuthError("no token", "show it"), Unreachable("128 connections are open", "later"), UsageError("another version", "version")]
)
def test_a_node_that_refuses_doctor_is_there(cli: Any, service: Any, hooks: Any, error: FabrikError) -> None:
    service.fail = error
    assert cli("doctor", "--no-remote").status == 0
    [(answer, remote)] = [what for name, what in hooks.called if name == "doctor"]
    assert (answer.status, answer.refused, answer.error, answer.hint, remote) == (None, True, str(error), error.hint, None)


def test_doctor_asks_nobody_where_nobody_serves(cli: Any, hooks: Any) -> None:
    hooks.serve_status = 1  # the answer with a failure
    assert cli("doctor").status == 1
    [(answer, remote)] = [what for name, what in hooks.called if name == "doctor"]
    assert (answer, remote) == (NodeAnswer(), "")
    cli("doctor", "--remote", "/srv/git/program.git")
    assert hooks.called[-1] == ("doctor", (NodeAnswer(), "/srv/git/program.git"))


@pytest.mark.parametrize("tty", [True, False])
def test_what_another_host_printed_does_not_reach_the_terminal_as_it_is(cli: Any, service: Any, monkeypatch: pytest.MonkeyPatch, tty: bool) -> None:
    text = "a\x1b[2Jb\r\nc\x07\n"
    owner = {"owner": "beta", "as_of": "2026-11-20T10:00:00.000Z", "begins": 5, "size": 16}
    monkeypatch.setitem(sys.modules[type(service).__module__].STREAMED, "runs.logs", [owner, {"offset": 16, "text": text}, {"end": True, "state": "completed"}])
    monkeypatch.setattr("fabrik_node.cli.session._is_terminal", lambda: tty)
    printed = cli("runs", "logs", RUN)
    assert printed.out == (b"a\\x1b[2Jb \nc\\x07\n" if tty else text.encode())
    assert "output of beta, which was asked at 2026-11-20T10:00:00.000Z: from byte 5 of 16" in printed.err
    assert f"try: fabrik-node runs logs {RUN} --offset 0, for all of it" in printed.err


def test_who_waits_for_the_begin_of_an_item_looks_once_and_misses_no_run_that_is_over(cli: Any, service: Any) -> None:
    assert json.loads(cli("items", "add", "T", "--begun", "--json").out)["run"]["run_id"] == RUN
    assert service.asked == [("items.add", {"title": "T"}), ("runs.watch", {"follow": True, "item": ITEM, "ended": True})]
