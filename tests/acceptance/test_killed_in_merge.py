"""A node that is killed while the remote is at its merge, again and again: the work is not done again, and merged once."""

from __future__ import annotations

from pathlib import Path

import pytest
from acceptance.barrier import Barrier
from acceptance.fleet import Fleet, git, make_remote
from acceptance.gates import COMMIT, QUICK_AGENT, STEADY_LEASES, merges_of


@pytest.mark.promise("C17")
def test_three_kills_in_the_merge_and_a_takeover_end_in_one_merge(fleet: Fleet, tmp_path: Path) -> None:
    remote = make_remote(fleet.folder / "git")
    before = git(remote, "rev-parse", "main")
    barrier = Barrier(remote)
    host = fleet.host(config=STEADY_LEASES)
    item = host.add("merged at last")
    config = f"{STEADY_LEASES}[git]\nremote = \"{remote}\"\n{QUICK_AGENT}max_attempts = 1\ncommand = '''echo >> {tmp_path}/commands; {COMMIT}'''\nqa = \"echo >> {tmp_path}/tests\"\n"
    one = fleet.agent(host, "one", config=config)
    for kills in (1, 2, 3):
        one.await_true(lambda kills=kills: barrier.came() == kills, f"push {kills} of the base")  # type: ignore[misc]  # inference of the default argument
        one.kill()
        if kills < 3:
            one.start("serve")
    # Its lease runs out; its three pushes are still under way when the survivor's comes.
    two = fleet.agent(host, "two", config=config)
    two.await_true(lambda: barrier.came() == 4, "the survivor's push of the base")
    host.await_true(lambda: (host.call("items.show", id=item)["item"]["claim"] or {}).get("node_name") == "two", "the survivor's claim on the host")
    shown = host.ask("items", "show", item)["item"]
    assert (shown["stage"], shown["attempts"], shown["hold"], shown["claim"]["node_name"]) == ("Merge", 0, None, "two")
    assert git(remote, "rev-parse", "main") == before
    barrier.open()
    host.await_stage(item, "Done")
    two.await_true(lambda: two.ask("runs", "list", "--node", "two")["runs"][0]["state"] == "completed", "the end of the run")
    merges = merges_of(remote, item)
    assert len(merges) == 1
    assert host.ask("items", "show", item)["item"]["stage_data"]["merge_commit"] == merges[0]
    assert [len((tmp_path / name).read_text()) for name in ("commands", "tests")] == [1, 4], "worked on once, tested before each merge"
    assert git(remote, "show", f"main:{item}.txt") == "merged at last"
    assert [event["to"] for event in host.events() if event["type"] == "item.moved"].count("Done") == 1
    fleet.await_equal([host, two])
