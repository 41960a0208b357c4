"""What claims cost: how often agents collide, how many claims a second a node makes, what a look at all items takes, and what an agent costs that has nothing to do."""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark import Measured, Scale, benchmark, note
from merge_benches import make_remote
from node_home import homes
from virtual_time import VirtualClock, run_virtual

sys.path.append(str(Path(__file__).parents[1] / "doubles"))

from node_rig import FakeArbiter, NodeRig, Rigs, pull_branch

from fabrik_node._core import SigningKey
from fabrik_node.agent.backoff import Backoff
from fabrik_node.clock import SystemClock
from fabrik_node.domain.claims import Claim
from fabrik_node.domain.leases import LeaseTiming
from fabrik_node.domain.schema import ItemField, Kind
from fabrik_node.domain.stages import Coding, Done, Merge, Qa
from fabrik_node.git import GitRunner, Origin
from fabrik_node.ids import new_id, parse_id
from fabrik_node.ports import Arbiter, ArbiterReceipt, ArbiterTaken, ClaimIntent, ClaimRefused

if TYPE_CHECKING:  # names of the stub, not of the extension
    from fabrik_node._core import Write

__all__: list[str] = []

_AGENTS = (2, 8, 20)
_DELAY_S = 0.05
"""From a commit on one node, or from what it says of itself, until another has it."""
_SLOW_S = 0.5
"""The same in a slow mesh: longer than agents listen to each other before they ask."""
_REMOTE_S = 0.15
"""One way to the git remote; a push takes two."""
_ITEMS = 150
_WORK_S = (20.0, 90.0)
_IDLE_S = 60.0
_RATE_CLAIMS = 300
_LOOK_ITEMS = 10_000
_LOOK_BATCH = 100
_LOOKS = 20
_RATE_GIT_CLAIMS = 60


# ---- collisions, in virtual time --------------------------------------------------------------------


class _SlowArbiter(FakeArbiter):
    """A git remote with a way to it."""

    async def current(self, item: str) -> ArbiterTaken | None:
        await asyncio.sleep(_REMOTE_S)
        found = await super().current(item)
        await asyncio.sleep(_REMOTE_S)
        return found

    async def cas(self, expected: bytes, intent: ClaimIntent) -> ArbiterReceipt | ArbiterTaken:
        await asyncio.sleep(_REMOTE_S)
        answer = await super().cas(expected, intent)
        await asyncio.sleep(_REMOTE_S)
        return answer


class _Mesh:
    """Every node tells every other one, ``delay_s`` later; what is on the way to a node already waits for no second one."""

    def __init__(self, rigs: list[NodeRig], delay_s: float) -> None:
        self._rigs = rigs
        self._delay_s = delay_s
        self._due: set[tuple[int, int]] = set()
        self._busy: dict[int, asyncio.Lock] = {number: asyncio.Lock() for number in range(len(rigs))}
        self._tasks: set[asyncio.Task[None]] = set()
        for number, rig in enumerate(rigs):
            rig.node.on_committed(lambda _heads, number=number: self._tell(number))  # type: ignore[misc]  # inference of the default argument
            rig.node.on_ephemeral(partial(self._say, rig))

    def _say(self, rig: NodeRig, author: bytes, _counter: int, message: bytes) -> None:
        if author == rig.node.public:
            for other in self._rigs:
                if other is not rig:
                    asyncio.get_running_loop().call_later(self._delay_s, other.node.ephemeral_in, message)

    def _tell(self, source: int) -> None:
        for target in range(len(self._rigs)):
            if target != source and (source, target) not in self._due:
                self._due.add((source, target))
                task = asyncio.get_running_loop().create_task(self._carry(source, target))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _carry(self, source: int, target: int) -> None:
        await asyncio.sleep(self._delay_s)
        self._due.discard((source, target))
        one, other = self._rigs[source].node, self._rigs[target]
        async with self._busy[target]:
            for author, epoch in {(head.author, head.epoch) for head in one.heads() if head.author == one.public}:
                for branch, after in one.replica.cursors(author, epoch, other.node.replica.places(author, epoch)):
                    await pull_branch(other, self._rigs[source], author, epoch, branch, after)


@dataclass
class _Count:
    granted: int = 0
    collisions: Counter[str] = field(default_factory=Counter)
    added: dict[bytes, float] = field(default_factory=dict)
    """When each item came."""
    waited_s: list[float] = field(default_factory=list)
    """From then until its claim was granted and written down, in the order of the grants."""


