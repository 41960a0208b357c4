"""A host that does not let its users make namespaces: a node that shall isolate its commands takes no work there, and says so everywhere."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from agent_rig import needs_isolation

from fabrik_node.agent.isolation import Isolation, trial
from fabrik_node.app import running as running_module
from fabrik_node.app.examine import examine_agent
from fabrik_node.app.flags import Entry
from fabrik_node.app.opening import make_home
from fabrik_node.app.running import Running
from fabrik_node.app.saying import agent_status, presence_of
from fabrik_node.cli.hooks import ServeOptions
from fabrik_node.clock import SystemClock
from fabrik_node.config import AgentConfig, load_config
from fabrik_node.paths import HomePaths

ROOT = Path(__file__).parents[3]
REFUSED = """
import sys
from pathlib import Path
from fabrik_node.agent.isolation import Isolation, trial
from fabrik_node.paths import HomePaths

Path("/proc/sys/user/max_user_namespaces").write_text("0")
print(trial(Isolation(on=True, paths=HomePaths(Path(sys.argv[1])))))
"""
"""Run where the limit is of a user namespace of its own."""


def test_a_kernel_that_refuses_is_named_with_what_mends_it(tmp_path: Path) -> None:
    needs_isolation(tmp_path)
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", REFUSED, str(tmp_path)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.startswith("this host can not isolate commands: user, mount and pid namespaces: No space left on device; sysctl user.max_user_namespaces="), (
        said
    )
    assert trial(Isolation(on=False, paths=HomePaths(tmp_path))) == ""


@pytest.mark.promise("A8")
async def test_a_node_that_can_not_isolate_takes_no_work_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = HomePaths(tmp_path / "home")
    await make_home(paths, SystemClock(), name="alpha", mesh_name="mesh", recovery=tmp_path / "recovery.key")
    paths.config.write_text('[git]\nremote = "/no/such/remote"\n[agent]\ncommand = "true"\nisolation = "on"\n')
    monkeypatch.setattr(running_module, "trial", lambda _: "this host can not isolate commands: it is said so")
    async with Running(paths.home, ServeOptions(), Entry()) as running:
        await running._agent(asyncio.create_task(asyncio.sleep(0)))
        assert running.loop is None
        assert agent_status(running)["problem"] == "this host can not isolate commands: it is said so"
        told = presence_of(running)
        assert told["accepting"] is False
        assert told["agent"]["problem"] == "this host can not isolate commands: it is said so"
        status = await running.service.call("status", {})
        assert any("it is said so" in warning for warning in status["warnings"])


def test_doctor_says_which_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(config: AgentConfig) -> tuple[str, str]:
        [check] = [each for each in examine_agent(config, HomePaths(tmp_path), None) if each.check == "isolation"]
        return check.state, check.said

    assert said(AgentConfig(command="true")) == ("ok", "commands can open this node's files (isolation off)")
    monkeypatch.setattr("fabrik_node.app.examine.trial", lambda _: "refused")
    assert said(AgentConfig(command="true", isolation="on")) == ("fail", "refused")
    (tmp_path / "config.toml").write_text('[agent]\nisolation = "on"\nnetwork = "off"\n')
    assert load_config(tmp_path / "config.toml").agent.network == "off"
