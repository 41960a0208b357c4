"""Wall clocks that jump by years while an item is held: nobody loses a claim by it, and who died is taken over in the usual time."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from acceptance.fleet import Fleet, make_remote
from acceptance.gates import COMMIT, QUICK_AGENT, STEADY_LEASES, WAIT, Gate, merges_of

CALM_LEASES = STEADY_LEASES.replace("ttl_s = 4.0", "ttl_s = 8.0")
YEAR_S = 31_557_600
JUMPING = """
import os, time
_true_ns, _path = time.time_ns, os.environ["WALL_JUMP"]
def _jumped_ns():
    with open(_path) as file:
        return _true_ns() + int(file.read() or 0) * 1_000_000_000
time.time_ns = _jumped_ns
time.time = lambda: _jumped_ns() / 1e9
"""
"""Taken in by every Python at its start: the system's clock plus what a file says at that moment."""


class Wall:
    """The wall clock of one node, to be moved while it runs."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / f"jump of {name}"
        self._hooks = folder / "hooks"
        self._hooks.mkdir(exist_ok=True)
        (self._hooks / "sitecustomize.py").write_text(JUMPING)
        self.jump(0)

    @property
    def env(self) -> dict[str, str]:
        """For the node that lives by it."""
        return {"WALL_JUMP": str(self._path), "PYTHONPATH": os.pathsep.join(filter(None, [str(self._hooks), os.environ.get("PYTHONPATH", "")]))}

    def jump(self, years: int) -> None:
        """This far from the true time, from now on."""
        new = self._path.with_suffix(".new")
        new.write_text(str(years * YEAR_S))
        new.replace(self._path)


@pytest.mark.promise("I13", "F12", "I17")
def test_clocks_that_jump_by_years_neither_end_a_lease_nor_keep_a_dead_one(fleet: Fleet, tmp_path: Path) -> None:
    remote = make_remote(fleet.folder / "git")
    walls = {name: Wall(tmp_path, name) for name in ("one", "two")}
    host = fleet.host(config=CALM_LEASES)
    item = host.add("held through the years")
    with Gate(tmp_path / "gate") as gate:
        work = ("--remote", str(remote), "--command", f"echo $FABRIK_CLAIM >> {tmp_path}/commands; {COMMIT}; {WAIT}")
        one = fleet.agent(host, "one", *work, config=CALM_LEASES + QUICK_AGENT, env=gate.env | walls["one"].env)
        gate.await_waiting()
        two = fleet.agent(host, "two", "--remote", str(remote), "--command", COMMIT, config=CALM_LEASES + QUICK_AGENT, env=walls["two"].env)
        first = host.ask("claims", "show", item)["claim"]["claim_id"]
        for years in ((20, -10), (-30, 40), (0, 0)):
            walls["one"].jump(years[0])
            walls["two"].jump(years[1])
            added = two.call("status")["uptime_s"] + 1.0
            two.await_true(lambda until=added: two.call("status")["uptime_s"] > until, "some beats in another year")  # type: ignore[misc]  # inference of the default argument
            for node in (host, one, two):
                claim = node.ask("claims", "show", item)["claim"]
                assert (claim["claim_id"], claim["lease"]) == (first, "fresh"), (node.name, years)
        walls["two"].jump(-40)
        one.kill()
        host.await_stage(item, "Done")
    assert len(merges_of(remote, item)) == 1
    assert (tmp_path / "commands").read_text().split() == [first]
    merged_ms = host.ask("items", "show", item)["item"]["stage_data"]["merged_at_ms"]
    assert merged_ms < (time.time() - 39 * YEAR_S) * 1000, "the clock of the node that merged it, as it was then: shown, and nothing else"
    taken = [event["holder"] for event in host.events() if event["type"] == "claim.taken"]
    assert taken == ["one", "two"]
    fleet.await_equal([host, two])
