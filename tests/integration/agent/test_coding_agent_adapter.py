"""The adapter for coding agents (demo/agents/coding_agent.py): how the prompt gets to a program, and what becomes of its end and its changes."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fabrik_node.agent.results import EXIT_CODES, Result

ADAPTER = Path(__file__).parents[3] / "demo" / "agents" / "coding_agent.py"
PROMPT = "# Write it down\n\nAll of it, \u00e4nd more.\n"


class Worktree:
    """A git worktree with one commit, and the environment of a run in it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "work"
        self.path.mkdir()
        self.prompt = folder / "prompt.md"
        self.prompt.write_text(PROMPT, encoding="utf-8")
        identity = {f"GIT_{who}_{what}": "t@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        run = {"FABRIK_PROMPT_FILE": str(self.prompt), "FABRIK_TITLE": "Write it down", "FABRIK_ITEM": "item1", "FABRIK_RUN": "run1", "FABRIK_ATTEMPT": "2"}
        self.env = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", **identity, **run}
        self.git("init", "-q", "-b", "main")
        self.git("commit", "-q", "--allow-empty", "-m", "begin")

    def git(self, *args: str) -> str:
        return subprocess.run(["git", *args], cwd=self.path, env=self.env, capture_output=True, text=True, check=True).stdout.strip()

    def program(self, body: str) -> str:
        """A coding agent."""
        path = self.path.parent / "agent"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    def adapt(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, str(ADAPTER), *args], cwd=self.path, env=self.env, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def worktree(tmp_path: Path) -> Worktree:
    return Worktree(tmp_path)


@pytest.mark.parametrize(
    ("how", "given", "body"),
    [
        ("file", ["--yes", "--file={prompt}"], 'test "$1" = --yes && cp "${2#--file=}" got.md'),
        ("file", [], 'cp "$1" got.md'),
        ("argument", ["--task", "{prompt}", "--quiet"], 'test "$3" = --quiet && printf "%s" "$2" > got.md'),
        ("stdin", ["-"], 'test "$#" = 1 && cat > got.md'),
    ],
)
def test_the_prompt_arrives_and_the_changes_are_committed_in_the_name_of_the_run(worktree: Worktree, how: str, given: list[str], body: str) -> None:
    done = worktree.adapt("--prompt", how, "--", worktree.program(f"{body}; echo working"), *given)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "working\n"
    assert (worktree.path / "got.md").read_text(encoding="utf-8") == PROMPT
    assert worktree.git("status", "--porcelain") == ""
    assert worktree.git("log", "-1", "--format=%B") == "Write it down\n\nItem item1, run run1, attempt 2."


def test_what_the_program_committed_itself_is_left_as_it_is(worktree: Worktree) -> None:
    done = worktree.adapt("--", worktree.program("echo x > x; git add x; git commit -q -m mine"))
    assert done.returncode == 0
    assert worktree.git("log", "-1", "--format=%s") == "mine"


@pytest.mark.parametrize(
    ("body", "code", "result"),
    [
        ("echo x > x; echo 'no rate limit was hit'", 0, Result.OK),
        ("true", 1, Result.AGENT_FAILED),
        ("exit 3", 1, Result.AGENT_FAILED),
        ("echo 'Error: Rate limit exceeded, retry in 60 s'; exit 1", 75, Result.RATE_LIMITED),
        ("echo 'HTTP 429 Too Many Requests' >&2; exit 2", 75, Result.RATE_LIMITED),
        ("echo 'usage limit reached'", 75, Result.RATE_LIMITED),
        ("echo x > x; exit 29", 75, Result.RATE_LIMITED),
        ("exit 30", 76, Result.INFRA_LOST),
        ("kill -TERM $$", 143, Result.INFRA_LOST),
        ("kill -SEGV $$", 139, Result.AGENT_FAILED),
    ],
)
def test_the_end_of_the_program_becomes_an_exit_code_that_the_node_knows(worktree: Worktree, body: str, code: int, result: Result) -> None:
    done = worktree.adapt("--exit", "29=rate_limited", "--exit", "30=infra_lost", "--", worktree.program(body))
    assert done.returncode == code, done.stdout + done.stderr
    rule = EXIT_CODES.get(code)
    assert (Result.AGENT_FAILED if rule is None else rule.result) is result


def test_a_program_that_is_not_there_is_no_fault_of_the_item(worktree: Worktree) -> None:
    done = worktree.adapt("--", "/no/such/agent")
    assert (done.returncode, EXIT_CODES[76].result) == (76, Result.INFRA_LOST)
    assert "/no/such/agent can not be started" in done.stdout


def test_a_program_that_reads_nothing_of_a_long_prompt_may(worktree: Worktree) -> None:
    worktree.prompt.write_text("x" * 1_000_000)
    assert worktree.adapt("--prompt", "stdin", "--", worktree.program("echo x > x")).returncode == 0


def test_a_wrong_option_says_what_is_right(worktree: Worktree) -> None:
    done = worktree.adapt("--exit", "1=sorry", "--", "true")
    assert done.returncode == 1
    assert "STATUS=RESULT with one of failed, rate_limited, infra_lost, timeout" in done.stderr
