"""Does anybody hold a node's event loop? Separate processes: the node, who troubles it, and we, who ask at fixed times, whether or not the last answer came in time."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmark import Measured, Scale, benchmark, note
from node_home import Home, homes

from fabrik_node._core import SigningKey
from fabrik_node.app.opening import load_mesh
from fabrik_node.cli.client import read_owner

__all__: list[str] = []

_FLOOD_S = 5.0
_ASKS = (("loop", "nothing", 0.005), ("ack", "items.add", 0.025), ("status", "status", 0.25))
"""What is asked every so many seconds: an operation that no node knows, so the event loop alone; a write, up to its acknowledgement; the largest figure of all."""
_FLOODS = ("pings", "logs", "nobodys_logs", "wants", "items", "presence", "ops", "bad_ops")
_TESTS = Path(__file__).resolve().parents[1]
_GOAL_MS = 100.0
_PATIENCE_S = 600.0


class _Prober:
    """Asks one thing at fixed times. A late answer makes the following ones late, too: each is counted from when it was due."""

    def __init__(self, home: Home, op: str, every_s: float) -> None:
        self._op = op
        self._every_s = every_s
        self._stop = threading.Event()
        self.waits_ms: list[float] = []
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connection.connect(read_owner(home.paths.owner_lock)["socket"])
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        lines = self._connection.makefile("rb")
        due = time.perf_counter()
        while not self._stop.is_set():
            self._connection.sendall(json.dumps({"v": 1, "op": self._op, "args": {"title": f"probe {len(self.waits_ms)}"}}).encode() + b"\n")
            if not lines.readline():
                raise RuntimeError("the node went away")
            now = time.perf_counter()
            self.waits_ms.append((now - due) * 1000)
            due += self._every_s
            time.sleep(max(0.0, due - now))

    def stop(self) -> dict[str, float]:
        """What was found."""
        self._stop.set()
        self._thread.join()
        self._connection.close()
        waits = sorted(self.waits_ms)
        return {"n": len(waits), "p50": round(waits[len(waits) // 2], 2), "p99": round(waits[len(waits) * 99 // 100], 2), "max": round(waits[-1], 2)}


@contextlib.contextmanager
def _probing(home: Home, found: dict[str, Any]) -> Iterator[None]:
    probers = {name: _Prober(home, op, every_s) for name, op, every_s in _ASKS}
    try:
        yield
    finally:
        found |= {name: prober.stop() for name, prober in probers.items()}


@contextlib.contextmanager
def _flood(kind: str, url: str, genesis: bytes, seed: bytes) -> Iterator[None]:
    command = [sys.executable, str(Path(__file__).with_name("flooding.py")), kind, url, genesis.hex(), seed.hex()]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(_TESTS), str(_TESTS / "twin"), os.environ.get("PYTHONPATH", "")])}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as bad:
        if bad.stdin is None or bad.stdout is None:
            raise RuntimeError("no pipes")
        try:
            bad.stdout.readline()
            bad.stdin.write(b"\n")
            bad.stdin.flush()
            yield
            if bad.poll() is not None:
                raise RuntimeError(f"the flood {kind} ended by itself")
        finally:
            bad.kill()


def _worst(found: Mapping[str, Mapping[str, Any]]) -> float:
    return max(float(each[name]["p99"]) for each in found.values() for name in ("loop", "ack"))


def _floods(kinds: list[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for kind in kinds:
        seed = secrets.token_bytes(32)
        with homes("host") as (host,):
            host.cli("init", "--name", "host", "--mesh", "bench")
            host.admit([SigningKey.from_seed(seed).public])
            host.fill(2_000)
            host.serve("serve", "--listen", "127.0.0.1:0")
            url = str(host.wait_ready()["listen"])
            with _flood(kind, url, load_mesh(host.paths).genesis, seed):
                time.sleep(0.5)
                found[kind] = {}
                with _probing(host, found[kind]):
                    time.sleep(_FLOOD_S)
            note(f"loop: {kind}: {found[kind]}")
    return found


_WHAT = "ms from when a question was due to its answer, a write's up to its acknowledgement; p99 of the worse of both; all on these cores, with the attacker"


@benchmark(("loop.flood", "ms", "<=", _GOAL_MS))
def flood(_: Scale) -> dict[str, Measured]:
    """The event loop of a node while a member floods it over TLS: the worst of eight floods."""
    found = _floods(list(_FLOODS))
    return {"loop.flood": Measured(_worst(found), {**found, "what": _WHAT})}


@benchmark(("loop.strangers", "ms", "<=", _GOAL_MS))
def strangers(_: Scale) -> dict[str, Measured]:
    """The same while 32 strangers shake hands, again and again."""
    found = _floods(["strangers"])
    return {"loop.strangers": Measured(_worst(found), {**found, "what": _WHAT})}


@benchmark(("loop.bulk", "ms", "<=", _GOAL_MS))
def bulk(scale: Scale) -> dict[str, Measured]:
    """The same at both ends while a bulk of ops streams from one node to the other."""
    found: dict[str, dict[str, Any]] = {"giver": {}, "taker": {}}
    with homes("giver", "taker") as (giver, taker):
        giver.cli("init", "--name", "giver", "--mesh", "bench")
        giver.serve("serve", "--listen", "127.0.0.1:0")
        giver.wait_ready()
        taker.cli("join", giver.cli("invite", "--role", "peer", "--ttl", "10m")["token"], "--name", "taker")
        giver.stop()
        note(f"loop.bulk: filling the giver with {scale.ops:,} ops")
        total = giver.fill(scale.ops)
        giver.serve("serve", "--listen", "127.0.0.1:0")
        url = str(giver.wait_ready()["listen"])
        taker.serve("serve", "--peer", url)
        with _probing(giver, found["giver"]):
            taker.wait_ready()
            with _probing(taker, found["taker"]):
                end = time.monotonic() + _PATIENCE_S
                while taker.ask("status")["ops"] < total:
                    if time.monotonic() > end:
                        raise RuntimeError("the bulk did not arrive")
                    time.sleep(0.1)
        note(f"loop.bulk: {found}")
    return {"loop.bulk": Measured(_worst(found), {"ops": total, **found, "what": _WHAT})}
