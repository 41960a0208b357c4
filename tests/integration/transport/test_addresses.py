"""Which addresses a node listens on and dials, and which one it tells others."""

from __future__ import annotations

from typing import NamedTuple

import psutil
import pytest

from fabrik_node.errors import PortInUse, Precondition, UsageError
from fabrik_node.transport.address import check_url, parse_listen, reachable


class Stats(NamedTuple):
    isup: bool


class Address(NamedTuple):
    address: str


@pytest.mark.parametrize("address", ["0.0.0.0:1", "[::]:1", "192.168.1.1:1", "example.org:80"])
@pytest.mark.promise("F3")
def test_without_tls_it_listens_and_dials_on_loopback_only(address: str) -> None:
    with pytest.raises(PortInUse, match="loopback") as listening:
        parse_listen(f"ws://{address}")
    assert listening.value.hint == f"--listen {address}, which speaks TLS"
    with pytest.raises(PortInUse, match="loopback") as dialling:
        check_url(f"ws://{address}/crdt-sync")
    assert f"wss://{address}/crdt-sync" in dialling.value.hint


@pytest.mark.parametrize("address", ["0.0.0.0:1", "[::]:1", "192.168.1.1:1", "example.org:80", "127.0.0.1:7420", "localhost:7"])
@pytest.mark.promise("F3")
def test_with_tls_it_listens_and_dials_anywhere(address: str) -> None:
    assert not parse_listen(address).plain
    assert parse_listen(f"wss://{address}") == parse_listen(address)
    assert check_url(f"wss://{address}") == f"wss://{address}/crdt-sync"


@pytest.mark.parametrize(
    "address", ["", "x", "127.0.0.1", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:-1", ":7420", "127.0.0.1:http", "http://127.0.0.1:1", "wss://127.0.0.1:1/x"]
)
def test_what_is_no_address_is_named(address: str) -> None:
    with pytest.raises(UsageError):
        parse_listen(address)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "http://127.0.0.1:1",
        "wss://127.0.0.1",
        "wss://127.0.0.1:0",
        "ws://127.0.0.1",
        "ws://127.0.0.1:1/other",
        "ws://u@127.0.0.1:1",
        "wss://127.0.0.1:1/#x",
        "ws://127.0.0.1:99999",
        "ws://[::1:1",
    ],
)
def test_what_is_no_url_is_named(url: str) -> None:
    with pytest.raises(UsageError):
        check_url(url)


def test_urls_are_completed() -> None:
    assert check_url("ws://127.0.0.1:7420") == "ws://127.0.0.1:7420/crdt-sync"
    assert check_url("ws://[::1]:7420/crdt-sync") == "ws://[::1]:7420/crdt-sync"
    assert parse_listen("ws://127.0.0.1:0").url(7) == "ws://127.0.0.1:7/crdt-sync"
    assert parse_listen("[::1]:0").url(7) == "wss://[::1]:7/crdt-sync"
    assert parse_listen("localhost:7").port == 7


def interfaces(monkeypatch: pytest.MonkeyPatch, **addresses: list[str]) -> None:
    """A host with these interfaces; those that begin with ``down`` are down."""
    monkeypatch.setattr(psutil, "net_if_stats", lambda: {name: Stats(not name.startswith("down")) for name in addresses})
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: {name: [Address(each) for each in found] for name, found in addresses.items()})


def test_a_wildcard_is_told_as_the_only_address_that_the_host_has(monkeypatch: pytest.MonkeyPatch) -> None:
    interfaces(monkeypatch, lo=["127.0.0.1", "::1"], eth0=["02:00:00:00:00:01", "10.0.0.5", "fe80::1%eth0", "fe80::2", "2001:db8::5"], down0=["10.9.9.9"])
    assert reachable("wss://0.0.0.0:7420/crdt-sync") == "wss://10.0.0.5:7420/crdt-sync"
    assert reachable("wss://[::]:7420/crdt-sync") == "wss://[2001:db8::5]:7420/crdt-sync"
    assert reachable("wss://10.1.1.1:7420") == "wss://10.1.1.1:7420/crdt-sync", "what was named is taken as it is"


def test_of_several_addresses_none_is_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    interfaces(monkeypatch, eth0=["10.0.0.5"], eth1=["192.168.7.2"])
    with pytest.raises(Precondition, match=r"10\.0\.0\.5, 192\.168\.7\.2") as error:
        reachable("wss://0.0.0.0:7420/crdt-sync")
    assert error.value.hint == "--url wss://10.0.0.5:7420/crdt-sync"
    interfaces(monkeypatch, lo=["127.0.0.1"])
    with pytest.raises(Precondition, match="none but loopback") as error:
        reachable("wss://0.0.0.0:7420/crdt-sync")
    assert error.value.hint == "--url wss://HOST:7420/crdt-sync"
