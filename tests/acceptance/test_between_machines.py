"""Real processes that meet over TLS: on every address of the host, refused with words, and with nothing open that nobody asked for."""

from __future__ import annotations

import socket

import psutil
import pytest
from acceptance.fleet import Fleet, NodeProcess

from fabrik_node.domain.token import JoinToken

AGAIN = "  try: on the mesh's admin node: fabrik-node invite; then here: fabrik-node join TOKEN"


def listens(node: NodeProcess) -> list[str]:
    """The addresses on which a node's process accepts connections from the network."""
    assert node.process is not None
    found = psutil.Process(node.process.pid).net_connections("inet")
    return [f"{each.laddr.ip}:{each.laddr.port}" for each in found if each.status == psutil.CONN_LISTEN]


def own_address() -> str:
    """An address of this host that is not loopback; skips the test when it has none."""
    for addresses in psutil.net_if_addrs().values():
        for each in addresses:
            if each.family == socket.AF_INET and not each.address.startswith("127."):
                return str(each.address)
    pytest.skip("this host has no address besides loopback")


@pytest.mark.promise("F16")
def test_nothing_is_open_that_nobody_asked_for(fleet: Fleet) -> None:
    node = fleet.new("alone")
    node.ask("init", "--name", "alone")
    node.start("serve")
    assert listens(node) == []
    status = node.ask("status")
    assert status["listen"] is None
    assert status["peers"] == []
    node.stop()
    node.start("serve", "--listen", "127.0.0.1:0")
    assert listens(node) == [node.url.removeprefix("wss://").removesuffix("/crdt-sync")], "one port, and only where it was asked for"
    assert node.ask("status")["listen"] == node.url


@pytest.mark.promise("F6", "F10")
def test_a_node_joins_over_an_address_that_is_not_loopback(fleet: Fleet) -> None:
    address = own_address()
    host = fleet.host(listen="0.0.0.0:0")
    port = host.url.rpartition(":")[2].removesuffix("/crdt-sync")
    url = f"wss://{address}:{port}/crdt-sync"
    token = str(host.ask("invite", "--role", "peer", "--url", url)["token"])
    assert JoinToken.decode(token).url == url
    guest = fleet.new("guest")
    guest.ask("join", token, "--name", "guest")
    guest.start("serve")
    host.add("across")
    fleet.await_equal([host, guest])
    (peer,) = guest.ask("status")["peers"]
    assert (peer["url"], peer["state"]) == (url, "connected")
    several = host.run("invite")
    others = [
        each.address for found in psutil.net_if_addrs().values() for each in found if each.family == socket.AF_INET and not each.address.startswith("127.")
    ]
    if len(set(others)) == 1:
        assert several.returncode == 0
        assert f"at {url}: fabrik-node join TOKEN" in several.stderr
    else:
        assert several.returncode == 5
        assert "does not know which one the new node can reach" in several.stderr


@pytest.mark.promise("F5", "F6")
def test_a_refused_joiner_reads_why_and_what_to_type(fleet: Fleet) -> None:
    host = fleet.host()
    token = fleet.token(host)
    first = fleet.new("first")
    first.ask("join", token, "--name", "first")
    second = fleet.new("second")
    done = second.run("join", token, "--name", "second")
    assert done.returncode == 7
    assert done.stderr.splitlines() == [
        "fabrik-node: the mesh refused this node: join_refused: this node did not issue that invitation, or it was used; ask its operator for a new one: fabrik-node invite",
        AGAIN,
    ]
    told = host.await_event("peer.refused")
    assert (told["code"], told["direction"], told["address"]) == ("join_refused", "in", "127.0.0.1")
    impostor = fleet.new("impostor")
    impostor.ask("init", "--name", "impostor", "--mesh", "another")
    impostor.start("serve", "--listen", "127.0.0.1:0")
    trap = str(host.ask("invite", "--url", impostor.url)["token"])
    done = second.run("join", trap, "--name", "second")
    assert done.returncode == 7
    first_line = done.stderr.splitlines()[0]
    assert first_line.startswith("fabrik-node: this node did not trust the other one: wrong_key: the node at this address has not the key that was expected")
    assert impostor.await_event("peer.refused")["code"] == "wrong_key"
    assert second.ask("join", fleet.token(host), "--name", "another")["node"] == "another", "by that name, whatever was tried before"


