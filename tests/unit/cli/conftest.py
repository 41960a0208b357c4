"""A node as the command line sees it: a scripted service behind a real Unix socket, and hooks that remember their calls."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fabrik_node.api import LocalApi
from fabrik_node.cli.hooks import NodeAnswer, ServeOptions
from fabrik_node.cli.main import run
from fabrik_node.clock import SystemClock
from fabrik_node.errors import NoNode, NotFound
from fabrik_node.paths import HomePaths
from fabrik_node.process import Peer
from fabrik_node.service.callers import OPERATOR, Caller

ITEM = "01k8qj3v6w0000000000000001"
ITEM_2 = "01k8qj3v6wzz00000000000002"
RUN = "01k8qj4v6w0000000000000009"
CLAIM = "01k8qj4v6w0000000000000005"
QUESTION = "01k8qj4v6w0000000000000007"
NODE = "ab" * 32
STAMP = {"as_of": "2026-11-20T10:00:00.000Z", "source": "node", "node": "alpha", "peers_connected": 2}


def claim(**changes: Any) -> dict[str, Any]:
    return {
        "item": ITEM, "title": "Mend the roof", "claim_id": CLAIM, "epoch": 3, "receipt": 3, "state": "confirmed", "label": "fenced", "node": NODE,
        "node_name": "beta", "agent": "agent", "ttl_s": 90.0, "lease": "fresh", "lease_age_s": 3.2, "lease_heard": True, "stale": False, "reason": "", "follows": None,
    } | changes  # fmt: skip


def item(**changes: Any) -> dict[str, Any]:
    return {
        "id": ITEM, "title": "Mend the roof", "body": "It leaks.\nBadly.", "stage": "Coding", "stage_data": {}, "labels": ["roof"], "priority": 2, "depends_on": [],
        "created_at": "2026-11-20T09:00:00.000Z", "age_s": 3600.0, "attempts": 1, "hold": None, "outcome": None, "claim": claim(),
    } | changes  # fmt: skip


def conflict(**changes: Any) -> dict[str, Any]:
    side = {
        "claim_id": CLAIM,
        "epoch": 1,
        "receipt": 2,
        "node": NODE,
        "node_name": "beta",
        "agent": "agent",
        "run_id": RUN,
        "state": "completed",
        "branch": f"fabrik/{ITEM}/{CLAIM}",
    }
    return {
        "item": ITEM, "title": "Mend the roof", "kind": "rival", "why": "its receipt 2 is higher than 1", "winner": side, "loser": side | {"node_name": "alpha", "state": "superseded"},
        "wasted_s": 61.0, "at": "2026-11-20T09:59:00.000Z",
    } | changes  # fmt: skip


def run_row(**changes: Any) -> dict[str, Any]:
    return {
        "run_id": RUN, "item": ITEM, "title": "Mend the roof", "claim_id": CLAIM, "node": NODE, "node_name": "beta", "own": False, "agent": "agent", "state": "running",
        "recorded_state": "running", "evidence": "last heard of 3.2 s ago", "degraded": "", "phase": "coding", "started_at": "2026-11-20T09:58:00.000Z", "ended_at": None,
        "exit_code": None, "reason": "", "as_of": "2026-11-20T09:59:56.800Z", "age_s": 3.2, "stale": False, "since": None, "unreachable_since": None,
        "next": "a heartbeat of its node, else it is unreachable", "next_s": 26.8, "branch": f"fabrik/{ITEM}/{CLAIM}", "worktree": "", "log": "", "engine": "",
    } | changes  # fmt: skip


def question(**changes: Any) -> dict[str, Any]:
    return {
        "id": QUESTION, "item": ITEM, "title": "Mend the roof", "text": "Slate or tin?", "options": ["slate", "tin"], "state": "taken", "asked_at": "2026-11-20T09:58:00.000Z",
        "asked_by": "beta", "run_id": RUN, "timeout_s": 3600.0, "default": "tin", "answer": {"said": "tin", "by": "gamma", "at": "2026-11-20T09:59:00.000Z", "note": "cheap"},
        "too_late": True, "next": "", "end": {
            "kind": "taken", "said": "slate", "answered_by": "alpha", "at": "2026-11-20T09:58:30.000Z", "by": "beta", "run_id": RUN, "reason": ""
        },
    } | changes  # fmt: skip


STEP = {
    "name": "build", "state": "done", "attempt": 1, "run": RUN, "claim": CLAIM, "commit": "4d" * 20, "exit_status": 0, "inputs": "9f" * 32,
    "side_effects": False, "command": "make all", "at": "2026-11-20T09:00:00.000Z",
}  # fmt: skip
OPEN_QUESTION = question(state="open", answer=None, too_late=False, end=None, next=f"fabrik-node approvals answer {QUESTION} slate|tin")
STATUS = {
    **STAMP, "node_id": NODE, "mesh": "fabrik", "mesh_id": "cd" * 32, "epoch": 1, "lamport": 40, "ops": 38, "voided": 0, "registers": 60, "state_digest": "ef" * 32,
    "frontier_digest": "01" * 32, "items": {"Backlog": 1, "Coding": 1}, "uptime_s": 7300.0, "pid": 4242, "home": "/h", "version": "0.1.0", "listen": "ws://127.0.0.1:7001",
    "agent": {"enabled": True, "slots": 2, "running": [RUN], "draining": False}, "warnings": ["1 forked log segments were refused"],
    "peers": [{"url": "ws://127.0.0.1:7002", "key": NODE, "name": "beta", "state": "connected", "direction": "out", "attempts": 0, "lag_ops": 0, "last_contact_s": 0.4, "detail": ""}],
}  # fmt: skip

ANSWERS: dict[str, dict[str, Any]] = {
    "status": STATUS,
    "whoami": {
        **STAMP, "caller": "operator", "mesh": "fabrik", "mesh_id": "cd" * 32, "node_id": NODE, "fingerprint": "abab-abab-abab-abab", "role": "admin", "home": "/h",
        "worktree_of": None, "git": {"remote": None, "base": "main"},
    },
    "items.add": {**STAMP, "item": item(claim=None, stage="Backlog")},
    "items.list": {**STAMP, "items": [item(), item(id=ITEM_2, title="Paint it", claim=None, hold={"reason": "3 attempts failed"})], "total": 2},
    "items.show": {**STAMP, "item": item(), "runs": [run_row()]},
    "items.move": {**STAMP, "item": item(stage="Qa"), "superseded": claim(), "note": "beta (agent) is stopped when it hears of this"},
    "items.edit": {**STAMP, "item": item()},
    "items.requeue": {**STAMP, "item": item()},
    "items.resolve": {**STAMP, "item": item(stage="Merge")},
    "items.history": {
        **STAMP,
        "id": ITEM,
        "changes": [
            {
                "at": "2026-11-20T09:00:00.000Z", "node": "alpha", "author": NODE, "epoch": 1, "seq": 2, "lamport": 2, "digest": "9f" * 32, "field": "stage",
                "value": {"stage": "Coding"}, "claim_id": CLAIM, "won": True,
            }
        ],
    },
    "claims.list": {**STAMP, "claims": [claim()], "total": 1},
    "claims.show": {**STAMP, "claim": claim(), "item": item(), "conflicts": [conflict()], "claims": [claim() | {"first_at": "2026-11-20T09:00:00.000Z", "last_at": "2026-11-20T09:00:00.000Z"}]},
    "claims.conflicts": {**STAMP, "conflicts": [conflict(), conflict(wasted_s=None)], "total": 2, "wasted_s": 61.0},
    "claims.expire": {**STAMP, "claim": claim(state="released", label="released"), "was": claim(), "note": "this stops run x", "run": None},
    "claims.keep": {**STAMP, "item": item(), "branch": "fabrik/x/y", "claim_id": "y", "note": "3 commits are to be merged"},
    "steps.list": {**STAMP, "item": ITEM, "title": "t", "steps": [STEP, STEP | {"name": "deploy", "state": "unended", "side_effects": True, "commit": None}]},
    "steps.done": {**STAMP, "item": ITEM, "step": STEP, "next": f"fabrik-node items requeue {ITEM}"},
    "steps.again": {**STAMP, "item": ITEM, "step": STEP | {"state": "again"}, "next": None},
    "step.begin": {**STAMP, "go": True, "step": STEP | {"state": "started"}},
    "step.end": {**STAMP, "step": STEP},
    "approvals.list": {**STAMP, "requests": [OPEN_QUESTION], "total": 1},
    "approvals.show": {
        **STAMP,
        "request": question(),
        "answers": [{"said": said, "by": by, "at": "2026-11-20T09:59:00.000Z", "note": "", "op": "9f" * 32} for said, by in (("slate", "alpha"), ("tin", "gamma"))],
    },
    "approvals.answer": {**STAMP, "request": question(state="answered", end=None, too_late=False)},
    "ask": {**STAMP, "request": OPEN_QUESTION},
    "claims.release": {**STAMP, "claim": claim(state="released", label="released"), "was": claim(), "note": "beta (agent) is stopped when it hears of this"},
    "tombstone": {**STAMP, "id": ITEM, "at": "2026-11-20T10:00:00.000Z"},
    "tombstones.list": {**STAMP, "tombstones": [{"id": ITEM, "at": "2026-11-20T10:00:00.000Z", "by": "alpha", "reason": "double"}], "total": 1},
    "nodes.pending": {
        **STAMP,
        "pending": [
            {
                "node": "ef" * 32, "fingerprint": "efef-efef-efef-efef", "name": "gamma", "address": "10.0.0.7", "since": "2026-11-20T09:00:00.000Z",
                "waits_s": 62.0, "last_s": 2.0,
            }
        ],
    },
    "nodes.approve": {**STAMP, "node": "ef" * 32, "fingerprint": "efef-efef-efef-efef", "name": "gamma", "role": "agent", "state": "approved"},
    "nodes.reject": {**STAMP, "node": "ef" * 32, "fingerprint": "efef-efef-efef-efef", "name": "gamma", "state": "rejected"},
    "nodes.role": {**STAMP, "node": NODE, "name": "beta", "revoked": False, "note": "", "role": "peer"},
    "nodes.revoke": {**STAMP, "node": NODE, "name": "beta", "revoked": True, "kept": 1, "note": ""},
    "nodes.retire": {**STAMP, "node": NODE, "name": "beta", "revoked": False, "note": ""},
    "keys.recover": {**STAMP, "admin": NODE, "fingerprint": "abab-abab-abab-abab", "revoked": [{"node": "cd" * 32, "name": "beta"}]},
    "keys.rotate": {**STAMP, "old": "cd" * 32, "new": NODE, "fingerprint": "abab-abab-abab-abab", "next_file": "/home/identity/next.key"},
    "keys.list": {
        **STAMP,
        "keys": [{"node": NODE, "fingerprint": "abab-abab-abab-abab", "name": "alpha", "state": "current", "role": "admin", "successor": None}],
        "next_commitments": ["ef" * 32], "recovery": "cd" * 32,
    },
    "nodes.list": {
        **STAMP,
        "nodes": [
            {
                "node": NODE, "fingerprint": "abab-abab-abab-abab", "name": "alpha", "role": "admin", "me": True, "state": "self", "alive": True,
                "silent_since": None, "silent_after_s": 30.0, "stale": False, "connected": False, "last_contact_s": 0.5, "lag_ops": 0, "lag_out": 0, "lag_in": 0, "lag_s": 0.0,
                "lag_source": "self", "version": "0.1.0", "url": "", "clock_skew_s": None, "clock_warning": False, "diverged": False,
            },
            {
                "node": "cd" * 32, "fingerprint": "cdcd-cdcd-cdcd-cdcd", "name": "beta", "role": "agent", "me": False, "state": "silent", "alive": False,
                "silent_since": "2026-11-20T09:53:20.000Z", "silent_after_s": 30.0, "stale": True, "connected": False, "last_contact_s": 400.0, "lag_ops": 4, "lag_out": 3,
                "lag_in": 1, "lag_s": 390.0, "lag_source": "session", "version": "0.1.0", "url": "", "clock_skew_s": -75.0, "clock_warning": True, "diverged": True,
            },
        ],
    },
    "why": {
        **STAMP, "kind": "item", "id": ITEM, "state": "claimed", "causes": [{"code": "claimed", "text": "beta/agent has it in hand", "next": f"fabrik-node runs show {RUN}"}],
        "item": item(), "runs": [run_row()], "changes": [{"at": "2026-11-20T09:58:00.000Z", "by": "beta", "field": "claim", "value": {"state": "confirmed"}, "op": "9f" * 32}],
    },
    "runs.list": {**STAMP, "runs": [run_row()], "total": 1},
    "runs.show": {**STAMP, "run": run_row()},
    "runs.cancel": {**STAMP, "run": run_row(state="cancelled", recorded_state="cancelled", reason="cancelled: by hand"), "note": "its item is held"},
    "runs.recovery": {
        **STAMP, "open": 1, "unfinished": 1,
        "runs": [
            run_row(state="unreachable", kind="open", why="beta closes it when it is back", do=f"fabrik-node claims release {ITEM}"),
            run_row(run_id=CLAIM, state="failed", recorded_state="failed", kind="unfinished", why="its item is held: 3 attempts", do=f"fabrik-node items requeue {ITEM}"),
        ],
    },
    "runs.clean": {
        **STAMP, "removed": True, "bytes": 4096, "kept_bytes": 100, "folder": "/h/runs",
        "runs": [{"run_id": RUN, "bytes": 4096, "ended_at": "2026-09-20T09:59:00.000Z", "why": "ended 61 days ago: more than 30", "problem": ""}],
    },
    "drain": {
        **STAMP, "draining": True, "changed": True, "running": [RUN], "claiming": [ITEM],
        "halt": {"code": "operator", "reason": "by hand", "since_ms": 1_763_632_740_000, "since": "2025-11-20T09:59:00.000Z", "next": "fabrik-node drain --off"},
    },
    "ops.forks": {
        **STAMP,
        "forks": [
            {"id": fork * 32, "author": NODE, "name": "alpha", "epoch": 4294967300, "seq": 7, "at": "2026-11-20T09:00:00.000Z", "proof": {}}
            for fork in ("7d", "7e")
        ],
    },
    "ops.check": {**STAMP, "sound": True, "rows": 3, "ops": 38, "bytes": 7000, "damaged": [], "aside": [], "next": ""},
    "ops.proof": {**STAMP, "proof": {"type": "fabrik op proof", "version": 1}, "also": []},
    "invite": {**STAMP, "token": "fabrik1qtoken", "expires_in_s": 3600.0, "role": "agent", "url": "ws://127.0.0.1:7001", "id": "ab" * 16, "uses_max": 1},
    "invitations.list": {
        **STAMP,
        "invitations": [
            {
                "id": "ab" * 16, "role": "agent", "uses": 1, "uses_max": 0, "created": "2026-11-20T09:00:00.000Z", "state": "open", "expires_in_s": 60.0,
                "joined": [{"node": NODE, "name": "beta", "at": "2026-11-20T09:00:00.000Z"}],
            }
        ],
    },
    "invitations.withdraw": {**STAMP, "id": "ab" * 16, "role": "agent", "uses": 1, "uses_max": 0, "created": "2026-11-20T09:00:00.000Z", "state": "withdrawn"},
}  # fmt: skip
STREAMED: dict[str, list[dict[str, Any]]] = {
    "events": [
        {"seq": 1, "at": "2026-11-20T09:00:00.000Z", "type": "item.added", "item": ITEM, "title": "Mend the roof", "op": "9f" * 32},
        {"seq": 2, "at": "2026-11-20T09:58:00.000Z", "type": "claim.taken", "item": ITEM, "holder": "beta"},
    ],
    "ask.wait": [{"waiting": True, **STAMP, "request": OPEN_QUESTION}, {"end": True, "answer": "slate", **STAMP, "request": question()}],
    "runs.watch": [{**STAMP, "run": run_row()}, {**STAMP, "run": run_row(state="completed", recorded_state="completed", reason="ok: merged")}, {"end": True}],
    "db.dump": [{**STAMP, "type": "dump", "version": 1}, {"type": "head", "author": NODE, "seq": 38}, {"end": True, "counts": {"head": 1}}],
    "runs.logs": [{"offset": 6, "text": "first\n"}, {"offset": 13, "text": "second\n"}, {"end": True, "state": "completed"}],
}


@dataclass
class ScriptedService:
    """Answers from a table, and remembers what it was asked. ``fail`` is raised instead, ``patch`` changes single answers."""

    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    fail: BaseException | None = None
    patch: dict[str, Any] = field(default_factory=dict)
    hang_after_stream: bool = False
    streaming: threading.Event = field(default_factory=threading.Event)
    stream_closed: threading.Event = field(default_factory=threading.Event)
    tokens: list[str | None] = field(default_factory=list)

    def run_of(self, peer: Peer) -> str:
        return ""

    def caller(self, token: str | None, peer: Peer) -> Caller:
        self.tokens.append(token)
        return OPERATOR

    async def call(self, op: str, args: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
        self.asked.append((op, dict(args)))
        if self.fail is not None:
            raise self.fail
        return {**ANSWERS[op], **self.patch}

    async def stream(self, op: str, args: Mapping[str, Any], caller: Caller) -> AsyncIterator[dict[str, Any]]:
        self.asked.append((op, dict(args)))
        if self.fail is not None:
            raise self.fail
        try:
            for part in STREAMED[op]:
                yield part
            self.streaming.set()
            if self.hang_after_stream:
                await asyncio.Event().wait()
        finally:
            self.stream_closed.set()


@dataclass
class OfflineFake:
    home: Path

    def call(self, op: str, args: Mapping[str, Any]) -> dict[str, Any]:
        if op not in ANSWERS:
            raise NoNode(f"{op} needs a running node", "fabrik-node serve")
        return {**ANSWERS[op], "source": "store", "peers_connected": 0}

    def stream(self, op: str, args: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        yield from STREAMED[op]


@dataclass
class RecordingHooks:
    called: list[tuple[str, Any]] = field(default_factory=list)
    serve_status: int = 0
    fail: BaseException | None = None

    def serve(self, home: Path, options: ServeOptions) -> int:
        self.called.append(("serve", options))
        if self.fail is not None:
            raise self.fail
        return self.serve_status

    def init(self, home: Path, *, name: str, mesh: str, recovery: Path | None = None) -> dict[str, Any]:
        self.called.append(("init", (home, name, mesh)))
        file = str(recovery or home / "identity" / "recovery.key")
        return {"node": name or "host", "node_id": NODE, "mesh": mesh, "mesh_id": "cd" * 32, "home": str(home), "recovery_key": file}

    def join(self, home: Path, token: str, *, name: str) -> dict[str, Any]:
        self.called.append(("join", (home, token, name)))
        return {"node": name or "host", "node_id": NODE, "mesh": "fabrik", "mesh_id": "cd" * 32, "home": str(home)}

    def knock(self, home: Path, url: str, fingerprint: str, *, name: str, say: Callable[[str, str], None]) -> dict[str, Any]:
        self.called.append(("knock", (home, url, fingerprint, name)))
        say("waits", "approve it")
        return {"node": name or "host", "node_id": NODE, "mesh": "fabrik", "mesh_id": "cd" * 32, "home": str(home)}

    def offline(self, home: Path) -> OfflineFake:
        self.called.append(("offline", home))
        return OfflineFake(home)

    def key_files(self, home: Path) -> dict[str, Any]:
        return {"next_file": str(home / "identity" / "next.key"), "next_commitment": "ef" * 32, "recovery_file": None}

    def use_key(self, home: Path, file: Path, *, dry_run: bool = False) -> dict[str, Any]:
        self.called.append(("use_key", (home, file, dry_run)))
        return {"old": "cd" * 32, "new": NODE, "fingerprint": "abab-abab-abab-abab"} | ({"dry_run": True} if dry_run else {})

    def seed_in(self, path: Path) -> str:
        return path.name.removesuffix(".key")

    def keep_next(self, home: Path, target: Path, *, move: bool, dry_run: bool = False) -> dict[str, Any]:
        self.called.append(("keep_next", (home, target, move, dry_run)))
        said = {"file": str(target), "moved": move, "fingerprint": "abab-abab-abab-abab", "commitment": "ef" * 32}
        return said | ({"dry_run": True} if dry_run else {})

    def doctor(self, home: Path, answer: NodeAnswer, *, remote: str | None) -> dict[str, Any]:
        self.called.append(("doctor", (answer, remote)))
        checks = [{"check": "home", "state": "ok", "said": "/h", "next": ""}, {"check": "remote", "state": "fail", "said": "no branch", "next": "push one"}]
        checks = checks[: 1 if self.serve_status == 0 else 2]
        return {"as_of": STAMP["as_of"], "home": str(home), "version": "0.1.0", "running": False, "checks": checks, "ok": 1, "warn": 0, "fail": len(checks) - 1}

    def lock_show(self, home: Path) -> dict[str, Any]:
        return {"owned": True, "alive": True, "pid": 4242, "host": "here", "started": "2026-11-20T09:00:00.000Z"}

    def lock_clear(self, home: Path) -> dict[str, Any]:
        raise NotFound("there is no owner to clear", "fabrik-node lock show")


@dataclass(frozen=True)
class Printed:
    status: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def data(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def hooks() -> RecordingHooks:
    return RecordingHooks()


@pytest.fixture
def home(tmp_path: Path) -> HomePaths:
    """A home that has been initialised, with nobody serving it."""
    paths = HomePaths(tmp_path / "home")
    paths.store.parent.mkdir(parents=True)
    paths.store.touch()
    return paths


@pytest.fixture
def service(home: HomePaths) -> Iterator[ScriptedService]:
    """A scripted node that serves ``home`` from a thread of its own."""
    scripted = ScriptedService()
    started: Future[asyncio.AbstractEventLoop] = Future()
    done: list[asyncio.Event] = []

    async def serve() -> None:
        api = LocalApi(scripted, home.socket, SystemClock())
        await api.start()
        done.append(asyncio.Event())
        home.owner_lock.write_text(f"pid=4242\nhost=here\nsocket={home.socket}\n", encoding="utf-8")
        started.set_result(asyncio.get_running_loop())
        await done[0].wait()
        await api.stop()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    loop = started.result(timeout=20)
    yield scripted
    loop.call_soon_threadsafe(done[0].set)
    thread.join(timeout=20)
    assert not thread.is_alive()


Cli = Callable[..., Printed]


@pytest.fixture
def cli(hooks: RecordingHooks, home: HomePaths, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run the command line in this process: ``cli("items", "list")`` gives status, stdout and stderr. In a folder that is in no git tree."""
    monkeypatch.chdir("/")

    def call(*argv: str, at_home: bool = True) -> Printed:
        capfdbinary.readouterr()
        status = run(hooks, ["--home", str(home.home), *argv] if at_home else list(argv))
        out, err = capfdbinary.readouterr()
        return Printed(status, out, err.decode())

    return call
