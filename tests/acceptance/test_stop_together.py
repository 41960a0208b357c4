"""Nodes that stop in the same moment: none waits for the other, and none for ever."""

from __future__ import annotations

import signal

import pytest
from acceptance.fleet import BOUND_S, Fleet

TRIES = 10
"""Before asyncio.wait_for was banned from cancelled paths, about one try in five hung."""


@pytest.mark.promise("I24")
def test_two_connected_nodes_that_stop_in_one_moment_both_end(fleet: Fleet) -> None:
    host = fleet.host()
    address = host.url.removeprefix("wss://").removesuffix("/crdt-sync")
    one = fleet.member(host, "one")
    for _ in range(TRIES):
        one.await_true(lambda: one.ask("status")["peers"][0]["state"] == "connected", "the connection")
        for node in (host, one):
            node.send(signal.SIGTERM)
        assert [node.process.wait(BOUND_S) for node in (host, one) if node.process is not None] == [143, 143]
        host.start("serve", "--listen", address)
        one.start()
