"""What counts as progress of a run, and that load alone makes none look stuck."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from memory_workspaces import MemoryRemote, MemoryWorkspace
from node_rig import eventually
from store_doubles import HandClock

from fabrik_node.agent.folder import RunFolder
from fabrik_node.agent.progress import Progress, queued_ns
from fabrik_node.clock import SystemClock
from fabrik_node.domain.runs import ProcessId
from fabrik_node.paths import HomePaths

LEADER = ProcessId(4711, "start", "boot")


def test_output_a_commit_and_another_phase_are_progress_and_time_is_none(tmp_path: Path) -> None:
    clock = HandClock()
    folder, workspace = RunFolder(HomePaths(tmp_path), b"r" * 16), MemoryWorkspace(MemoryRemote(), tmp_path, "item", "claim")
    progress = Progress(clock, lambda _: {})

    def mark(phase: str = "coding") -> object:
        clock.advance(10.0)
        return progress.mark(phase, folder, workspace, LEADER)

    marks = [mark(), mark()]
    assert marks[0] == marks[1]
    folder.say("a line")
    marks.append(mark())
    (workspace.path / "commit-1").touch()
    marks.append(mark())
    marks.append(mark("qa"))
    assert len(set(marks)) == 4
    assert mark("qa") == marks[-1]


@pytest.mark.promise("C5")
def test_time_in_which_a_thread_waited_for_a_processor_does_not_count_against_it() -> None:
    clock, queued = HandClock(), {1: 0, 2: 0}
    progress = Progress(clock, lambda leader: dict(queued) if leader == LEADER.pid else {})

    def waits(seconds: float, thread: int, waited_s: float) -> int:
        clock.advance(seconds)
        queued[thread] = queued.get(thread, 0) + round(waited_s * 1e9)
        progress.mark("coding", None, None, LEADER)
        return progress.waits

    assert waits(10, 1, 10) == 0, "the first look has nothing to compare with"
    assert waits(10, 1, 4.9) == 0
    assert waits(10, 1, 5.0) == 1
    assert waits(10, 2, 9.0) == 2, "any of its threads"
    assert waits(10, 3, 9.0) == 2, "one that is new may have waited before"
    assert waits(10, 3, 0.0) == 2
    assert waits(0, 3, 0.0) == 2
    clock.advance(10)
    progress.mark("coding", None, None, None)
    assert progress.waits == 2, "no command runs"


SPIN = "import os\nprint('up', flush=True)\nwhile os.getppid() == PARENT: pass"
SLEEP = "import sys\nprint('up', flush=True)\nsys.stdin.read()"


@pytest.fixture
def crowd() -> Iterator[list[subprocess.Popen[str]]]:
    """Five processes that want one processor at once, and one that wants none; each a session of its own."""
    processors = sorted(os.sched_getaffinity(0))[:1]
    programs = [SPIN.replace("PARENT", str(os.getpid()))] * 5 + [SLEEP]
    made = [
        subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", f"import os\nos.sched_setaffinity(0, {processors})\n{program}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for program in programs
    ]
    yield made
    for process in made:
        process.kill()
        process.communicate()


@pytest.mark.promise("C5")
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts it")
async def test_a_command_that_others_keep_from_the_processor_is_not_stuck(crowd: list[subprocess.Popen[str]]) -> None:
    for process in crowd:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
    if not queued_ns(crowd[0].pid).get(crowd[0].pid):
        await eventually(lambda: queued_ns(crowd[0].pid).get(crowd[0].pid, 0) > 0, "this kernel counts no waiting")
    clock = SystemClock()
    spins, sleeps = Progress(clock), Progress(clock)

    def look() -> bool:
        spins.mark("coding", None, None, ProcessId(crowd[0].pid, "", ""))
        sleeps.mark("coding", None, None, ProcessId(crowd[-1].pid, "", ""))
        return spins.waits >= 3

    await eventually(look, "it waits for four fifths of all time")
    assert sleeps.waits <= spins.waits // 2, "who wants no processor waits for none, but in the moment of its start"
