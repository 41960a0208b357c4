"""Whole nodes as processes on this machine: first sync, live traffic, start, memory and the command line."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import statistics
import subprocess
import sys
import threading
import time
from datetime import datetime
from typing import Any

import psutil
from benchmark import Measured, Scale, benchmark, note, spread
from node_home import PROGRAM, Home, homes

from fabrik_node.cli.client import Client, read_owner
from fabrik_node.errors import FabrikError

__all__: list[str] = []

CLIENTS = 32
LIVE_S = 6.0
QUIET_S = 0.5
_PATIENCE_S = 300.0


def _until(what: str, probe: Any) -> Any:
    """Ask every few milliseconds until there is an answer."""
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end:
        if answer := probe():
            return answer
        time.sleep(0.005)
    raise RuntimeError(f"waited {_PATIENCE_S:.0f} s for {what}")


def _serving_host(host: Home) -> str:
    """Serve it; the URL at which peers reach it."""
    host.serve("serve", "--listen", "127.0.0.1:0")
    status = host.wait_ready()
    return str(status["listen"])


def _join(host: Home, fresh: Home) -> None:
    token = host.cli("invite", "--role", "peer", "--ttl", "10m")["token"]
    fresh.cli("join", token, "--name", fresh.folder.name)


@benchmark(("bootstrap.e2e", "ops/s", ">=", 400_000))
def bootstrap(scale: Scale) -> dict[str, Measured]:
    """A member with an empty log gets everything from a peer: two processes, TLS and WebSocket on loopback, durable."""
    with homes("host", "fresh") as (host, fresh):
        host.cli("init", "--name", "host", "--mesh", "bench")
        _serving_host(host)
        _join(host, fresh)
        host.stop()
        note(f"bootstrap: filling the host with {scale.ops:,} ops")
        total = host.fill(scale.ops)
        address = _serving_host(host)
        before = fresh.cli("status")["ops"]
        fresh.serve("serve", "--peer", address)
        fresh.wait_ready()
        arrivals = _Arrivals(fresh)
        _until("the last op", lambda: arrivals.quiet_s() > QUIET_S and fresh.ask("status")["ops"] >= total)
        cpu_s = {home.folder.name: round(home.cpu_s(), 2) for home in (host, fresh)}
        if fresh.ask("status")["state_digest"] != host.ask("status")["state_digest"]:
            raise AssertionError("the digests differ")
        seconds = arrivals.last - arrivals.connected
        env = {
            "ops": total,
            "seconds": round(seconds, 3),
            "cpu_s_with_start": cpu_s,
            "what": "from the moment at which the peer was connected to the arrival of the last batch's event at a follower; through TLS 1.3",
        }
        return {"bootstrap.e2e": Measured((total - before) / seconds, env)}


class _Arrivals:
    """Follows the events of a node in the background and notes when they come: watching with ``status`` would cost the node more than the sync."""

    def __init__(self, home: Home) -> None:
        self.connected = 0.0
        self.last = 0.0
        client = Client.connect(home.paths)
        if client is None:
            raise RuntimeError(f"{home.folder} is not served")
        self._client = client
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        with contextlib.suppress(FabrikError):  # the node is stopped at the end
            for event in self._client.stream("events", {"after": 0, "follow": True}, follow=True):
                if event.get("type") == "node.started":  # what came before was told by an earlier process
                    self.connected = self.last = 0.0
                elif event.get("type") == "peer.connected":
                    self.connected = self.connected or datetime.fromisoformat(event["at"]).timestamp()
                elif self.connected:
                    self.last = time.time()

    def quiet_s(self) -> float:
        """Seconds since the last event; 0 before there was one."""
        return time.time() - self.last if self.last else 0.0


class _Talk:
    """One connection to a node's socket from an event loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, home: Home) -> _Talk:
        return cls(*await asyncio.open_unix_connection(read_owner(home.paths.owner_lock)["socket"], limit=1 << 22))

    async def call(self, op: str, args: dict[str, Any]) -> dict[str, Any]:
        self.writer.write(json.dumps({"v": 1, "op": op, "args": args}).encode() + b"\n")
        answer: dict[str, Any] = json.loads(await self.reader.readline())
        if not answer.get("ok"):
            raise RuntimeError(f"{op}: {answer}")
        return answer

    def close(self) -> None:
        self.writer.close()


async def _clients(host: Home, sent: dict[str, float], seconds: float) -> tuple[int, float, list[float]]:
    """``(calls answered, seconds, seconds per call)`` of 32 clients that each wait for their answer."""
    talks = [await _Talk.open(host) for _ in range(CLIENTS)]
    numbers = itertools.count()
    waits: list[float] = []
    end = time.perf_counter() + seconds

    async def one(talk: _Talk) -> None:
        while (began := time.perf_counter()) < end:
            title = f"live {next(numbers)}"
            sent[title] = began
            await talk.call("items.add", {"title": title})
            waits.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*map(one, talks))
    took = time.perf_counter() - began
    for talk in talks:
        talk.close()
    return len(waits), took, waits


