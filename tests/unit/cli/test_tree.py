"""What of a git tree agents get: counted before an item is added, and said."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest


def git(folder: Path, *args: str) -> str:
    env = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")} | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    identity = ("-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "init.defaultBranch=main")
    return subprocess.run(["git", *identity, *args], cwd=folder, env=env, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of a remote with one commit; the current folder, for the command line."""
    remote, clone = tmp_path / "remote.git", tmp_path / "clone"
    git(tmp_path, "init", "-q", "--bare", str(remote))
    git(tmp_path, "clone", "-q", str(remote), str(clone))
    (clone / "README").write_text("a program\n")
    git(clone, "add", ".")
    git(clone, "commit", "-q", "-m", "begin")
    git(clone, "push", "-q", "origin", "HEAD:main")
    (clone / "below").mkdir()
    monkeypatch.chdir(clone / "below")
    return clone


def works_on(service: Any, remote: Path | str | None) -> None:
    """What the node says of its remote."""
    service.patch = {"git": {"remote": None if remote is None else str(remote), "base": "main"}}


@pytest.mark.promise("A6")
@pytest.mark.parametrize("known", [True, False], ids=["the node has the remote", "the node has none"])
def test_what_is_not_sent_is_said_before_the_item_is_added(cli: Any, service: Any, clone: Path, known: bool) -> None:
    works_on(service, clone.parent / "remote" if known else None)  # with and without .git at its end
    printed = cli("items", "add", "T")
    head = git(clone, "rev-parse", "HEAD")
    assert (printed.status, printed.err) == (0, "")
    assert f"agents get all of this tree: origin/main was {head[:12]} at the last fetch" in printed.text
    (clone / "README").write_text("changed\n")
    (clone / "new").write_text("new\n")
    (clone / "below" / "newer").write_text("new\n")
    git(clone, "commit", "-q", "--allow-empty", "-m", "not pushed")
    printed = cli("items", "add", "T", "--json")
    assert "not sent: 1 commit that is not in origin/main, 1 changed file, 2 new files or folders. " in printed.err
    assert f"Agents begin at origin/main, which was {head[:12]} at the last fetch here" in printed.err
    tree = json.loads(printed.out)["tree"]
    assert (tree["base_commit"], tree["unsent_commits"], tree["changed"], tree["untracked"], tree["missing_commits"]) == (head, 1, 1, 2, 0)
    assert tree["head"] == git(clone, "rev-parse", "HEAD")
    assert [op for op, _ in service.asked] == ["whoami", "items.add"] * 2


@pytest.mark.promise("A6")
def test_who_wants_all_of_it_sent_is_refused_and_nothing_is_added(cli: Any, service: Any, clone: Path) -> None:
    works_on(service, clone.parent / "remote.git")
    git(clone, "switch", "-q", "-c", "feature")
    git(clone, "commit", "-q", "--allow-empty", "-m", "one")
    git(clone, "commit", "-q", "--allow-empty", "-m", "two")
    git(clone, "push", "-q", "origin", "feature")  # there, but not on the base
    printed = cli("items", "add", "T", "--only-pushed")
    assert (printed.status, printed.out) == (5, b"")
    assert "agents would not get 2 commits that are not in origin/main" in printed.err
    assert [op for op, _ in service.asked] == ["whoami"]
    git(clone, "push", "-q", "origin", "feature:main")
    assert cli("items", "add", "T", "--only-pushed").status == 0


def test_another_repository_and_no_repository_are_left_alone(cli: Any, service: Any, clone: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (clone / "new").write_text("new\n")
    works_on(service, "https://example.invalid/other.git")
    assert cli("items", "add", "T", "--only-pushed").err == ""
    monkeypatch.chdir(tmp_path)
    service.asked.clear()
    assert cli("items", "add", "T").err == ""
    assert [op for op, _ in service.asked] == ["items.add"]


def test_what_git_can_not_say_is_said(cli: Any, service: Any, clone: Path) -> None:
    service.patch = {"git": {"remote": None, "base": "trunk"}}
    printed = cli("items", "add", "T")
    assert printed.status == 0
    assert "this clone has no origin/trunk to compare with: git fetch origin" in printed.err
    assert cli("items", "add", "T", "--only-pushed").status == 5
