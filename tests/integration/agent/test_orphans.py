"""No process of a run outlives it, whoever dies first and however the process tries to get away."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from agent_rig import DAEMON, AgentRig, ended, finish_child, has_ended, start_child
from memory_pipeline import FAILURE_BOUND_S

from fabrik_node.agent.child import ChildExit
from fabrik_node.agent.members import end_members, find_members, run_tag

STUBBORN = 'trap "" TERM; echo $$ > "$GATE"; while :; do sleep 1000; done'
PARENT = """
import asyncio, os, sys
from pathlib import Path
from fabrik_node.agent.child import Child, RunLog

async def main():
    log = RunLog(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT), Path(sys.argv[1]))
    env = dict(os.environ, FABRIK_RUN="orphans")
    child = await Child.start(sys.argv[2:], cwd=Path.cwd(), env=env, log=log, room=4096, grace_s=0.1, tag="FABRIK_RUN=orphans")
    await child.wait()

asyncio.run(main())
"""


@pytest.mark.promise("I24", "C19")
async def test_nothing_survives_a_node_that_is_killed(rig: AgentRig, tmp_path: Path) -> None:
    gate = rig.gate()
    command = f"{rig.script('daemon.py', DAEMON)} {gate.path} & {STUBBORN}"
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen([sys.executable, str(script), str(tmp_path / "log"), "/bin/sh", "-c", command], env=os.environ | {"GATE": str(gate.path)}) as parent:
        first, second = await gate.process(), await gate.process()
        assert not has_ended(first)
        assert not has_ended(second)
        parent.kill()
        await ended(first)
        await ended(second)


async def test_stopping_ends_a_group_that_ignores_sigterm(rig: AgentRig) -> None:
    gate = rig.gate()
    child = await start_child(rig, STUBBORN, gate, run="stubborn")
    process = await gate.process()
    child.stop()
    assert await finish_child(child) == ChildExit(-signal.SIGKILL)
    assert has_ended(process)
    assert find_members(child.process, run_tag("stubborn")) == []


@pytest.mark.promise("C19")
async def test_a_grace_that_is_over_before_anybody_could_look_is_followed_by_the_kill(rig: AgentRig) -> None:
    gate = rig.gate()
    child = await start_child(rig, STUBBORN, gate, run="looked at late", grace_s=1000.0)
    process = await gate.process()
    assert await end_members(child.process, run_tag("looked at late"), 1e-6) == []
    assert has_ended(process)
    await finish_child(child)


async def test_stopping_gives_a_command_its_grace(rig: AgentRig) -> None:
    gate = rig.gate()
    child = await start_child(rig, "trap 'echo bye; exit 7' TERM; echo $$ > $GATE; while :; do sleep 0.01; done", gate, run="polite", grace_s=FAILURE_BOUND_S)
    await gate.line()
    child.stop()
    assert (await finish_child(child)).status == 7
    assert (rig.folder / "log").read_text().endswith("bye\n")  # some shells say first that their sleep was ended


async def test_stopping_reaches_a_stopped_process(rig: AgentRig) -> None:
    gate = rig.gate()
    child = await start_child(rig, "echo $$ > $GATE; kill -STOP $$; sleep 1000", gate, run="stopped", grace_s=FAILURE_BOUND_S)
    await gate.line()
    child.stop()
    assert (await finish_child(child)).status == -signal.SIGTERM


async def test_stopping_reaches_a_daemon(rig: AgentRig) -> None:
    gate = rig.gate()
    child = await start_child(rig, f"{rig.script('daemon.py', DAEMON)} $GATE; sleep 1000", gate, run="daemon")
    process = await gate.process()
    child.stop()
    await finish_child(child)
    assert has_ended(process)


async def test_a_killed_shim_leaves_nothing_behind(rig: AgentRig) -> None:
    gate = rig.gate()
    child = await start_child(rig, f"{rig.script('daemon.py', DAEMON)} $GATE; {STUBBORN}", gate, run="shimless")
    processes = [await gate.process(), await gate.process()]
    assert child.process is not None
    os.kill(child.process.pid, signal.SIGKILL)
    assert await finish_child(child) == ChildExit(None)
    for process in processes:
        await ended(process)


async def test_a_hanging_shim_is_ended_too(rig: AgentRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fabrik_node.agent.child.SHIM_MARGIN_S", 0.1)
    gate = rig.gate()
    child = await start_child(rig, STUBBORN, gate, run="hanging")
    process = await gate.process()
    assert child.process is not None
    os.kill(child.process.pid, signal.SIGSTOP)
    child.stop()
    assert await finish_child(child) == ChildExit(None)
    await ended(process)


async def test_a_cancelled_wait_kills_at_once(rig: AgentRig) -> None:
    gate = rig.gate()
    child = await start_child(rig, STUBBORN, gate, run="cancelled", grace_s=FAILURE_BOUND_S)
    process = await gate.process()
    waiting = asyncio.create_task(child.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    await asyncio.wait_for(child.close(), FAILURE_BOUND_S)
    assert has_ended(process)


async def test_exit_codes_and_signals_arrive(rig: AgentRig) -> None:
    gate = rig.gate()
    assert await finish_child(await start_child(rig, "exit 42", gate, run="code")) == ChildExit(42)
    assert await finish_child(await start_child(rig, "kill -SEGV $$", gate, run="signal")) == ChildExit(-signal.SIGSEGV)


async def test_a_command_can_not_read_from_the_terminal_nor_see_our_pipes(rig: AgentRig) -> None:
    gate = rig.gate()
    child = await start_child(rig, "cat; for n in 0 1 2 3 4 5 6 7 8 9; do test -e /proc/$$/fd/$n && echo $n; done; true", gate, run="pipes")
    assert (await finish_child(child)).status == 0
    assert (rig.folder / "log").read_text().split() == ["0", "1", "2"]
