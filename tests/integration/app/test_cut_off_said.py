"""An agent whose node is cut off claims nothing, and says so: it is not shown as one that takes the next item at any moment."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from node_rig import eventually

from fabrik_node.agent.obstacle import CATCHING_UP, CUT_OFF
from fabrik_node.app.flags import Entry
from fabrik_node.app.opening import make_home
from fabrik_node.app.running import Running
from fabrik_node.app.saying import agent_status, presence_of
from fabrik_node.cli.hooks import ServeOptions
from fabrik_node.clock import SystemClock
from fabrik_node.paths import HomePaths
from fabrik_node.ports import PeerStatus


@pytest.mark.promise("J6")
async def test_an_agent_that_is_cut_off_says_that_it_waits_for_a_peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = HomePaths(tmp_path / "home")
    await make_home(paths, SystemClock(), name="alpha", mesh_name="mesh", recovery=tmp_path / "recovery.key")
    paths.config.write_text('[git]\nremote = "/no/such/remote"\n[agent]\ncommand = "true"\n')
    async with Running(paths.home, ServeOptions(), Entry()) as running:
        monkeypatch.setattr(running.pipeline, "_dials", lambda: True)
        agent = asyncio.create_task(running._agent(asyncio.create_task(asyncio.sleep(0))))
        await eventually(lambda: running.loop is not None)
        assert agent_status(running)["problem"] == CUT_OFF
        assert presence_of(running)["agent"]["problem"] == "", "who hears that is no longer cut off from it"
        status = await running.service.call("status", {})
        assert f"this agent can not claim work: {CUT_OFF}" in status["warnings"]
        for states, said in (
            (["waiting", "syncing"], CATCHING_UP),
            (["behind"], CATCHING_UP),
            (["connecting", "refused", "closed"], CUT_OFF),
            (["syncing", "connected"], None),
        ):
            peers = [PeerStatus("", b"", "", state, "out", 0, None, None) for state in states]
            monkeypatch.setattr(running.node, "peers", lambda peers=peers: peers)
            assert (agent_status(running)["problem"], running.pipeline.waits_for_company()) == (said, said is not None), states
        monkeypatch.setattr(running.node, "peers", list)
        monkeypatch.setattr(running.pipeline, "_dials", lambda: False)
        assert agent_status(running)["problem"] is None
        agent.cancel()
        await asyncio.gather(agent, return_exceptions=True)
