"""Figures of real nodes, asked for over a socket as Prometheus does."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from net_rig import Net, are_level, peer
from node_rig import BOUND_S, NodeRig, eventually
from prometheus_client.parser import text_string_to_metric_families

from fabrik_node.errors import PortInUse, StoreFull
from fabrik_node.metrics.endpoint import CONNECTIONS_MAX, Endpoint
from fabrik_node.metrics.figures import Figures
from fabrik_sync import HUB_LIMIT_NAMES, LIMIT_NAMES

API = {"connections": 1, "connections_refused": 2, "calls": 3, "errors": {"not_found": 4}}


@asynccontextmanager
async def served(rig: NodeRig) -> AsyncIterator[tuple[Endpoint, int]]:
    """The endpoint of a node, and its port."""
    endpoint = Endpoint(Figures(rig.node, rig.reader, lambda: API), ("127.0.0.1", 0))
    url = await endpoint.open()
    try:
        yield endpoint, int(re.fullmatch(r"http://127\.0\.0\.1:(\d+)/metrics", url)[1])  # type: ignore[index]
    finally:
        await endpoint.close()


async def ask(port: int, path: str = "/metrics", **headers: str) -> tuple[int, dict[str, str], str]:
    """One GET: status, headers, body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in ({"Host": f"127.0.0.1:{port}"} | headers).items()), "", ""]
    writer.write("\r\n".join(lines).encode())
    data = await asyncio.wait_for(reader.read(), BOUND_S)
    writer.close()
    head, _, body = data.decode().partition("\r\n\r\n")
    status, *fields = head.split("\r\n")
    return int(status.split()[1]), {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}, body


async def scrape(port: int) -> dict[str, dict[tuple[str, ...], float]]:
    """Values by metric and label values, as a Prometheus reads them."""
    status, headers, body = await ask(port)
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(body):
        assert family.documentation
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(value for _, value in sorted(sample.labels.items()))] = sample.value
    return found


async def test_a_scrape_tells_what_a_node_did(net: Net) -> None:
    host, mesh, url = await net.listening(0)
    host.node.traffic = mesh.traffic
    two, other = await net.up(1)
    other.dial(url)
    await are_level(host, two)
    for title in ("secret plan", "another secret plan"):
        await host.add(title)
    await two.add("from afar")
    await are_level(host, two)
    await eventually(lambda: peer(mesh).lag_ops == 0)
    async with served(host) as (_, port):
        got = await scrape(port)
        body = (await ask(port))[2]
    replica = host.node.replica
    assert got["fabrik_ops"][()] == replica.ops
    assert got["fabrik_registers"][()] == replica.registers
    assert got["fabrik_questions"] == {(): 0}
    assert got["fabrik_items"] == {(stage,): 3 if stage == "Backlog" else 0 for stage in ("Backlog", "Coding", "Qa", "Merge", "Done", "Archived")}
    assert got["fabrik_merged_ops_total"][("local",)] == 2
    assert got["fabrik_merged_ops_total"][("peer",)] >= 2, "its first ops and its item"
    assert got["fabrik_commits_total"][("local",)] == 2
    assert got["fabrik_peers"][("connected",)] == 1
    assert sum(got["fabrik_peers"].values()) == 1
    assert got["fabrik_sync_bytes_total"][("in",)] > 500
    assert got["fabrik_sync_bytes_total"][("out",)] > 500
    assert got["fabrik_node_lag_ops"] == {("in", "node1", _fingerprint(two)): 0, ("out", "node1", _fingerprint(two)): 0}
    assert got["fabrik_nodes"][("self",)] == 1
    assert (got["fabrik_failed"][()], got["fabrik_disk_full"][()], got["fabrik_pending_segments"][()]) == (0, 0, 0)
    assert (got["fabrik_api_calls_total"][()], got["fabrik_api_errors_total"][("not_found",)]) == (3, 4)
    assert got["fabrik_limit_hits_total"][("api_connections",)] == 2
    assert "secret plan" not in body
    assert host.node.public.hex() not in body, "fingerprints are enough"


def _fingerprint(rig: NodeRig) -> str:
    from fabrik_node.ids import fingerprint

    return fingerprint(rig.node.public)


@pytest.mark.promise("I18")
async def test_every_limit_has_a_counter_before_it_is_hit(net: Net) -> None:
    host, mesh, _ = await net.listening(0)
    host.node.traffic = mesh.traffic
    async with served(host) as (_, port):
        hits = (await scrape(port))["fabrik_limit_hits_total"]
    assert {name for (name,) in hits} >= {*LIMIT_NAMES, *HUB_LIMIT_NAMES, "inbound", "pending", "heads_of_a_log", "leases_of_a_message"}
    assert {name for (name,), count in hits.items() if count} == {"api_connections"}


