"""The pages on lost and stolen keys, command by command, with real nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from acceptance.fleet import Fleet, NodeProcess
from acceptance.homes import address

PAGES = Path(__file__).parents[2] / "docs" / "howto"


class Page:
    """``type`` runs a line that stands on the page, with the places of this test in those of the page."""

    def __init__(self, name: str, **places: str) -> None:
        self.lines = [line.strip() for line in (PAGES / name).read_text(encoding="utf-8").splitlines()]
        self.places = places

    def words(self, line: str) -> list[str]:
        assert f"fabrik-node {line}" in self.lines, line
        for old, new in self.places.items():
            line = line.replace(old, new)
        return line.split()

    def type(self, node: NodeProcess, line: str) -> Any:
        return node.ask(*self.words(line))


def named(fleet: Fleet, name: str, host: NodeProcess | None = None, *args: str) -> NodeProcess:
    """A node that was made by ``init``, or with a token of ``host``, and serves."""
    node = fleet.new(name)
    if host is None:
        node.ask("init", "--name", name, "--recovery-key", str(fleet.folder / "recovery.key"))
    else:
        node.ask("join", fleet.token(host), "--name", name)
    return node.start("serve", *args)


def roles(node: NodeProcess) -> dict[str, str]:
    return {line["name"]: line["role"] for line in node.ask("nodes", "list")["nodes"] if line["successor"] is None}


@pytest.mark.promise("F8", "F1")
def test_a_lost_admin_is_replaced(fleet: Fleet) -> None:
    alpha = named(fleet, "alpha", None, "--listen", "127.0.0.1:0")
    beta = named(fleet, "beta", alpha, "--listen", "127.0.0.1:0")
    gamma = named(fleet, "gamma", alpha)
    item = alpha.add("before")
    fleet.await_equal([alpha, beta, gamma])
    alpha.kill()
    where = {"/media/stick/recovery.key": str(fleet.folder / "recovery.key"), "wss://10.0.0.6:7420": beta.url, "0.0.0.0:7420": address(beta)}
    page = Page("replace-a-lost-admin-key.md", **where)
    said = page.type(beta, "keys recover --recovery-key /media/stick/recovery.key --revoke alpha")
    assert [each["name"] for each in said["revoked"]] == ["alpha"]
    assert roles(beta) == {"alpha": "none", "beta": "admin", "gamma": "peer"}
    beta.stop()
    gamma.stop()
    beta.start(*page.words("serve --listen 0.0.0.0:7420"))
    gamma.start(*page.words("serve --peer wss://10.0.0.6:7420"))
    gamma.await_true(lambda: roles(gamma).get("beta") == "admin", "gamma hears of the new admin")
    token = page.type(beta, "invite --role peer --url wss://10.0.0.6:7420")["token"]
    delta = fleet.new("delta")
    delta.ask("join", token, "--name", "delta")
    delta.start("serve")
    alpha.start("serve", "--peer", beta.url)  # a thief has it
    alpha.add("by a thief")
    beta.add("after")
    fleet.await_equal([beta, gamma, delta])
    titles = {entry["title"] for entry in gamma.ask("items", "list")["items"]}
    assert titles == {"before", "after"}
    assert gamma.ask("items", "show", item)["item"]["title"] == "before"


@pytest.mark.promise("F8", "F1")
def test_a_stolen_laptop_is_revoked(fleet: Fleet) -> None:
    admin = named(fleet, "office", None, "--listen", "127.0.0.1:0")
    other, laptop = named(fleet, "other", admin), named(fleet, "laptop", admin)
    page = Page("revoke-a-stolen-laptop.md")
    kept = laptop.add("on the laptop")
    fleet.await_equal([admin, other, laptop])
    said = page.type(admin, "nodes revoke laptop")
    assert (said["name"], said["revoked"], said["kept"]) == ("laptop", True, 1)
    laptop.await_event("peer.refused", direction="out")
    laptop.add("by a thief")
    other.await_true(lambda: roles(other)["laptop"] == "none", "the other node hears of it")
    page.type(other, "nodes list")
    page.places["ITEM"] = kept
    assert page.type(other, "items history ITEM")["changes"][0]["node"] == "laptop"
    page.places["TOKEN"] = page.type(admin, "invite --role peer")["token"]
    fresh = fleet.new("fresh")
    page.type(fresh, "join TOKEN --name laptop")
    fresh.start("serve")
    fleet.await_equal([admin, other, fresh])
    assert {entry["title"] for entry in other.ask("items", "list")["items"]} == {"on the laptop"}