async def _agent(rig: NodeRig, rng: random.Random, count: _Count, left: Counter[str]) -> None:
    """What the claim loop does (``agent/loop.py``) with one slot; the work takes a while and is merged."""
    wake = asyncio.Event()
    rig.pipeline.on_change(wake.set)
    timing, clock = rig.node.timing, rig.node.clock
    backoff = Backoff(30.0, timing.beat_s, rng)
    said: dict[str, Any] = {"labels": [], "slots": 1, "busy": 0}
    rig.node.describe_self = lambda: {"accepting": True, "agent": {**said, "asking": sorted(rig.pipeline.turns.asking)}}
    await asyncio.sleep(3 * timing.beat_s)
    while left["items"]:
        wake.clear()
        views = rig.pipeline.candidates([])
        turns = rig.pipeline.choose(backoff.ready(views, clock.now()), [], 1)
        if not turns or turns[0][1] > 0.001:
            waits = [rng.uniform(0.5, 1.0) * timing.beat_s, backoff.next_s(views, clock.now()), turns[0][1] if turns else None]
            try:
                async with asyncio.timeout(min(wait for wait in waits if wait is not None)):
                    await wake.wait()
            except TimeoutError:
                continue
            continue
        item = turns[0][0]
        if not rig.pipeline.is_candidate(item, []):
            continue
        with rig.pipeline.intent(item) as listen_s:
            await asyncio.sleep(listen_s)
            if not rig.pipeline.is_candidate(item, []):
                continue
            claim = await rig.pipeline.claim(item, "agent")
        if not isinstance(claim, Claim):
            count.collisions[claim.reason.partition(" to ")[0]] += 1
            backoff.refused(item, clock.now())
            continue
        count.granted += 1
        count.waited_s.append(clock.now() - count.added.get(item, clock.now()))
        left["items"] -= 1
        said["busy"] = 1
        await asyncio.sleep(rng.uniform(*_WORK_S))
        for stage in (Coding(), Qa(), Merge("branch", 1), Done(0, b"m" * 20)):
            await rig.pipeline.move(item, stage, claim)
        await rig.pipeline.finish(item, claim, "ok", {}, charge_attempt=False)
        said["busy"] = 0
        rig.pipeline.say_now()


async def _fleet(agents: int, *, remote: bool, trickle_s: float, seed: int, delay_s: float = _DELAY_S) -> _Count:
    rigs = Rigs(timing=LeaseTiming(), timed=True)
    rigs.clock = VirtualClock()  # type: ignore[assignment]
    rigs.keys = rigs.keys[:1] + [SigningKey.from_seed(number.to_bytes(32, "big")) for number in range(1, agents + 2)]
    arbiter: Arbiter | None = _SlowArbiter() if remote else None
    made = [await rigs.open(number, arbiter=arbiter) for number in range(agents + 1)]
    mesh = _Mesh(made, delay_s)
    host, count, left = made[0], _Count(), Counter(items=_ITEMS)
    for number in range(agents + 1):
        mesh._tell(number)
    running = [asyncio.create_task(_agent(rig, random.Random(seed + number), count, left)) for number, rig in enumerate(made[1:])]
    await asyncio.sleep(60.0)  # until all are heard
    for number in range(_ITEMS):
        count.added[parse_id(await host.add(f"item {number}")) or b""] = rigs.clock.now()
        await asyncio.sleep(trickle_s)
    await asyncio.wait(running)
    await rigs.close()
    return count


