"""Two nodes that claim the same items while they do not see each other: real databases, a real connection when they meet, no arbiter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest
from acceptance.fleet import Fleet, make_remote
from acceptance.gates import COMMIT, LONG_LEASES, QUICK_AGENT, WAIT, Gate, merges_of, processes_of
from acceptance.halves import Halves
from blake3 import blake3
from node_rig import NodeRig, Rigs, eventually, sync

from fabrik_node.clock import SystemClock
from fabrik_node.domain.claims import Claim
from fabrik_node.domain.runs import RunRow, RunState
from fabrik_node.domain.stages import Backlog, Coding, Qa, Stage
from fabrik_node.errors import ClaimLost
from fabrik_node.ids import new_id, parse_id, show_id
from fabrik_node.service.run_views import AtWork
from fabrik_node.transport.address import parse_listen
from fabrik_node.transport.mesh import Mesh

ITEMS = 8


@pytest.fixture
async def rigs(tmp_path: Path) -> AsyncIterator[Rigs]:
    made = Rigs(tmp_path)
    yield made
    await made.close()


def mesh_of(rig: NodeRig, seed: int) -> Mesh:
    made = Mesh(rig.node, rig.node.replica.admin, SystemClock(), Random(seed), tell=rig.node.tell, moved=rig.node.tell_peers_moved)
    rig.node.peers = made.statuses
    return made


async def work(rig: NodeRig, item: bytes, stages: int) -> tuple[Claim, bytes]:
    """Claim, begin a run, and move so often: who moves more often has the higher clock."""
    claim = await rig.pipeline.claim(item, "agent")
    assert isinstance(claim, Claim)
    now = rig.node.clock.wall_ms()
    run = RunRow(new_id(now), item, claim.claim_id, rig.node.public, "agent", RunState.RUNNING, "coding", now)
    rig.at_work.add(run.run_id)
    await rig.pipeline.put_run(run)
    steps: list[Stage] = [Coding(), Backlog()]
    for step in [*steps * stages, Coding()]:
        await rig.pipeline.move(item, step, claim)
    return claim, run.run_id


@pytest.mark.promise("F11", "I15", "E8")
async def test_two_that_claimed_apart_agree_on_one_and_the_other_stops(rigs: Rigs) -> None:
    one, two = await rigs.open(0), await rigs.open(1)
    items = [parse_id(await one.add(f"item {number}")) or b"" for number in range(ITEMS)]
    await sync(one, two)
    claims: dict[tuple[NodeRig, bytes], Claim] = {}
    runs: dict[tuple[NodeRig, bytes], bytes] = {}
    told: dict[tuple[NodeRig, bytes], list[str]] = {}
    for rig, stages in ((one, 1), (two, 5)):
        for item, (claim, run) in zip(items, await asyncio.gather(*(work(rig, item, stages) for item in items)), strict=True):
            claims[rig, item], runs[rig, item] = claim, run
            rig.pipeline.on_claim_lost(claim.claim_id, told.setdefault((rig, item), []).append)
            assert rig.pipeline.is_winning(item, claim.claim_id)
    for rig in (one, two):
        rig.reader._at_work = lambda: AtWork(set(runs.values()))  # their agents have the runs in hand
    assert one.node.replica.state_digest() != two.node.replica.state_digest()

    listening, dialling = mesh_of(one, 1), mesh_of(two, 2)
    try:
        dialling.dial(await listening.listen(parse_listen("127.0.0.1:0")))
        await eventually(lambda: one.node.frontier_digest() == two.node.frontier_digest(), "equal logs")
        assert one.node.replica.state_digest() == two.node.replica.state_digest()
        won = {one: 0, two: 0}
        for item in items:
            # The same epoch and no receipts: docs/spec/merge.md says whose claim wins.
            winner, loser = sorted((one, two), key=lambda rig: blake3(item + claims[rig, item].claim_id).digest())
            won[winner] += 1
            held, lost = claims[winner, item], claims[loser, item]
            for rig in (one, two):
                assert rig.pipeline.is_winning(item, held.claim_id)
                assert not rig.pipeline.is_winning(item, lost.claim_id)
            name = winner.node.name_of(winner.node.public)
            assert told[winner, item] == []
            assert told[loser, item] == [f"superseded by {name} (agent)"]
            with pytest.raises(ClaimLost, match=rf"is lost to {name} \(agent\)"):
                await loser.pipeline.move(item, Qa(), lost)
            with pytest.raises(ClaimLost):
                await loser.pipeline.finish(item, lost, "too late", {"result": "ok"}, charge_attempt=True)
            assert (await loser.call("runs.show", id=show_id(runs[loser, item])))["run"]["state"] == "superseded"
            assert (await winner.call("runs.show", id=show_id(runs[winner, item])))["run"]["state"] == "running"
            await winner.pipeline.move(item, Qa(), held)
        assert sum(won.values()) == ITEMS
        await eventually(lambda: one.node.frontier_digest() == two.node.frontier_digest(), "equal logs again")
        assert one.node.replica.state_digest() == two.node.replica.state_digest()
        for rig in (one, two):
            shown = (await rig.call("items.list"))["items"]
            assert {entry["stage"] for entry in shown} == {"Qa"}
            assert [entry["attempts"] for entry in shown] == [0] * ITEMS
            superseded = {event.data["claim"]: event.data["superseded_by"] for event in await rig.events("claim.superseded")}
            mine = {show_id(claims[rig, item].claim_id) for item in items if told[rig, item]}
            assert set(superseded) == mine
    finally:
        await dialling.close()
        await listening.close()


@pytest.mark.promise("F11")
def test_of_two_agents_that_a_partition_gave_one_item_only_one_goes_on(fleet: Fleet, tmp_path: Path) -> None:
    """Two halves of a mesh: the host with one agent, another member with the other, and each half with a mirror of the remote that only it reaches."""
    halves = Halves.part(fleet, LONG_LEASES + QUICK_AGENT, "wanted by both")
    host, other, agents, item = halves.host, halves.other, halves.agents, halves.item
    remotes = {name: make_remote(fleet.folder / f"remote of {name}") for name in agents}
    with Gate(tmp_path / "gate one") as gate_one, Gate(tmp_path / "gate two") as gate_two:
        gates = {"one": gate_one, "two": gate_two}
        for name, door in (("one", host), ("two", other)):
            work = ("--remote", str(remotes[name]), "--command", f"{COMMIT}; {WAIT}")
            agents[name].start("serve", "--peer", door.url, *work, env=gates[name].env)
        for gate in gates.values():
            gate.await_waiting()
        runs = {name: agent.ask("runs", "list", "--node", name)["runs"][0] for name, agent in agents.items()}
        assert {run["state"] for run in runs.values()} == {"running"}
        assert host.ask("claims", "show", item)["claim"]["node_name"] == "one"
        assert other.ask("claims", "show", item)["claim"]["node_name"] == "two"
        host.stop()
        host.start("serve", "--listen", halves.meeting_point)
        fleet.await_equal([host, other, *agents.values()])
        winner = str(host.ask("claims", "show", item)["claim"]["node_name"])
        loser = "two" if winner == "one" else "one"
        assert {node.ask("claims", "show", item)["claim"]["node_name"] for node in (host, other, *agents.values())} == {winner}
        agents[loser].await_line(f"is over: superseded: superseded by {winner} (agent)")
        assert not processes_of(runs[loser]["run_id"])
        assert processes_of(runs[winner]["run_id"])
        gates[winner].open()
        host.await_merged(item)
    assert len(merges_of(remotes[winner], item)) == 1
    assert merges_of(remotes[loser], item) == []
    fleet.await_equal([host, other, *agents.values()])
    states = {run["node_name"]: run["state"] for run in host.ask("runs", "list", "--item", item)["runs"]}
    assert states == {winner: "completed", loser: "superseded"}
