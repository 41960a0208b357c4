"""Moves that the table does not have, on a real node through the command line: refused, explained, and without any effect."""

from __future__ import annotations

import pytest
from acceptance.fleet import Fleet, NodeProcess

COMMIT = "ab" * 20
ARGUMENTS = {
    "Backlog": (),
    "Coding": (),
    "Qa": (),
    "Merge": ("--branch", "work", "--commits-ahead", "2"),
    "Done": ("--merge-commit", COMMIT),
    "Archived": ("--reason", "ReviewHeld"),
}
LEGAL = {
    "Backlog": {"Coding", "Archived"},
    "Coding": {"Qa", "Backlog", "Archived"},
    "Qa": {"Merge", "Coding", "Backlog", "Archived"},
    "Merge": {"Done", "Coding", "Backlog", "Archived"},
    "Done": {"Archived"},
    "Archived": {"Backlog", "Coding", "Qa", "Merge"},
}
"""Written down here once more, so that a change of the product's table is a change of this promise."""
WAYS = {
    "Backlog": (),
    "Coding": ("Coding",),
    "Qa": ("Coding", "Qa"),
    "Merge": ("Coding", "Qa", "Merge"),
    "Done": ("Coding", "Qa", "Merge", "Done"),
    "Archived": ("Archived",),
}
REASONS = ("Completed", "Abandoned", "Superseded", "Blocked", "MergeFailed", "ReviewHeld")


def item_in(node: NodeProcess, stage: str) -> str:
    item = node.add(f"in {stage}")
    for step in WAYS[stage]:
        node.ask("items", "move", item, step, *ARGUMENTS[step])
    return item


def refused(node: NodeProcess, status: int, *arguments: str, saying: str) -> str:
    """The command is refused with this status and one line of cause, and nothing changes."""
    before = node.digest()
    done = node.run(*arguments)
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    cause, *rest = done.stderr.splitlines()
    assert cause.startswith("fabrik-node: ")
    assert saying in cause
    assert len(rest) == 1
    assert rest[0].startswith("  try: ")
    assert node.digest() == before
    return done.stderr


@pytest.mark.promise("E1")
@pytest.mark.parametrize("start", list(LEGAL))
def test_only_the_moves_of_the_table_are_made(fleet: Fleet, start: str) -> None:
    host = fleet.host()
    item = item_in(host, start)
    for target in LEGAL:
        if target not in LEGAL[start]:
            told = refused(host, 5, "items", "move", item, target, *ARGUMENTS[target], saying=f"an item can not move from {start}")
            assert all(legal in told for legal in LEGAL[start])
    assert host.stage(item) == start
    as_json = host.run("items", "move", item, start, *ARGUMENTS[start], "--json")
    assert (as_json.returncode, as_json.stdout) == (5, "")
    for target in LEGAL[start]:
        other = item_in(host, start)
        moved = host.ask("items", "move", other, target, *ARGUMENTS[target])
        assert moved["item"]["stage"] == target
        assert moved["superseded"] is None


@pytest.mark.promise("E2")
def test_a_merge_of_nothing_is_refused(fleet: Fleet) -> None:
    host = fleet.host()
    item = item_in(host, "Qa")
    for number in ("0", "-1"):
        refused(host, 5, "items", "move", item, "Merge", "--branch", "work", "--commits-ahead", number, saying="there is nothing to merge")
    refused(host, 2, "items", "move", item, "Merge", "--branch", "work", saying="how many commits")
    refused(host, 2, "items", "move", item, "Merge", "--commits-ahead", "1", saying="the branch")
    refused(host, 2, "items", "move", item, "Merge", "--branch", "", "--commits-ahead", "1", saying="branch")
    assert host.stage(item) == "Qa"
    moved = host.ask("items", "move", item, "Merge", "--branch", "work", "--commits-ahead", "1")["item"]
    assert moved["stage_data"] == {"feature_branch": "work", "commits_ahead": 1}
    refused(host, 2, "items", "move", item, "Done", "--merge-commit", "not hex", saying="not a git object id")
    refused(host, 2, "items", "move", item, "Done", "--merge-commit", "abcd", saying="40 or 64 hex digits")


@pytest.mark.promise("E3")
def test_each_of_the_six_reasons_is_reached_shown_and_filtered(fleet: Fleet) -> None:
    host = fleet.host()
    one = fleet.member(host, "one")
    items = {reason: host.add(f"for {reason}") for reason in REASONS}
    for reason, item in items.items():
        host.ask("items", "move", item, "Archived", "--reason", reason)
    fleet.await_equal([host, one])
    for node in (host, one):
        for reason, item in items.items():
            shown = node.ask("items", "show", item)["item"]
            assert shown["stage_data"]["reason"] == reason
            assert f"Archived {reason}" in node.run("items", "show", item).stdout
            assert [entry["id"] for entry in node.ask("items", "list", "--reason", reason)["items"]] == [item]
        assert len(node.ask("items", "list", "--stage", "archived")["items"]) == 6
        board = node.run("items", "list").stdout
        assert all(f"Archived {reason}" in board for reason in REASONS)
    assert [entry["id"] for entry in host.ask("items", "list", "--reason", "merge-failed")["items"]] == [items["MergeFailed"]]
    refused(host, 2, "items", "list", "--reason", "Bored", saying="no archive reason 'Bored'")
    other = host.add("not archived")
    refused(host, 2, "items", "move", other, "Archived", saying="archiving needs a reason")
    refused(host, 2, "items", "move", other, "Archived", "--reason", "Bored", saying="no archive reason 'Bored'")
    for reason in ("Completed", "Abandoned", "Superseded"):
        told = refused(host, 5, "items", "move", items[reason], "Backlog", saying=f"from Archived ({reason})")
        assert "nowhere" in told
    for reason in ("Blocked", "MergeFailed", "ReviewHeld"):
        assert host.ask("items", "move", items[reason], "Backlog")["item"]["stage"] == "Backlog"


