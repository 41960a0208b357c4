"""``doctor`` on homes that are whole and homes that are not: what it says, what it tells to do, and that it changes nothing."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fabrik_node.app.doctor import examine
from fabrik_node.app.setup import init, lock_show
from fabrik_node.cli.hooks import NodeAnswer
from fabrik_node.clock import SystemClock
from fabrik_node.paths import HomePaths
from fabrik_node.store.owner import OwnerLock


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    init(made, name="alpha", mesh="m", recovery=tmp_path / "recovery.key")
    return made


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    bare, seed = tmp_path / "remote.git", tmp_path / "seed"
    for args in (
        ("init", "-q", "--bare", "-b", "main", str(bare)),
        ("init", "-q", "-b", "main", str(seed)),
        ("-C", str(seed), "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-q", "--allow-empty", "-m", "begin"),
        ("-C", str(seed), "push", "-q", str(bare), "main"),
    ):
        subprocess.run(["git", *args], check=True)
    return bare


def look(home: Path, answer: NodeAnswer = NodeAnswer(), *, remote: str | None = "") -> dict[str, Any]:  # noqa: B008 - immutable
    """By check; of several with one name the worst. Nothing in the home may change."""

    def files() -> dict[str, tuple[int, bytes]]:
        found = (path for path in home.rglob("*") if path.is_file() and not path.name.endswith(("-shm", "-wal")))
        return {str(path): (path.stat().st_mode, path.read_bytes()) for path in found if os.access(path, os.R_OK)}

    before = files()
    report = examine(home, answer, remote=remote)
    assert files() == before
    for state in ("ok", "warn", "fail"):
        assert report[state] == sum(check["state"] == state for check in report["checks"])
    assert all(check["next"] for check in report["checks"] if check["state"] != "ok"), "each says what to do"
    worst = sorted(report["checks"], key=lambda check: ["ok", "warn", "fail"].index(check["state"]))
    return {**report, **{check["check"]: check for check in worst}}


def state_of(report: dict[str, Any], name: str) -> tuple[str, str, str]:
    return report[name]["state"], report[name]["said"], report[name]["next"]


@pytest.mark.promise("D52")
def test_a_whole_home_has_nothing_to_mend(home: Path, remote: Path) -> None:
    (home / "config.toml").write_text(f'[git]\nremote = "{remote}"\n[agent]\ncommand = ["/bin/true"]\n')
    before = subprocess.run(["git", "-C", str(remote), "for-each-ref"], capture_output=True, check=True).stdout
    report = look(home)
    assert report["fail"] == 0, [check for check in report["checks"] if check["state"] == "fail"]
    assert {"home", "disk", "open files", "config", "identity", "node", "store", "clock", "agent", "runs in", "git", "remote"} <= set(report)
    assert state_of(report, "remote") == ("ok", f"{remote} takes claims and fenced merges", "")
    assert subprocess.run(["git", "-C", str(remote), "for-each-ref"], capture_output=True, check=True).stdout == before
    assert not (home / "git").exists()
    assert report["running"] is False


def test_a_broken_ref_in_a_local_repository_is_named_with_what_to_do(home: Path) -> None:
    """The node goes on in spite of it, so this is where an operator sees it."""
    sound, broken = (home / "git/git" / name for name in ("a.git", "b.git"))
    for directory in (sound, broken):
        subprocess.run(["git", "init", "-q", "--bare", str(directory)], check=True)
    assert state_of(look(home, remote=None), "repository")[0] == "ok"
    (broken / "refs/heads/work").write_text("1" * 40 + "\n")
    report = look(home, remote=None)
    said = f"git can not read all of {broken}: fatal: bad object refs/heads/work"
    assert state_of(report, "repository") == ("warn", said, f"git -C {broken} fsck --connectivity-only, and mend what it names")
    assert report["fail"] == 0


@pytest.mark.promise("D52")
def test_a_remote_that_can_not_fence_is_named_with_what_to_do(home: Path, remote: Path) -> None:
    (home / "config.toml").write_text(f'[git]\nremote = "{remote}"\n')
    hook = remote / "hooks" / "update"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text('#!/bin/sh\ncase "$1" in refs/fabrik/*) echo no such refs here; exit 1;; esac\n')
    hook.chmod(0o755)
    state, said, todo = state_of(look(home), "remote")
    assert (state, "takes no refs under refs/fabrik/" in said, "refs/fabrik/*" in todo) == ("fail", True, True)
    hook.unlink()
    subprocess.run(["git", "-C", str(remote), "config", "receive.advertiseAtomic", "false"], check=True)
    state, said, todo = state_of(look(home), "remote")
    assert (state, "could not fence a merge" in said, "atomic" in todo) == ("fail", True, True)
    (home / "config.toml").write_text(f'[git]\nremote = "{remote}"\nbase = "trunk"\n')
    assert state_of(look(home), "remote")[:2] == ("fail", f"{remote} has no branch trunk")
    (home / "config.toml").write_text('[git]\nremote = "/nowhere/at/all.git"\n')
    assert look(home)["remote"]["state"] == "fail"
    assert "remote" not in look(home, remote=None)
    (home / "config.toml").unlink()
    assert "remote" not in look(home), "nothing here needs one"
    at_work = NodeAnswer({"pid": os.getpid(), "agent": {"enabled": True}})
    state, said, todo = state_of(look(home, at_work), "remote")
    assert (state, "not tried" in said, todo) == ("warn", True, "fabrik-node doctor --remote URL")
    assert look(home, at_work, remote="/nowhere/at/all.git")["remote"]["state"] == "fail"


def _no_home(home: Path) -> None:
    for path in sorted(home.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    home.rmdir()


def _readable_seal(home: Path) -> None:
    HomePaths(home).invitations_key.write_bytes(b"x" * 32)
    HomePaths(home).invitations_key.chmod(0o640)


DAMAGE: dict[str, tuple[Callable[[Path], object], str, str, str]] = {
    "open to others": (lambda home: home.chmod(0o777), "home", "fail", "chmod go-w"),
    "readable key": (lambda home: HomePaths(home).identity_key.chmod(0o644), "identity", "fail", "chmod 600"),
    "readable seal": (_readable_seal, "identity", "fail", "invitations.key"),
    "lost key": (lambda home: HomePaths(home).identity_key.unlink(), "identity", "fail", "backup"),
    "no home": (_no_home, "home", "fail", "init"),
    "bad setting": (lambda home: (home / "config.toml").write_text("[agent]\nslot = 2\n"), "config", "fail", "configure.md"),
    "agent without remote": (lambda home: (home / "config.toml").write_text('[agent]\ncommand = "x"\n'), "config", "fail", "remote in [git]"),
    "missing program": (
        lambda home: (home / "config.toml").write_text('[git]\nremote = "/r.git"\n[agent]\ncommand = ["no-such-program-anywhere"]\n'),
        "agent",
        "fail",
        "PATH",
    ),
    "damaged store": (lambda home: HomePaths(home).store.write_bytes(b"x" * 5000), "store", "fail", ""),
    "recovery key": (lambda home: HomePaths(home).recovery_key.write_bytes(b"x" * 32), "recovery key", "warn", "mv "),
}


@pytest.mark.promise("C22", "D52")
@pytest.mark.parametrize("kind", DAMAGE)
def test_what_is_wrong_is_found(home: Path, kind: str) -> None:
    damage, check, state, todo = DAMAGE[kind]
    damage(home)
    report = look(home, remote=None)
    found, _, said = state_of(report, check)
    assert found == state
    assert todo in said


def test_who_owns_the_home_is_looked_at(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = OwnerLock.acquire(home, SystemClock(), {"socket": "/gone"})
    state, said, todo = state_of(look(home, NodeAnswer(error="it hangs")), "node")
    assert (state, said.endswith("gave no answer: it hangs")) == ("fail", True)
    assert "kill" not in todo, "whoever follows this must not end a node that works"
    with monkeypatch.context() as held:
        held.setattr("fabrik_node.app.setup.is_stopped", lambda pid: pid == os.getpid())
        assert (lock_show(home)["alive"], lock_show(home)["stopped"]) == (True, True)
        state, said, todo = state_of(look(home, NodeAnswer(error="it hangs")), "node")
        assert (state, "is stopped, by a signal or a debugger" in said, todo) == ("fail", True, f"kill -CONT {os.getpid()}")
    refusal = NodeAnswer(refused=True, error="a command of a run shows no token", hint="run it with FABRIK_TOKEN")
    state, said, todo = state_of(look(home, refusal), "node")
    assert (state, "does not tell this caller how it is: a command of a run shows no token" in said, todo) == ("warn", True, "run it with FABRIK_TOKEN")
    assert look(home, refusal)["running"] is True
    status = {
        "peers": [{"name": "beta", "state": "connected"}, {"name": "gamma", "state": "retrying", "url": "wss://g", "detail": "refused"}],
        "warnings": ["w"],
    }
    report = look(home, NodeAnswer(status))
    assert report["node"]["state"] == "ok"
    assert report["running"] is True
    assert [(check["state"], check["said"]) for check in report["checks"] if check["check"] == "peer"] == [
        ("ok", "beta is connected"),
        ("warn", "gamma (wss://g) is retrying: refused"),
    ]
    assert state_of(report, "warning")[:2] == ("warn", "w")
    (home / "config.toml").write_text('[git]\nremote = "/r.git"\n[agent]\ncommand = "true"\n')
    beside = look(home, NodeAnswer({"pid": os.getpid(), "agent": {"contained": "control groups in /its/own"}}), remote=None)
    assert beside["runs in"]["said"] == "control groups in /its/own", "the node's, not this shell's"
    assert beside["open files"]["said"].startswith(f"process {os.getpid()} may open ")
    key = HomePaths(home).recovery_key
    key.write_bytes(b"x" * 32)
    key.chmod(0o600)
    warned = [check for check in look(home, NodeAnswer({"warnings": [f"the key: {key}"]}))["checks"] if str(key) in check["said"]]
    assert [(check["check"], check["next"].split()[:2]) for check in warned] == [("recovery key", ["mv", str(key)])], "once, and with what to type"
    lock.release()
    assert look(home)["node"]["said"] == "no node runs here"


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_without_a_node_the_peers_are_called(home: Path, listener: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = closed.getsockname()[1]
    (home / "config.toml").write_text(f'[node]\npeers = ["wss://127.0.0.1:{listener}", "wss://127.0.0.1:{nobody}"]\n')
    peers = {check["said"].split(";")[0].rpartition(":")[0][-15:]: check["state"] for check in look(home)["checks"] if check["check"] == "peer"}
    assert sorted(peers.values()) == ["ok", "warn"]
