"""Holders that are frozen or lose half of themselves at the worst moment: their item is merged once, and what they made is kept."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from acceptance.barrier import Barrier
from acceptance.fleet import Fleet, NodeProcess, git, make_remote
from acceptance.gates import COMMIT, QUICK_AGENT, STEADY_LEASES, WAIT, Gate, merges_of, processes_of, signal_run
from acceptance.halves import Halves


def pushes_of(node: NodeProcess) -> list[int]:
    """The processes of git push that the node itself started."""
    assert node.process is not None
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:  # it ended while we looked
                continue
            if parent == node.process.pid and b"push" in words:
                found.append(int(entry.name))
    return found


def work_of(name: str) -> str:
    """A command whose work is another one's by name."""
    return f"echo {name} > {name}.txt && git add . && git commit -q -m {name}"


@pytest.mark.promise("J1", "C10", "F13", "I15")
def test_a_holder_frozen_in_the_middle_of_its_push_can_neither_write_nor_merge(fleet: Fleet) -> None:
    remote = make_remote(fleet.folder / "git")
    barrier = Barrier(remote, first=1)
    host = fleet.host(config=STEADY_LEASES)
    item = host.add("pushed for a long time")
    work = ("--remote", str(remote), "--command", COMMIT)
    one = fleet.agent(host, "one", *work, config=STEADY_LEASES + QUICK_AGENT)
    one.await_true(lambda: barrier.came() == 1, "its push of the base")
    run = host.listed_run()
    one.send(signal.SIGSTOP)
    frozen = pushes_of(one)
    assert frozen
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    two = fleet.agent(host, "two", *work, config=STEADY_LEASES + QUICK_AGENT)
    host.await_stage(item, "Done")
    [merged] = merges_of(remote, item)
    barrier.open()  # what the remote has of the frozen push goes on by itself, and finds both refs moved
    for pid in frozen:
        os.kill(pid, signal.SIGCONT)
    one.send(signal.SIGCONT)
    one.await_line(f"run {run['run_id']} of item {item} is over: ")
    two.await_line("is over: ok")
    fleet.await_equal([host, one, two])
    assert merges_of(remote, item) == [merged]
    for node in (host, one, two):
        shown = node.ask("items", "show", item)
        assert (shown["item"]["stage"], shown["item"]["stage_data"]["merge_commit"], shown["item"]["claim"]) == ("Done", merged, None)
        states = {each["node_name"]: each["state"] for each in shown["runs"]}
        assert states == {"one": "superseded", "two": "completed"}, node.name
        [conflict] = node.ask("claims", "conflicts")["conflicts"]
        assert (conflict["kind"], conflict["loser"]["branch"]) == ("takeover", run["branch"])
    assert git(remote, "show", f"{run['branch']}:{item}.txt") == "pushed for a long time"
    assert [event["to"] for event in host.events() if event["type"] == "item.moved"].count("Done") == 1


