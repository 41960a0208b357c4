from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest
from integration.git.forge import Node, NodeFactory, Remote, commit

from fabrik_node.git import ClaimRef, GitRunner, Repository, pause_from


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Nothing of the host's own git configuration."""
    home = tmp_path / "user"
    home.mkdir()
    return {"PATH": os.environ["PATH"], "HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1"}


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    path = tmp_path / "remote.git"
    seed = tmp_path / "seed"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(path)], check=True)
    subprocess.run(["git", "init", "-q", "-b", "main", str(seed)], check=True)
    (seed / "readme.txt").write_text("hello\n")
    (seed / "shared.txt").write_text("one\ntwo\nthree\n")
    commit(seed, "first")
    subprocess.run(["git", "-C", str(seed), "push", "-q", str(path), "main"], check=True)
    return Remote(path)


@pytest.fixture
def git(environ: dict[str, str]) -> GitRunner:
    return GitRunner(environ)


@pytest.fixture
def make_node(tmp_path: Path, remote: Remote, git: GitRunner) -> NodeFactory:
    async def make(name: str, runner: GitRunner | None = None) -> Node:
        home = tmp_path / f"home-{name}"
        home.mkdir(exist_ok=True)
        repository = await Repository.open(runner or git, home, str(remote.path), "main")
        return Node(name, home, repository, ClaimRef(repository, pause_from(random.Random(name))))

    return make
