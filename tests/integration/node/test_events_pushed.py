"""A second process hears of a transition because it is pushed to it: no timer runs out on the way, in the node or between two nodes' commits."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from node_rig import BOUND_S, TIMING, Rigs, sync

from fabrik_node.api import LocalApi
from fabrik_node.clock import SystemClock

FOLLOWER = """
import json, socket, sys
with socket.socket(socket.AF_UNIX) as line:
    line.connect(sys.argv[1])
    line.sendall(json.dumps({"v": 1, "op": "events", "args": {"after": int(sys.argv[2]), "follow": True}}).encode() + b"\\n")
    for text in line.makefile():
        print(text, end="", flush=True)
"""


class Timers:
    """Which timers that were set since then have run out. A heartbeat is none of them: nobody waits for it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.out: list[str] = []
        loop = asyncio.get_running_loop()
        call_at = loop.call_at

        def noted(when: float, callback: Callable[..., Any], *args: Any, context: Any = None) -> asyncio.TimerHandle:
            is_beat = when - loop.time() >= TIMING.beat_s / 2

            def ran(*given: Any) -> None:
                if not is_beat:
                    self.out.append(repr(callback))
                callback(*given)

            return call_at(when, ran, *args, context=context)

        monkeypatch.setattr(loop, "call_at", noted)


@pytest.mark.promise("B14")
async def test_a_second_process_hears_of_a_transition_without_anything_being_waited_for(rigs: Rigs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = await rigs.open(0), await rigs.open(1)
    item = await one.add("moves")
    await sync(one, two)
    await asyncio.wait_for(two.node.stream.settled(), BOUND_S)
    api = LocalApi(two.service, tmp_path / "run" / "node.sock", SystemClock())
    await api.start()
    follower = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", "-c", FOLLOWER, str(tmp_path / "run" / "node.sock"), str(two.node.stream.last - 1), stdout=asyncio.subprocess.PIPE
    )
    assert follower.stdout is not None

    async def hears() -> dict[str, Any]:
        assert follower.stdout is not None
        said = json.loads(await follower.stdout.readline())
        return dict(said["more"])

    await asyncio.wait_for(hears(), BOUND_S)  # the last old one: it follows
    timers = Timers(monkeypatch)
    for stage in ("Coding", "Qa", "Backlog", "Coding"):
        await one.service.call("items.move", {"id": item, "to": stage})
        # What replication does when the other node tells its heads, without a bound of its own.
        for head in one.node.heads():
            for branch, after in one.node.replica.cursors(head.author, head.epoch, two.node.replica.places(head.author, head.epoch)):
                rows, _ = await one.node.read(head.author, head.epoch, branch, after, 1 << 20)
                await two.node.ingest([row.data for row in rows], one.node.public)
        heard = await hears()
        assert (heard["type"], heard["item"], heard["to"]) == ("item.moved", item, stage)
    assert timers.out == [], "something was asked again, or waited for, on the way"
    monkeypatch.undo()
    follower.kill()
    await asyncio.wait_for(follower.wait(), BOUND_S)
    await api.stop()
