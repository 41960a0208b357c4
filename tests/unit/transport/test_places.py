"""The places at the gate: whoever has most of them gives way, however many addresses a network hands out."""

from __future__ import annotations

import pytest

from fabrik_node.transport.places import Places, neighbourhood


@pytest.mark.promise("I19")
def test_one_address_does_not_push_out_the_others() -> None:
    places: Places[str] = Places(4)
    assert [places.take(who, address) for who, address in (("honest", "10.0.0.1"), ("a", "10.0.0.9"), ("b", "10.0.0.9"), ("c", "10.0.0.9"))] == [None] * 4
    assert [places.take(f"more {n}", "10.0.0.9") for n in range(4)] == ["a", "b", "c", "more 0"]
    assert "honest" in list(places)
    assert places.take("second", "10.0.0.2") == "more 1", "a newcomer takes of the one who has most"
    assert len(places) == 4


@pytest.mark.promise("I19")
def test_addresses_of_one_network_that_a_host_chooses_by_itself_count_as_one() -> None:
    places: Places[str] = Places(4)
    for number in range(4):
        places.take(f"{number}", "2001:db8:1:1::5" if number == 0 else f"2001:db8:2:2::{number}")
    assert [places.take(f"more {n}", f"2001:db8:2:2:{n}::7") for n in range(3)] == ["1", "2", "3"]
    assert "0" in list(places)


def test_the_oldest_goes_when_all_have_one() -> None:
    places: Places[str] = Places(3)
    for number in range(3):
        places.take(f"{number}", f"10.0.0.{number}")
    places.leave("0")
    places.leave("nobody")
    assert places.take("3", "10.0.0.3") is None
    assert places.take("4", "10.0.0.4") == "1"


@pytest.mark.parametrize(
    ("address", "home"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("no address", "no address"),
    ],
)
def test_neighbourhoods(address: str, home: str) -> None:
    assert neighbourhood(address) == home
