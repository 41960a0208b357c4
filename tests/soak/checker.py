"""What must be true after a soak, asked of the remote, of every node and of the ledger; and its figures."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acceptance.fleet import NodeProcess, environment, git
from soak.play import Soak, Work

__all__ = ["Takeover", "check", "figures", "merges_by_item"]


def merges_by_item(remote: Path) -> list[tuple[str, str, str]]:
    """``(commit, item, claim)`` of the first-parent history of the base, newest first, as the trailers say; without the first commit."""
    trailers = "%(trailers:key=Fabrik-Item,valueonly,separator=%x2C)%x09%(trailers:key=Fabrik-Claim,valueonly,separator=%x2C)"
    said = git(remote, "log", "--first-parent", f"--format=%H%x09{trailers}", "main").splitlines()
    rows = [line.split("\t") for line in said]
    return [(commit, item.strip(), claim.strip()) for commit, item, claim in rows[:-1]]


def check(soak: Soak) -> list[str]:
    """Everything that is wrong, in words; empty when all is as promised. All nodes run."""
    wrong: list[str] = []
    merges = merges_by_item(soak.remote)
    by_item: dict[str, list[str]] = {item: [] for item in soak.items}
    for commit, item, _ in merges:
        by_item.setdefault(item, []).append(commit)
    wrong += [f"item {item} was merged {len(commits)} times: {commits}" for item, commits in by_item.items() if len(commits) != 1]
    wrong += [f"{item} was merged, but is no item" for item in by_item if item not in soak.items]
    for item, title in soak.items.items():
        if _content(soak.remote, item) != title:
            wrong.append(f"the base does not have the work of item {item}")
    for node in soak.nodes:
        wrong += [f"{node.name}: {what}" for what in _node(node, soak, by_item)]
    digests = {node.name: node.digest() for node in soak.nodes}
    if len(set(digests.values())) != 1:
        wrong.append(f"state digests differ: {digests}")
    wrong += _lost_work(soak)
    return wrong


def _content(remote: Path, item: str) -> str:
    done = subprocess.run(["git", "show", f"main:{item}.txt"], cwd=remote, env=environment(), capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _node(node: NodeProcess, soak: Soak, by_item: dict[str, list[str]]) -> list[str]:
    wrong = []
    listed = {str(entry["id"]): entry for entry in node.call("items.list")["items"]}
    for item in soak.items:
        shown = listed.get(item)
        if shown is None or shown["stage"] != "Done":
            wrong.append(f"item {item} is {None if shown is None else shown['stage']}")
        elif shown["stage_data"]["merge_commit"] not in by_item[item]:
            wrong.append(f"item {item} is said to be merged as {shown['stage_data']['merge_commit']}, and is as {by_item[item]}")
    titles = {str(entry["title"]) for entry in listed.values()}
    wrong += [f"the acknowledged write {note!r} is lost" for note in soak.notes if note not in titles]
    wrong += [f"a claim is live: {claim}" for claim in node.call("claims.list")["claims"]]
    forked = [event for event in node.events() if event["type"] in {"log.forked", "node.cloned", "store.damaged", "node.differs"}]
    wrong += [f"told {event}" for event in forked]
    return wrong


def _lost_work(soak: Soak) -> list[str]:
    """Each commit that a command made must hang on a branch: on the remote, or in the home of its node."""
    on_remote = _reachable(soak.remote)
    local = {name: _reachable(*(found.parent for found in (node.home / "git").rglob("objects"))) for name, node in soak.agents.items()}
    made = [work for work in soak.ledger.lines() if work.word == "commit"]
    return [f"commit {work.what} of run {work.run} on {work.node} hangs on no branch" for work in made if work.what not in on_remote | local[work.node]]


def _reachable(*repositories: Path) -> set[str]:
    found: set[str] = set()
    for repository in repositories:
        found |= set(git(repository, "rev-list", "--branches").split())
    return found


@dataclass(frozen=True, slots=True)
class Takeover:
    """``after_s``: from the kill of a node that stayed away until another node's claim on what it worked on."""

    item: str
    after_s: float


def figures(soak: Soak, wall_s: float) -> dict[str, Any]:
    """What the soak cost: seconds of commands whose work was not merged, and takeovers after nodes were killed."""
    lines = soak.ledger.lines()
    merged = {(item, claim) for _, item, claim in merges_by_item(soak.remote)}
    begun = [work for work in lines if work.word == "begin"]
    ends = {work.run: work.at for work in lines if work.word == "commit"}
    wasted = sum(_lasted(soak, work, ends) for work in begun if (work.item, work.claim) not in merged)
    useful = sum(_lasted(soak, work, ends) for work in begun if (work.item, work.claim) in merged)
    takeovers = sorted(takeover.after_s for takeover in _takeovers(soak, begun))
    kinds = {kind: sum(kill.kind == kind for kill in soak.kills) for kind in sorted({kill.kind for kill in soak.kills})}
    return {
        "seed": soak.plan.seed,
        "agents": soak.plan.agents,
        "items": len(soak.items),
        "wall_s": round(wall_s, 1),
        "kills": kinds,
        "commands": len(begun),
        "useful_s": round(useful, 1),
        "duplicate_s_per_100_items": round(wasted * 100 / len(soak.items), 1),
        "acknowledged_writes": len(soak.items) + len(soak.notes),
        "conflicts": len(soak.host.ask("claims", "conflicts")["conflicts"]),
        "lease_sum_s": soak.plan.takeover_s,
        "takeover_s": {"n": len(takeovers)} | {name: round(takeovers[int(part * (len(takeovers) - 1))], 1) for name, part in _PARTS if takeovers},
    }


_PARTS = (("p50", 0.5), ("p90", 0.9), ("max", 1.0))


def _lasted(soak: Soak, work: Work, ends: dict[str, float]) -> float:
    """A command without a commit ended when it was killed; without a kill, when its time was over."""
    over = work.at + float(soak.items[work.item].split()[-1])
    killed = [kill.at for kill in soak.kills if kill.node == work.node and kill.item == work.item and kill.at >= work.at]
    return max(0.0, ends.get(work.run, min([over, *killed])) - work.at)


def _takeovers(soak: Soak, begun: list[Work]) -> list[Takeover]:
    found = []
    for kill in soak.kills:
        if not kill.back_at or kill.node == "host":
            continue
        after = [work.at for work in begun if work.item == kill.item and work.node != kill.node and kill.at < work.at]
        if after and min(after) < kill.back_at:
            found.append(Takeover(kill.item, min(after) - kill.at))
    return found


def line_of(found: dict[str, Any]) -> str:
    """One line of JSON."""
    return json.dumps(found)
