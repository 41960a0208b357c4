"""The command line inside the command of a run: whom it asks, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fabrik_node.paths import HomePaths

TOKEN = "ab" * 32


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch, home: HomePaths) -> None:
    monkeypatch.delenv("FABRIK_HOME", raising=False)
    monkeypatch.setenv("FABRIK_API", str(home.socket))
    monkeypatch.setenv("FABRIK_TOKEN", TOKEN)


@pytest.mark.promise("H33")
@pytest.mark.usefixtures("inside")
def test_its_own_node_is_asked_with_the_token_and_no_flags(cli: Any, service: Any) -> None:
    assert json.loads(cli("whoami", "--json", at_home=False).out)["caller"] == "operator"
    assert cli("events", at_home=False).status == 0
    assert service.tokens == [TOKEN, TOKEN]


@pytest.mark.usefixtures("inside")
def test_a_home_that_is_named_is_another_node(cli: Any, service: Any, home: HomePaths, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("whoami").status == 0
    monkeypatch.setenv("FABRIK_HOME", str(home.home))
    assert cli("whoami", at_home=False).status == 0
    assert service.tokens == [None, None]


@pytest.mark.usefixtures("inside")
def test_what_is_done_to_a_home_is_refused(cli: Any, hooks: Any) -> None:
    for argv in (["init"], ["serve"], ["join", "token"], ["lock", "clear"], ["keys", "use", "a.key"], ["--rendezvous", "wss://10.0.0.5:1"]):
        printed = cli(*argv, at_home=False)
        assert (printed.status, printed.out) == (7, b""), argv
        assert "the command of a run" in printed.err
    assert hooks.called == []


@pytest.mark.usefixtures("inside")
def test_without_its_node_nothing_is_read_from_a_store(cli: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FABRIK_API", str(tmp_path / "gone.sock"))
    printed = cli("items", "list", at_home=False)
    assert printed.status == 6
    assert "the node that started this command is gone" in printed.err
    assert TOKEN not in printed.err


def test_whoami_draws_a_run(cli: Any, service: Any) -> None:
    service.patch = {
        "caller": "run", "item": "i1", "title": "T", "stage": "Coding", "run": "r1", "claim": "c1", "epoch": 2, "attempt": 1, "agent": "a", "branch": "b", "worktree": "/w",
        "may": ["whoami", "why"],
    }  # fmt: skip
    text = cli("whoami").text
    assert all(word in text for word in ("the command of a run", "i1", "r1", "c1", "/w", "whoami, why"))
    service.patch = {"worktree_of": {"run": "r1", "item": "i1", "state": "running"}}
    assert "the worktree of run r1 (running) of item i1" in cli("whoami").text