@benchmark(("claims.collisions", "refused claims per 1,000 granted, the worst of 8 and 20 agents", "<=", 100.0))
def claim_collisions(scale: Scale) -> dict[str, Measured]:
    """Agents that all look at one list, in virtual time: claims that were asked for and lost, per 1,000 that were granted, with 2, 8 and 20 agents.

    The figure is the worst of all with the usual delay between nodes; a run with ``FULL`` also plays a slow mesh, whose nodes hear of each other too late.
    """
    rows: dict[str, dict[str, float]] = {}
    waits: dict[str, dict[str, float]] = {}
    seeds = range(1, 4 if scale.full else 2)
    for agents in _AGENTS:
        row, wait = rows.setdefault(str(agents), {}), waits.setdefault(str(agents), {})
        for remote in (True, False):
            for name, trickle_s, delay_s in (
                ("backlog", 0.0, _DELAY_S),
                ("trickle", 15.0, _DELAY_S),
                *((("slow backlog", 0.0, _SLOW_S),) if scale.full else ()),
            ):
                counts = [run_virtual(_fleet(agents, remote=remote, trickle_s=trickle_s, seed=1000 * seed, delay_s=delay_s)) for seed in seeds]
                lost = sum(sum(count.collisions.values()) for count in counts)
                granted = sum(count.granted for count in counts)
                place = f"{name}, {'remote' if remote else 'no remote'}"
                row[place] = round(1000 * lost / granted, 1)
                first_s = [count.waited_s[agents - 1] if not trickle_s else statistics.median(count.waited_s) for count in counts]
                wait[place] = round(statistics.mean(first_s), 2)
                note(f"claims.collisions: {agents} agents, {place}: {lost} of {granted} {dict(counts[0].collisions)}, {wait[place]} s")
    env = {
        "per_1000": rows,
        "seconds": waits,
        "items": _ITEMS * len(seeds),
        "delay_s": _DELAY_S,
        "slow_s": _SLOW_S,
        "remote_s": 2 * _REMOTE_S,
        "what": "the product's choice, turns, backoff and claims on whole nodes with stores in memory; backlog: all items at once, trickle: one each 15 s, most agents idle; "
        "seconds: until each agent had its first claim (backlog), from an item's coming to its claim (trickle, median)",
    }
    return {"claims.collisions": Measured(max(count for agents in _AGENTS[1:] for place, count in rows[str(agents)].items() if "slow" not in place), env)}


# ---- rate -------------------------------------------------------------------------------------------


async def _rate(folder: Path, origin: Origin | None, claims: int, at_once: int) -> float:
    """Claims per second of one node with a real store: from asking to confirmed and durable."""
    rigs = Rigs(folder, timing=LeaseTiming(settle_s=0.0), timed=True)
    rigs.clock = SystemClock()  # type: ignore[assignment]
    rig = await rigs.open(0, arbiter=origin)
    items = [parse_id(await rig.add(f"item {number}")) or b"" for number in range(claims)]
    began = time.perf_counter()

    async def claimer(part: list[bytes]) -> None:
        for item in part:
            claim = await rig.pipeline.claim(item, "agent")
            if isinstance(claim, ClaimRefused):
                raise RuntimeError(claim.reason)  # noqa: TRY004 - no type is wrong

    await asyncio.gather(*(claimer(items[start::at_once]) for start in range(at_once)))
    took_s = time.perf_counter() - began
    await rigs.close()
    return claims / took_s


@benchmark(("claims.rate", "claims/s without an arbiter, 8 at once", ">=", 100.0), ("claims.rate_git", "claims/s through a git remote, 8 at once", ">=", 10.0))
def claim_rate(scale: Scale) -> dict[str, Measured]:
    """One node, its store on disk: claims per second without the settle delay, and through a bare repository on this machine, one after the other and 8 at once."""
    found: dict[tuple[bool, int], float] = {}
    for git in (False, True):
        for at_once in (1, 8):
            with tempfile.TemporaryDirectory(prefix="fabrik-bench-") as name:
                folder = Path(name)
                origin = None
                if git:
                    (folder / "home").mkdir()
                    origin = Origin(GitRunner(dict(os.environ)), folder / "home", str(make_remote(folder)), "main", folder / "work", random.Random(1))
                found[git, at_once] = asyncio.run(_rate(folder, origin, _RATE_GIT_CLAIMS if git else _RATE_CLAIMS, at_once))
                note(f"claims.rate: {'git' if git else 'no arbiter'}, {at_once} at once: {found[git, at_once]:.1f}/s")
    return {
        "claims.rate": Measured(found[False, 8], {"one_by_one": round(found[False, 1], 1), "claims": _RATE_CLAIMS}),
        "claims.rate_git": Measured(found[True, 8], {"one_by_one": round(found[True, 1], 1), "claims": _RATE_GIT_CLAIMS}),
    }


# ---- a look at all items ----------------------------------------------------------------------------


