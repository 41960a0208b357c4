"""What a start found that was not as a clean stop leaves it: one line each, mended only where that is safe.

Nothing is deleted here but unfinished files that nothing ever reads. The classes are listed in ``docs/ARCHITECTURE.md``.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from fabrik_node.node.loading import FOLLOWS
from fabrik_node.node.node import Node
from fabrik_node.paths import HomePaths
from fabrik_node.store.event_file import EventFile
from fabrik_node.store.owner import LOOP_S, OwnerLock

__all__ = ["DEATHS_OF_A_LOOP", "Finding", "look", "remove_unfinished", "tell_findings"]

DEATHS_OF_A_LOOP = 3
_log = logging.getLogger("fabrik_node")


@dataclass(frozen=True, slots=True)
class Finding:
    """``kind`` is the class of drift; ``what`` was found, ``done`` is what the start did about it."""

    kind: str
    what: str
    done: str


def remove_unfinished(paths: HomePaths) -> list[Finding]:
    """Files that an interrupted write left beside the whole ones. The home's owner only."""
    names = [*paths.store.parent.glob(f"{paths.store.name}.new*"), *paths.store.parent.glob("*.snapshot.new")]
    found = []
    for path in sorted(names):
        path.unlink(missing_ok=True)
        found.append(Finding("unfinished file", f"{path.name} was never finished", "removed: nothing reads it"))
    return found


def look(node: Node, export: EventFile, lock: OwnerLock) -> list[Finding]:
    """After the store is loaded. Damage and doubt have events of their own; here is their line."""
    found: list[Finding] = []
    loaded, previous = node.loaded, lock.previous
    if lock.copied is not None:
        found.append(Finding("copied owner", f"owner.lock was copied from another home: it names {lock.copied}", "taken over: that is not this home's"))
    if previous is not None:
        who = f"pid {previous.process.pid} on {previous.host}, started {previous.started}"
        found.append(Finding("dead owner", f"the node that owned this home is gone without a stop: {who}", "taken over"))
    if lock.deaths >= DEATHS_OF_A_LOOP:
        found.append(Finding("restart loop", f"{lock.deaths} starts in a row ended without a stop, each within {LOOP_S / 60:g} minutes", "shown in status"))
    if export.put_aside:
        found.append(Finding("events file", "it did not agree with the store", "kept as events.ndjson.stale and written anew"))
    if loaded.late_pos and previous is not None:
        found.append(Finding("untold ops", f"a crash cut off the events of {len(loaded.changes or ())} changes", "told now"))
    if loaded.snapshot not in ("", "used"):
        found.append(Finding("stale snapshot", loaded.snapshot, "ignored: all rows were read, and the next snapshot replaces it"))
    damaged = [row for row, why in loaded.aside if why != FOLLOWS]
    stranded = [row for row, why in loaded.aside if why == FOLLOWS]
    if damaged:
        found.append(Finding("damaged rows", f"{len(damaged)} stored rows are not what was written", "set aside; asked for from the peers"))
    if stranded:
        found.append(Finding("stranded rows", f"{len(stranded)} sound rows follow a missing one", "set aside; they come back with it"))
    if node.repair.holes:
        found.append(Finding("holes", f"{len(node.repair.holes)} ranges of merged ops have lost their bytes", "not relayed; asked for from the peers"))
    if node.invitations.voided:
        found.append(Finding("lost key of invitations", f"{node.invitations.voided} open ones can not be opened", "void: invite again"))
    if node.epochs.doubt:
        found.append(Finding("doubtful log", node.epochs.doubt, "the next write opens a new epoch"))
    return found


def tell_findings(node: Node, findings: Sequence[Finding]) -> None:
    """One line on stderr and one event each."""
    for finding in findings:
        _log.warning("found at start: %s: %s; %s", finding.kind, finding.what, finding.done)
        node.tell("start.found", {"kind": finding.kind, "what": finding.what, "done": finding.done})
