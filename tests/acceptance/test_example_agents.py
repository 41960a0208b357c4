"""The agents of demo/agents, on real nodes with a real remote, until their work is merged."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from acceptance.fleet import Fleet, git, make_remote
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
        host.await_stage(item, "Done")
        assert len(merges_of(remote, item)) == 1
    assert git(remote, "show", f"main:notes/{shell}.md") == "# a note\n\nof all that counts"
    assert git(remote, "show", "main:answer.txt") == "forty two"
    runs = host.ask("runs", "list", "--item", coded)["runs"]
    assert [(run["state"], run["exit_code"]) for run in runs] == [("completed", 0), ("interrupted", 75)]
    message = git(remote, "log", "-1", "--format=%B", f"{merges_of(remote, coded)[0]}^2")
    assert message == f"a change\n\nItem {coded}, run {runs[0]['run_id']}, attempt 1."