def living_under(pids: list[int]) -> list[int]:
    """Processes below these that have not ended."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # it ended while we looked
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if int(parent) in pids and state not in ("Z", "X"):
                    found.append(int(entry.name))
    return found + living_under(found) if found else []


@pytest.mark.promise("J1", "F13", "I16")
def test_the_push_of_a_frozen_holder_is_refused_by_the_claim_ref_alone_and_its_successors_other_work_is_merged(fleet: Fleet, tmp_path: Path) -> None:
    """They are in two halves of the mesh, so the successor does not find the work that the other one finished. And the base has not moved when the old push goes on."""
    remote = make_remote(fleet.folder / "git")
    barrier = Barrier(remote, first=1, bound_s=180)
    halves = Halves.part(fleet, STEADY_LEASES + QUICK_AGENT, "done twice, differently")
    item, one, two = halves.item, halves.agents["one"], halves.agents["two"]
    base, claim_ref = git(remote, "rev-parse", "main"), f"refs/fabrik/claims/{item}"
    one.start("serve", "--peer", halves.host.url, "--remote", str(remote), "--command", work_of("one"))
    one.await_true(lambda: barrier.came() == 1, "its push of the base")
    one.ask("drain")  # what it has goes on, and it does not ask for the item again
    run, held = halves.host.listed_run(), git(remote, "rev-parse", claim_ref)
    one.send(signal.SIGSTOP)
    frozen = pushes_of(one)
    assert frozen
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    with Gate(tmp_path / "gate") as gate:
        two.start("serve", "--peer", halves.other.url, "--remote", str(remote), "--command", f"{work_of('two')}; {WAIT}", env=gate.env)
        gate.await_waiting()
        assert git(remote, "rev-parse", claim_ref) != held, "the remote granted it to the successor"
        assert living_under(frozen), "the remote's part of the old push waits still"
        barrier.open()
        two.await_true(lambda: not living_under(frozen), "the remote's part of the old push to end")
        assert git(remote, "rev-parse", "main") == base, "refused, though the base is where both saw it"
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
        one.send(signal.SIGCONT)
        refusal = one.await_line(f"did not take the merge of item {item}: ")
        assert f"cannot lock ref '{claim_ref}'" in refusal, "its lease on the claim ref"
        one.await_line(f"run {run['run_id']} of item {item} is over: ")
        over = ("runs", "show", run["run_id"])
        halves.host.await_true(lambda: halves.host.ask(*over)["run"]["recorded_state"] != "running", "the end of the old run")
        assert git(remote, "rev-parse", "main") == base
        gate.open()
        halves.other.await_stage(item, "Done")
        two.await_line("is over: ok")
    [merged] = merges_of(remote, item)
    assert git(remote, "show", "main:two.txt") == "two"
    assert git(remote, "ls-tree", "--name-only", "main").split().count("one.txt") == 0
    assert git(remote, "show", f"{run['branch']}:one.txt") == "one", "kept"
    halves.host.stop()
    halves.host.start("serve", "--listen", halves.meeting_point)
    everybody = [halves.host, halves.other, two]
    one.stop()
    fleet.await_equal(everybody)
    for node in everybody:
        shown = node.ask("items", "show", item)
        assert (shown["item"]["stage"], shown["item"]["stage_data"]["merge_commit"]) == ("Done", merged)
        [conflict] = node.ask("claims", "conflicts")["conflicts"]
        sides = {side: (conflict[side]["node_name"], conflict[side]["branch"]) for side in ("winner", "loser")}
        assert sides["loser"] == ("one", run["branch"])
        assert (sides["winner"][0], conflict["winner"]["state"]) == ("two", "completed")
        assert node.ask("claims", "show", item, "--all")["conflicts"] == [conflict]


@pytest.mark.promise("C4", "I24", "J1")
def test_a_command_that_outlives_its_killed_node_is_ended_by_the_next_start(fleet: Fleet, tmp_path: Path) -> None:
    """Frozen with its shim, so that neither hears of the node's end."""
    remote = make_remote(fleet.folder / "git")
    host = fleet.host(config=STEADY_LEASES)
    item = host.add("outlived")
    with Gate(tmp_path / "gate") as gate:
        one = fleet.agent(host, "one", "--remote", str(remote), "--command", f"{COMMIT}; {WAIT}", config=STEADY_LEASES + QUICK_AGENT, env=gate.env)
        gate.await_waiting()
        run = host.listed_run()
        signal_run(run["run_id"], signal.SIGSTOP)
        one.kill()
        two = fleet.agent(host, "two", "--remote", str(remote), "--command", COMMIT, config=STEADY_LEASES + QUICK_AGENT)
        host.await_stage(item, "Done")
        assert processes_of(run["run_id"]), "it is there still"
        one.start("serve", "--remote", str(remote), "--command", COMMIT)
        one.await_line(f"run {run['run_id']} was interrupted")
        assert not processes_of(run["run_id"])
    assert len(merges_of(remote, item)) == 1
    assert "was still alive and was ended" in one.ask("runs", "show", run["run_id"])["run"]["reason"]
    [repository] = [found.parent for found in (one.home / "git").rglob("objects")]
    assert git(repository, "show", f"{run['branch']}:{item}.txt") == "outlived", "what it committed is on its branch"
    fleet.await_equal([host, one, two])


@pytest.mark.promise("C19", "E2")
def test_a_shim_and_a_command_that_are_killed_leave_nothing_and_are_tried_again(fleet: Fleet, tmp_path: Path) -> None:
    remote = make_remote(fleet.folder / "git")
    host = fleet.host(config=STEADY_LEASES)
    item = host.add("killed twice")
    with Gate(tmp_path / "gate") as gate:
        command = f"setsid sleep 1000 & {COMMIT}; echo $$ > {tmp_path}/pid; {WAIT}"
        one = fleet.agent(host, "one", "--remote", str(remote), "--command", command, config=STEADY_LEASES + QUICK_AGENT, env=gate.env)
        runs = []
        for victim in ("shim", "command"):
            gate.await_waiting()
            run = one.listed_run("--limit", "1")
            pid = int((tmp_path / "pid").read_text())
            if victim == "shim":
                pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            os.kill(pid, signal.SIGKILL)
            one.await_line(f"run {run['run_id']} of item {item} is over: ")
            assert not processes_of(run["run_id"]), victim
            runs.append(run["run_id"])
            gate.open()
        gate.await_waiting()
        gate.open()
        host.await_stage(item, "Done")
    assert len(merges_of(remote, item)) == 1
    reasons = [one.ask("runs", "show", run)["run"]["reason"] for run in runs]
    assert reasons == ["infra_lost: coding: its supervisor process was killed", "agent_failed: coding was ended by SIGKILL"]
    assert host.ask("items", "show", item)["item"]["attempts"] == 1, "the item is not to blame for its supervisor"
    assert len({event["claim"] for event in host.events() if event["type"] == "claim.taken"}) == 3
