"""The agents of demo/agents, on real nodes with a real remote, until their work is merged; one that asks is answered from another node."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from acceptance.fleet import PROGRAM, Fleet, git, make_remote
from acceptance.gates import LONG_LEASES, merges_of

AGENTS = Path(__file__).parents[2] / "demo" / "agents"
STAND_IN = """#!/bin/sh
# A coding agent as far as the adapter sees it: at first it is rate limited, then it edits files as its prompt says, and commits nothing.
test "$1" = --task || exit 2
if test ! -e "$STAND_IN_MEMORY"; then touch "$STAND_IN_MEMORY"; echo "error: rate limit exceeded" >&2; exit 1; fi
sed -n 's/^write //p' "$2" > answer.txt
echo "wrote answer.txt"
"""


def test_a_shell_script_and_a_coding_agent_behind_the_adapter_work_until_done(fleet: Fleet, tmp_path: Path) -> None:
    remote = make_remote(fleet.folder / "git")
    stand_in = tmp_path / "coding-agent"
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)
    adapted = [sys.executable, str(AGENTS / "coding_agent.py"), "--prompt", "file", "--", str(stand_in), "--task", "{prompt}"]
    host = fleet.host(config=LONG_LEASES)
    shell = host.add("a note", "--body", "of all that counts", "--label", "shell")
    coded = host.add("a change", "--body", "write forty two", "--label", "coding")
    quick = LONG_LEASES + "[agent]\nbackoff_s = 0.1\n"
    fleet.agent(host, "shell", "--label", "shell", "--remote", str(remote), "--command", str(AGENTS / "shell_agent.sh"), config=quick)
    config = quick + f"command = {json.dumps(adapted)}\n"
    fleet.agent(host, "coder", "--label", "coding", "--remote", str(remote), config=config, env={"STAND_IN_MEMORY": str(tmp_path / "memory")})
    for item in (shell, coded):
        host.await_merged(item)
        assert len(merges_of(remote, item)) == 1
    assert git(remote, "show", f"main:notes/{shell}.md") == "# a note\n\nof all that counts"
    assert git(remote, "show", "main:answer.txt") == "forty two"
    runs = host.ask("runs", "list", "--item", coded)["runs"]
    assert [(run["state"], run["exit_code"]) for run in runs] == [("completed", 0), ("interrupted", 75)]
    message = git(remote, "log", "-1", "--format=%B", f"{merges_of(remote, coded)[0]}^2")
    assert message == f"a change\n\nItem {coded}, run {runs[0]['run_id']}, attempt 1."


@pytest.mark.promise("D30", "D31")
def test_an_agent_that_asks_waits_over_the_death_of_its_node_for_an_answer_of_another_one(fleet: Fleet) -> None:
    remote = make_remote(fleet.folder / "git")
    host = fleet.host(config=LONG_LEASES)
    item = host.add("a risky thing")
    config = LONG_LEASES + f"[agent]\nbackoff_s = 0.1\ncommand = {json.dumps([sys.executable, str(AGENTS / 'python_agent.py')])}\n"
    path = {"PATH": f"{Path(PROGRAM).parent}:{os.environ['PATH']}"}
    agent = fleet.agent(host, "asks", "--remote", str(remote), config=config, env=path)

    def waits(at_least: int) -> bool:
        runs = host.ask("runs", "list", "--item", item)["runs"]
        return len(runs) >= at_least and runs[0]["state"] == "waiting"

    host.await_true(lambda: waits(1), "a run that waits")
    [asked] = host.ask("approvals", "list")["requests"]
    assert (asked["item"], asked["asked_by"], asked["options"], asked["state"]) == (item, "asks", ["go on", "leave it"], "open")
    for node in (host, agent):
        node.await_true(lambda node=node: node.ask("status")["questions"] == 1, "the question")  # type: ignore[misc]  # inference of the default argument
        node.await_true(lambda node=node: node.listed_run("--item", item)["state"] == "waiting", "the run that waits")  # type: ignore[misc]  # as above
        run = node.listed_run("--item", item)
        assert (run["state"], run["evidence"].startswith(f"asks: {asked['text']} ({asked['next']})")) == ("waiting", True), run
        assert node.ask("why", item)["causes"][0] == {"code": "asks", "text": f"its run asks people: {asked['text']}", "next": asked["next"]}
    agent.kill()
    agent.start("serve", "--remote", str(remote), env=path)
    host.await_true(lambda: waits(2), "the next run, which waits")
    [still] = host.ask("approvals", "list", "--all")["requests"]
    assert (still["id"], still["state"]) == (asked["id"], "open"), "asked once, and answered by nothing"
    assert agent.run("approvals", "answer", asked["id"], "go on").returncode == 7, "an agent's key never answers"
    host.ask("approvals", "answer", asked["id"], "go on", "--note", "but slowly")
    host.await_stage(item, "Done")
    assert len(merges_of(remote, item)) == 1
    assert git(remote, "show", f"main:work/{item}/plan.md").startswith("# Plan for a risky thing")
    assert git(remote, "show", f"main:work/{item}/result.md") == "# a risky thing"
    shown = host.ask("approvals", "show", asked["id"])["request"]
    newest, first = host.ask("runs", "list", "--item", item)["runs"]
    assert (shown["run_id"], shown["end"]["run_id"]) == (first["run_id"], newest["run_id"])
    done = {step["name"]: step["run"] for step in host.ask("steps", "list", item)["steps"]}
    assert done == {"plan": first["run_id"], "carry-out": newest["run_id"]}, "what was done before the death is not done again"
    assert (shown["state"], shown["answer"]["by"], shown["end"]["answered_by"]) == ("taken", "host", "host")
    assert host.run("approvals", "answer", asked["id"], "leave it").returncode == 4, "too late"
