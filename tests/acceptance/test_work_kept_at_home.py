"""Work that was finished while the git remote was away, on a node that was stopped before it came back."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from acceptance.fleet import Fleet, git, make_remote
from acceptance.gates import COMMIT, LONG_LEASES, QUICK_AGENT, WAIT, Gate, merges_of


@pytest.mark.promise("E4")
def test_what_never_reached_the_remote_is_merged_after_the_next_start_and_not_done_again(fleet: Fleet, tmp_path: Path) -> None:
    remote, ran = make_remote(fleet.folder / "git"), tmp_path / "ran"
    away = remote.with_name("away")
    host = fleet.host(config=LONG_LEASES)
    with Gate(tmp_path / "gate") as gate:
        work = ("--drain", "1s", "--remote", str(remote), "--command", f"{COMMIT}; echo $FABRIK_ITEM >> {ran}; {WAIT}", "--qa", 'grep -q . "$FABRIK_ITEM.txt"')
        one = fleet.agent(host, "one", *work, config=LONG_LEASES + QUICK_AGENT, env=gate.env)
        for stop in ("SIGTERM", "SIGKILL"):
            item = host.add(f"finished before a {stop}")
            gate.await_waiting()
            run = one.listed_run("--item", item)["run_id"]
            remote.rename(away)
            gate.open()
            one.await_true(lambda run=run: one.ask("runs", "show", run)["run"]["state"] == "waiting", "a run that waits for the remote")  # type: ignore[misc]
            if stop == "SIGKILL":
                one.kill()
            else:
                assert one.stop(signal.SIGTERM) == 143
            one.start("serve", *work, env=gate.env)
            one.await_true(lambda run=run: one.ask("runs", "show", run)["run"]["state"] in ("cancelled", "interrupted"), "the end of the run")  # type: ignore[misc]
            shown = one.ask("items", "show", item)["item"]
            assert (shown["stage"], shown["attempts"]) == ("Backlog", 0)
            away.rename(remote)
            one.await_stage(item, "Done")
            [merge] = merges_of(remote, item)
            assert git(remote, "show", f"main:{item}.txt") == f"finished before a {stop}"
            left = shown["outcome"]["finished"]
            assert git(remote, "rev-parse", f"{merge}^2") == left, "the commit that lay in the repository of the node"
            assert ran.read_text().split().count(item) == 1
        host.await_stage(item, "Done")
        assert one.stop(signal.SIGTERM) == 143
