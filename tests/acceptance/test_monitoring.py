"""A real node watched from outside: nothing listens unless asked, figures over HTTP, logs as JSON, and no secret in either."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import psutil
import pytest
from acceptance.fleet import Fleet, NodeProcess

from fabrik_node.domain.token import JoinToken

METRICS = '[metrics]\nlisten = "127.0.0.1:0"\n'


def listening(node: NodeProcess) -> list[str]:
    """Addresses on which its process takes connections."""
    assert node.process is not None
    found = psutil.Process(node.process.pid).net_connections(kind="inet")
    return sorted(f"{each.laddr.ip}:{each.laddr.port}" for each in found if each.status == psutil.CONN_LISTEN)


def everything_open(node: NodeProcess) -> set[str]:
    """Whatever of its process another one could talk to: listening ports of TCP, ports of UDP, named sockets of this host."""
    assert node.process is not None
    process = psutil.Process(node.process.pid)
    udp = {f"udp {each.laddr.ip}:{each.laddr.port}" for each in process.net_connections(kind="udp")}
    return {*listening(node), *udp, *(str(each.laddr) for each in process.net_connections(kind="unix") if each.laddr)}


def scrape(node: NodeProcess) -> str:
    """What it answers to a GET."""
    with urllib.request.urlopen(node.ask("status")["metrics"], timeout=30) as answer:
        assert answer.status == 200
        return str(answer.read().decode())


@pytest.mark.promise("F16")
def test_nothing_listens_unless_it_is_asked_for_and_then_status_shows_it(fleet: Fleet) -> None:
    node = fleet.new("one")
    node.ask("init", "--name", "one")
    node.start()
    status = node.ask("status")
    assert listening(node) == []
    assert (status["listen"], status["metrics"]) == (None, None)
    assert [each["what"] for each in status["open"]] == ["local API"]
    assert everything_open(node) == {status["socket"]} == {status["open"][0]["address"]}, "nothing but the local API, for this user"
    assert Path(status["socket"]).stat().st_mode & 0o077 == 0
    node.stop()
    (node.home / "config.toml").write_text(METRICS)
    node.start("serve", "--listen", "127.0.0.1:0")
    status = node.ask("status")
    url = status["metrics"]
    assert {each["what"]: each["address"] for each in status["open"]} == {"local API": status["socket"], "peers": status["listen"], "metrics": url}
    ports = [each["address"].partition("://")[2].partition("/")[0] for each in status["open"] if "://" in each["address"]]
    assert everything_open(node) == {*ports, status["socket"]}
    assert status["socket"] in node.run("status").stdout
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/metrics", url)
    assert url in node.run("status").stdout
    node.stop()


@pytest.mark.promise("F9", "B5")
def test_a_killed_node_is_silent_since_a_time_and_alive_again_when_it_comes_back(fleet: Fleet) -> None:
    host = fleet.host()
    one = fleet.member(host, "one")

    def line() -> dict[str, Any]:
        return next(entry for entry in host.ask("nodes", "list")["nodes"] if entry["name"] == "one")

    host.await_true(lambda: line()["state"] == "alive", "a sign of life")
    one.kill()
    host.await_true(lambda: line()["state"] == "silent", "its silence")
    shown = line()
    assert shown["silent_since"] is not None
    assert (shown["silent_after_s"], shown["alive"], shown["connected"]) == (pytest.approx(0.9), False, False)
    assert f"silent since {shown['silent_since'][:16]}" in host.run("nodes", "list").stdout
    one.start()
    host.await_true(lambda: line()["state"] == "alive", "its return")


@pytest.mark.promise("E24", "I22")
def test_figures_and_json_logs_of_a_mesh_hold_no_secret(fleet: Fleet) -> None:
    host = fleet.new("host")
    host.ask("init", "--name", "host")
    (host.home / "config.toml").write_text(METRICS)
    host.start("serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--log-level", "debug")
    token = fleet.token(host)
    one = fleet.new("one")
    one.ask("join", token, "--name", "one")
    (one.home / "config.toml").write_text(METRICS)
    one.start("serve", "--log-format", "json", "--log-level", "debug")
    item = one.add("a title that is nobody's business")
    fleet.await_equal([host, one])
    host.await_true(lambda: 'fabrik_peers{state="connected"} 1.0' in scrape(host), "the connection")
    shown = [host.run(*command, "--json").stdout for command in (("status",), ("nodes", "list"), ("tombstones", "list"), ("ops", "forks"), ("events",))]
    status = host.ask("status")
    assert {"lamport", "waiting", "peers", "epoch", "ops", "holes", "suspended", "diverged"} <= status.keys()
    pages = [scrape(host), scrape(one)]
    for page in pages:
        assert "fabrik_ops 0" not in page
        assert "fabrik_limit_hits_total" in page
    for node in (host, one):
        node.stop()
        said = [json.loads(line) for line in node.stderr]
        assert said, "each line is one object"
        assert all({"time", "level", "logger", "message"} <= line.keys() for line in said)
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"]) for line in said)
        up = next(line for line in said if "is up" in line["message"])
        assert up["fields"]["node"] == node.name
        pages.append("\n".join(node.stderr))
    connected = next(line for line in map(json.loads, one.stderr) if line.get("fields", {}).get("state") == "connected")
    assert connected["fields"]["peer"] == "host"
    secret = JoinToken.decode(token).secret
    for page in shown:
        assert not any(word in page for word in (token, secret.hex(), "PRIVATE"))
    seeds = [(node.home / "identity" / "ed25519.key").read_text().strip() for node in (host, one)]
    for page in pages:
        for word in (token, secret.hex(), "PRIVATE", "nobody's business", item, *seeds):
            assert word not in page


def test_a_taken_port_and_a_public_address_are_refused_with_what_to_type(fleet: Fleet) -> None:
    node, other = fleet.new("one"), fleet.new("two")
    for each in (node, other):
        each.ask("init", "--name", each.name)
    (node.home / "config.toml").write_text(METRICS)
    node.start()
    url = node.ask("status")["metrics"]
    with pytest.raises(HTTPError, match="404"):
        urllib.request.urlopen(url.replace("/metrics", "/"), timeout=30)
    address = url.removeprefix("http://").removesuffix("/metrics")
    (other.home / "config.toml").write_text(f'[metrics]\nlisten = "{address}"\n')
    done = other.run("serve")
    assert done.returncode != 0
    assert address in done.stderr
    assert "config.toml" in done.stderr
    (other.home / "config.toml").write_text('[metrics]\nlisten = "0.0.0.0:0"\n')
    done = other.run("serve")
    assert done.returncode == 2
    assert "public = true" in done.stderr