@pytest.mark.promise("E1", "I25")
def test_ids_that_name_nothing_or_too_much_change_nothing(fleet: Fleet) -> None:
    host = fleet.host()
    items = [host.add("a"), host.add("b")]
    shared = items[0][: next(at for at in range(26) if items[0][at] != items[1][at])]
    assert len(shared) >= 4, "two ids of one moment begin alike"
    unknown = "0000000000000000000000zzzz"
    for command in (("items", "show"), ("items", "history"), ("claims", "show"), ("items", "requeue"), ("claims", "release"), ("tombstone",)):
        refused(host, 3, *command, unknown, saying=f"no item '{unknown}'")
        told = refused(host, 4, *command, shared, saying="is ambiguous")
        assert all(item in told for item in items)
    refused(host, 3, "items", "move", unknown, "Coding", saying=f"no item '{unknown}'")
    refused(host, 4, "items", "move", shared, "Coding", saying="is ambiguous")
    refused(host, 3, "items", "edit", unknown, "--title", "x", saying="no item")
    refused(host, 3, "items", "add", "x", "--depends-on", unknown, saying="no item")
    refused(host, 3, "runs", "show", unknown, saying="no run")
    refused(host, 3, "runs", "logs", unknown, saying="no run")
    refused(host, 5, "items", "edit", items[0], "--depends-on", items[0], saying="would depend on itself")
    refused(host, 2, "items", "edit", items[0], saying="nothing to change")
    refused(host, 2, "items", "add", " ", saying="needs a title")
    refused(host, 2, "items", "move", items[0], "Limbo", saying="no stage 'Limbo'")
    refused(host, 5, "items", "requeue", items[0], saying="is not held")
    refused(host, 5, "claims", "release", items[0], saying="is not claimed")
    refused(host, 3, "claims", "show", items[0], saying="was never claimed")
    host.ask("tombstone", items[0])
    refused(host, 3, "items", "show", items[0], saying="was deleted")
    refused(host, 5, "tombstone", items[0], saying="is deleted already")
    assert host.ask("items", "show", items[1][:12])["item"]["id"] == items[1]


@pytest.mark.promise("E27")
def test_values_that_are_too_large_are_refused_with_their_limit(fleet: Fleet) -> None:
    host = fleet.host()
    item = item_in(host, "Qa")
    refused(host, 2, "items", "add", "x" * 201, saying="the title has 201 bytes, more than the 200")
    refused(host, 2, "items", "add", "ü" * 101, saying="the title has 202 bytes")
    refused(host, 2, "items", "edit", item, "--body", "x" * 32_769, saying="the body has 32769 bytes")
    refused(host, 2, "items", "edit", item, "--label", "x" * 65, saying="a label has 65 bytes")
    refused(host, 2, "items", "edit", item, *(part for number in range(33) for part in ("--label", f"l{number}")), saying="33 labels are more than 32")
    refused(host, 2, "items", "edit", item, "--priority", str(2**63), saying="the priority 9223372036854775808 is not within")
    refused(host, 2, "items", "move", item, "Merge", "--branch", "b" * 256, "--commits-ahead", "1", saying="the branch has 256 bytes")
    refused(host, 2, "items", "move", item, "Merge", "--branch", "b", "--commits-ahead", str(2**32), saying="is not within 1 and 4294967295")
    refused(host, 2, "tombstone", item, "--reason", "x" * 1001, saying="the reason has 1001 bytes")
    refused(host, 2, "invite", "--role", "admin", saying="a role here is one of reader, agent, peer, not 'admin'")
    refused(host, 2, "invite", "--ttl", "31d", saying="1 second to 30 days")
    refused(host, 2, "invite", "--url", "http://example.org", saying="is not the address of a peer")
    refused(host, 5, "invite", "--url", "ws://192.0.2.1:7420", saying="stays on loopback")
    host.ask("items", "edit", item, "--title", "ü" * 100, "--priority", str(2**53 + 1))
    shown = host.ask("items", "show", item)["item"]
    assert (shown["title"], shown["priority"]) == ("ü" * 100, 2**53 + 1)
    long = fleet.new("long")
    for arguments in (("init", "--name", "n" * 65), ("init", "--mesh", "m" * 65), ("join", fleet.token(host), "--name", "n" * 65)):
        done = long.run(*arguments)
        assert done.returncode == 2
        assert "longer than 64 bytes" in done.stderr
        assert [path.name for path in long.home.iterdir()] == ["config.toml"]