@pytest.mark.promise("F3")
def test_plain_nodes_meet_on_loopback_when_they_are_asked_to(fleet: Fleet) -> None:
    host = fleet.host(listen="ws://127.0.0.1:0")
    assert host.url.startswith("ws://127.0.0.1:")
    guest = fleet.member(host, "guest")
    guest.add("plain")
    fleet.await_equal([host, guest])
    address = host.url.removeprefix("ws://").removesuffix("/crdt-sync")
    host.stop()
    host.start("serve", "--listen", address)
    assert host.url.startswith("wss://")
    guest.add("the same peer, with TLS now")
    fleet.await_equal([host, guest])
    assert len(host.ask("items", "list")["items"]) == 2
    (peer,) = guest.ask("status")["peers"]
    assert (peer["state"], peer["url"]) == ("connected", host.url), "shown as it is called now"


@pytest.mark.promise("I22")
def test_no_secret_of_the_transport_is_written_down(fleet: Fleet) -> None:
    host = fleet.host("--log-level", "debug")
    token = fleet.token(host)
    guest = fleet.new("guest")
    guest.ask("join", token, "--name", "guest")
    guest.start("serve", "--log-level", "debug")
    fleet.await_equal([host, guest])
    stranger = fleet.new("stranger")
    stranger.ask("init", "--name", "stranger", "--mesh", "another")
    stranger.start("serve", "--peer", host.url, "--log-level", "debug")
    stranger.await_event("peer.refused")
    secret = JoinToken.decode(token).secret
    for node in (host, guest, stranger):
        node.stop()
        seed = (node.home / "identity" / "ed25519.key").read_text().strip()
        for path in node.home.rglob("*"):
            if path.is_file() and path.name != "ed25519.key":
                data = path.read_bytes()
                assert b"PRIVATE KEY" not in data, path
                assert bytes.fromhex(seed) not in data, path
                assert seed.encode() not in data, path
        said = "\n".join(node.stderr)
        for word in ("PRIVATE", seed, secret.hex(), token):
            assert word not in said


@pytest.mark.promise("F5")
def test_a_revoked_node_is_put_out_everywhere_while_all_run(fleet: Fleet) -> None:
    """One command on the admin's node. Another node that the revoked one talks to hears of it, too; none of them is started again."""
    host = fleet.host()
    relay = fleet.new("relay")
    relay.ask("join", fleet.token(host), "--name", "relay")
    relay.start("serve", "--listen", "127.0.0.1:0")
    stolen = fleet.new("stolen")
    stolen.ask("join", fleet.token(host), "--name", "stolen")
    stolen.start("serve", "--peer", relay.url)
    fleet.await_equal([host, relay, stolen])
    stolen.await_true(lambda: [peer["state"] for peer in stolen.ask("status")["peers"]] == ["connected"] * 2, "both connections")
    host.ask("nodes", "revoke", "stolen")
    stolen.await_true(lambda: {peer["state"] for peer in stolen.ask("status")["peers"]} == {"refused"}, "refused by both")
    assert {peer["detail"].partition(":")[0] for peer in stolen.ask("status")["peers"]} <= {"revoked", "unknown_key"}
    host.add("after the revocation")
    fleet.await_equal([host, relay])
    assert stolen.ask("items", "list")["items"] == []


@pytest.mark.promise("F5")
def test_a_machine_without_a_token_asks_to_be_let_in(fleet: Fleet) -> None:
    host = fleet.host()
    shown = host.ask("nodes", "list")["nodes"][0]["fingerprint"]
    guest = fleet.new("guest")
    wrong = guest.run("join", host.url, "--fingerprint", "0123-4567-89ab-cdef", "--name", "guest")
    assert (wrong.returncode, f"another node answers there: its fingerprint is {shown}" in wrong.stderr) == (7, True), wrong.stderr
    guest.launch("join", host.url, "--fingerprint", shown, "--name", "guest")
    line = guest.await_line("approval_pending")
    what = guest.await_line("nodes approve").partition("nodes approve ")[2].split()[0]
    (waiting,) = host.ask("nodes", "pending")["pending"]
    assert (waiting["name"], waiting["address"]) == ("guest", "127.0.0.1")
    assert waiting["fingerprint"] in line
    assert waiting["node"].startswith(what)
    assert guest.stop() == 143
    assert host.ask("nodes", "approve", what, "--role", "peer")["role"] == "peer"
    assert guest.ask("join", host.url, "--fingerprint", shown, "--name", "guest")["node_id"] == waiting["node"], "the same key, in the second try"
    guest.start("serve")
    guest.add("of one that asked")
    fleet.await_equal([host, guest])
    again = guest.run("join", host.url, "--fingerprint", shown)
    assert again.returncode != 0
    rejected = fleet.new("rejected")
    rejected.launch("join", host.url, "--fingerprint", shown)
    rejected.await_line("approval_pending")
    host.ask("nodes", "reject", str(host.ask("nodes", "pending")["pending"][0]["node"]))
    rejected.await_line("knock_rejected")
    assert rejected.process is not None
    assert rejected.process.wait(60.0) == 7