async def _arrivals(peer: Home, sent: dict[str, float], arrived: list[float], after: int, done: asyncio.Event) -> None:
    """Seconds from the call here to the event of the merged op at the peer."""
    talk = await _Talk.open(peer)
    talk.writer.write(json.dumps({"v": 1, "op": "events", "args": {"after": after, "follow": True}}).encode() + b"\n")
    while not done.is_set() or len(arrived) < len(sent):
        line = await asyncio.wait_for(talk.reader.readline(), 30)
        event = json.loads(line).get("more", {})
        title = event.get("title")
        if event.get("type") == "item.added" and title in sent:
            arrived.append(time.perf_counter() - sent[title])
    talk.close()


async def _live(host: Home, peer: Home, after: int) -> dict[str, Measured]:
    sent: dict[str, float] = {}
    arrived: list[float] = []
    done = asyncio.Event()
    listening = asyncio.create_task(_arrivals(peer, sent, arrived, after, done))
    before = [home.cpu_s() for home in (host, peer)]
    calls, took, waits = await _clients(host, sent, LIVE_S)
    done.set()
    await asyncio.wait_for(listening, 60)
    used = [home.cpu_s() - was for home, was in zip((host, peer), before, strict=True)]
    arrived.sort()
    waits.sort()
    env = {
        "clients": CLIENTS,
        "calls": calls,
        "seconds": round(took, 2),
        "cpu_us_per_op": {"host": round(used[0] / calls * 1e6), "peer": round(used[1] / calls * 1e6)},
        "call_p50_ms": round(waits[len(waits) // 2] * 1000, 2),
        "call_p99_ms": round(waits[len(waits) * 99 // 100] * 1000, 2),
        "what": "the clients, both nodes and the events of the peer share these cores; latency from the call to the event at the peer, at full load",
    }
    return {
        "live.rate": Measured(calls / took, env),
        "live.p50": Measured(arrived[len(arrived) // 2] * 1000, env),
        "live.p99": Measured(arrived[len(arrived) * 99 // 100] * 1000, env),
    }


@benchmark(("live.rate", "ops/s", ">=", 5000), ("live.p50", "ms", "<=", 10), ("live.p99", "ms", "<=", 50))
def live(_: Scale) -> dict[str, Measured]:
    """32 local clients write one op per call at a node with one connected peer."""
    with homes("host", "peer") as (host, peer):
        host.cli("init", "--name", "host", "--mesh", "bench")
        address = _serving_host(host)
        _join(host, peer)
        peer.serve("serve", "--peer", address)
        peer.wait_ready()
        _until("equal frontiers", lambda: peer.ask("status")["frontier_digest"] == host.ask("status")["frontier_digest"])
        return asyncio.run(_live(host, peer, after=0))


@benchmark(("start.first_answer", "s", "<=", 1.0), ("memory.idle", "MiB", "<=", 80))
def start(scale: Scale) -> dict[str, Measured]:
    """From starting the process to its first answer with a large log; and the memory of a node at rest with a small one."""
    with homes("large", "small") as (large, small):
        for home in (large, small):
            home.cli("init", "--name", home.folder.name, "--mesh", "bench")
        note(f"start: filling a home with {scale.ops:,} ops")
        total = large.fill(scale.ops)
        times = []
        for _ in range(3):
            began = large.serve("serve")
            large.wait_ready()
            times.append(time.perf_counter() - began)
            large.stop()
        _serving_host(small)
        for number in range(20):
            small.ask("items.add", {"title": f"item {number}"})
        if small.process is None:
            raise RuntimeError("the node ended")
        rss = psutil.Process(small.process.pid).memory_info().rss
        return {
            "start.first_answer": Measured(statistics.median(times), {"ops": total, "times": spread(times)}),
            "memory.idle": Measured(rss / 1_048_576, {"items": 20, "what": "resident set of a node that listens"}),
        }


def _wall_ms(command: list[str], runs: int) -> list[float]:
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        # Without a timeout: with one the end is looked for in steps that grow to 50 ms.
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        times.append((time.perf_counter() - began) * 1000)
    return times


@benchmark(("cli.list", "ms", "<=", 150))
def cli(_: Scale) -> dict[str, Measured]:
    """``fabrik-node items list`` against a running node with 100 items, wall time."""
    with homes("host") as (host,):
        host.cli("init", "--name", "host", "--mesh", "bench")
        _serving_host(host)
        for number in range(100):
            host.ask("items.add", {"title": f"item {number}"})
        command = [PROGRAM, "--home", str(host.folder), "items", "list"]
        _wall_ms(command, 2)
        times = _wall_ms(command, 20)
        bare = statistics.median(_wall_ms([sys.executable, "-c", "pass"], 20))
        median = statistics.median(times)
        return {"cli.list": Measured(median, {"items": 100, "times": spread(times), "bare_python_ms": round(bare, 1), "ratio": round(median / bare, 2)})}
