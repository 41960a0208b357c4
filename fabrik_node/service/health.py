"""What ``status`` says of logs and store beyond figures: forks, doubt, damage, what waits, and a full disk. Each with a line that says what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from fabrik_node._core import Replica
from fabrik_node.ids import fingerprint, show_key
from fabrik_node.node.node import Node
from fabrik_node.node.quotas import quota_warning
from fabrik_node.ports import Traffic
from fabrik_node.service.nodes import clock_warnings, divergence_lines, divergence_warnings

__all__ = ["limit_hits", "log_health", "node_health", "node_warnings"]

_SHOWN_MAX = 100
"""Logs or ranges in one answer; the figures count all."""


def log_health(replica: Replica, own: bytes, name_of: Callable[[bytes], str]) -> dict[str, Any]:
    """Of a replica alone, so also of a store that no node serves."""
    suspended = set(replica.suspended())
    branches = Counter((head.author, head.epoch) for head in replica.heads())
    forked = [(log, count) for log, count in branches.items() if count > 1 and log not in suspended]

    def named(author: bytes, epoch: int) -> dict[str, Any]:
        return {"author": show_key(author), "name": name_of(author), "own": author == own, "epoch": epoch}

    return {
        "forks": [{**named(*log), "branches": count} for log, count in forked[:_SHOWN_MAX]],
        "forked_logs": len(forked),
        "suspended": [named(*log) for log in sorted(suspended)[:_SHOWN_MAX]],
    }


def node_health(node: Node) -> dict[str, Any]:
    """Of a running node."""
    pending, repair = node.writer.pending, node.repair
    holes = [
        {"author": show_key(hole.author), "name": node.name_of(hole.author), "epoch": hole.epoch, "branch": hole.branch, "first": hole.first, "last": hole.last}
        for hole in repair.holes[:_SHOWN_MAX]
    ]
    return {
        "epoch": node.epoch or None,
        "doubt": node.epochs.doubt or None,
        "learned_ops": node.clones.learned_ops,
        "cloned": sorted(node.clones.cloned_epochs),
        "holes": holes,
        "lost_rows": len(repair.lost),
        "healed_rows": repair.healed,
        "waiting": {"segments": pending.count, "bytes": pending.bytes, "dropped": pending.dropped},
        "over_quota": [node.quotas.line(author) for author in list(node.quotas.over)[:_SHOWN_MAX]],
        "diverged": divergence_lines(node.audit.diverged, node.name_of, node.clock.now()),
        "failed": None if node.writer.failed is None else node.writer.failed.message,
        "disk_full": None if node.upkeep.full is None else node.upkeep.full.message,
    }


def limit_hits(node: Node, traffic: Traffic) -> dict[str, int]:
    """How often each limit of a node and of its connections was hit; every limit is there. Those of the local API are its own."""
    return {
        **traffic.limits,
        "pending": node.writer.pending.dropped,
        "heads_of_a_log": node.tally.suspended,
        "batch_commands": node.writer.full_batches,
        "events_of_a_batch": node.tally.bulk_batches,
        "events_waiting": node.stream.dropped,
        "leases_of_a_message": node.presence.leases_cut,
        "inquiries": node.inquiries.dropped,
        "early_presence": node.presence.early.dropped,
        "commit_times": node.commit_times.forgotten,
        "alarms_told": node.audit.told.left_out,
        **node.quotas.passed,
        "registers_named": sum(1 for each in node.audit.diverged.values() if each.more),
    }


def node_warnings(node: Node, health: dict[str, Any]) -> list[str]:
    """One line each for what an operator should know."""
    found = divergence_warnings(health["diverged"])
    if node.upkeep.full is not None:
        found.append(f"{node.upkeep.full.message}: nothing is written until there is space; {node.upkeep.full.hint}")
    member = node.replica.member(node.public)
    if member.successor is not None:
        found.append(
            f"this node's key was rotated to {fingerprint(member.successor)}, and nothing that it writes has effect any more: if this home is a copy, or from a backup, "
            "stop it, then: fabrik-node keys use FILE, with that key"
        )
    elif member.revoked:
        found.append(
            "this node's key is revoked, for good: nothing that it writes has effect. It needs a fresh home and a token: fabrik-node --home DIR join TOKEN"
        )
    if node.epochs.doubt:
        found.append(f"this node doubts its own log, and opens a new epoch before its next write: {node.epochs.doubt}")
    if health["cloned"]:
        found.append(
            "another node writes with this node's key, or this home was restored and lost an epoch: if there are two copies of this home, stop one and "
            "join with a new one: fabrik-node --home DIR join TOKEN"
        )
    found += [quota_warning(line, own=line["author"] == show_key(node.public)) for line in health["over_quota"]]
    if health["learned_ops"]:
        found.append(
            f"{health['learned_ops']} {'op' if health['learned_ops'] == 1 else 'ops'} of this node came back from its peers: its home is older than they are (restored from a backup, or copied?)"
        )
    for fork in health["forks"]:
        whose = "this node's own log" if fork["own"] else f"a log of {fork['name']}"
        found.append(f"{whose} has {fork['branches']} branches, and all of them are kept: two copies of a home wrote with one key (fabrik-node ops forks)")
    found += [f"a log of {log['name']} has too many branches and has no effect any more (fabrik-node ops forks)" for log in health["suspended"]]
    if health["holes"] or health["lost_rows"]:
        found.append(
            f"{len(node.repair.holes) + health['lost_rows']} stored rows are damaged or wait behind damaged ones: they are fetched again from the peers "
            "(fabrik-node ops check)"
        )
    if waiting := node.knocks.waiting():
        found.append(f"{len(waiting)} {'node waits' if len(waiting) == 1 else 'nodes wait'} to be let in: fabrik-node nodes pending")
    if node.replica.stale:
        found.append("a log that is suspended still has effect here: that ends when the damaged rows are back")
    if node.refused_segments:
        found.append(f"{node.refused_segments} bad segments of peers were refused (fabrik-node events)")
    if node.stream.export_error is not None:
        found.append(f"events.ndjson lags behind: {node.stream.export_error}")
    return found + clock_warnings(node.presence.heard(), node.public, node.name_of)
