"""What every run of one agent shares."""

from __future__ import annotations

from dataclasses import dataclass

from fabrik_node.agent.cgroup import NO_CGROUPS, Cgroups
from fabrik_node.agent.halt import HaltSwitch
from fabrik_node.agent.isolation import NOT_ISOLATED, Isolation
from fabrik_node.clock import Clock
from fabrik_node.config import AgentConfig, GitConfig
from fabrik_node.domain.leases import LeaseTiming
from fabrik_node.paths import HomePaths
from fabrik_node.ports import Pipeline, RunPasses, Workspaces
from fabrik_node.ports.steps import StepRecords

__all__ = ["AgentSetup"]


@dataclass(frozen=True, slots=True)
class AgentSetup:
    """The ports, settings and clock of one agent. Nothing in it changes while the agent lives."""

    pipeline: Pipeline
    workspaces: Workspaces
    config: AgentConfig
    git: GitConfig
    timing: LeaseTiming
    clock: Clock
    paths: HomePaths
    halts: HaltSwitch
    """Whether it takes work."""
    groups: Cgroups = NO_CGROUPS
    """What its commands are kept together in."""
    passes: RunPasses | None = None
    """How its commands speak to the node; None: they can not."""
    steps: StepRecords | None = None
    """What of an item's work is done; None: nobody keeps steps."""
    isolation: Isolation = NOT_ISOLATED
    """What its commands see of the node's home."""
