from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import psutil
import pytest

from fabrik_node.errors import GitFailed
from fabrik_node.git import GIT_VERSION_MIN, GitRunner, check_git
from fabrik_node.git.runner import Answer, redacted


def fake_git(folder: Path, script: str) -> GitRunner:
    folder.mkdir(exist_ok=True)
    path = folder / "git"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return GitRunner({"PATH": f"{folder}:{os.environ['PATH']}"})


async def test_a_missing_git_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(GitFailed, match=r"^git is not on PATH$") as failure:
        await check_git(GitRunner({"PATH": str(tmp_path)}))
    assert failure.value.hint.startswith("install git")


async def test_an_old_git_is_refused_and_the_installed_one_is_not(tmp_path: Path) -> None:
    with pytest.raises(GitFailed, match=r"git 2\.20\.1 is too old"):
        await check_git(fake_git(tmp_path / "bin", "echo git version 2.20.1"))
    with pytest.raises(GitFailed, match="unknown version"):
        await check_git(fake_git(tmp_path / "bin", "echo jit"))
    assert await check_git(GitRunner(os.environ)) >= GIT_VERSION_MIN


async def test_a_failed_command_names_itself_its_exit_code_and_the_cause(tmp_path: Path) -> None:
    with pytest.raises(GitFailed, match=r"^git rev-parse --verify nowhere: exit code 128: fatal: ") as failure:
        await GitRunner(os.environ).run(tmp_path, "rev-parse", "--verify", "nowhere")
    assert "\n" not in str(failure.value)


async def test_a_folder_that_is_gone_is_not_a_missing_git(tmp_path: Path) -> None:
    with pytest.raises(GitFailed, match=r"the folder .*gone is gone"):
        await GitRunner(os.environ).run(tmp_path / "gone", "version")


async def test_neither_environment_nor_configuration_of_the_host_reaches_what_matters(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        "[user]\n name = Host\n email = host@example.org\n[commit]\n gpgSign = true\n[core]\n hooksPath = /nonexistent\n autocrlf = true\n"
    )
    hostile = {
        "GIT_DIR": "/nonexistent",
        "GIT_INDEX_FILE": "/nonexistent",
        "GIT_AUTHOR_NAME": "Mallory",
        "GIT_CONFIG_COUNT": "1",
        "GIT_SSH_COMMAND": "ssh -v",
        "LC_ALL": "de_DE.UTF-8",
    }
    git = GitRunner({"PATH": os.environ["PATH"], "HOME": str(home)} | hostile, name="fabrik", email="fabrik@example.org")
    await git.run(tmp_path, "init", "-q", "repo")
    repo = tmp_path / "repo"
    await git.run(repo, "commit", "-q", "--allow-empty", "-m", "x")
    assert await git.text(repo, "log", "--format=%an %ae %cn %ce") == "fabrik fabrik@example.org fabrik fabrik@example.org"
    settings = ("commit.gpgSign", "core.hooksPath", "core.autocrlf")
    assert [await git.text(repo, "config", "--get", key) for key in settings] == ["false", "/dev/null", "false"]
    seen = await fake_git(tmp_path / "bin", "env").text(tmp_path, "x")
    assert "LC_ALL=C" in seen.splitlines()
    assert "GIT_TERMINAL_PROMPT=0" in seen.splitlines()


async def test_the_way_to_a_remote_is_inherited(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    fake_git(folder, "env")
    git = GitRunner({"PATH": f"{folder}:{os.environ['PATH']}", "GIT_SSH_COMMAND": "ssh -i key", "GIT_DIR": "/x", "GIT_WORK_TREE": "/x"})
    seen = (await git.text(tmp_path, "x")).splitlines()
    assert "GIT_SSH_COMMAND=ssh -i key" in seen
    assert not [line for line in seen if line.startswith(("GIT_DIR=", "GIT_WORK_TREE="))]


async def test_a_command_past_its_limit_is_ended_with_its_children(tmp_path: Path) -> None:
    git = fake_git(tmp_path / "bin", f"sleep 600 & echo $! > {tmp_path}/part; mv {tmp_path}/part {tmp_path}/pid; wait")
    limit_s = 0.5
    while not (tmp_path / "pid").exists():  # a busy machine may not even start it within the limit
        answer = await git.call(tmp_path, "fetch", timeout_s=limit_s)
        assert answer.exit_code is None
        assert "time limit" in answer.cause
        limit_s *= 2
    await gone(tmp_path / "pid")


async def test_a_cancelled_command_is_ended_with_its_children(tmp_path: Path) -> None:
    git = fake_git(tmp_path / "bin", f"sleep 600 & echo $! > {tmp_path}/part; mv {tmp_path}/part {tmp_path}/pid; wait")
    call = asyncio.create_task(git.call(tmp_path, "fetch"))
    async with asyncio.timeout(60):
        while not (tmp_path / "pid").exists():
            await asyncio.sleep(0.005)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await gone(tmp_path / "pid")


def test_a_loop_that_ends_while_commands_are_started_does_not_hang(tmp_path: Path) -> None:
    """The number of turns before the end comes from the seed; with asyncio's own subprocesses some of these never return."""

    async def start_and_leave(seed: int) -> None:
        git = GitRunner(os.environ)

        async def forever() -> None:
            while True:
                await git.call(tmp_path, "version")

        tasks = [asyncio.create_task(forever()) for _ in range(8)]
        for _ in range(random.Random(seed).randint(0, 600)):
            await asyncio.sleep(0)
        assert not any(task.done() for task in tasks)

    for seed in range(20):
        asyncio.run(start_and_leave(seed))


async def gone(pid_file: Path) -> None:
    pid = int(pid_file.read_text())
    async with asyncio.timeout(60):
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("stderr", "cause"),
    [
        (
            "ssh: connect to host x port 22: Connection refused\nfatal: Could not read from remote repository.\n\nPlease make sure\n",
            "ssh: connect to host x port 22: Connection refused",
        ),
        ("warning: old\nhint: do\nfatal: bad\n", "fatal: bad"),
        ("remote: only this\n", "remote: only this"),
        ("", "no message"),
        ("fatal: 'https://me:secret@host/x' \x1b[31mred\n", "fatal: 'https://host/x' ?[31mred"),
    ],
)
def test_the_cause_is_the_telling_line(stderr: str, cause: str) -> None:
    assert Answer(128, b"", stderr.encode()).cause == cause


def test_credentials_are_cut_out_of_urls() -> None:
    assert redacted("git push https://user:pw@example.org/x ssh://git@host/y") == "git push https://example.org/x ssh://host/y"
    assert redacted("unable to access 'https://example.org/x?private_token=pw': why?") == "unable to access 'https://example.org/x': why?"
