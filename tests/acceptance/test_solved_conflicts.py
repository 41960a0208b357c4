"""A merge conflict, from the page that shows it to the merge of what a person made of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from acceptance.fleet import Fleet, environment, git, make_remote
from acceptance.gates import LONG_LEASES, QUICK_AGENT, WAIT, Gate, merges_of


@pytest.mark.promise("J1")
def test_a_conflict_is_solved_with_the_commands_that_the_item_shows(fleet: Fleet, tmp_path: Path) -> None:
    remote = make_remote(fleet.folder / "git")
    clone = fleet.folder / "git" / "seed"
    host = fleet.host(config=LONG_LEASES)
    item = host.add("rewrite the readme")
    command = f"[ ! -e {tmp_path}/once ] || exit 1; touch {tmp_path}/once; echo ours > README; git commit -qam ours; {WAIT}"
    with Gate(tmp_path / "gate") as gate:
        work = ("--remote", str(remote), "--command", command, "--qa", "grep -q ours README")
        agent = fleet.agent(host, "one", *work, config=LONG_LEASES + QUICK_AGENT, env=gate.env)
        gate.await_waiting()
        (clone / "README").write_text("theirs\n")
        git(clone, "commit", "-qam", "theirs")
        git(clone, "push", "-q", str(remote), "main")
    host.await_event("item.held", item=item)
    shown = host.ask("items", "show", item)["item"]
    assert (shown["stage"], shown["attempts"], shown["hold"]["reason"]) == ("Merge", 0, "merge conflict: README")
    assert shown["stage_data"]["feature_branch"] == f"fabrik/{item}/{host.ask('claims', 'show', item)['claim']['claim_id']}"
    page = host.run("items", "show", item).stdout
    *commands, resolve = [line.strip() for line in page.partition("to solve it, in a clone of the program:\n")[2].partition("\n\n")[0].splitlines()]
    assert resolve == f"fabrik-node items resolve {item}"
    assert f"to do the work anew: fabrik-node items requeue {item}" in page
    person = {f"GIT_{who}_{what}": "p" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    for line in commands:
        done = subprocess.run(line, shell=True, cwd=clone, env=environment() | person, capture_output=True, text=True, check=False)
        if line.startswith("git pull"):
            assert "CONFLICT" in done.stdout
            (clone / "README").write_text("ours and theirs\n")
        else:
            assert done.returncode == 0, (line, done.stderr)
    assert merges_of(remote, item) == []
    said = host.run(*resolve.split()[1:])
    assert said.returncode == 0, said.stderr
    host.await_merged(item)
    [merge] = merges_of(remote, item)
    assert git(remote, "show", "main:README") == "ours and theirs"
    runs = agent.ask("runs", "list")["runs"]
    branches = {run["state"]: run["branch"] for run in runs}
    assert git(remote, "rev-parse", f"{merge}^2") == git(remote, "rev-parse", branches["completed"]), "the branch of the claim that merged"
    assert git(remote, "log", "-1", "--format=%(trailers:key=Fabrik-Claim,valueonly)", merge) == branches["completed"].rpartition("/")[2]
