"""What a running node says of itself and its agent: to ``status``, and to the others in presence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from fabrik_node import __version__
from fabrik_node.agent.halt import GO_ON
from fabrik_node.agent.loop import ClaimLoop
from fabrik_node.agent.obstacle import CATCHING_UP, CUT_OFF, obstacle
from fabrik_node.app.reconcile import DEATHS_OF_A_LOOP
from fabrik_node.config import AgentConfig
from fabrik_node.domain.lease_overlap import overlap_s
from fabrik_node.domain.targets import given_labels
from fabrik_node.ids import show_id
from fabrik_node.node.node import Node
from fabrik_node.node.pipeline import NodePipeline

if TYPE_CHECKING:
    from fabrik_node.app.running import Running

__all__ = ["agent_status", "presence_of", "with_given_labels"]

_LABELS_CHARS_MAX = 2_048
"""Of all labels in a message: it has 16 KiB, and leases go first."""


def with_given_labels(config: AgentConfig, node: Node) -> AgentConfig:
    """The settings of the agent on this node with the labels that it has by being there."""
    return msgspec.structs.replace(config, labels=[*config.labels, *given_labels(node.name_of(node.public), node.public, __version__)])


def agent_status(running: Running) -> Mapping[str, Any]:
    """For ``status``."""
    loop, halt = running.loop, running.halts.halt
    return {
        "enabled": bool(running.config.agent.command),
        "slots": running.config.agent.slots if running.config.agent.command else 0,
        "running": [] if loop is None else [show_id(run_id) for run_id in loop.runs],
        "claiming": [] if loop is None else [show_id(item) for item in loop.claiming],
        "draining": running.draining or halt is not None,
        "contained": running.groups.line if running.config.agent.command else None,
        "isolation": running.isolation.line if running.config.agent.command else None,
        "halt": None if halt is None else {"code": str(halt.code), "reason": halt.reason, "since_ms": halt.since_ms, "next": GO_ON},
        "state": None if loop is None else loop.state.value,
        "warnings": _warnings(running),
        "problem": running.barred or (loop.problem if loop is not None else "") or (None if loop is None else _lonely(running.pipeline)),
    }


def _lonely(pipeline: NodePipeline) -> str | None:
    """Why it claims nothing for want of a peer; None when it does not want for one."""
    if not pipeline.waits_for_company():
        return None
    return CUT_OFF if pipeline.is_cut_off() else CATCHING_UP


def _warnings(running: Running) -> list[str]:
    found = []
    if running.lock.deaths >= DEATHS_OF_A_LOOP:
        found.append(f"this node died {running.lock.deaths} times in a row soon after its start; its own log says what its last words were")
    config, timing = running.config, running.config.lease.timing()
    if config.agent.command:
        shortest_s = min([timing.ttl_s, *timing.stage_ttl_s.values()])
        over_s = overlap_s(
            beat_s=max([timing.beat_s, *timing.stage_beat_s.values()]),
            ttl_s=shortest_s,
            takeover_after_s=timing.takeover_after_s(shortest_s),
            link_dead_s=running.mesh.link_dead_s,
            kill_grace_s=config.agent.kill_grace_s,
        )
        if over_s > 0:
            found.append(
                f"leases are short: cut off from the others, this agent could be at work for {over_s:.1f} s when they take over; "
                "raise ttl_s, grace_s or lock_delay_s in [lease] of config.toml"
            )
    return found


def presence_of(running: Running) -> Mapping[str, Any]:
    """For the next message to the others."""
    node = running.node
    return {
        "name": node.name_of(node.public),
        "version": __version__,
        "accepting": running.loop is not None and running.loop.accepting and not running.draining,
        "url": running.told_url,
        **({"agent": _agent_said(running, running.loop)} if running.loop is not None or running.barred else {}),
    }


def _agent_said(running: Running, loop: ClaimLoop | None) -> Mapping[str, Any]:
    """What others need to say why an item waits, and to leave to this agent what it asks for."""
    full = running.node.upkeep.full
    labels = with_given_labels(running.config.agent, running.node).labels
    return {
        **({"labels": labels} if sum(map(len, labels)) <= _LABELS_CHARS_MAX else {}),
        "slots": running.config.agent.slots,
        "busy": 0 if loop is None else len(loop.runs),
        **({"asking": sorted(asking)} if (asking := running.pipeline.turns.asking) else {}),
        "problem": obstacle(
            running.halts.halt,
            stopping=running.draining,
            disk="" if full is None else full.message,
            refused=running.barred or ("" if loop is None else loop.problem),
            wait_s=0.0 if loop is None else loop.wait_s,
        ),
    }
