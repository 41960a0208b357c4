"""A home that is copied or put back while its node holds a claim: the work is merged once, and the operator is told of the copy."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
from acceptance.fleet import Fleet, NodeProcess, make_remote
from acceptance.gates import COMMIT, LONG_LEASES, QUICK_AGENT, STEADY_LEASES, WAIT, Gate, merges_of, processes_of
from acceptance.homes import restore


def image_under_work(node: NodeProcess, folder: Path) -> Path:
    """A copy of the home as it is at one moment, while its node is at work."""
    node.send(signal.SIGSTOP)
    shutil.copytree(node.home, folder, ignore=shutil.ignore_patterns("run"), symlinks=True)
    node.send(signal.SIGCONT)
    return folder


@pytest.mark.promise("I9", "J1")
def test_a_copy_of_a_home_that_holds_a_claim_leaves_the_original_at_work(fleet: Fleet, tmp_path: Path) -> None:
    remote = make_remote(fleet.folder / "git")
    host = fleet.host(config=LONG_LEASES)
    item = host.add("held by two homes")
    with Gate(tmp_path / "gate") as gate:
        command = f'echo $FABRIK_TITLE >> {tmp_path}/commands; {COMMIT}; [ "$FABRIK_ITEM" != {item} ] || {WAIT}'
        one = fleet.agent(host, "one", "--remote", str(remote), "--command", command, config=LONG_LEASES + QUICK_AGENT, env=gate.env)
        gate.await_waiting()
        run = host.listed_run()
        copy = NodeProcess(image_under_work(one, fleet.folder / "copy"), "copy")
        fleet.nodes.append(copy)
        unserved = copy.ask("runs", "recovery")["runs"]
        copy.start("serve", "--remote", str(remote), "--command", command, env=gate.env)
        copy.await_line(f"run {run['run_id']} is left to the home that this one was copied from")
        for [left] in (unserved, copy.ask("runs", "recovery")["runs"]):
            assert (left["run_id"], left["evidence"]) == (run["run_id"], "it came with a copy of another home")
            assert left["do"] == f"fabrik-node runs show {run['run_id']}", "nothing that would end the original's work"
        renewed = copy.ask("claims", "show", item)["claim"]["lease_age_s"]
        copy.await_true(lambda: copy.ask("claims", "show", item)["claim"]["lease_age_s"] < renewed, "a renewal of the original, heard by the copy")
        assert processes_of(run["run_id"]), "the copy ends nothing of it"
        assert host.ask("claims", "show", item)["claim"]["claim_id"] == run["claim_id"]
        second = host.add("taken by the copy")
        host.await_stage(second, "Done")
        assert processes_of(run["run_id"])
        gate.open()
        host.await_merged(item)
    for done in (item, second):
        assert len(merges_of(remote, done)) == 1
    done = (tmp_path / "commands").read_text()
    assert sorted(done.splitlines()) == ["held by two homes", "taken by the copy"], "nothing was worked on twice"
    assert {each["state"] for each in host.ask("items", "show", item)["runs"]} == {"completed"}
    copy.await_true(lambda: copy.ask("runs", "show", run["run_id"])["run"]["state"] == "completed", "the end that the original wrote")
    assert any("another node writes with this node's key" in warning or "came back from its peers" in warning for warning in one.ask("status")["warnings"])
    fleet.await_equal([host, one, copy])


@pytest.mark.promise("I9", "J1", "C4")
def test_a_home_put_back_from_an_image_with_a_claim_finishes_it_once(fleet: Fleet, tmp_path: Path) -> None:
    remote = make_remote(fleet.folder / "git")
    host = fleet.host(config=STEADY_LEASES)
    item = host.add("held in the image")
    with Gate(tmp_path / "gate") as gate:
        work = ("--remote", str(remote), "--command", f"{COMMIT}; {WAIT}")
        one = fleet.agent(host, "one", *work, config=STEADY_LEASES + QUICK_AGENT, env=gate.env)
        gate.await_waiting()
        run = host.listed_run()
        image = image_under_work(one, fleet.folder / "image")
        host.ask("items", "edit", item, "--body", "later than the image")
        one.kill()
    restore(one, image)
    one.start("serve", "--remote", str(remote), "--command", COMMIT)
    one.await_line(f"run {run['run_id']} is left to the home that this one was copied from")
    host.await_stage(item, "Done")
    assert len(merges_of(remote, item)) == 1
    taken = [event["claim"] for event in host.events() if event["type"] == "claim.taken"]
    assert len(set(taken)) == 2, "its own claim of before ran out, for nobody renewed it"
    one.await_true(lambda: one.ask("runs", "show", run["run_id"])["run"]["ended_at"] is not None, "the end of the run of the image")
    assert not processes_of(run["run_id"])
    fleet.await_equal([host, one])
    assert not [event for event in host.events() if event["type"] == "log.forked"]
