"""A soak: build agents work through a pile of items while their nodes, shims and commands are killed as a seed says; all processes are real.

Every command writes into one ledger, outside of all homes, when it begins and what it committed. What the product says is compared with
the ledger and with the git remote at the end (:mod:`soak.checker`), and so are all writes that were acknowledged.
"""

from __future__ import annotations

import heapq
import os
import random
import secrets
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from acceptance.fleet import Fleet, NodeProcess, make_remote

__all__ = ["Kill", "Ledger", "Plan", "Soak", "Work", "marked"]

_NOBODYS = "nobody"
"""A label that no agent offers: such items are only written, not worked on."""
_STUCK_S = 120.0
"""A failure bound: so long may pass without one more item in Done."""
_COMMAND = (
    'echo "begin $FABRIK_RUN $FABRIK_CLAIM $FABRIK_ITEM $SOAK_NODE $$ $(date +%s.%N)" >> "$SOAK_LEDGER"; sleep "${FABRIK_TITLE##* }"; '
    'echo "$FABRIK_TITLE" > "$FABRIK_ITEM.txt" && git add . && git commit -q -m "$FABRIK_TITLE" && '
    'echo "commit $FABRIK_RUN $FABRIK_CLAIM $FABRIK_ITEM $SOAK_NODE $(git rev-parse HEAD) $(date +%s.%N)" >> "$SOAK_LEDGER"'
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much. ``kill_share``: of the commands that begin, how many bring a kill; times in seconds."""

    agents: int
    items: int
    seed: int
    kill_share: float
    work_s: tuple[float, float]
    beat_s: float = 0.5
    ttl_s: float = 5.0
    grace_s: float = 0.5
    lock_delay_s: float = 0.5

    @property
    def takeover_s(self) -> float:
        """After the last renewal, at the earliest."""
        return self.ttl_s + self.grace_s + self.lock_delay_s

    def config(self, remote: Path) -> str:
        """Of an agent. A killed command counts as an attempt, and none is to be held for that."""
        lease = f"[lease]\nbeat_s = {self.beat_s}\nttl_s = {self.ttl_s}\ngrace_s = {self.grace_s}\nlock_delay_s = {self.lock_delay_s}\nsettle_s = 0.2\n"
        agent = f"[agent]\nbackoff_s = 0.1\nkill_grace_s = 1.0\nmax_attempts = 1000\nmax_interruptions = 0\ncrash_count = 0\ncommand = '''{_COMMAND}'''\n"
        return f'{lease}{agent}[git]\nremote = "{remote}"\n'


@dataclass(frozen=True, slots=True)
class Work:
    """One line of the ledger. ``word``: begin or commit; ``what``: the pid of the command, or the commit; ``at``: wall time of this machine."""

    word: str
    run: str
    claim: str
    item: str
    node: str
    what: str
    at: float


class Ledger:
    """What the commands say of themselves; each line is one write(2), so no two mix."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def lines(self) -> list[Work]:
        """All whole lines."""
        text = self.path.read_text()
        rows = [line.split() for line in text[: text.rfind("\n") + 1].splitlines()]
        return [Work(word, run, claim, item, node, what, float(at)) for word, run, claim, item, node, what, at in rows]


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill as it happened. ``item``: what the victim worked on, if it did; ``back_at``: when its node was to be started again."""

    kind: str
    node: str
    item: str
    at: float
    back_at: float


@dataclass(slots=True)
class Soak:
    """One play. :meth:`run` returns when every item is Done and everything is quiet; then all nodes run, and :meth:`end` ends them."""

    plan: Plan
    folder: Path
    say: Callable[[str], None]
    fleet: Fleet = field(init=False)
    remote: Path = field(init=False)
    ledger: Ledger = field(init=False)
    host: NodeProcess = field(init=False)
    agents: dict[str, NodeProcess] = field(default_factory=dict)
    items: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """Titles of items whose writes were acknowledged while nodes died."""
    kills: list[Kill] = field(default_factory=list)
    mark: str = field(default_factory=lambda: f"SOAK_MARK={secrets.token_hex(8)}")
    began: float = 0.0
    _due: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _back: dict[str, float] = field(default_factory=dict)
    _order: count[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        self.fleet = Fleet(self.folder)
        self.remote = make_remote(self.folder / "git")
        self.ledger = Ledger(self.folder / "ledger")

    @property
    def nodes(self) -> list[NodeProcess]:
        """The host first."""
        return [self.host, *self.agents.values()]

    def run(self) -> None:
        """Play to the end. Raises AssertionError when nothing moves any more."""
        rng = random.Random(self.plan.seed)
        self._arrange(rng)
        seen, done, moved_at = 0, 0, time.monotonic()
        pause = threading.Event()
        while done < len(self.items):
            lines = self.ledger.lines()
            for work in lines[seen:]:
                self._maybe_kill(rng, work)
            seen = len(lines)
            self._act()
            self._write_note()
            now_done = self._done(done)
            if now_done != done:
                done, moved_at = now_done, time.monotonic()
                self.say(f"{done} of {len(self.items)} done, {len(self.kills)} kills")
            assert time.monotonic() - moved_at < _STUCK_S, f"seed {self.plan.seed}: stuck at {done} of {len(self.items)}: {self._stuck()}"
            pause.wait(0.05)
        while self._due:
            self._act(at_once=True)
        for node in self.nodes:
            if not node.runs:
                self._start(node)
            node.await_true(lambda node=node: _answers(node), "an answer")  # type: ignore[misc]  # inference of the default argument
        self.fleet.await_equal(self.nodes)
        for name, node in self.agents.items():
            node.await_true(lambda node=node, name=name: self._is_quiet(node, name), "the end of its runs")  # type: ignore[misc]
        self.fleet.await_equal(self.nodes)

    def end(self) -> list[str]:
        """SIGTERM to every node; what went wrong with that. Then nothing of this soak may live."""
        wrong = []
        for node in self.nodes:
            if node.runs and (status := node.stop()) != 143:
                wrong.append(f"{node.name} ended with {status}: {node.stderr[-3:]}")
        left = marked(self.mark)
        if left:
            wrong.append(f"processes were left: {left}")
        return wrong

    def abort(self) -> None:
        """After a failure: nothing of it stays."""
        self.fleet.end()
        for pid in marked(self.mark):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # ---- arranging ------------------------------------------------------------------------------

    def _env(self, name: str) -> dict[str, str]:
        word, _, value = self.mark.partition("=")
        return {"SOAK_LEDGER": str(self.ledger.path), "SOAK_NODE": name, word: value}

    def _arrange(self, rng: random.Random) -> None:
        config = self.plan.config(self.remote)
        self.host = self.fleet.new("host", config.partition("[agent]")[0])
        self.host.ask("init", "--name", "host", "--mesh", "soak")
        self.host.start("serve", "--listen", "127.0.0.1:0", env=self._env("host"))
        self._address = self.host.url.removeprefix("wss://").removesuffix("/crdt-sync")
        low, high = self.plan.work_s
        self.began = time.time()
        for number in range(self.plan.items):
            title = f"item {number} {rng.uniform(low, high):.2f}"
            self.items[str(self.host.call("items.add", title=title)["item"]["id"])] = title
        for number in range(self.plan.agents):
            name = f"agent-{number}"
            node = self.fleet.new(name, config)
            node.ask("join", self.fleet.token(self.host, "agent"), "--name", name)
            self.agents[name] = node
            node.launch("serve", env=self._env(name))

    _address: str = ""

    def _start(self, node: NodeProcess) -> None:
        more = ("--listen", self._address) if node is self.host else ()
        node.launch("serve", *more, env=self._env(node.name))

    # ---- killing --------------------------------------------------------------------------------

    def _later(self, after_s: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (time.monotonic() + after_s, next(self._order), act))

    def _act(self, *, at_once: bool = False) -> None:
        while self._due and (at_once or self._due[0][0] <= time.monotonic()):
            heapq.heappop(self._due)[2]()

    def _maybe_kill(self, rng: random.Random, work: Work) -> None:
        """Each line of the ledger draws the same numbers, whatever comes of them."""
        hit, kind, when, back = rng.random(), rng.choice(("node", "node", "command", "shim", "both", "host")), rng.random(), rng.random()
        if work.word != "begin" or hit >= self.plan.kill_share:
            return
        lasts_s = float(self.items[work.item].split()[-1])
        # A little later than the work takes: the push, the merge and the closing are hit, too.
        self._later(when * (lasts_s + 1.5), lambda: self._kill(kind, work, back * 4.0 * self.plan.takeover_s))

    def _kill(self, kind: str, work: Work, back_s: float) -> None:
        node = self.host if kind == "host" else self.agents[work.node]
        at = time.time()
        pid = int(work.what)
        shim = _parent(pid)
        if kind in {"command", "both"}:
            self._end_process(pid)
        if kind == "shim" and shim != 1:
            self._end_process(shim)
        back_at = 0.0
        if kind in {"node", "both", "host"} and node.runs:
            node.kill()
            back_s = min(back_s, 2.0) if kind == "host" else back_s
            back_at = at + back_s
            self._later(back_s, lambda: self._start(node))
        self.kills.append(Kill(kind, node.name, work.item, at, back_at))

    def _end_process(self, pid: int) -> None:
        """If it is still one of ours."""
        if pid in marked(self.mark, [pid]):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # ---- watching -------------------------------------------------------------------------------

    def _write_note(self) -> None:
        """An acknowledged write of each moment, mostly."""
        title = f"note {len(self.notes)}"
        with suppress(OSError, ValueError, KeyError, AssertionError):
            self.host.call("items.add", title=title, labels=[_NOBODYS])
            self.notes.append(title)

    def _done(self, otherwise: int) -> int:
        with suppress(OSError, ValueError, KeyError):
            return int(self.host.call("status")["items"].get("Done", 0))
        return otherwise

    def _is_quiet(self, node: NodeProcess, name: str) -> bool:
        rows = node.ask("runs", "list", "--node", name, "--limit", "1000")["runs"]
        return not [row for row in rows if row["ended_at"] is None]

    def _stuck(self) -> list[Any]:
        if not _answers(self.host):
            return ["the host does not answer"]
        open_items = [entry for entry in self.host.call("items.list")["items"] if entry["stage"] != "Done" and entry["id"] in self.items]
        return [(entry["id"], entry["stage"], entry.get("claim"), entry.get("hold")) for entry in open_items[:5]]


def _answers(node: NodeProcess) -> bool:
    with suppress(OSError, ValueError, KeyError):
        return bool(node.call("status"))
    return False


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:  # it ended
        return 1


def marked(mark: str, among: list[int] | None = None) -> list[int]:
    """Living processes that were started, however indirectly, with this mark in their environment."""
    found = []
    for pid in among if among is not None else [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]:
        try:
            if mark.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(pid)
        except OSError:  # it ended while we looked, or it is not ours
            continue
    return found