async def _looks() -> dict[str, list[float]]:
    """Milliseconds of looks, each after a change of one item: without limits, with them, and what the first one takes of the event loop at a time."""
    rigs = Rigs(timed=True)
    rig = await rigs.open(0, arbiter=FakeArbiter())
    items = [new_id(1_000 + number) for number in range(_LOOK_ITEMS)]
    for start in range(0, _LOOK_ITEMS, _LOOK_BATCH):
        writes: list[Write] = []
        for number, item in enumerate(items[start : start + _LOOK_BATCH], start):
            fields = (
                (ItemField.TITLE, f"item {number}"),
                (ItemField.BODY, "x" * 500),
                (ItemField.CREATED_MS, number),
                (ItemField.LABELS, [f"group:{number % 100}"]),
            )
            writes += [(Kind.ITEM, item, key, value, None) for key, value in fields]
        await rig.node.write(start, partial(list, writes))
    held = asyncio.create_task(_held_ms())
    await asyncio.sleep(0)
    await rig.pipeline.prepare()
    held.cancel()
    found = {"first, each part": await held}
    for name in ("no limits", "100 limits, 100 claims"):
        found[name] = []
        for number in range(_LOOKS):
            await rig.node.write(b"edit", partial(list, [(Kind.ITEM, items[-1 - number], ItemField.PRIORITY, number, None)]))
            began = time.perf_counter()
            rig.pipeline.choose(rig.pipeline.candidates([]), [], 1)
            found[name].append(1_000 * (time.perf_counter() - began))
        rig.limits.update({f"group:{number}": 3 for number in range(100)})
        for item in items[:100]:
            await rig.pipeline.claim(item, "agent")
    await rigs.close()
    return found


async def _held_ms() -> list[float]:
    """How long each turn of the event loop took, until cancelled."""
    found: list[float] = []
    try:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0)
            found.append(1_000 * (time.perf_counter() - began))
    except asyncio.CancelledError:
        return found


@benchmark(("claims.look", "ms of the event loop per look of an agent at 10,000 items", "<=", 50.0))
def claim_look(scale: Scale) -> dict[str, Measured]:
    """A node with 10,000 items that wait, 100 groups with a limit and 100 claims: what one look of its agent holds the event loop after one item changed."""
    found = asyncio.run(_looks())
    env = {name: {"median": round(statistics.median(each), 1), "max": round(max(each), 1)} for name, each in found.items()}
    note(f"claims.look: {env}")
    return {"claims.look": Measured(statistics.median(found["100 limits, 100 claims"]), {**env, "items": _LOOK_ITEMS, "looks": _LOOKS})}


# ---- idle -------------------------------------------------------------------------------------------


@benchmark(("agent.idle_cpu", "% of one core", "<=", 1.0), ("agent.idle_bytes", "bytes per minute, both directions", "<=", 20_000.0))
def agent_idle(scale: Scale) -> dict[str, Measured]:
    """An agent in a mesh of two that has nothing to do: processor share and bytes per minute, in a minute, with the default settings."""
    with homes("host", "agent") as (host, agent):
        host.cli("init", "--name", "host", "--mesh", "bench")
        host.serve("serve", "--listen", "127.0.0.1:0")
        address = str(host.wait_ready()["listen"])
        token = host.cli("invite", "--role", "agent", "--ttl", "10m")["token"]
        agent.cli("join", token, "--name", "agent")
        remote = make_remote(host.folder.parent)
        agent.serve("serve", "--peer", address, "--command", "true", "--remote", str(remote))
        agent.wait_ready()
        time.sleep(15.0)
        samples = []
        for _ in range(3 if scale.full else 1):
            before, cpu_s, began = _traffic(agent.ask("status")), agent.cpu_s(), time.monotonic()
            time.sleep(_IDLE_S)
            passed_s = time.monotonic() - began
            used_s = agent.cpu_s() - cpu_s
            samples.append((100 * used_s / passed_s, 60 * (_traffic(agent.ask("status")) - before) / passed_s))
        env = {"seconds": _IDLE_S, "samples": len(samples), "beat_s": LeaseTiming().beat_s, "transport": "TLS 1.3 on loopback, bytes above TLS"}
        return {
            "agent.idle_cpu": Measured(statistics.median(cpu for cpu, _ in samples), env),
            "agent.idle_bytes": Measured(statistics.median(count for _, count in samples), env),
        }


def _traffic(status: dict[str, Any]) -> int:
    return sum(int(peer["bytes_in"]) + int(peer["bytes_out"]) for peer in status["peers"])
