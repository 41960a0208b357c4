"""A mesh of this build and the previous one: what an operator has in the hour of an upgrade."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance.fleet import THIS_BUILD, Build, Fleet, NodeProcess, environment, make_remote
from acceptance.gates import COMMIT, WAIT, Gate, merges_of
from mixed.previous import FOLDER, LISTEN, ROOT

BEFORE = Build(
    (sys.executable, "-P", "-c", "from fabrik_node.app import main; raise SystemExit(main())"),
    {"PYTHONPATH": f"{FOLDER}:{FOLDER / 'sync'}"},
    LISTEN,
)
pytestmark = pytest.mark.skipif(not (FOLDER / "ready").exists(), reason="the previous build is not here, or not in this repository's history: make previous")
BOTH_WAYS = pytest.mark.parametrize(("hosting", "joining"), [(BEFORE, THIS_BUILD), (THIS_BUILD, BEFORE)], ids=["previous hosts", "this hosts"])


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    yield made
    made.end()


def host(fleet: Fleet, build: Build) -> NodeProcess:
    """A mesh that a build began, on a plain WebSocket."""
    node = fleet.new("host", build=build)
    node.ask("init", "--name", "host", "--mesh", "mixed")
    return node.start("serve", "--listen", build.listen)


def test_it_is_the_previous_build_that_runs() -> None:
    """Also from this folder, in which Python would otherwise find this build first."""
    where = [*BEFORE.program[:-1], "import fabrik_node, fabrik_sync; print(fabrik_node.__file__, fabrik_sync.__file__)"]
    done = subprocess.run(where, env=environment() | dict(BEFORE.environment), cwd=ROOT, capture_output=True, text=True, check=True)
    assert [Path(each).is_relative_to(FOLDER) for each in done.stdout.split()] == [True, True]


@BOTH_WAYS
def test_items_claims_and_deletions_go_both_ways(fleet: Fleet, hosting: Build, joining: Build) -> None:
    one = host(fleet, hosting)
    first, gone = one.add("from the host"), one.add("to be deleted")
    two = fleet.new("two", build=joining)
    two.ask("join", fleet.token(one), "--name", "two")
    two.start("serve")
    second = two.add("from the member")
    two.ask("tombstone", gone)
    two.ask("items", "edit", first, "--title", "edited by the member")
    fleet.await_equal([one, two])
    for node in (one, two):
        assert {item["id"]: item["title"] for item in node.ask("items", "list")["items"]} == {first: "edited by the member", second: "from the member"}
        status = node.ask("status")
        assert status["voided"] == 0
        node.await_true(lambda node=node: [peer["lag_ops"] for peer in node.ask("status")["peers"]] == [0], "nothing under way")  # type: ignore[misc]  # inference of the default argument
    two.kill()
    third = one.add("while the member is away")
    two.start("serve")
    two.await_true(lambda: third in {item["id"] for item in two.ask("items", "list")["items"]}, "what it missed")
    fleet.await_equal([one, two])


@BOTH_WAYS
def test_agents_of_both_builds_share_the_work(fleet: Fleet, hosting: Build, joining: Build) -> None:
    remote = make_remote(fleet.folder / "git")
    one = host(fleet, hosting)
    items = [one.add(f"work {number}") for number in range(4)]
    for name, build in (("this", THIS_BUILD), ("previous", BEFORE)):
        agent = fleet.new(name, build=build)
        agent.start("--rendezvous", fleet.token(one, "agent"), "--name", name, "--remote", str(remote), "--command", COMMIT)
    for item in items:
        one.await_stage(item, "Done")
        assert len(merges_of(remote, item)) == 1
    fleet.await_equal(fleet.nodes)


def test_a_home_of_the_previous_build_goes_on_with_this_one_and_back(fleet: Fleet) -> None:
    one = host(fleet, BEFORE)
    before = [one.add(f"item {number}") for number in range(3)]
    digest = one.digest()
    one.stop()
    one.build = THIS_BUILD
    one.start("serve", "--listen", THIS_BUILD.listen)
    assert one.digest() == digest
    after = one.add("by this build")
    digest = one.digest()
    one.stop()
    one.build = BEFORE
    one.start("serve", "--listen", BEFORE.listen)
    assert one.digest() == digest
    assert {item["id"] for item in one.ask("items", "list")["items"]} == {*before, after}


def test_a_run_that_this_build_cancelled_is_held_for_both_until_the_previous_one_ends_the_hold(fleet: Fleet, tmp_path: Path) -> None:
    one = host(fleet, THIS_BUILD)
    item = one.add("cancelled here, requeued there")
    two = fleet.new("two", build=BEFORE)
    with Gate(tmp_path / "gate") as gate:
        remote = make_remote(fleet.folder / "git")
        two.start("--rendezvous", fleet.token(one, "agent"), "--name", "two", "--remote", str(remote), "--command", WAIT, env=gate.env)
        gate.await_waiting()
        one.ask("runs", "cancel", one.listed_run()["run_id"], "--reason", "not now")
        for node in (one, two):
            node.await_true(lambda node=node: node.ask("items", "show", item)["item"]["hold"] is not None, "the hold")  # type: ignore[misc]
            assert node.ask("items", "show", item)["item"]["hold"]["reason"] == "cancelled: not now"
        gate.open()  # before a new run waits there
        two.ask("items", "requeue", item)
        one.await_true(lambda: one.ask("items", "show", item)["item"]["hold"] is None, "the end of the hold")
        gate.await_waiting()
        assert one.ask("claims", "show", item)["claim"]["node_name"] == "two", "it is begun again"
    assert one.ask("status")["voided"] == two.ask("status")["voided"] == 0