async def test_counters_never_go_back_when_connections_end(net: Net) -> None:
    host, mesh, url = await net.listening(0)
    host.node.traffic = mesh.traffic
    two, other = await net.up(1)
    async with served(host) as (_, port):
        before: dict[str, dict[tuple[str, ...], float]] = {}
        for turn in range(3):
            await host.add(f"item {turn}")
            other.dial(url)
            await are_level(host, two)
            for state in (1, 0):
                await eventually(lambda wanted=state: sum(status.state == "connected" for status in mesh.statuses()) == wanted)  # type: ignore[misc]
                now = await scrape(port)
                for name, values in before.items():
                    if name.endswith("_total"):
                        assert all(now[name][labels] >= value for labels, value in values.items()), name
                before = now
                if state:
                    await other.close()
            net.meshes.remove(other)
            _, other = await net.up(1, rig=two)
        assert sum(before["fabrik_closed_total"].values()) == 3
        assert before["fabrik_sync_bytes_total"][("in",)] > 500


async def test_refusals_are_counted_by_code_and_strange_codes_are_one(net: Net) -> None:
    from fabrik_node.transport.gate import GateCounters
    from fabrik_node.transport.tally import Tally
    from fabrik_sync import Counters, Refused

    tally = Tally()
    for code in ("unknown_key", "unknown_key", *(f"invented_{number}" for number in range(500))):
        tally.ended(Counters(), Refused(code, "", by_peer=True, proven=False), "in")
    assert tally.traffic([], {}, GateCounters()).ends == {("refused", "unknown_key", "in"): 2, ("refused", "other", "in"): 500}


async def test_a_full_disk_and_a_failed_store_are_figures(net: Net) -> None:
    host, _ = await net.up(0)
    async with served(host) as (_, port):
        host.node.disk_full(StoreFull("the disk is full: writing failed", "free space"))
        got = await scrape(port)
        assert (got["fabrik_disk_full"][()], got["fabrik_disk_full_times_total"][()], got["fabrik_failed"][()]) == (1, 1, 0)
        host.node.upkeep.full = None
        host.node.writer.failed = PortInUse("stopped", "")
        assert (await scrape(port))["fabrik_failed"][()] == 1
        host.node.writer.failed = None


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/metrics", {}, 200),
        ("/metrics?x=1", {}, 200),
        ("/", {}, 404),
        ("/crdt-sync", {}, 404),
        ("/metrics", {"Host": "localhost:9464"}, 200),
        ("/metrics", {"Host": "[::1]:9464"}, 200),
        ("/metrics", {"Host": "evil.example"}, 403),
        ("/metrics", {"Host": "evil.example:9464"}, 403),
        ("/metrics", {"Host": "10.0.0.1"}, 403),
        ("/metrics", {"Host": ""}, 403),
        ("/metrics", {"Origin": "http://localhost"}, 403),
    ],
)
async def test_only_programs_of_this_host_are_answered(net: Net, path: str, headers: dict[str, str], status: int) -> None:
    host, _ = await net.up(0)
    async with served(host) as (endpoint, port):
        found, _, body = await ask(port, path, **headers)
        assert found == status, body
        assert ("fabrik_ops" in body) == (status == 200)
        assert endpoint.refused == (status == 403)


@pytest.mark.promise("I18")
async def test_callers_that_say_nothing_are_few_and_do_not_keep_others_out_for_ever(net: Net) -> None:
    host, _ = await net.up(0)
    async with served(host) as (endpoint, port):
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS_MAX)]
        await eventually(lambda: endpoint._open == CONNECTIONS_MAX)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with pytest.raises(ConnectionError):
            assert await asyncio.wait_for(reader.read(), BOUND_S) == b""
            raise ConnectionResetError
        writer.close()
        await eventually(lambda: endpoint.refused == 1)
        for _, each in idle:
            each.close()
        await eventually(lambda: endpoint._open == 0)
        assert (await scrape(port))["fabrik_ops"]


async def test_a_port_that_is_taken_is_named(net: Net) -> None:
    host, _ = await net.up(0)
    async with served(host) as (_, port):
        with pytest.raises(PortInUse, match=str(port)):
            await Endpoint(Figures(host.node, host.reader, dict[str, Any]), ("127.0.0.1", port)).open()
