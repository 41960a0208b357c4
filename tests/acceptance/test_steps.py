"""Steps of real commands: what is done survives kill -9 and another host, one of many runs it, and an effect that was cut off waits for a person."""

from __future__ import annotations

from pathlib import Path

import pytest
from acceptance.fleet import PROGRAM, Fleet, git, make_remote
from acceptance.gates import LONG_LEASES, QUICK_AGENT, STEADY_LEASES, Gate, merges_of

TASKS = 20
KILLED_AT = 16


@pytest.mark.promise("C7")
def test_after_a_kill_at_task_16_of_20_another_host_does_the_last_five(fleet: Fleet, tmp_path: Path) -> None:
    remote, tally, script = make_remote(fleet.folder / "git"), tmp_path / "tally", tmp_path / "command.sh"
    task = f'echo $0 >> {tally}; test $0 != {KILLED_AT} || cat "$GATE" > /dev/null; echo $0 > task-$0'
    script.write_text(f"for task in $(seq {TASKS}); do {PROGRAM} step \"task $task\" -- sh -c '{task}' $task || exit 1; done\n")
    host = fleet.host(config=STEADY_LEASES)
    item = host.add("twenty tasks")
    with Gate(tmp_path / "gate") as gate:
        agent = ("--remote", str(remote), "--command", f"sh {script}", "--qa", f"test $(ls task-* | wc -l) = {TASKS}")
        one = fleet.agent(host, "one", *agent, config=STEADY_LEASES + QUICK_AGENT, env=gate.env)
        gate.await_waiting()
        one.kill()
    assert tally.read_text().split() == [str(number) for number in range(1, KILLED_AT + 1)]
    with Gate(tmp_path / "second") as gate:
        fleet.agent(host, "two", *agent, config=STEADY_LEASES + QUICK_AGENT, env=gate.env)
        gate.await_waiting()

        def begun_again() -> bool:
            shown = {step["name"]: step for step in host.ask("steps", "list", item)["steps"]}
            return (shown["task 16"]["state"], shown["task 16"]["attempt"]) == ("started", 2)

        host.await_true(begun_again, "the second attempt at task 16")
    host.await_stage(item, "Done")
    assert tally.read_text().split() == [str(number) for number in (*range(1, KILLED_AT + 1), *range(KILLED_AT, TASKS + 1))]
    ended = {step["name"]: (step["state"], step["attempt"]) for step in host.ask("steps", "list", item)["steps"]}
    assert ended == {f"task {number}": ("done", 2 if number == KILLED_AT else 1) for number in range(1, TASKS + 1)}
    assert len(merges_of(remote, item)) == 1
    assert len(git(remote, "ls-tree", "--name-only", "main").split()) >= TASKS


@pytest.mark.promise("C8", "C9", "C11")
def test_one_of_twenty_runs_a_step_and_a_deployment_that_was_cut_off_waits_for_a_person(fleet: Fleet, tmp_path: Path) -> None:
    remote, tally, script, codes, said = make_remote(fleet.folder / "git"), tmp_path / "tally", tmp_path / "command.sh", tmp_path / "codes", tmp_path / "said"
    script.write_text(
        f"""
for each in $(seq 20); do
  ({PROGRAM} step race --input one -- sh -c 'echo race >> {tally}; cat "$GATE" > /dev/null; echo raced > race.txt' 2>> {said}; echo $? >> {codes}) &
done
wait
{PROGRAM} step race --input other -- sh -c 'echo again >> {tally}' 2>> {said}; echo $? >> {codes}
{PROGRAM} step deploy --side-effects -- sh -c 'echo deployed >> {tally}; cat "$GATE" > /dev/null'
"""
    )
    with Gate(tmp_path / "gate") as gate:
        serve = ("serve", "--remote", str(remote), "--command", f"sh {script}")
        host = fleet.new("host", config=LONG_LEASES + QUICK_AGENT)
        host.ask("init", "--name", "host", "--mesh", "test")
        host.start(*serve, env=gate.env)
        item = host.add("deploys")
        gate.await_waiting()
        host.await_true(lambda: codes.exists() and len(codes.read_text().split()) == 19, "nineteen refusals")
        assert codes.read_text().split() == ["4"] * 19
        assert said.read_text().count("step 'race' is being run by process") == 19
        gate.open()
        host.await_true(lambda: tally.read_text().split() == ["race", "deployed"], "the deployment")
        gate.await_waiting()
        assert codes.read_text().split()[19:] == ["0", "5"]
        assert "was done with other inputs" in said.read_text()
        host.kill()
    codes.unlink()
    host.start(*serve)
    host.await_true(lambda: (host.ask("items", "show", item)["item"]["hold"] or {}).get("reason", "").startswith("step_unclear"), "the hold")
    why = host.ask("why", item)["causes"][0]
    assert (why["code"], why["next"].split(";")[0]) == ("held", f"fabrik-node steps done {item} deploy, or fabrik-node steps again {item} deploy")
    assert {step["name"]: step["state"] for step in host.ask("steps", "list", item)["steps"]} == {"race": "done", "deploy": "unended"}
    assert host.run("items", "requeue", item).returncode == 5
    host.ask("steps", "done", item, "deploy")
    host.ask("items", "requeue", item)
    host.await_stage(item, "Done")
    assert tally.read_text().split() == ["race", "deployed"]
    assert git(remote, "show", "main:race.txt") == "raced"
