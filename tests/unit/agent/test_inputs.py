"""Every setting of an agent is part of what a run worked from, or left out on purpose."""

from __future__ import annotations

import msgspec
import pytest

from fabrik_node.agent.inputs import LEFT_OUT, MATTERS, run_inputs
from fabrik_node.config import AgentConfig, GitConfig
from fabrik_node.domain.stages import Backlog
from fabrik_node.ports import ItemView

VIEW = ItemView(bytes(16), "T", "B", Backlog(), [], 0, [], 0, 0, None, None, None)


def test_no_setting_is_forgotten() -> None:
    assert {field.name for field in msgspec.structs.fields(AgentConfig)} == set(MATTERS) | LEFT_OUT
    assert not set(MATTERS) & LEFT_OUT


@pytest.mark.promise("A5")
@pytest.mark.parametrize("name", MATTERS)
def test_what_matters_changes_the_digest(name: str) -> None:
    config = AgentConfig()
    special = {"stage_timeout_s": {"Qa": 60.0}, "isolation": "on", "network": "off"}
    other = msgspec.structs.replace(config, **{name: special[name] if name in special else getattr(config, name) + 1})
    assert run_inputs(VIEW, config, GitConfig()).settings != run_inputs(VIEW, other, GitConfig()).settings


def test_what_does_not_matter_does_not() -> None:
    config = AgentConfig(command="make", qa="test")
    other = msgspec.structs.replace(config, name="another", slots=7, labels=["x"], backoff_s=1.0, keep_worktrees="always")
    assert run_inputs(VIEW, config, GitConfig(remote="a")) == run_inputs(VIEW, other, GitConfig(remote="https://me:secret@b"))
    assert run_inputs(VIEW, config, GitConfig()).settings != run_inputs(VIEW, config, GitConfig(base="trunk")).settings
