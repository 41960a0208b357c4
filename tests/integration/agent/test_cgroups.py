"""Control groups of the real kernel, where this machine lets us make some: nothing gets away from one."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from agent_rig import AgentRig, ended, finish_child, has_ended, start_child
from memory_pipeline import FAILURE_BOUND_S

from fabrik_node.agent.cgroup import Cgroups, find_cgroups, held_in
from fabrik_node.agent.child import ChildExit
from fabrik_node.agent.recover import recover_runs
from fabrik_node.domain.claims import Claim
from fabrik_node.domain.runs import RunRow, RunState
from fabrik_node.domain.stages import Coding
from fabrik_node.ids import new_id, show_id

FUGITIVE = """
import os, signal, sys
gate = open(sys.argv[1], "w")
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.execve(sys.executable, [sys.executable, "-I", "-S", "-c", "import os, signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.write(int(sys.argv[1]), b'%d\\\\n' % os.getpid()); signal.pause()", str(os.dup2(gate.fileno(), 9, inheritable=True))], {})
    os._exit(0)
"""
"""A daemon with a session of its own and nothing of the run in its environment: once the shim is gone, only the kernel knows whose it is."""
PARENT = """
import asyncio, os, sys
from pathlib import Path
from fabrik_node.agent.cgroup import RunGroup
from fabrik_node.agent.child import Child, RunLog

async def main():
    log = RunLog(os.open(os.devnull, os.O_WRONLY), Path(os.devnull))
    group = RunGroup(Path(sys.argv[2]))
    group.path.mkdir()
    child = await Child.start(["/bin/sh", "-c", sys.argv[3]], cwd=Path.cwd(), env=os.environ, log=log, room=4096, grace_s=1000.0, tag="", group=group)
    with open(sys.argv[1], "w") as gate:
        gate.write(f"{child.process.pid}\\n")
    await child.wait()

asyncio.run(main())
"""


@pytest.fixture
def groups(tmp_path: Path) -> Iterator[Cgroups]:
    found = find_cgroups("auto", tmp_path)
    if found.root is None:
        pytest.skip(f"no control group can be made here: {found.why}")
    yield found
    left = found.left()
    for group in left:
        group.kill()
    assert left == [], "a group stays behind"


@pytest.mark.promise("I24", "C19")
async def test_a_daemon_that_hides_everything_ends_with_its_run_even_when_the_shim_is_killed(rig: AgentRig, groups: Cgroups) -> None:
    gate = rig.gate()
    group, problem = groups.open("shimless")
    assert group is not None
    assert problem == ""
    child = await start_child(rig, f"{rig.script('fugitive.py', FUGITIVE)} $GATE; sleep 1000", gate, run="x", marked=False, group=group)
    fugitive = int(await gate.line())
    process = os.pidfd_open(fugitive)
    assert fugitive in group.members()
    assert held_in(groups, "shimless") == f"control group {group.path}"
    assert child.process is not None
    assert child.process.pid not in group.members()
    os.kill(child.process.pid, signal.SIGKILL)
    assert await finish_child(child) == ChildExit(None)
    await ended(process)
    assert not group.path.exists()


@pytest.mark.promise("I24", "C18")
async def test_a_stop_ends_everybody_in_the_group_and_removes_it(rig: AgentRig, groups: Cgroups) -> None:
    gate = rig.gate()
    group, _ = groups.open("stopped")
    assert group is not None
    child = await start_child(rig, f"{rig.script('fugitive.py', FUGITIVE)} $GATE; exec sleep 1000", gate, run="x", marked=False, group=group)
    process = await gate.process()
    child.stop()
    assert (await finish_child(child)).status == -signal.SIGTERM
    assert has_ended(process)
    assert not group.path.exists()


@pytest.mark.promise("C4", "C19")
async def test_the_next_start_ends_what_two_kills_left(rig: AgentRig, groups: Cgroups) -> None:
    item = rig.world.add(stage=Coding())
    claim = await rig.pipeline.claim(item, "agent")
    assert isinstance(claim, Claim)
    row = RunRow(new_id(1_700_000_000_000), item, claim.claim_id, claim.node, "agent", RunState.RUNNING, "coding", 1_700_000_000_000)
    shim, gate = rig.gate("shim"), rig.gate()
    script = rig.folder / "parent.py"
    script.write_text(PARENT)
    assert groups.root is not None
    path = groups.root / f"{groups.prefix}{show_id(row.run_id)}"
    command = f"{rig.script('fugitive.py', FUGITIVE)} {gate.path}; exec sleep 1000"
    with subprocess.Popen([sys.executable, str(script), str(shim.path), str(path), command]) as node:
        leader = int(await shim.line())
        process = await gate.process()
        node.kill()
        os.kill(leader, signal.SIGKILL)
        await asyncio.to_thread(node.wait)
    assert not has_ended(process)
    [closed] = await recover_runs(rig.pipeline, rig.workspaces, [row], rig.clock, 0.05, groups=groups)
    assert closed.state is RunState.INTERRUPTED
    await ended(process)
    assert not path.exists()


@pytest.mark.promise("I24")
async def test_a_killed_node_leaves_no_group_although_it_never_comes_back(rig: AgentRig, groups: Cgroups) -> None:
    shim, gate = rig.gate("shim"), rig.gate()
    script = rig.folder / "parent.py"
    script.write_text(PARENT.replace("grace_s=1000.0", "grace_s=0.05"))
    assert groups.root is not None
    path = groups.root / f"{groups.prefix}alone"
    command = f"{rig.script('fugitive.py', FUGITIVE)} {gate.path}; exec sleep 1000"
    with subprocess.Popen([sys.executable, str(script), str(shim.path), str(path), command]) as node:
        leader = os.pidfd_open(int(await shim.line()))
        process = await gate.process()
        node.kill()
    await ended(process)
    await ended(leader)
    assert not path.exists()


async def test_an_agent_puts_its_commands_into_a_group_and_leaves_none(rig: AgentRig, groups: Cgroups) -> None:
    item = rig.world.add()
    setup = replace(rig.setup(command="cat /proc/self/cgroup; touch commit-1"), groups=groups)
    async with rig.agent(setup=setup) as loop:
        await rig.world.until(lambda: bool(rig.world.finishes))
        await asyncio.wait_for(loop.drain(), FAILURE_BOUND_S)
    [row] = rig.pipeline.last_rows()
    assert f"{groups.prefix}{show_id(row.run_id)}" in rig.log(row)
    assert row.state is RunState.COMPLETED
    assert rig.world.finish_of(item).reason.startswith("ok")


async def test_a_group_that_can_not_be_entered_is_said_and_the_command_runs(rig: AgentRig, tmp_path: Path) -> None:
    rig.world.add()
    async with rig.agent(setup=replace(rig.setup(), groups=Cgroups(tmp_path))) as loop:
        await rig.world.until(lambda: bool(rig.world.finishes))
        await asyncio.wait_for(loop.drain(), FAILURE_BOUND_S)
    [row] = rig.pipeline.last_rows()
    assert row.state is RunState.COMPLETED
    assert "coding was not in its control group: " in rig.log(row)
