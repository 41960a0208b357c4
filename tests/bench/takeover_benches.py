"""How long an item of a killed holder stays with nobody at work on it."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

from benchmark import Measured, Scale, benchmark, note, spread
from merge_benches import make_remote
from node_home import Home, homes

_ROUNDS = 12
_BEAT_S, _TTL_S, _GRACE_S, _LOCK_S = 0.5, 4.0, 0.5, 0.5
_LEASE = f"[lease]\nbeat_s = {_BEAT_S}\nttl_s = {_TTL_S}\ngrace_s = {_GRACE_S}\nlock_delay_s = {_LOCK_S}\nsettle_s = 0.2\nmass_loss = 0\n"
_PATIENCE_S = 120.0


def _config(remote: Path, folder: Path) -> str:
    """The command says in a file that it began, and stays for ever; whoever takes over says so in another line."""
    command = f"command = '''echo \"$FABRIK_ITEM $BENCH_NODE\" >> {folder}/begun; sleep 100000'''\n"
    return f'{_LEASE}[agent]\nkill_grace_s = 0.5\nmax_interruptions = 0\n{command}[git]\nremote = "{remote}"\n'


class _Begun:
    """Who began which item, in order."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()

    def wait(self, item: str, besides: str = "") -> tuple[str, float]:
        """The node that began ``item``, not ``besides``, and the moment at which that was seen."""
        end = time.monotonic() + _PATIENCE_S
        while time.monotonic() < end:
            rows = [line.split() for line in self._path.read_text(encoding="utf-8").splitlines()]
            found = [node for at, node in rows if at == item and node != besides]
            if found:
                return found[-1], time.monotonic()
            time.sleep(0.01)
        raise RuntimeError("nobody took the item")


def _serve(home: Home) -> None:
    os.environ["BENCH_NODE"] = home.folder.name
    home.serve("serve")
    home.wait_ready()


@benchmark(("takeover.ratio", "of the sum", "<=", 1.5))
def takeover(_: Scale) -> dict[str, Measured]:
    """From a kill -9 of a holder until another agent's command for the item runs, as a part of TTL + grace + lock delay; the median of twelve."""
    with homes("host", "one", "two") as (host, *agents):
        folder = host.folder.parent
        remote = make_remote(folder)
        host.cli("init", "--name", "host", "--mesh", "bench")
        (host.folder / "config.toml").write_text(_LEASE, encoding="utf-8")
        host.serve("serve", "--listen", "127.0.0.1:0")
        host.wait_ready()
        for agent in agents:
            agent.folder.mkdir()
            (agent.folder / "config.toml").write_text(_config(remote, folder), encoding="utf-8")
            agent.cli("join", host.cli("invite", "--role", "agent", "--ttl", "10m")["token"], "--name", agent.folder.name)
            _serve(agent)
        begun = _Begun(folder / "begun")
        by_name = {agent.folder.name: agent for agent in agents}
        waits = [_one(host, by_name, begun) for _ in range(_ROUNDS)]
    total = _TTL_S + _GRACE_S + _LOCK_S
    waits.sort()
    p90 = waits[int(0.9 * (len(waits) - 1))]
    settings = {"ttl_s": _TTL_S, "grace_s": _GRACE_S, "lock_delay_s": _LOCK_S, "beat_s": _BEAT_S, "sum_s": total}
    return {"takeover.ratio": Measured(waits[len(waits) // 2] / total, {"seconds": spread(waits) | {"p90": round(p90, 2)}, **settings})}


def _one(host: Home, agents: dict[str, Home], begun: _Begun) -> float:
    item = str(host.ask("items.add", {"title": "held"})["item"]["id"])
    holder, _ = begun.wait(item)
    process = agents[holder].process
    if process is None:
        raise RuntimeError(f"{holder} is not served")
    killed_at = time.monotonic()
    process.send_signal(signal.SIGKILL)
    process.wait()
    survivor, at = begun.wait(item, besides=holder)
    note(f"takeover: {at - killed_at:.2f} s")
    host.cli("items", "move", item, "Archived", "--reason", "Abandoned")
    _serve(agents[holder])
    _until_idle(agents[survivor])
    _until_idle(agents[holder])
    return at - killed_at


def _until_idle(agent: Home) -> None:
    end = time.monotonic() + _PATIENCE_S
    while agent.ask("status")["agent"]["running"] or not any(peer["state"] == "connected" for peer in agent.ask("status")["peers"]):
        if time.monotonic() > end:
            raise RuntimeError(f"{agent.folder} does not come to rest: {json.dumps(agent.ask('status')['agent'])}")
        time.sleep(0.05)
